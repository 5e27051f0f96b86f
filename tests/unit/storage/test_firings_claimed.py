"""Firings of rules: claimed once, worked out until they are over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from storage.database import open_database
from storage.rule_firings import CLAIMED, DONE, WAITING, Claim, RuleFirings

AT, DAY, SECOND = datetime(2026, 3, 2, 10, tzinfo=UTC), date(2026, 3, 2), timedelta(seconds=1)


@pytest.fixture
def firings(tmp_path: Path) -> Iterator[RuleFirings]:
    engine = open_database(f"sqlite:///{tmp_path}/growth.db")
    yield RuleFirings(engine)
    engine.dispose()


def claims(*rules: str, at: datetime = AT) -> list[Claim]:
    return [Claim(rule=rule, at=at, shares={"only": 1.0}) for rule in rules]


def test_a_firing_is_claimed_once_ever(firings: RuleFirings) -> None:
    first = firings.claim(claims("a", "b"), day=DAY, now=AT + SECOND)
    assert first is not None
    assert (first.run, first.state, [each.rule for each in first.claims]) == (
        "2026-03-02T1000Z",
        CLAIMED,
        ["a", "b"],
    )
    assert firings.claim(claims("a", "b"), day=DAY, now=AT + SECOND) is None
    later = firings.claim(claims("b", "c"), day=DAY, now=AT + 2 * SECOND)
    assert later is not None
    assert (later.run, [each.rule for each in later.claims]) == ("2026-03-02T1000Z-2", ["c"])
    assert firings.until() == AT + 2 * SECOND


def test_what_is_not_over_is_found_as_it_was_claimed(firings: RuleFirings) -> None:
    made = firings.claim(claims("a", "b"), day=DAY, now=AT)
    assert made is not None
    assert firings.open() == [made]
    firings.end(made.run, WAITING, {"a": {"users": 3}}, {"b": "has no group"}, at=AT + SECOND)
    (waiting,) = firings.open()
    assert (waiting.state, [each.rule for each in waiting.claims]) == (WAITING, ["a"])
    firings.end(made.run, DONE, {"a": {"users": 3}}, {}, at=AT + 5 * SECOND)
    firings.end(made.run, DONE, {"a": {"users": 99}}, {"b": "again"}, at=AT + 9 * SECOND)
    assert firings.open() == []
    (told,) = firings.of("a")
    assert (told["state"], told["users"], told["lag"]) == (DONE, 3, 5.0)
    (failed,) = firings.of("b")
    assert (failed["state"], failed["why"], failed["lag"]) == ("failed", "has no group", 1.0)
    assert firings.runs_of("b") == []
    assert firings.runs_of("a") == [(made.run, AT)]
    assert firings.newest(["a", "b", "x"]).keys() == {"a", "b"}
    assert firings.runs_on(DAY) == [made.run]
    assert firings.runs_on(DAY, without=made.run) == []


def test_the_clock_goes_forward_only(firings: RuleFirings) -> None:
    assert firings.until() is None
    firings.start_clock(AT)
    firings.start_clock(AT + SECOND)
    assert firings.until() == AT
    firings.move_clock(AT + SECOND)
    firings.move_clock(AT)
    assert firings.until() == AT + SECOND
