"""`growth serve`: the HTTP API over one workspace."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import uvicorn

from engine.audience_service import AudienceService
from engine.catalogs import panel, schema
from engine.day import population
from engine.definitions import parse_definition
from engine.group_insight import GroupInsight
from engine.http.app import create_app
from engine.http.services import Services
from engine.policies import live_policy
from engine.publish import read_plan
from engine.selection_jobs import scheduling
from engine.usecases import latest_day
from engine.wiring import Workspace
from insight.api import Group, resolve
from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from realtime.api import Learner, SquareCB, restore_newest
from storage.decisions import SqlDecisionLog

_WINDOW = timedelta(days=1)


def serve(workspace: Workspace, host: str, port: int) -> None:
    """Until interrupted. Raises BadInput for a host beyond loopback without a token."""
    if not _is_loopback(host) and workspace.settings.token is None:
        raise BadInput("is beyond loopback: set GROWTH_TOKEN first", field="--host", value=host)
    app = create_app(services(workspace))
    with scheduling(workspace):
        uvicorn.run(app, host=host, port=port, log_level="warning")


def services(workspace: Workspace) -> Services:
    log = SqlDecisionLog(workspace.database)
    champion = live_policy(workspace)
    policy: Learner = champion[0] if champion else SquareCB()
    restore_newest(policy, log)
    token = workspace.settings.token
    audiences = AudienceService(workspace)
    return Services(
        policy=policy,
        log=log,
        prices=partial(prices, workspace),
        clock=workspace.clock,
        seed=workspace.settings.seed,
        window=_WINDOW,
        estimate=partial(_estimate, workspace),
        member=audiences.answer,
        prepare=audiences.prepare,
        audiences=audiences,
        insight=GroupInsight(workspace),
        plan=partial(_plan, workspace),
        explain=partial(_explain, workspace),
        catalog=partial(panel, workspace),
        condition_schema=partial(schema, workspace),
        token=token.get_secret_value() if token else None,
    )


def prices(workspace: Workspace) -> Mapping[str, float]:
    """Benefit or touchpoint → the price of one use in the newest plan; empty without a plan."""
    today = workspace.clock.now().astimezone(workspace.settings.zone).date()
    entry = workspace.plans.find(today)
    if entry is None:
        return {}
    uses = read_plan(Path(entry.folder))["allocation"]["limits"]
    return {each["name"].removesuffix("_capacity"): max(each["price"], 0.0) for each in uses}


def _estimate(workspace: Workspace, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    group = parse_definition({"kind": "group", "name": "estimated", **raw}, "body")
    if not isinstance(group, Group):
        raise BadInput("is not a group", field="kind", value=group.kind)
    as_of = start_of_day(latest_day(workspace), workspace.settings.zone)
    group = resolve(group, workspace.definitions().tags)
    return vars(population(workspace, as_of).estimate(group))


def _folder(workspace: Workspace, day: date) -> Path:
    entry = workspace.plans.find(day)
    if entry is None:
        raise NotFound("plan", day, (), field="date")
    return Path(entry.folder)


def _plan(workspace: Workspace, day: date) -> Mapping[str, Any]:
    return read_plan(_folder(workspace, day))


def _explain(workspace: Workspace, day: date, user: str) -> Mapping[str, Any]:
    """What this user got and did not get, from the plan's own files."""
    folder = _folder(workspace, day)
    candidates = pl.scan_parquet(folder / "candidates.parquet").filter(pl.col("user").cast(pl.String) == user)
    chosen = pl.scan_parquet(folder / "assignments.parquet").filter(pl.col("user").cast(pl.String) == user)
    rows = candidates.sort("value", descending=True).collect()
    if rows.is_empty():
        raise NotFound("user", user, (), where=f"plan {day}", field="user_id")
    got = chosen.collect()["task"].to_list()
    return {
        "user_id": user,
        "date": day.isoformat(),
        "given": got,
        "prices": {use["name"]: use["price"] for use in read_plan(folder)["allocation"]["limits"]},
        "candidates": rows.with_columns(chosen=pl.col("task").is_in(got)).to_dicts(),
    }


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
