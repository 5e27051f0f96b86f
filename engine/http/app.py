"""The HTTP API. Each route parses, calls one function and renders; no route keeps state."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from engine.http import problems
from engine.http.activity_routes import activity_routes
from engine.http.audience_routes import add_schemas, audience_routes, member_route
from engine.http.catalog_routes import catalog_routes
from engine.http.console_routes import console_page, report_routes
from engine.http.coupon_routes import coupon_routes
from engine.http.definition_routes import definition_routes
from engine.http.dispatch_routes import dispatch_routes
from engine.http.fast_lane import Laned, Lanes
from engine.http.feature_routes import feature_routes
from engine.http.frequency_routes import frequency_routes
from engine.http.insight_routes import insight_routes
from engine.http.metrics import Measured, Metrics
from engine.http.plan_routes import asked_plan_routes
from engine.http.policy_routes import policy_routes
from engine.http.realtime_routes import realtime_routes
from engine.http.receipt_routes import receipt_routes
from engine.http.routes import group_routes, plan_routes
from engine.http.rule_routes import rule_routes
from engine.http.services import Services
from engine.http.touch_routes import touch_routes
from engine.monitoring_metrics import watch

_bearer = HTTPBearer(auto_error=False, description="needed when the server was started with a token")


def create_app(services: Services) -> FastAPI:
    """The app over these services. Its OpenAPI schema is at /openapi.json; it names no outside address."""
    metrics = Metrics()
    watch(metrics.registry, services.watched)
    audiences, activities = services.audiences, services.activities

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(services.realtime.start)
        if audiences is not None:
            audiences.start()
        if activities is not None:
            activities.start()
        yield
        if activities is not None:
            await run_in_threadpool(activities.close)
        await run_in_threadpool(services.realtime.close)
        if audiences is not None:
            await run_in_threadpool(audiences.close)

    app = Laned(
        title="Growth decision engine",
        version="1",
        docs_url=None,  # these pages would fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=running,
    )
    problems.install(app)
    app.add_middleware(Measured, metrics=metrics)
    realtime, lanes = realtime_routes(services, metrics)
    app.lanes = Lanes(lanes, metrics)
    guard = [Depends(_guard(services.token))]
    # first, for it is asked most and routes are tried in order
    straight = member_route(services, services.token)
    app.include_router(straight, dependencies=guard, responses=problems.RESPONSES)
    for router in (realtime, group_routes(services), plan_routes(services)):
        app.include_router(router, dependencies=guard, responses=problems.RESPONSES)
    app.include_router(policy_routes(services), dependencies=guard, responses=problems.RESPONSES)
    app.include_router(frequency_routes(services), dependencies=guard, responses=problems.RESPONSES)
    app.include_router(catalog_routes(services), dependencies=guard, responses=problems.RESPONSES)
    if services.outbox is not None:
        routes = dispatch_routes(services.outbox)
        app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
    if services.touches is not None:
        routes = touch_routes(services.touches)
        app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
    if services.coupons is not None:
        routes = coupon_routes(services.coupons)
        app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
    if services.receipts is not None:  # whoever calls these proves it by a signature, not by our token
        app.include_router(receipt_routes(services.receipts), responses=problems.RESPONSES)
    if services.insight is not None:
        routes = insight_routes(services.insight)
        app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
    if services.workspace is not None:
        for made in (report_routes, definition_routes, asked_plan_routes, rule_routes, feature_routes):
            routes = made(services.workspace)
            app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
        app.include_router(console_page())
    if activities is not None:
        routes = activity_routes(activities)
        app.include_router(routes, dependencies=guard, responses=problems.RESPONSES)
    if audiences is not None:
        app.include_router(audience_routes(audiences), dependencies=guard, responses=problems.RESPONSES)
        app.openapi = add_schemas(app.openapi)  # type: ignore[method-assign]  # as FastAPI's manual has it
    _operate(app, services, metrics)
    return app


def _guard(token: str | None) -> Callable[..., None]:
    def bear_token(
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
    ) -> None:
        if token is None:
            return
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return bear_token


def _operate(app: FastAPI, services: Services, metrics: Metrics) -> None:
    """Liveness, readiness and metrics: for the machines that run this, without a token."""

    @app.get("/healthz", tags=["operation"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses={503: {"description": "what is not ready, and why"}})
    def readyz() -> JSONResponse:
        """Everything that a decision needs answers."""
        unready = dict(services.unready())
        body = {"status": "unready" if unready else "ready", "unready": unready}
        return JSONResponse(body, status_code=503 if unready else 200)

    @app.get("/metrics", tags=["operation"], response_class=Response)
    def show_metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
