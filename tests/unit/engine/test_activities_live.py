"""Activities over a workspace: from draft to post-mortem, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from engine.activities import Activities
from engine.activity_clock import ActivityClock
from engine.settings import Settings
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput, NotFound, Stale
from storage.events import NewEvent

START, DAY = datetime(2026, 3, 2, tzinfo=UTC), timedelta(days=1)
CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: uid}
fields:
  user.birthday: {table: users, column: born, type: date}
events:
  order:
    source: shop
    table: orders
    user: uid
    time: at
    id: number
    role: purchase
    freshness: real_time
    fields: {amount: {column: total, type: decimal, role: amount}, kind: {column: kind, type: string}}
"""
TEA: dict[str, Any] = {
    "kind": "activity",
    "name": "tea",
    "goal": "more",
    "audience": ["regulars"],
    "when": {"start": START.isoformat(), "end": (START + 3 * DAY).isoformat()},
    "registration": {
        "opens": "2d",
        "places": 4,
        "fields": {"properties": {"size": {"enum": ["S", "M"]}}, "required": ["size"]},
    },
    "metrics": [
        {"name": "orders", "event": "order"},
        {"name": "spent", "event": "order", "agg": "sum", "of": "amount"},
        {"name": "kinds", "event": "order", "agg": "distinct", "of": "kind"},
    ],
    "ranking": {"by": "spent", "periods": ["all", "day"]},
    "rewards": [
        {"name": "daily", "rank": [1, 1], "period": "day", "cost": 5},
        {"name": "winner", "rank": [1, 1], "cost": 50},
        {"name": "done", "reach": {"orders": 2}, "stock": 1, "cost": 2},
        {"name": "points", "reach": {"orders": 99}},
    ],
    "revenue": [{"metric": "spent", "margin": 0.5}],
    "contingency": [
        {"name": "gone", "when": "stock", "of": "done", "then": "switch_reward", "to": "points"},
        {"name": "crowd", "when": "participants", "at_least": 4, "then": "close_registration"},
    ],
}
OTHERS: list[dict[str, Any]] = [
    {
        "kind": "group",
        "name": "regulars",
        "entity": "user",
        "where": {"field": "user.birthday", "op": "not_null"},
    },
    {
        "kind": "goal",
        "name": "more",
        "outcome": "order",
        "audiences": ["regulars"],
        "base": "spend",
        "margin": 0.1,
        "lift": 0.1,
    },
]


class Hands:
    at = START - DAY

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def space(tmp_path: Path, hands: Hands) -> Iterator[Workspace]:
    root = tmp_path / "shop"
    (root / "data").mkdir(parents=True)
    (root / "growth.toml").write_text('name = "shop"\n')
    (root / "catalog.yaml").write_text(CATALOG)
    born = [datetime(1990, 3, 3).date()] * 6 + [None] * 2  # noqa: DTZ001  a day, not an instant
    users = pl.DataFrame({"uid": [f"u{number}" for number in range(8)], "born": born})
    users.write_parquet(root / "data" / "users.parquet")
    kinds = {"uid": pl.String, "at": pl.Datetime("us", "UTC"), "number": pl.String, "total": pl.Float64,
             "kind": pl.String}  # fmt: skip
    old = [("u0", START - 5 * DAY, "old", 7.0, "tea")]
    pl.DataFrame(old, schema=kinds, orient="row").write_parquet(root / "data" / "orders.parquet")
    (root / "said.yaml").write_text(yaml.safe_dump_all([*OTHERS, TEA]))
    opened = open_workspace(root)
    apply(opened, root / "said.yaml", by="tests")
    yield Workspace(root=root, settings=Settings(timezone="UTC"), clock=hands)
    opened.database.dispose()


@pytest.fixture
def activities(space: Workspace) -> Activities:
    return Activities(space, lambda _, user: user not in ("u6", "u7"))


@pytest.fixture
def clock(activities: Activities, hands: Hands) -> ActivityClock:
    return ActivityClock(activities, hands)


def bought(
    activities: Activities, user: str, at: datetime, number: str, total: float, kind: str = "tea"
) -> None:
    new = NewEvent(event_id=number, user_id=user, name="order", occurred_at=at,
                   lines=[{"amount": total, "kind": kind}])  # fmt: skip
    activities.log.append([[new]], at)


def until_quiet(clock: ActivityClock) -> None:
    while clock.tick():
        pass


def test_from_draft_to_post_mortem(activities: Activities, clock: ActivityClock, hands: Hands) -> None:
    assert [each["state"] for each in activities.all()] == ["draft"]
    with pytest.raises(Stale, match="draft"):
        activities.register("tea", "u0", {"size": "M"})
    with pytest.raises(BadInput, match="it is draft"):
        clock.move("tea", "running", who="ann")
    clock.move("tea", "ready", who="ann", why="checked")
    for user in ("u0", "u1", "u2"):
        assert activities.register("tea", user, {"size": "M"})["new"]
    assert not activities.register("tea", "u0", {"size": "S"})["new"]
    bought(activities, "u0", START - timedelta(hours=1), "early", 100.0)
    hands.at = START
    until_quiet(clock)
    assert activities.show("tea")["state"] == "running"

    bought(activities, "u0", START + timedelta(hours=1), "a", 10.0)
    bought(activities, "u1", START + timedelta(hours=2), "b", 4.0)
    bought(activities, "u1", START + timedelta(hours=3), "c", 4.0, "pot")
    bought(activities, "u9", START + timedelta(hours=3), "d", 999.0)  # takes no part
    hands.at = START + timedelta(hours=4)
    until_quiet(clock)
    board = activities.board("tea", "day", None, 1, 10)
    assert [(each["user_id"], each["value"]) for each in board["lines"]] == [("u0", 10.0), ("u1", 8.0)]
    mine = activities.standing("tea", "u1")
    assert mine["metrics"] == {"orders": 2.0, "spent": 8.0, "kinds": 2.0}
    assert mine["ranks"] == {"all": 2, "day": 2}
    assert [(each["reward"], each["given"]) for each in mine["rewards"]] == [("done", "done")]

    hands.at = START + DAY + timedelta(hours=1)
    bought(activities, "u0", hands.at, "e", 1.0)
    until_quiet(clock)
    assert [each["period"] for each in activities.standing("tea", "u0")["rewards"]] == ["all", "2026-03-02"]
    # its stock is gone, so another is given
    assert activities.standing("tea", "u0")["rewards"][0]["given"] == "points"

    hands.at = START + 3 * DAY
    until_quiet(clock)
    found = activities.show("tea")
    assert found["state"] == "completed"
    assert found["rewards"]["winner"] == {"earned": 1, "given": 1, "stock": None}
    assert found["rewards"]["daily"]["given"] == 2
    account = activities.post_mortem("tea")
    assert account["metrics"] == {"orders": 4.0, "spent": 19.0, "kinds": 3.0}
    assert account["profit"] == 19 * 0.5 - (2 * 5 + 50 + 2)
    assert [each["users"] for each in account["funnel"]] == [None, 3, 2, 5]
    before = activities.standing("tea", "u0")
    clock.move("tea", "reviewed", who="ann")
    until_quiet(clock)
    assert activities.standing("tea", "u0") == before
    assert [each["state"] for each in activities.show("tea")["moves"]] == [
        "ready", "running", "completed", "reviewed",
    ]  # fmt: skip


def test_counted_anew_it_is_what_sources_and_log_have_together(
    space: Workspace, activities: Activities, clock: ActivityClock, hands: Hands
) -> None:
    clock.move("tea", "ready", who="ann")
    for user in ("u0", "u1"):
        activities.register("tea", user, {"size": "M"})
    hands.at = START + timedelta(hours=5)
    bought(activities, "u0", START + timedelta(hours=1), "a", 10.0)
    until_quiet(clock)
    batch = pl.read_parquet(space.root / "data" / "orders.parquet")
    rows = [
        ("u0", START + timedelta(hours=1), "a", 10.0, "tea"),  # the log has it too
        ("u1", START + timedelta(hours=2), "x", 3.0, "pot"),
        ("u1", START + timedelta(hours=2), "x", 2.0, "tea"),  # a line of the same order
    ]
    pl.concat([batch, pl.DataFrame(rows, schema=batch.schema, orient="row")]).write_parquet(
        space.root / "data" / "orders.parquet"
    )
    bought(activities, "u1", START + timedelta(hours=4), "y", 1.0)
    until_quiet(clock)
    activities.board("tea", "all", None, 1, 10)
    assert clock.recount("tea") == {"order": 3}
    for _ in range(2):
        assert activities.standing("tea", "u1")["metrics"] == {"orders": 2.0, "spent": 6.0, "kinds": 2.0}
        assert activities.standing("tea", "u0")["metrics"]["spent"] == 10.0
        lines = activities.board("tea", "all", None, 1, 10)["lines"]
        assert [(each["user_id"], each["value"]) for each in lines] == [("u0", 10.0), ("u1", 6.0)]
        until_quiet(clock)
    bought(activities, "u1", START + timedelta(hours=4), "z", 9.0)
    until_quiet(clock)
    assert activities.board("tea", "all", None, 1, 1)["lines"][0]["user_id"] == "u1"


def test_who_may_register(activities: Activities, clock: ActivityClock, hands: Hands) -> None:
    hands.at = START - 3 * DAY
    clock.move("tea", "ready", who="ann")
    with pytest.raises(BadInput, match="is not open"):
        activities.register("tea", "u0", {"size": "M"})
    hands.at = START - DAY
    with pytest.raises(BadInput, match=r"fields\.size"):
        activities.register("tea", "u0", {"size": "XL"})
    with pytest.raises(BadInput, match="not who this is meant for"):
        activities.register("tea", "u6", {"size": "M"})
    for user in ("u0", "u1", "u2", "u3"):
        activities.register("tea", user, {"size": "M"})
    with pytest.raises(BadInput, match="no place left"):
        activities.register("tea", "u4", {"size": "M"})
    with pytest.raises(NotFound, match="participant"):
        activities.standing("tea", "u4")
    assert activities.participants("tea").height == 4
    hands.at = START
    until_quiet(clock)
    until_quiet(clock)
    bought(activities, "u0", START, "a", 1.0)
    until_quiet(clock)
    assert activities.show("tea")["closed"]
    assert "crowd" in activities.show("tea")["fired"]
    with pytest.raises(Stale, match="closed"):
        activities.register("tea", "u5", {"size": "M"})


def test_paused_nothing_counts(activities: Activities, clock: ActivityClock, hands: Hands) -> None:
    clock.move("tea", "ready", who="ann")
    activities.register("tea", "u0", {"size": "M"})
    hands.at = START
    until_quiet(clock)
    hands.at = START + timedelta(hours=1)
    clock.move("tea", "paused", who="ann", why="a fault in the shop")
    with pytest.raises(Stale, match="paused"):
        activities.register("tea", "u1", {"size": "M"})
    bought(activities, "u0", START + timedelta(minutes=30), "late", 1.0)
    bought(activities, "u0", START + timedelta(minutes=90), "in", 10.0)
    until_quiet(clock)
    hands.at = START + timedelta(hours=2)
    clock.move("tea", "running", who="ann")
    bought(activities, "u0", START + timedelta(hours=3), "after", 100.0)
    until_quiet(clock)
    assert activities.standing("tea", "u0")["metrics"]["spent"] == 101.0
    clock.recount("tea")
    assert activities.standing("tea", "u0")["metrics"]["spent"] == 101.0


def test_a_budget_that_is_spent_pauses_it_once(
    space: Workspace, activities: Activities, clock: ActivityClock, hands: Hands
) -> None:
    changed = {
        **TEA,
        "budget": 2,
        "registration": None,
        "contingency": [{"name": "broke", "when": "budget", "then": "pause"}],
    }
    del changed["registration"]
    (space.root / "said.yaml").write_text(yaml.safe_dump_all([*OTHERS, changed]))
    apply(space, space.root / "said.yaml", by="tests")
    clock.move("tea", "ready", who="ann")
    hands.at = START
    until_quiet(clock)
    for number in range(2):
        bought(activities, "u0", START + timedelta(hours=1), f"a{number}", 1.0)
        bought(activities, "u7", START + timedelta(hours=1), f"b{number}", 1.0)
    until_quiet(clock)
    found = activities.show("tea")
    assert found["participants"] == 1  # u7 is not meant
    assert found["state"] == "paused"
    assert found["moves"][-1]["who"] == "contingency broke"
    clock.move("tea", "running", who="ann", why="there is more")
    until_quiet(clock)
    assert activities.show("tea")["state"] == "running"


def test_what_it_added_is_read_against_those_who_are_held_out(
    space: Workspace, activities: Activities, clock: ActivityClock, hands: Hands
) -> None:
    users = [f"u{number}" for number in range(400)]
    born = [datetime(1990, 3, 3, tzinfo=UTC).date()] * 400
    pl.DataFrame({"uid": users, "born": born}).write_parquet(space.root / "data" / "users.parquet")
    held = {"kind": "holdout", "name": "untouched", "share": 0.4}
    open_to_all = {**TEA, "registration": {"opens": "2d"}}
    (space.root / "said.yaml").write_text(yaml.safe_dump_all([*OTHERS, open_to_all, held]))
    apply(space, space.root / "said.yaml", by="tests")
    clock.move("tea", "ready", who="ann")
    took_part = []
    for user in users:
        try:
            activities.register("tea", user, {})
            took_part.append(user)
        except (BadInput, Stale) as refused:
            if "not who this is meant for" not in str(refused):
                break
    assert took_part
    batch = pl.read_parquet(space.root / "data" / "orders.parquet")
    # who is not held out buys for 4 more
    reached = {user for user in users if not activities.rules.held(user)}
    rows = [
        (
            user,
            START + timedelta(hours=1 + place % 40),
            f"o{place}",
            1.0 + place % 3 + 4.0 * (user in reached),
            "tea",
        )
        for place, user in enumerate(users)
    ]
    pl.concat([batch, pl.DataFrame(rows, schema=batch.schema, orient="row")]).write_parquet(
        space.root / "data" / "orders.parquet"
    )
    hands.at = START
    until_quiet(clock)
    hands.at = START + 3 * DAY
    until_quiet(clock)
    found = activities.post_mortem("tea")["increment"]["spent"]
    assert found["low"] < 4.0 < found["high"]
    assert found["effect"] == pytest.approx(4.0, abs=0.5)
    assert 150 < len(reached) < 330
    assert not set(took_part) - reached


def test_days_around_a_birthday(
    space: Workspace, activities: Activities, clock: ActivityClock, hands: Hands
) -> None:
    changed = {**TEA, "when": {**TEA["when"], "around": "user.birthday", "before": "1d", "after": "1d"}}
    (space.root / "said.yaml").write_text(yaml.safe_dump_all([*OTHERS, changed]))
    apply(space, space.root / "said.yaml", by="tests")
    clock.move("tea", "ready", who="ann")
    hands.at = START + timedelta(hours=1)
    until_quiet(clock)
    # born on the 3rd: her days are the 2nd and the 3rd
    assert activities.register("tea", "u0", {"size": "M"})["new"]
    with pytest.raises(BadInput, match="no such day"):
        Activities(space, lambda *_: True).register("tea", "u7", {"size": "M"})
    bought(activities, "u0", START + DAY, "in", 1.0)
    bought(activities, "u0", START + 2 * DAY, "out", 10.0)
    hands.at = START + 2 * DAY + timedelta(hours=1)
    until_quiet(clock)
    assert activities.standing("tea", "u0")["metrics"]["spent"] == 1.0


def test_a_calendar_of_it_all(activities: Activities) -> None:
    days = activities.calendar(START.date(), (START + 60 * DAY).date(), "US")
    assert {"day": "2026-03-02", "kind": "begins", "text": "tea (draft)"} in days
    assert {"day": "2026-03-05", "kind": "ends", "text": "tea"} in days
    assert activities.calendar(date_of(2026, 7, 1), date_of(2026, 7, 31), "US") == [
        {"day": "2026-07-03", "kind": "holiday", "text": "Independence Day (observed)"},
        {"day": "2026-07-04", "kind": "holiday", "text": "Independence Day"},
    ]
    with pytest.raises(BadInput, match="three years"):
        activities.calendar(date_of(2026, 1, 1), date_of(2036, 1, 1), None)


def date_of(year: int, month: int, day: int) -> Any:
    return datetime(year, month, day, tzinfo=UTC).date()
