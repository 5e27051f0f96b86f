"""Touches go where the next is worth most; states are valued by what may follow; prices move as they
should."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from kernel.errors import BadInput
from touchpoint.frequency_control import (
    DRAWN_RATE,
    choose,
    draw,
    drawn_share,
    first_share,
    first_then,
    follow,
    is_drawn,
)
from touchpoint.frequency_value import Values, Worth, evaluate, rising, targets, tiring_states
from touchpoint.hazard import Floats
from touchpoint.pacing import price_now

WORTH = Worth(value=10.0, kept=20.0, at_most=8, window=20, tires=7, rest=1000, horizon=30)
DAYS = 10


def curve(lift: Floats, level: float = 0.001) -> Floats:
    fades = 2.0 ** (-np.arange(DAYS) / 2.0)
    return np.asarray(level * np.exp(lift[:, None] * fades), float)


def valued(lifts: list[Floats], price: float, leaves: float = 0.0) -> Values:
    opted = np.full((len(lifts), tiring_states(WORTH) + 1), leaves)
    return evaluate(np.array([curve(each) for each in lifts]), opted, WORTH, price, close=1e-9, rounds=3000)


KS = np.arange(9)
FLAT, CONCAVE = 0.0 * KS, 3.0 * (1 - np.exp(-KS / 1.5))
LATE = 4.0 * (KS >= 5)
INVERTED = 4.0 * np.exp(-((KS - 4.0) ** 2) / 2) - 4.0 * math.exp(-8)


def test_who_is_immune_gains_nothing_and_who_answers_does() -> None:
    gain = valued([FLAT, CONCAVE], 0.0).gain
    assert gain[0, 0, -1, 0] == pytest.approx(0, abs=1e-9)
    assert gain[1, 0, -1, 0] > 0.05
    assert (gain[:, -1] == -np.inf).all(), "nobody is touched beyond the most"


def test_a_curve_that_rises_late_is_climbed_or_not_begun() -> None:
    cheap, dear = valued([LATE], 0.01), valued([LATE], 0.4)
    assert curve(LATE)[1, 0] == curve(LATE)[0, 0], "the first touch by itself adds nothing"
    assert cheap.gain[0, 0, -1, 0] > 0.01
    assert targets(cheap, 0.01)[0, 0] >= 5
    assert dear.gain[0, 0, -1, 0] < 0.4
    assert targets(dear, 0.4)[0, 0] == 0
    assert targets(dear, 0.4)[0, 4] >= 5, (
        "who is nearly there is brought up, at a price at which nobody begins"
    )


def test_beyond_the_peak_nobody_is_touched() -> None:
    found = targets(valued([INVERTED], 0.02), 0.02)[0]
    assert 3 <= found[0] <= 5
    assert found[6] == 6


def test_opt_outs_are_paid_for() -> None:
    assert valued([CONCAVE], 0.0, leaves=0.5).gain[0, 0, -1, 0] < 0
    gains = [valued([CONCAVE], 0.0, leaves=each).gain[0, 0, -1, 0] for each in (0.0, 0.001, 0.01)]
    assert gains[0] > gains[1] > gains[2]


def test_a_touch_is_worth_more_when_the_last_one_has_faded() -> None:
    gain = valued([np.full(9, 3.0) * (KS > 0)], 0.3).gain[0, 1, :, 1]
    assert (np.diff(gain[1:]) > 0).all()


def test_worth_is_that_of_the_best_of_all_plans() -> None:
    """Against every choice of touching or not in the small, simulated exactly."""
    worth = Worth(value=1.0, kept=0.7, at_most=1, window=9, tires=2, rest=1000, horizon=4)
    hazards, leaves = np.array([[[0.1, 0.1], [0.4, 0.2]]]), np.array([[0.0, 0.3]])
    found = evaluate(hazards, leaves, worth, 0.05, close=1e-12, rounds=5000)
    assert found.worth[0, 0, -1, 0] == pytest.approx(max(_by_hand(plan) for plan in (False, True)), abs=1e-9)


def _by_hand(touch: bool) -> float:
    """Touched on the first day, or never; days until nothing is left of them."""
    keep, states, total = 0.75, {(0, 1, 0): 1.0}, 0.0
    for day, _ in product(range(200), [0]):
        after: dict[tuple[int, int, int], float] = {}
        for (k, r, n), chance in states.items():
            if day == 0 and touch:
                total -= keep**day * chance * 0.05
                total -= keep**day * chance * 0.3 * 0.7
                chance, k, r, n = chance * 0.7, 1, 0, 1
            hazard = [[0.1, 0.1], [0.4, 0.2]][k][r]
            total += keep**day * chance * hazard
            rest, fall = chance * (1 - hazard), n / 2
            renews = 1 / 7 if r == 1 and k == 1 else 0.0
            for end, part in (((k, 1, n), 1 - renews), ((0, 1, n), renews)):
                for less, share in ((0, 1 - fall), (1, fall)):
                    if part * share > 0:
                        place = (end[0], end[1], end[2] - less)
                        after[place] = after.get(place, 0.0) + rest * part * share
        states = after
    return total


def test_the_best_are_chosen_and_the_price_is_what_the_next_would_add() -> None:
    gain = np.array([3.0, 1.0, 2.0, -1.0, -np.inf])
    chosen = choose(gain, np.zeros(5, bool), budget=2)
    assert chosen.touched.tolist() == [True, False, True, False, False]
    assert (chosen.ceiling, chosen.floor) == (1.0, 0.0)
    rich = choose(gain, np.zeros(5, bool), budget=5)
    assert rich.touched.sum() == 3, "nobody is touched whom it would harm"
    assert rich.ceiling == 0.0


def test_the_floor_is_kept_at_a_price_and_never_by_harm() -> None:
    gain, up = np.array([3.0, 2.5, 2.0, 1.0, -1.0]), np.array([False, False, False, True, True])
    chosen = choose(gain, up, budget=2, floor=2)
    assert chosen.touched.tolist() == [True, False, False, True, False]
    assert chosen.ceiling == 2.5
    assert chosen.floor == 1.5
    assert choose(gain, up, budget=4, floor=1).floor == 0.0
    with pytest.raises(BadInput, match="floor = 3"):
        choose(gain, up, budget=2, floor=3)


def test_what_the_budget_leaves_over_goes_to_the_curious() -> None:
    gain = first_then(np.array([0.5, -1.0, -1.0, -np.inf]), np.array([9.0, 2.0, -3.0, -np.inf]))
    assert choose(gain, np.zeros(4, bool), budget=1).touched.tolist() == [True, False, False, False]
    assert choose(gain, np.zeros(4, bool), budget=3).touched.tolist() == [True, True, False, False]


def test_prices_follow() -> None:
    assert 1.0 < follow(1.0, 2.0) < 2.0
    assert follow(1.0, 1.0) == 1.0


def test_the_price_of_the_day_rises_when_too_much_is_spent_and_falls_when_too_little() -> None:
    even = price_now(2.0, spent=50, share=0.5, budget=100)
    assert even == pytest.approx(2.0)
    assert price_now(2.0, spent=52.5, share=0.5, budget=100) == pytest.approx(4.0)
    assert price_now(2.0, spent=47.5, share=0.5, budget=100) == pytest.approx(1.0)
    assert price_now(2.0, spent=100, share=0.5, budget=100) == math.inf
    for said in ({"spent": -1.0}, {"share": 1.5}, {"planned": math.nan}):
        with pytest.raises(BadInput, match=next(iter(said))):
            price_now(**{"planned": 1.0, "spent": 0.0, "share": 0.5, "budget": 10.0} | said)


def test_drawn_users_are_as_many_as_said_and_their_targets_alike() -> None:
    drawn = [user for user in range(20_000) if is_drawn(user, "ads", 0.1)]
    assert 1800 < len(drawn) < 2200
    targets_ = np.array([draw(user, "ads", 4, day=40, window=30).target for user in drawn])
    assert all(330 < (targets_ == each).sum() < 470 for each in range(5))
    one = draw(1, "ads", 4, day=40, window=30)
    assert one.propensity == 0.2
    assert one.target == draw(1, "ads", 4, day=59, window=30).target
    assert {draw(1, "ads", 4, day=day, window=30).target for day in range(0, 900, 30)} == set(range(5))
    touched = np.mean([draw(user, "ads", 4, day=41, window=30).coin < DRAWN_RATE for user in drawn])
    assert DRAWN_RATE - 0.05 < touched < DRAWN_RATE + 0.05
    assert not any(draw(user, "ads", 4, day=41, window=30).touched(4) for user in drawn)


def test_fewer_are_drawn_as_more_is_known_and_never_none_nor_more_again() -> None:
    assert drawn_share(0.02, 0.02, seen=3_999, segments=4) == 0.02
    assert drawn_share(0.02, 0.02, seen=8_000, segments=4) == pytest.approx(0.01)
    share = [0.02]
    for day in range(60):  # of 1,000 users who are drawn at first, who are touched every other day
        seen = 1_000 * share[-1] / 0.02 * day / 2
        share.append(drawn_share(0.02, share[-1], seen=seen, segments=4))
    assert share[9] == 0.02
    assert share == sorted(share, reverse=True)
    assert share[-1] == pytest.approx(0.005)
    assert drawn_share(0.02, 0.01, seen=0.0, segments=4) == 0.01, "who was let go is no experiment's again"
    assert drawn_share(0.02, 0.001, seen=1e9, segments=4) == 0.001, "a quarter of what was declared is more"
    some, all_ = ([is_drawn(user, "ads", each) for user in range(2_000)] for each in (0.05, 0.2))
    assert all(more for less, more in zip(some, all_, strict=True) if less)


def test_no_more_are_drawn_than_are_needed() -> None:
    assert first_share(0.02, users=10_000, segments=4, at_most=10) == 0.02
    assert first_share(0.02, users=1_000_000, segments=4, at_most=10) == pytest.approx(0.0008)
    assert first_share(0.02, users=0, segments=1, at_most=1) == 0.02
    assert first_share(0.0, users=100, segments=1, at_most=5) == 0.0


def test_what_rises_is_seen() -> None:
    up = rising(np.array([curve(LATE), curve(CONCAVE), curve(FLAT)]))
    assert up[0].tolist() == [False] * 4 + [True] + [False] * 4
    assert up[1, :-1].all()
    assert not up[2].any()
