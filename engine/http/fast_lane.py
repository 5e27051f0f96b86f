"""The routes that are asked thousands of times a second, answered before anything else looks at a request.

Middleware, routing and dependencies cost more than a decision does. What is answered here has its route too,
for the schema and for an app that is mounted elsewhere; both call the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.http.metrics import Metrics
from engine.http.problems import response_of
from kernel.errors import GrowthError


class FastLane:
    """`lanes`: path → what answers a POST to it; known errors become problems, others are the app's."""

    def __init__(self, app: ASGIApp, *, lanes: Mapping[str, ASGIApp], metrics: Metrics) -> None:
        self._app, self._lanes, self._metrics = app, lanes, metrics
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._lanes:
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, status, started = scope["path"], 500, perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if "status" in message:
                status = message["status"]
            await send(message)

        try:
            await self._lanes[path](scope, receive, watched)
        except (GrowthError, RequestValidationError, HTTPException) as error:
            await response_of(error)(scope, receive, watched)
        finally:
            counted = self._counted.get((path, status))
            if counted is None:  # looking up labels costs more than counting
                counted = (
                    self._metrics.requests.labels("POST", path, status),
                    self._metrics.seconds.labels(path),
                )
                self._counted[path, status] = counted
            counted[0].inc()
            counted[1].observe(perf_counter() - started)
