"""Groups and fresh events through a real server over a real workspace."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from engine.audience_service import AudienceService
from engine.cli.main import app
from engine.population import population
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.errors import NotFound, Unavailable

#: one worker starts the server once

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: uid}
fields:
  user.city: {table: users, column: city, type: string}
events:
  order:
    source: shop
    table: orders
    user: uid
    time: at
    role: purchase
    freshness: real_time
    fields: {amount: {column: total, type: decimal, role: amount}}
  visit: {source: shop, table: visits, user: uid, time: at}
"""
GROUPS = """
kind: group
name: buyers
where:
  all:
    - {field: user.city, op: eq, value: Paris}
    - {event: order, agg: sum, of: amount, within: 30d, op: ge, value: 10}
---
kind: group
name: parisians
where: {field: user.city, op: eq, value: Paris}
---
kind: group
name: visitors
where: {event: visit, agg: count, op: ge, value: 1}
"""
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users 0 … 99, the even ones in Paris; each bought for 1.5 yesterday; buyers and parisians published."""
    root = tmp_path_factory.mktemp("audiences")
    (root / "data").mkdir()
    (root / "growth.toml").write_text('name = "audiences"\n')
    (root / "catalog.yaml").write_text(CATALOG)
    (root / "groups.yaml").write_text(GROUPS)
    users = pl.DataFrame({"uid": range(100)})
    users.with_columns(
        city=pl.when(pl.col("uid") % 2 == 0).then(pl.lit("Paris")).otherwise(pl.lit("Rome"))
    ).write_parquet(root / "data" / "users.parquet")
    lines = users.with_columns(at=pl.lit(NOW - timedelta(days=1)), total=pl.lit(1.5))
    lines.write_parquet(root / "data" / "orders.parquet")
    lines.head(3).drop("total").write_parquet(root / "data" / "visits.parquet")
    space = open_workspace(root)
    apply(space, root / "groups.yaml", by="test")
    publish(space, "buyers")
    publish(space, "parisians")
    return root


def publish(space: Workspace, name: str) -> None:
    people = population(space, NOW - timedelta(hours=2))
    members = people.members(name)
    space.groups.publish(
        name=name,
        fingerprint=people.groups[name].fingerprint,
        as_of=people.as_of,
        members=members.serialize(),
        count=len(members),
        universe=len(people.universe),
        sources={},
        calculated_at=datetime.now(UTC),
    )


@dataclass
class Server:
    """A `growth serve` of its own."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]

    def call(self, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def member(self, name: str, user: object) -> dict[str, Any]:
        status, answer = self.call(f"/v1/groups/{name}/members/{user}")
        assert status == 200, answer
        return dict(answer)


def start(root: Path) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "--dir", str(root), "--port", str(port)]
    line = f"import sys; sys.argv[1:] = {words!r}; from engine.cli.main import main; main()"
    server = Server(root, port, subprocess.Popen([sys.executable, "-c", line]))
    for _ in range(600):
        assert server.process.poll() is None, "the server ended"
        try:
            server.call("/healthz")
        except OSError:
            time.sleep(0.1)
        else:
            return server
    pytest.fail("the server did not answer within 60 s")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    server = start(root)
    yield server
    server.process.terminate()
    server.process.wait(30)


def until(answered: Callable[[], bool], seconds: float = 10.0) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not answered():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)
    return time.monotonic() - begun


def order(event_id: str, user: object, amount: float = 20.0, **changes: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    said = {"event_id": event_id, "user_id": user, "name": "order", "occurred_at": at}
    return {**said, "properties": {"amount": amount}, **changes}


def test_membership_of_one_and_of_many(server: Server) -> None:
    as_of = (NOW - timedelta(hours=2)).isoformat()
    assert server.member("parisians", 2) == {"member": True, "as_of": as_of, "version": 1}
    assert server.member("parisians", 3)["member"] is False
    status, many = server.call("/v1/groups/parisians/members", {"users": ["2", 3, "nobody", "2"]})
    assert (status, many["version"]) == (200, 1)
    assert many["members"] == {"2": True, "3": False, "nobody": None}
    status, answer = server.call("/v1/groups/parisians/members", {"users": ["2"] * 10_001})
    assert (status, answer["field"]) == (422, "users")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/groups/parisian/members/2", "group"),
        ("/v1/groups/parisians/members/100", "user_id"),
        ("/v1/groups/parisians/members/two", "user_id"),
        ("/v1/groups/parisians/members/02", "user_id"),
        ("/v1/groups/nothing", "group"),
        ("/v1/users/nobody/groups", "user_id"),
        ("/v1/groups/parisians/members/100/why", "user_id"),
    ],
)
def test_unknown_users_and_groups_are_not_found(server: Server, path: str, field: str) -> None:
    status, answer = server.call(path)
    assert (status, answer["field"]) == (404, field), answer


def test_a_group_that_was_never_selected_is_worked_out_and_says_so(server: Server) -> None:
    status, before = server.call("/v1/groups/visitors")
    assert (status, before["published"], before["count"]) == (200, False, None) or before["version"] == 0
    answer = server.member("visitors", 2)
    assert (answer["member"], answer["version"], answer["published"]) == (True, 0, False)
    assert server.member("visitors", 3)["member"] is False
    assert server.call("/v1/groups/visitors")[1]["count"] == 3


def test_a_fresh_event_is_in_the_answer_within_a_second(server: Server) -> None:
    assert server.member("buyers", 10)["member"] is False
    status, told = server.call("/v1/events", order("fresh-1", "10"))
    assert (status, told["event_id"]) == (200, "fresh-1")
    assert until(lambda: bool(server.member("buyers", 10)["member"])) < 1.0
    answer = server.member("buyers", 10)
    assert datetime.fromisoformat(answer["as_of"]) > NOW - timedelta(minutes=1)
    assert "buyers" in [each["name"] for each in server.call("/v1/users/10/groups")[1]["groups"]]
    assert server.call("/v1/groups/buyers/members", {"users": [10]})[1]["members"] == {"10": True}
    why = server.call("/v1/groups/buyers/members/10/why")[1]
    assert (why["member"], why["fresh"]) == (True, True)
    assert [(line["depth"], line["holds"]) for line in why["because"]] == [(0, True), (1, True), (1, True)]
    other = server.call("/v1/groups/buyers/members/12/why")[1]
    assert (other["member"], other["fresh"]) == (False, False)
    assert [line["holds"] for line in other["because"]][-2:] == [True, False]
    found = server.call("/v1/groups/buyers")[1]
    assert (found["freshness"], found["count"]) == ("real_time", 1)
    # sent again, even with other words: the same answer, and nothing changes
    assert server.call("/v1/events", order("fresh-1", 12))[1] == told
    time.sleep(0.3)
    assert server.member("buyers", 12)["member"] is False


def test_what_is_wrong_is_named_one_by_one_and_nothing_is_kept(server: Server) -> None:
    batch = [
        order("good", 14),
        order("e", 14, name="ordre"),
        order("f", "x"),
        order("g", 14, properties={"amount": "much"}),
        order("h", 14, properties={"price": 1}),
        order("i", 14, occurred_at="2017-10-16T08:00:00"),
        order("j", 14, occurred_at="2999-01-01T00:00:00Z"),
        {"event_id": "k"},
        7,
        order("", 14),
        order("l", 14, extra=1),
    ]
    status, answer = server.call("/v1/events", batch)
    assert (status, answer["field"]) == (422, "events.1.name")
    assert [each["index"] for each in answer["errors"]] == list(range(1, 11))
    assert [each["field"] for each in answer["errors"]] == [
        "name", "user_id", "properties.amount", "properties.price", "occurred_at", "occurred_at", "user_id",
        "event", "event_id", "extra",
    ]  # fmt: skip
    time.sleep(0.3)
    assert server.member("buyers", 14)["member"] is False
    assert server.call("/v1/events", [])[0] == 422
    assert server.call("/v1/events", [order(f"m{i}", 1) for i in range(1001)])[0] == 422
    assert server.call("/v1/events", order("n", 14, name="visit", properties={}))[0] == 200
    status, answer = server.call("/v1/events", [order("o", 14), order("n", 14)])
    assert (status, answer["field"]) == (422, "events.1.event_id")
    status, answer = server.call("/v1/events", [order("p", 14, 1.0), order("q", 14, 1.0)])
    assert (status, [each["event_id"] for each in answer]) == (200, ["p", "q"])


def test_a_new_version_is_served_soon(server: Server) -> None:
    publish(open_workspace(server.root), "visitors")
    until(lambda: server.member("visitors", 2)["version"] == 1)
    assert "published" not in server.member("visitors", 2)
    listed = {each["name"]: each for each in server.call("/v1/groups")[1]["groups"]}
    assert set(listed) == {"buyers", "parisians", "visitors"}
    assert listed["parisians"]["count"] == 50


def test_the_schema_has_an_example_for_every_route(server: Server) -> None:
    schema = server.call("/openapi.json")[1]
    for path, calls in schema["paths"].items():
        if path.startswith(("/v1/groups/{", "/v1/users", "/v1/events")):
            for method, call in calls.items():
                content = call["responses"]["200"]["content"]["application/json"]
                assert "example" in content, (method, path)
    assert "FreshEvent" in schema["components"]["schemas"]


def test_events_outlive_the_server(root: Path, tmp_path: Path, server: Server) -> None:
    assert server.call("/v1/events", order("last", 20))[0] == 200
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    again = start(root)
    try:
        assert again.member("buyers", 20)["member"] is True
        assert again.call("/v1/events", order("last", 22))[0] == 200
        time.sleep(0.3)
        assert again.member("buyers", 22)["member"] is False
    finally:
        again.process.terminate()
        again.process.wait(30)


def test_without_room_events_are_refused_and_never_dropped(root: Path) -> None:
    service = AudienceService(open_workspace(root))
    service.refresh()
    held = service.layer.open_events
    assert held >= 4
    service.layer._most_events = held + 1
    service.start()
    with pytest.raises(Unavailable, match="no room"):
        service.receive([order("r1", 30), order("r2", 30)])
    assert service.receive(order("r3", 30)).result(30)
    until(lambda: service.layer.open_events == held + 1)
    with pytest.raises(Unavailable, match="no room"):
        service.receive(order("r4", 30))
    assert service.receive(order("r5", 30, name="visit", properties={})).result(30)
    service.close()
    with pytest.raises(Unavailable, match="closing"):
        service.receive(order("r6", 30, name="visit", properties={}))


def test_why_on_the_command_line(root: Path) -> None:
    command = CliRunner()
    told = command.invoke(app, ["why", "4", "parisians", "--dir", str(root)])
    assert told.exit_code == 0
    assert "4 belongs to parisians, version 1" in told.output
    assert "✓ user.city = Paris" in told.output
    found = json.loads(command.invoke(app, ["why", "5", "buyers", "--dir", str(root), "--json"]).output)
    assert (found["member"], found["fresh"]) == (False, False)
    for words in (["why", "nobody", "buyers"], ["why", "4", "bayers"]):
        wrong = command.invoke(app, [*words, "--dir", str(root)])
        assert isinstance(wrong.exception, NotFound)
