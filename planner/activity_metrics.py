"""What one event adds to the metrics of an activity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.activities import Activity, Metric

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What one event adds to one metric of its user."""

    metric: str
    #: added to a count or a sum
    by: float = 0.0
    #: for a distinct metric: what is told apart, as text
    seen: frozenset[str] = frozenset()


def gains(activity: Activity, event: str, lines: Sequence[Line]) -> list[Gain]:
    """In the order of the metrics; nothing for those that the event does not touch."""
    found = []
    for metric in activity.metrics:
        if metric.event != event:
            continue
        mine = [line for line in lines if _matches(metric, line)]
        if not mine:
            continue
        if metric.agg == "count":
            found.append(Gain(metric=metric.name, by=1.0))
        elif metric.agg == "sum":
            found.append(Gain(metric=metric.name, by=math.fsum(_numbers(metric, mine))))
        else:
            told = (line.get(str(metric.of)) for line in mine)
            if seen := frozenset(str(each) for each in told if each is not None):
                found.append(Gain(metric=metric.name, seen=seen))
    return found


def rates(activity: Activity, values: Mapping[str, float]) -> dict[str, float | None]:
    """Every metric of a participant; a rate of nothing is None, a count of nothing 0."""
    told: dict[str, float | None] = {}
    for metric in activity.metrics:
        if metric.agg == "rate":
            below = values.get(str(metric.per), 0.0)
            told[metric.name] = values.get(str(metric.of), 0.0) / below if below else None
        else:
            told[metric.name] = values.get(metric.name, 0.0)
    return told


def _matches(metric: Metric, line: Line) -> bool:
    for field, wanted in metric.where.items():
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        if not any(_same(line.get(field), each) for each in allowed):
            return False
    return True


def _same(found: Any, wanted: str | float | bool) -> bool:
    """True is not 1, and a number is no text."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, str) or isinstance(wanted, str):
        return isinstance(found, str) and found == wanted
    return found is not None and found == wanted


def _numbers(metric: Metric, lines: Iterable[Line]) -> Iterable[float]:
    for line in lines:
        number = line.get(str(metric.of))
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            yield float(number)
