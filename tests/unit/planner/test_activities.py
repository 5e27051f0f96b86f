"""What may be written of an activity, its life, its calendar and its form."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kernel.definitions import parse
from kernel.errors import BadInput, NotFound
from planner.api import (
    MOVES,
    Activity,
    Period,
    State,
    check_activities,
    check_answers,
    check_move,
    due,
    form,
    own_span,
    period_end,
    period_key,
    span,
)

PARIS, SHANGHAI = ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Shanghai")
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 15, tzinfo=UTC)
SAID: dict[str, Any] = {
    "kind": "activity",
    "name": "tea_week",
    "goal": "raise_spend",
    "when": {"start": START, "end": END},
    "metrics": [
        {"name": "orders", "event": "order"},
        {"name": "spent", "event": "order", "agg": "sum", "of": "amount"},
        {"name": "basket", "agg": "rate", "of": "spent", "per": "orders"},
    ],
    "ranking": {"by": "spent", "periods": ["all", "day"]},
    "rewards": [
        {"name": "first", "rank": [1, 3], "stock": 3, "cost": 20},
        {"name": "done", "reach": {"orders": 2}, "stock": 5, "cost": 1},
    ],
    "budget": 50,
    "contingency": [{"name": "gone", "when": "stock", "of": "done", "then": "switch_reward", "to": "first"}],
}


def activity(**changed: Any) -> Activity:
    return parse(Activity, {**SAID, **changed}, "tea.yaml")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"when": {"start": END, "end": START}}, "end is not after start"),
        ({"when": {"start": START}}, "start and end are required"),
        ({"when": {"start": START.replace(tzinfo=None), "end": END}}, "needs a time zone"),
        ({"metrics": []}, "at least 1"),
        ({"metrics": [{"name": "a", "agg": "sum", "event": "order"}]}, "of is for sum and distinct"),
        ({"metrics": [{"name": "a", "event": "order"}] * 2}, "metrics has a twice"),
        ({"ranking": {"by": "basket"}}, "ranking is by basket, a rate"),
        ({"ranking": {"by": "nothing"}}, "names metric nothing"),
        ({"ranking": None}, "reward first is for a rank"),
        ({"rewards": [{"name": "r", "rank": [3, 1]}]}, "rank is not"),
        ({"rewards": [{"name": "r"}]}, "for a rank or for reaching something"),
        ({"rewards": [{"name": "r", "reach": {"x": 1}}], "contingency": []}, "names metric x"),
        (
            {"contingency": [{"name": "c", "when": "budget", "then": "pause"}], "budget": None},
            "there is none",
        ),
        ({"contingency": [{"name": "c", "when": "stock", "of": "no", "then": "pause"}]}, "names reward no"),
        ({"registration": {"fields": {"type": "array"}}}, "not the schema of an object"),
        ({"registration": {"fields": {"properties": {"a": {"type": "word"}}}}}, "no JSON Schema"),
        ({"registration": {"fields": {"properties": {"a": {"$ref": "http://x"}}}}}, r"\$ref"),
    ],
)
def test_what_does_not_fit_is_one_sentence(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        activity(**changed)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"goal": "no"}, "goal"),
        ({"audience": ["no"]}, "audience"),
        ({"admits": "no"}, "admits"),
        ({"rewards": [{**SAID["rewards"][0], "benefit": "no"}, SAID["rewards"][1]]}, "rewards.first.benefit"),
        ({"metrics": [*SAID["metrics"], {"name": "x", "event": "no"}]}, "metrics.x.event"),
        (
            {"metrics": [*SAID["metrics"], {"name": "x", "event": "order", "where": {"no": 1}}]},
            "metrics.x.where",
        ),
        ({"promotion": [{"day": 0, "touchpoint": "no", "content": "c"}]}, "promotion.touchpoint"),
        (
            {"promotion": [{"day": 0, "touchpoint": "mail", "content": "c", "benefit": "no"}]},
            "promotion.benefit",
        ),
        ({"rewards": [{**SAID["rewards"][0], "pool": "no"}, SAID["rewards"][1]]}, "rewards.first.pool"),
        ({"when": {"start": START, "end": END, "around": "user.no"}}, "when.around"),
    ],
)
def test_names_that_nothing_answers_to(changed: dict[str, Any], field: str) -> None:
    known: dict[str, Any] = {
        "goals": {"raise_spend"},
        "groups": {"regulars"},
        "benefits": {"coupon"},
        "touchpoints": {"mail"},
        "contents": {"c"},
        "pools": set(),
        "events": {"order": ["amount"]},
        "fields": {"user.birthday"},
    }
    check_activities([activity()], **known)
    with pytest.raises(NotFound) as found:
        check_activities([activity(**changed)], **known)
    assert found.value.field == field


def test_only_legal_moves() -> None:
    for now in State:
        for to in State:
            if to in MOVES[now]:
                check_move("a", now, to)
            else:
                with pytest.raises(BadInput, match=f"it is {now}"):
                    check_move("a", now, to)
    assert not MOVES[State.REVIEWED]
    assert not MOVES[State.CANCELLED]


def test_the_clock_begins_and_ends_them() -> None:
    instant = timedelta(microseconds=1)
    assert due(State.READY, START, END, START - instant) is None
    assert due(State.READY, START, END, START) is State.RUNNING
    assert due(State.RUNNING, START, END, END - instant) is None
    assert due(State.PAUSED, START, END, END) is State.COMPLETED
    assert due(State.CANCELLED, START, END, END) is None


def test_days_around_a_holiday() -> None:
    holiday = {"country": "CN", "name": "Spring Festival", "not_before": START}
    when = {"holiday": holiday, "before": "3d", "after": "7d"}
    begin, end = span(activity(when=when), SHANGHAI)
    assert begin.astimezone(SHANGHAI).date() == date(2027, 2, 3)
    assert end - begin == timedelta(days=10)
    with pytest.raises(NotFound, match="unknown holiday"):
        span(activity(when={**when, "holiday": {**holiday, "name": "Tea Day"}}), SHANGHAI)
    with pytest.raises(NotFound, match="unknown country"):
        span(activity(when={**when, "holiday": {**holiday, "country": "XX"}}), SHANGHAI)


def test_days_around_a_date_of_ones_own() -> None:
    season = {"start": datetime(2026, 1, 1, tzinfo=UTC), "end": datetime(2027, 1, 1, tzinfo=UTC)}
    mine = activity(when={**season, "around": "user.birthday", "before": "2d", "after": "1d"})
    at = datetime(2026, 6, 9, 12, tzinfo=UTC)
    low, high = own_span(mine, date(1990, 6, 10), at, UTC_ZONE) or (at, at)
    assert (low, high) == (datetime(2026, 6, 8, tzinfo=UTC), datetime(2026, 6, 11, tzinfo=UTC))
    assert own_span(mine, date(1990, 6, 20), at, UTC_ZONE) is None
    assert own_span(mine, None, at, UTC_ZONE) is None
    # on New Year's Eve the day is next year's: the season ends before
    eve = own_span(mine, date(1990, 1, 1), datetime(2026, 12, 31, 12, tzinfo=UTC), UTC_ZONE)
    assert eve == (datetime(2026, 12, 30, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    leap = own_span(mine, date(1992, 2, 29), datetime(2026, 3, 1, 12, tzinfo=UTC), UTC_ZONE)
    assert leap is not None
    assert leap[1] == datetime(2026, 3, 2, tzinfo=UTC)


UTC_ZONE = ZoneInfo("UTC")


def test_periods_are_days_of_the_zone() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # a Sunday; Monday in Paris
    assert period_key(Period.DAY, late, PARIS) == "2026-03-02"
    assert period_key(Period.WEEK, late, PARIS) == "2026-03-02"
    assert period_key(Period.WEEK, late, UTC_ZONE) == "2026-02-23"
    assert period_key(Period.MONTH, late, PARIS) == "2026-03"
    assert period_key(Period.ALL, late, PARIS) == "all"
    # 25 hours in which the clocks go back
    day = period_end(Period.DAY, "2026-10-25", PARIS)
    assert day == datetime(2026, 10, 25, 23, tzinfo=UTC)
    assert period_end(Period.MONTH, "2026-12", UTC_ZONE) == datetime(2027, 1, 1, tzinfo=UTC)
    assert period_end(Period.WEEK, "2026-02-23", UTC_ZONE) == datetime(2026, 3, 2, tzinfo=UTC)
    assert period_end(Period.ALL, "all", UTC_ZONE) is None


SCHEMA: dict[str, Any] = {
    "properties": {
        "size": {"enum": ["S", "M"], "title": "Shirt"},
        "mail": {"type": "string", "format": "email"},
        "age": {"type": "integer", "minimum": 16},
        "news": {"type": "boolean"},
    },
    "required": ["size"],
}


def test_the_form_follows_from_the_schema() -> None:
    assert [(each["name"], each["input"], each["required"]) for each in form(SCHEMA)] == [
        ("size", "choice", True),
        ("mail", "email", False),
        ("age", "number", False),
        ("news", "checkbox", False),
    ]
    assert form(SCHEMA)[0]["label"] == "Shirt"
    assert form(SCHEMA)[2]["least"] == 16


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({}, "fields"),
        ({"size": "L"}, "fields.size"),
        ({"size": "M", "age": 3}, "fields.age"),
        ({"size": "M", "age": True}, "fields.age"),
        ({"size": "M", "mail": "nobody"}, "fields.mail"),
        ({"size": "M", "other": 1}, "fields"),
        ({"size": "M", "mail": "x" * 20_000}, "fields.mail"),
    ],
)
def test_answers_that_the_form_does_not_allow(answers: dict[str, Any], field: str) -> None:
    check_answers(SCHEMA, {"size": "M", "age": 16, "mail": "a@b.example"})
    with pytest.raises(BadInput) as found:
        check_answers(SCHEMA, answers)
    assert found.value.field == field
