"""What events add, what they earn, and what an activity came to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kernel.definitions import parse
from planner.api import (
    Activity,
    Due,
    Leaderboard,
    Result,
    Spent,
    Tally,
    fired,
    post_mortem,
    ranked,
    rates,
    reached,
    refused,
    stands_in,
)

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
SAID: dict[str, Any] = {
    "kind": "activity",
    "name": "tea_week",
    "goal": "raise_spend",
    "when": {"start": datetime(2026, 3, 1, tzinfo=UTC), "end": datetime(2026, 3, 15, tzinfo=UTC)},
    "metrics": [
        {"name": "orders", "event": "order"},
        {
            "name": "tea",
            "event": "order",
            "agg": "sum",
            "of": "amount",
            "where": {"category": ["tea", "pot"]},
        },
        {"name": "kinds", "event": "order", "agg": "distinct", "of": "category"},
        {"name": "gifts", "event": "order", "where": {"gift": True}},
        {"name": "basket", "agg": "rate", "of": "tea", "per": "orders"},
    ],
    "ranking": {"by": "tea", "periods": ["all", "day"]},
    "rewards": [
        {"name": "top", "rank": [1, 2], "stock": 2, "cost": 20},
        {"name": "done", "reach": {"orders": 2, "tea": 10}, "stock": 5, "cost": 1},
        {"name": "thanks", "reach": {"orders": 1000}},
    ],
    "costs": [
        {"name": "staff", "kind": "people", "per": "day", "amount": 100},
        {"name": "posters", "amount": 50},
        {"name": "parcel", "per": "participant", "amount": 2},
    ],
    "revenue": [{"metric": "tea", "margin": 0.25}],
    "budget": 41,
    "contingency": [
        {"name": "half", "when": "stock", "of": "done", "share": 0.5, "then": "tell"},
        {"name": "gone", "when": "stock", "of": "done", "then": "switch_reward", "to": "thanks"},
        {"name": "spent", "when": "budget", "then": "pause"},
        {"name": "full", "when": "participants", "at_least": 10, "then": "close_registration"},
    ],
}
TEA = parse(Activity, SAID, "tea.yaml")


def test_lines_of_one_event_count_once_and_add_up() -> None:
    tally = Tally(TEA, ZoneInfo("UTC"))
    lines = [
        {"amount": 3.0, "category": "tea", "gift": True},
        {"amount": 4.5, "category": "pot", "gift": 1},
        {"amount": 9.0, "category": "soap"},
        {"amount": float("nan"), "category": "tea"},
    ]
    tally.take("ann", AT, tally.of("order", lines), 7)
    tally.take("ann", AT, tally.of("order", [{"amount": 1, "category": "soap"}]), 8)
    assert tally.of("view", lines) == []
    assert tally.added["orders", "all", "ann"] == 2
    assert tally.added["tea", "all", "ann"] == 7.5
    assert tally.added["tea", "2026-03-02", "ann"] == 7.5
    assert ("orders", "2026-03-02", "ann") not in tally.added
    assert tally.seen["kinds", "all", "ann"] == {"tea", "pot", "soap"}
    assert tally.added["gifts", "all", "ann"] == 1  # 1 is not true
    assert tally.number["orders", "all", "ann"] == 8
    assert tally.number["tea", "all", "ann"] == 7


def test_a_rate_of_nothing_is_nothing() -> None:
    assert rates(TEA, {})["basket"] is None
    assert rates(TEA, {"orders": 4, "tea": 10})["basket"] == 2.5


def test_rewards_for_reaching_everything_that_is_asked() -> None:
    assert reached(TEA, "ann", {"orders": 2, "tea": 9.9}) == []
    found = reached(TEA, "ann", {"orders": 2, "tea": 10.0})
    assert [(each.reward, each.user, each.period) for each in found] == [("done", "ann", "all")]


def test_equals_at_the_last_rank_all_get_it() -> None:
    board = Leaderboard()
    board.load(["ann", "bo", "cy", "di"], [9, 7, 7, 5])
    found = ranked(TEA.reward("top"), "all", board)
    assert [each.user for each in found] == ["ann", "bo", "cy"]
    assert found[1] == Due(reward="top", user="bo", period="all", because="rank 2, 7")


def test_stock_and_budget_refuse() -> None:
    def spent(top: int, done: int) -> Spent:
        return Spent(given={"top": top, "done": done}, participants=0)

    assert refused(TEA, TEA.reward("top"), spent(1, 0)) is None
    assert "all 2 of top" in str(refused(TEA, TEA.reward("top"), spent(2, 0)))
    assert refused(TEA, TEA.reward("done"), spent(2, 0)) is None
    assert "budget of 41.00" in str(refused(TEA, TEA.reward("done"), spent(2, 1)))


def test_contingencies_fire_once_and_rewards_are_switched() -> None:
    def names(given: dict[str, int], people: int = 0, before: tuple[str, ...] = ()) -> list[str]:
        return [each.name for each in fired(TEA, Spent(given=given, participants=people), before)]

    assert names({"done": 2}) == []
    assert names({"done": 3}) == ["half"]
    assert names({"done": 5, "top": 2}, 10, ("half",)) == ["gone", "spent", "full"]
    assert stands_in(TEA, {"done": "thanks"}, "done").name == "thanks"
    assert stands_in(TEA, {"done": "thanks", "thanks": "done"}, "done").name in ("done", "thanks")


def result(**changed: Any) -> Result:
    known: dict[str, Any] = {
        "invited": 1000,
        "registered": 100,
        "active": 60,
        "earned": {"done": 9},
        "given": {"done": 5, "top": 2},
        "totals": {"tea": 4000.0},
        "days": 14.0,
        "fired": [],
        "increment": {},
    }
    return Result(**{**known, **changed})


def test_the_account_adds_up() -> None:
    found = post_mortem(TEA, result())
    assert found["cost"] == 14 * 100 + 50 + 100 * 2 + 2 * 20 + 5 * 1
    assert sum(found["costs"].values()) == pytest.approx(found["cost"])
    assert found["profit"] == 4000 * 0.25 - found["cost"]
    assert found["cost_per_acquisition"] == pytest.approx(found["cost"] / 60)
    assert found["conversion"] == {"registered": 0.1, "active": 0.6}
    assert [each["users"] for each in found["funnel"]] == [1000, 100, 60, 7]
    assert found["added"] is None
    assert "keep a holdout" in found["lessons"][0]
    assert any("4 earned done and did not get it" in each for each in found["lessons"])


@pytest.mark.parametrize(("effect", "word"), [(10.0, "repeat it."), (0.1, "do not repeat"), (6.8, "open")])
def test_the_lesson_follows_from_the_interval(effect: float, word: str) -> None:
    increment = {"tea": {"effect": effect, "low": effect - 1, "high": effect + 1}}
    found = post_mortem(TEA, result(increment=increment))
    assert found["added"]["value"] == pytest.approx(effect * 0.25 * 1000)
    assert word in found["lessons"][0]


def test_nobody_came() -> None:
    found = post_mortem(TEA, result(registered=0, active=0, earned={}, given={}, totals={}))
    assert found["cost_per_acquisition"] is None
    assert found["conversion"]["active"] is None
    assert any("1 in 20" in each for each in found["lessons"])
