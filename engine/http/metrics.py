"""Counts and times for Prometheus, one registry an app."""

from __future__ import annotations

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "growth_http_requests_total", "Requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "growth_http_seconds", "Time to answer", ["route"], registry=self.registry, buckets=_SECONDS
        )
        self.decisions = Counter(
            "growth_decisions_total", "Decisions", ["moment", "policy", "degraded"], registry=self.registry
        )
        self.outcomes = Counter("growth_outcomes_total", "Outcomes", ["status"], registry=self.registry)


class Measured:
    """Counts and times every request by its route, never by its address: labels stay few."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
            counted = self._counted.get((method, route, status))
            if counted is None:  # looking up labels costs more than counting
                counted = (
                    self._metrics.requests.labels(method, route, status),
                    self._metrics.seconds.labels(route),
                )
                self._counted[method, route, status] = counted
            counted[0].inc()
            counted[1].observe(perf_counter() - started)
