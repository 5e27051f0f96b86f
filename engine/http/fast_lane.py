"""The routes that are asked thousands of times a second, answered before anything else looks at a request.

Telemetry, middleware, routing and dependencies cost as much as a decision does. What is answered here has its
route too, for the schema and for an app that is mounted elsewhere; both call the same function.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.http.metrics import Metrics
from engine.http.problems import response_of
from kernel.errors import GrowthError

_log = logging.getLogger(__name__)


class Lanes:
    """`lanes`: path → what answers a POST to it. Errors become problems."""

    def __init__(self, lanes: Mapping[str, ASGIApp], metrics: Metrics) -> None:
        self._lanes, self._metrics = lanes, metrics
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def has(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["path"] in self._lanes and scope["method"] == "POST"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, status, started = scope["path"], 0, perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if "status" in message:
                status = message["status"]
            await send(message)

        try:
            await self._lanes[path](scope, receive, watched)
        except (GrowthError, RequestValidationError, HTTPException) as error:
            await response_of(error)(scope, receive, watched)
        except Exception as error:
            if status:
                raise
            _log.exception("POST %s failed", path)
            await response_of(error)(scope, receive, watched)
        finally:
            counted = self._counted.get((path, status))
            if counted is None:  # looking up labels costs more than counting
                counted = (
                    self._metrics.requests.labels("POST", path, status or 500),
                    self._metrics.seconds.labels(path),
                )
                self._counted[path, status] = counted
            counted[0].inc()
            counted[1].observe(perf_counter() - started)


class Laned(FastAPI):
    """An app with lanes, once it is told of them."""

    lanes: Lanes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.lanes is not None and self.lanes.has(scope):
            await self.lanes.answer(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
