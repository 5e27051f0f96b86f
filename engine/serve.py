"""`growth serve`: the HTTP API over one workspace."""

from __future__ import annotations

import gc
import ipaddress
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from engine.activity_service import ActivityService
from engine.audience_service import AudienceService
from engine.catalogs import panel, schema
from engine.coupons import CouponDesk
from engine.definitions import parse_definition
from engine.dispatching import dispatching
from engine.frequency import show as how_often
from engine.group_insight import GroupInsight
from engine.http.app import create_app
from engine.http.services import Services
from engine.learning import learning, publish_live
from engine.monitoring import newest
from engine.offsite_loop import syncing
from engine.plan_questions import PlanQuestions
from engine.planning import planning
from engine.population import population
from engine.publish import read_plan
from engine.realtime_service import RealTimeService
from engine.receipts import ReceiptService
from engine.rule_firing import firing
from engine.selection_jobs import scheduling
from engine.shadowing import standing
from engine.touches import TouchDesk
from engine.usecases import latest_day
from engine.wiring import Workspace, open_workspace
from insight.api import Group, resolve
from kernel.clock import start_of_day
from kernel.errors import BadInput

#: variable of the environment that tells workers where they work
_ROOT = "GROWTH_WORKSPACE"
#: seconds that a thread computes before another that wants to may
_TURN = 0.0005


def serve(workspace: Workspace, host: str, port: int, workers: int = 1) -> None:
    """Until interrupted: so many processes that answer, one that learns. Raises BadInput for a host beyond
    loopback without a token."""
    if not _is_loopback(host) and workspace.settings.token is None:
        raise BadInput("is beyond loopback: set GROWTH_TOKEN first", field="--host", value=host)
    publish_live(workspace)
    with (
        scheduling(workspace),
        planning(workspace),
        firing(workspace),
        learning(workspace),
        dispatching(workspace),
        syncing(workspace),
    ):
        if workers == 1:
            uvicorn.run(answering(workspace), host=host, port=port, log_level="warning", access_log=False)
            return
        os.environ[_ROOT] = str(workspace.root)
        uvicorn.run(
            "engine.serve:worker", factory=True, workers=workers, host=host, port=port, log_level="warning",
            access_log=False,
        )  # fmt: skip


def worker() -> FastAPI:
    """The app of one of several processes, in the workspace that the environment names."""
    return answering(open_workspace(Path(os.environ[_ROOT])))


def answering(workspace: Workspace) -> FastAPI:
    """The app, for a process that answers and does little else: nobody waits for the collector to go through
    what is there for good, nor long for a thread that computes."""
    app = create_app(services(workspace))
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN)
    return app


def services(workspace: Workspace) -> Services:
    token = workspace.settings.token
    audiences = AudienceService(workspace)
    realtime = RealTimeService(workspace, audiences)
    audiences.noted = realtime.note
    activities = ActivityService(workspace, audiences)
    questions = PlanQuestions(workspace)
    return Services(
        realtime=realtime,
        estimate=partial(_estimate, workspace),
        member=audiences.answer,
        prepare=audiences.prepare,
        audiences=audiences,
        activities=activities,
        workspace=workspace,
        insight=GroupInsight(workspace),
        touches=TouchDesk(workspace),
        coupons=CouponDesk(workspace),
        plan=lambda day: read_plan(questions.folder(day)),
        explain=questions.explain,
        policies=partial(standing, workspace.snapshots),
        unready=partial(_unready, realtime, audiences),
        frequency=partial(how_often, workspace),
        catalog=partial(panel, workspace),
        condition_schema=partial(schema, workspace),
        receipts=ReceiptService(workspace),
        outbox=workspace,
        watched=partial(newest, workspace),
        token=token.get_secret_value() if token else None,
    )


def _unready(realtime: RealTimeService, audiences: AudienceService) -> Mapping[str, str]:
    found = {**realtime.unready(), "groups": audiences.trouble}
    return {name: said for name, said in found.items() if said}


def _estimate(workspace: Workspace, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    group = parse_definition({"kind": "group", "name": "estimated", **raw}, "body")
    if not isinstance(group, Group):
        raise BadInput("is not a group", field="kind", value=group.kind)
    as_of = start_of_day(latest_day(workspace), workspace.settings.zone)
    group = resolve(group, workspace.definitions().tags)
    return vars(population(workspace, as_of).estimate(group))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
