"""What a running service lets go of, what it shows of runs, and the log of events as a source."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
import uvicorn
from httpx import Client
from typer.testing import CliRunner

from engine.cli.main import app
from engine.doctor import examine
from engine.forgetting import forget_user
from engine.http.app import create_app
from engine.population import population
from engine.serve import services
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.errors import NotFound
from storage.events import EventLog, NewEvent
from storage.selection_runs import Run

CATALOG = """
sources:
  shop: {url: "parquet://../company"}
entities:
  user: {source: shop, table: users, key: customer_no}
events:
  order:
    source: shop
    table: orders
    user: customer_no
    time: at
    id: basket
    role: purchase
    freshness: real_time
    fields: {amount: {column: total, type: decimal, role: amount}, kind: {column: kind, type: string}}
"""
GROUPS = """
kind: group
name: buyers
where: {event: order, agg: sum, of: amount, within: 30d, op: ge, value: 10}
---
kind: group
name: others
where: {not: {group: buyers}}
"""
NOW = datetime.now(UTC)
#: bytes that nothing else has
USERS = [f"cust-{number}-zq@x.example" for number in range(6)]
HER = USERS[3]


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    root, company = tmp_path / "workspace", tmp_path / "company"
    for folder in (root, company):
        folder.mkdir()
    (root / "growth.toml").write_text('name = "kept"\n')
    (root / "catalog.yaml").write_text(CATALOG)
    (root / "groups.yaml").write_text(GROUPS)
    users = pl.DataFrame({"customer_no": USERS})
    users.write_parquet(company / "users.parquet")
    orders = users.with_columns(
        at=pl.lit(NOW - timedelta(days=1)), total=1.5, basket=pl.int_range(6), kind=pl.lit("tea")
    )
    orders.write_parquet(company / "orders.parquet")
    space = open_workspace(root)
    apply(space, root / "groups.yaml", by="test")
    people = population(space, NOW - timedelta(hours=2))
    for name in ("buyers", "others"):
        members = people.members(name)
        space.groups.publish(
            name=name, fingerprint=people.groups[name].fingerprint, as_of=people.as_of,
            members=members.serialize(), count=len(members), universe=6, sources={},
            calculated_at=datetime.now(UTC),
        )  # fmt: skip
    return space


@pytest.fixture
def client(space: Workspace) -> Iterator[Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(services(space)), port=port, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    with Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        yield client
    server.should_exit = True
    thread.join(60)


def order(event_id: int, user: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    said = {"event_id": str(event_id), "user_id": user, "name": "order", "occurred_at": at}
    return {**said, "properties": {"amount": 20.0, "kind": "milk"}}


def until(answered: Callable[[], bool], seconds: float = 20.0) -> None:
    begun = time.monotonic()
    while not answered():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)


def test_a_running_server_lets_go_of_whom_another_process_forgets(space: Workspace, client: Client) -> None:
    path = f"/v1/groups/buyers/members/{HER}"
    sent = client.post("/v1/events", json=[order(100, HER), order(101, USERS[0])]).json()
    assert all(each["received_at"] for each in sent)
    assert "forgotten" not in sent[0]
    until(lambda: client.get(path).json()["member"] is True)
    assert client.get("/v1/groups/buyers").json()["count"] == 2
    found = forget_user(open_workspace(space.root), HER)
    assert found.complete
    assert found.rows_deleted["growth.fresh_events"] == 1
    until(lambda: client.get(path).status_code == 404)
    until(lambda: client.get("/v1/groups/buyers").json()["count"] == 1)
    until(lambda: client.get("/v1/groups/others").json()["count"] == 4)
    assert client.get(f"/v1/users/{HER}/groups").status_code == 404
    again = client.post("/v1/events", json=[order(102, HER), order(103, USERS[1])])
    assert again.status_code == 200
    assert again.json()[0] == {"event_id": "102", "received_at": None, "forgotten": True}
    assert again.json()[1]["received_at"]
    until(lambda: client.get("/v1/groups/buyers").json()["count"] == 2)
    assert EventLog(space.database).of_user(HER) == []
    assert client.get(f"/v1/groups/buyers/members/{USERS[0]}").json()["member"] is True


def test_the_speed_layer_keeps_nothing_of_the_forgotten(space: Workspace) -> None:
    served = services(space).audiences
    assert served is not None
    served.refresh()
    log = EventLog(space.database)
    log.append(
        [[NewEvent(event_id="9", user_id=HER, name="order", occurred_at=NOW, lines=[{"amount": 50.0}])]], NOW
    )
    served.refresh()
    number = served.membership.number(HER)
    assert (served.layer.open_events, list(served.layer.users)) == (1, [HER])
    assert number in served.layer.groups["buyers"].overlay.inside
    forget_user(open_workspace(space.root), HER)
    served._look()
    assert (served.layer.open_events, list(served.layer.users)) == (0, [])
    assert number not in served.layer.evaluated
    for group in served.layer.groups.values():
        assert not group.overlay.touched
        assert not group.overlay.inside
    with pytest.raises(NotFound):
        served.answer("buyers", HER)


def test_the_doctor_names_a_forgetting_that_was_not_finished(space: Workspace) -> None:
    def said() -> tuple[bool, str]:
        (found,) = [each for each in examine(space.root) if each.what == "forgetting"]
        return found.well, found.said

    assert said() == (True, "none is unfinished")
    space.tombstones.begin([HER], NOW)
    well, words = said()
    assert not well
    assert f"begun at {NOW:%Y-%m-%d %H:%M} UTC and not finished" in words
    forget_user(space, HER)
    assert said()[0]


def test_groups_show_runs_that_did_not_come_to_their_end(space: Workspace, client: Client) -> None:
    assert client.get("/v1/groups/others").json()["run"] is None
    at = datetime.now(UTC)
    run = Run(
        run="daily-1",
        as_of=at,
        reason="command",
        made_at=at,
        patience_until=at,
        finished_at=None,
        definitions={},
    )
    space.runs.make(run, ["buyers", "others"])
    space.runs.set_back("daily-1", "failed", {"buyers": "the disk is full"}, at)
    space.runs.set_back("daily-1", "blocked", {"others": "group buyers failed"}, at)
    listed = {each["name"]: each for each in client.get("/v1/groups").json()["groups"]}
    assert listed["buyers"]["problem"] == "its newest run failed: the disk is full"
    assert listed["others"]["problem"] == "its newest run is blocked: group buyers failed"
    assert client.get("/v1/groups/others").json()["run"]["run"] == "daily-1"


def test_the_log_becomes_a_source(space: Workspace, tmp_path: Path) -> None:
    log, command = EventLog(space.database), CliRunner()
    lines = [{"amount": 2.0, "kind": "tea"}, {"amount": 3.0}]
    log.append([[NewEvent(event_id="order:7", user_id=HER, name="order", occurred_at=NOW, lines=lines)]], NOW)
    words = ["events", "export", "--out", str(tmp_path / "out"), "--dir", str(space.root), "--json"]
    assert json.loads(command.invoke(app, words).output)["lines"] == {"order": 2}
    assert json.loads(command.invoke(app, words).output)["lines"] == {}
    log.append([[NewEvent(event_id="8", user_id=USERS[0], name="order", occurred_at=NOW, lines=[{}])]], NOW)
    assert json.loads(command.invoke(app, words).output)["lines"] == {"order": 1}
    found = pl.read_parquet(tmp_path / "out" / "order" / "*.parquet").sort(
        "event_id", "amount", nulls_last=True
    )
    assert found.select("user_id", "event_id", "amount", "kind").rows() == [
        (HER, 7, 2.0, "tea"),
        (HER, 7, 3.0, None),
        (USERS[0], 8, None, None),
    ]
    assert found["occurred_at"].to_list() == [NOW] * 3
    (tmp_path / "file").touch()
    wrong = command.invoke(
        app, ["events", "export", "--out", str(tmp_path / "file"), "--dir", str(space.root)]
    )
    assert "is not a folder" in str(wrong.exception)


def test_events_go_when_every_group_knows_them_and_they_were_kept_long_enough(space: Workspace) -> None:
    served, log = services(space).audiences, EventLog(space.database)
    assert served is not None
    old, young = NOW - timedelta(days=40), NOW - timedelta(days=20)
    for event_id, received, occurred in (("1", old, old), ("2", young, young), ("3", old, NOW)):
        log.append(
            [[NewEvent(event_id=event_id, user_id=HER, name="order", occurred_at=occurred, lines=[{}])]],
            received,
        )
    served._prune()
    assert [each.event_id for each in log.after(0, ["order"])] == [
        "1",
        "2",
        "3",
    ]  # no group was looked at yet
    served.refresh()
    served._prune()
    assert [each.event_id for each in log.after(0, ["order"])] == ["2", "3"]
