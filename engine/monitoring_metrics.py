"""What was watched last, for Prometheus: read from its file whenever it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Watched(Collector):
    """`growth_monitoring_psi` and `growth_monitoring_alarms` by model and what was looked at, and
    `growth_monitoring_day`: seconds since 1970 of the day that they are of. Nothing while nothing was."""

    def __init__(self, newest: Callable[[], Mapping[str, Any] | None]) -> None:
        self._newest = newest

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterable[Metric]:
        found = self._newest()
        if found is None:
            return ()
        psi, alarms, day = _families()
        raised = Counter((each["model"], each["what"]) for each in found["alarms"])
        for model in found["models"]:
            for what, size in (("feature", model["feature_psi"]), ("score", model["score_psi"])):
                if size is not None:
                    psi.add_metric([model["model"], what], size)
            for what in ("feature", "score", "calibration"):
                raised.setdefault((model["model"], what), 0)
        for (name, what), count in sorted(raised.items()):
            alarms.add_metric([name, what], count)
        day.add_metric([], datetime.fromisoformat(found["day"]).replace(tzinfo=UTC).timestamp())
        return psi, alarms, day


def watch(registry: CollectorRegistry, newest: Callable[[], Mapping[str, Any] | None]) -> None:
    registry.register(Watched(newest))


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    by = ["model", "what"]
    return (
        GaugeMetricFamily("growth_monitoring_psi", "Largest population stability index", labels=by),
        GaugeMetricFamily("growth_monitoring_alarms", "What has moved", labels=by),
        GaugeMetricFamily("growth_monitoring_day", "Day that was watched", labels=[]),
    )
