"""Activities made of templates, promoted by plans, and rewarded with coupons; with a clock set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from engine.activities import Activities
from engine.activity_clock import ActivityClock
from engine.activity_promotion import promotion_firings
from engine.activity_templates import templates
from engine.definition_history import history, retire, revert
from engine.definitions import parse_definition, read_definitions, write_definitions
from engine.population import population
from engine.rules import rule_audiences, rule_inputs
from engine.settings import Settings
from engine.usecases import apply, apply_all, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from storage.events import NewEvent

HOUR = timedelta(hours=1)
CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: uid}
fields:
  user.birthday: {table: users, column: born, type: date}
  user.zone: {table: users, column: zone, type: string, role: timezone}
events:
  order:
    source: shop
    table: orders
    user: uid
    time: at
    id: number
    role: purchase
    freshness: real_time
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
BORN = {
    "u0": (date(1992, 2, 29), "Asia/Shanghai"),
    "u1": (date(1990, 3, 1), "Asia/Shanghai"),
    "u2": (date(1991, 3, 1), "America/New_York"),
    "u3": (date(1991, 3, 2), None),
    "u4": (None, None),
}
GROUP = """
kind: group
name: everyone
entity: user
where: {not: {field: user.birthday, op: eq, value: 1900-01-01}}
---
kind: goal
name: more
outcome: order
audiences: [everyone]
base: spend
margin: 0.1
lift: 0.1
---
kind: benefit
name: invitation
cost_per_response: 0
response: 0.1
goals: [more]
touchpoints: [push]
---
kind: touchpoint
name: push
channel: push
cost_per_touch: 0.01
---
kind: content
name: teaser
goals: [more]
touchpoints: [push]
---
kind: coupon_pool
name: party
size: 1
"""
MADE: dict[str, Any] = {
    "kind": "activity",
    "name": "birthdays",
    "template": "birthday_coupon",
    "with": {
        "goal": "more",
        "birthday": "user.birthday",
        "event": "order",
        "pool": "party",
        "start": "2026-01-01T00:00:00Z",
        "end": "2027-01-01T00:00:00Z",
        "before": "1d",
        "after": "1d",
    },
    "instead": {
        "promotion": [
            {"day": 0, "touchpoint": "push", "content": "teaser", "benefit": "invitation"},
            {"day": -1, "touchpoint": "push", "content": "teaser"},
        ]
    },
}


class Hands:
    at = datetime(2025, 12, 31, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "shop"
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG)
    users = {
        "uid": list(BORN),
        "born": [born for born, _ in BORN.values()],
        "zone": [z for _, z in BORN.values()],
    }
    pl.DataFrame(users).write_parquet(root / "data" / "users.parquet")
    kinds = {"uid": pl.String, "at": pl.Datetime("us", "UTC"), "number": pl.String, "total": pl.Float64}
    old = [("u0", datetime(2025, 12, 1, tzinfo=UTC), "old", 7.0)]
    pl.DataFrame(old, schema=kinds, orient="row").write_parquet(root / "data" / "orders.parquet")
    (root / "definitions" / "all.yaml").write_text(GROUP)
    opened = open_workspace(root)
    yield Workspace(root=root, settings=Settings(timezone="UTC"), clock=Hands())
    opened.database.dispose()


@pytest.fixture
def made(space: Workspace) -> Workspace:
    apply(space, space.root / "definitions", by="tests")
    put(space, MADE)
    return space


def put(space: Workspace, *raws: dict[str, Any]) -> list[str]:
    return [what for *_, what in apply_all(space, [parse_definition(raw, "test") for raw in raws], by="ann")]


def changed(**given: Any) -> dict[str, Any]:
    """With these parameters instead; None takes one away."""
    said = {**MADE["with"], **given}
    return {**MADE, "with": {name: value for name, value in said.items() if value is not None}}


def promoted(**said: Any) -> dict[str, Any]:
    step = {"day": 0, "touchpoint": "push", "content": "teaser", **said}
    return {**MADE, "instead": {"promotion": [step]}}


def test_an_activity_of_a_template_is_kept_as_it_was_written(made: Workspace, tmp_path: Path) -> None:
    (found,) = (each for each in made.definitions().as_json() if each["kind"] == "activity")
    assert found["rewards"] == [{"name": "coupon", "pool": "party", "reach": {"orders": 1.0}}]
    assert found["label"] == "Birthday coupon"
    assert put(made, MADE) == ["unchanged"]
    write_definitions(made.store, tmp_path / "out")
    kept = yaml.safe_load((tmp_path / "out" / "activity" / "birthdays.yaml").read_text())
    assert kept == MADE
    assert {what for *_, what in apply(made, tmp_path / "out", by="ann")} == {"unchanged"}
    # what the template says later is what the draft says
    template = next(
        each.body for each in made.store.current("activity_template") if each.name == "birthday_coupon"
    )
    body = {**template, "activity": {**template["activity"], "budget": 12}}
    assert put(made, body) == ["changed"]
    assert Activities(made, lambda *_: True)._known("birthdays")[1].budget == 12
    assert revert(made, "activity_template", "birthday_coupon", 1, by="ann", why="") == "changed"
    assert [each["version"] for each in history(made, "activity_template", "birthday_coupon")] == [3, 2, 1]
    with pytest.raises(NotFound, match="unknown template"):
        retire(made, "activity_template", "birthday_coupon", by="ann", why="")
    assert retire(made, "activity_template", "spend_and_win", by="ann", why="") == "retired"


def test_templates_say_what_they_ask_for(made: Workspace) -> None:
    names = [each["name"] for each in templates(made)]
    assert names == ["birthday_coupon", "spend_and_win", "win_back_challenge"]
    (one,) = templates(made, "spend_and_win")
    form = {each["name"]: each for each in one["form"]}
    assert (form["start"]["input"], form["start"]["required"]) == ("datetime", True)
    assert form["event"]["help"] == "event that counts, such as order"
    assert (form["winners"]["default"], form["winners"]["required"]) == (10, False)
    with pytest.raises(NotFound, match="unknown template"):
        templates(made, "nothing")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({**MADE, "template": "birthday_cupon"}, "did you mean 'birthday_coupon'"),
        (changed(goal=None), "with.goal: is required and missing"),
        (changed(gaol="more"), "with.gaol = 'gaol': unknown parameter; did you mean 'goal'"),
        (changed(orders=0), "with.orders = 0"),
        (changed(orders="two"), "with.orders = 'two'"),
        (changed(after="a while"), "with.after = 'a while'"),
        (changed(start="2028-01-01T00:00:00Z"), "end is not after start"),
        (
            changed(start="2026-01-01T00:00:00"),
            "(template birthday_coupon): start = '2026-01-01T00:00:00': needs a",
        ),
        (changed(pool="parti"), "rewards.coupon.pool = 'parti'"),
        (changed(birthday="user.birth"), "when.around = 'user.birth'"),
        (changed(goal="less"), "goal = 'less'"),
        (changed(event="sale"), "metrics.orders.event = 'sale'"),
        ({**MADE, "instead": {"budgets": 5}}, "budgets, which is no field"),
        ({**MADE, "instead": {"budget": -5}}, "budget"),
        ({**MADE, "goal": "more"}, "goal = 'more': is not a known field here"),
        (promoted(touchpoint="fax"), "touchpoint = 'fax'"),
        (promoted(benefit="cake"), "benefit = 'cake'"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_changes_nothing(
    made: Workspace, raw: dict[str, Any], said: str
) -> None:
    before = made.store.stamp()
    with pytest.raises(BadInput) as refused:
        put(made, raw)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert made.store.stamp() == before


@pytest.mark.parametrize(
    ("activity", "parameters", "said"),
    [
        ({"goal": "${aim}"}, {}, "uses ${aim}, which is no parameter"),
        ({"goal": "more"}, {"aim": {"type": "string"}}, "parameter aim is used nowhere"),
        ({"goal": "${aim}"}, {"aim": {"type": "strung"}}, "no JSON Schema"),
        ({"goal": "${aim}"}, {"aim": {"type": "string", "default": 3}}, "has a default that it forbids"),
        ({"gaol": "more"}, {}, "gaol, which is no field of activities"),
        ({"name": "x"}, {}, "activity says name"),
        ({"goal": "${a b}", "budget": 1}, {"a b": {}}, "is not a name"),
    ],
)
def test_a_template_that_makes_no_sense(
    activity: dict[str, Any], parameters: dict[str, Any], said: str
) -> None:
    raw = {"kind": "activity_template", "name": "bad", "activity": activity, "parameters": parameters}
    with pytest.raises(BadInput) as refused:
        parse_definition(raw, "test")
    assert said in str(refused.value)


def test_birthdays_are_promoted_on_the_day_itself(made: Workspace) -> None:
    clock = ActivityClock(Activities(made, lambda *_: True), made.clock)
    assert promotion_firings(made, date(2026, 3, 1)) == ()  # a draft
    clock.move("birthdays", "ready", who="ann")
    for day, meant in [
        (date(2026, 2, 28), set[str]()),
        (date(2026, 3, 1), {"u0", "u1", "u2"}),  # no leap year: born on 29 February, meant on 1 March
        (date(2026, 3, 2), {"u3"}),
    ]:
        fired = promotion_firings(made, day)
        assert [each.rule.name for each in fired] == ["activity.birthdays.1"]  # the second brings nothing
        people = population(made, start_of_day(day, made.settings.zone))
        (audience,) = rule_audiences(people, fired)
        assert set(audience["user"]) == meant
        assert audience.height == 0 or audience["audience"][0] == "rule:activity.birthdays.1:only"
    assert rule_inputs(made, date(2026, 3, 1)) != rule_inputs(made, date(2026, 3, 2))
    clock.move("birthdays", "cancelled", who="ann")
    assert promotion_firings(made, date(2026, 3, 1)) == ()


def test_who_takes_part_is_invited_no_more(made: Workspace) -> None:
    steps = [
        {"day": day, "touchpoint": "push", "content": "teaser", "benefit": "invitation", "to": to}
        for day, to in ((-1, "invited"), (1, "participants"))
    ]
    raw = {
        "kind": "activity", "name": "march", "goal": "more", "audience": ["everyone"],
        "when": {"start": "2026-03-10T00:00:00Z", "end": "2026-03-20T00:00:00Z"},
        "registration": {"opens": "30d"}, "metrics": [{"name": "orders", "event": "order"}],
        "promotion": steps,
    }  # fmt: skip
    put(made, raw)
    activities = Activities(made, lambda *_: True)
    clock = ActivityClock(activities, made.clock)
    clock.move("march", "ready", who="ann")
    Hands.at = datetime(2026, 3, 1, tzinfo=UTC)
    activities.register("march", "u1", {})
    (before,) = promotion_firings(made, date(2026, 3, 9))
    (during,) = promotion_firings(made, date(2026, 3, 11))
    assert before.users is not None
    assert during.users is not None
    assert set(before.users) == set(BORN) - {"u1"}
    assert list(during.users) == ["u1"]
    assert promotion_firings(made, date(2026, 3, 10)) == ()
    assert {"step": "told", "users": 0} in activities.post_mortem("march")["funnel"]


def test_a_birthday_in_her_own_zone_earns_one_code_and_the_pool_ends(made: Workspace) -> None:
    activities = Activities(made, lambda *_: True)
    clock = ActivityClock(activities, made.clock)
    Hands.at = datetime(2025, 12, 31, tzinfo=UTC)
    clock.move("birthdays", "ready", who="ann")
    Hands.at = datetime(2026, 1, 1, tzinfo=UTC)
    clock.tick()
    # 1 March begins at 16:00 UTC in Shanghai, and a day before counts; New York's ends at 5:00 UTC
    for number, (user, at) in enumerate(
        [
            ("u0", datetime(2026, 2, 27, 15, 59, tzinfo=UTC)),  # too early by a minute
            ("u1", datetime(2026, 2, 27, 16, 1, tzinfo=UTC)),
            ("u1", datetime(2026, 2, 28, 12, tzinfo=UTC)),  # again: nothing more
            ("u2", datetime(2026, 3, 2, 4, 59, tzinfo=UTC)),
            ("u4", datetime(2026, 3, 1, tzinfo=UTC)),  # nobody knows when she was born
        ]
    ):
        new = NewEvent(
            event_id=f"e{number}", user_id=user, name="order", occurred_at=at, lines=[{"amount": 1.0}]
        )
        activities.log.append([[new]], at)
    Hands.at = datetime(2026, 3, 3, tzinfo=UTC)
    while clock.tick():
        pass
    (mine,) = activities.standing("birthdays", "u1")["rewards"]
    assert (mine["given"], len(mine["code"])) == ("coupon", 13)
    (hers,) = activities.standing("birthdays", "u2")["rewards"]
    assert (hers["given"], hers["code"]) == (None, None)
    assert "pool party has no code left" in hers["why"]
    assert "no_codes" in activities.show("birthdays")["fired"]
    assert activities.participants("birthdays")["user_id"].to_list() == ["u1", "u2"]
    clock.recount("birthdays")
    assert activities.standing("birthdays", "u1")["rewards"] == [mine]
    assert activities.show("birthdays")["rewards"]["coupon"] == {"earned": 2, "given": 1, "stock": None}


def test_every_kind_goes_out_and_comes_back(made: Workspace, tmp_path: Path) -> None:
    whole = {(each.kind, each.name): each.body for each in made.store.current()}
    paths = write_definitions(made.store, tmp_path / "out")
    assert len(paths) == len(whole)
    back = read_definitions(tmp_path / "out")
    assert {(each.kind, each.name) for each in back} == set(whole)
    assert {what for *_, what in apply(made, tmp_path / "out", by="ann")} == {"unchanged"}
