"""The simulated world, and the policies that the engine is compared with."""

from __future__ import annotations

import copy
from datetime import date

import numpy as np
import polars as pl
import pytest

from engine.report.simulated import day_lines, render_days
from engine.simulate.households import households_of, made_up
from engine.simulate.nature import BENEFITS, Means, Nature
from engine.simulate.policies import (
    all_knowing,
    count_up,
    guess_used,
    most_responsive,
    nobody,
    rules_of_a_team,
)
from engine.simulate.results import summarise
from engine.simulate.run import ENGINE, NOBODY, Row
from engine.simulate.world import TOUCHED, World, found_world
from kernel.errors import BadInput

MEANS = Means(budget=60.0, capacity=(60, 90))


@pytest.fixture(scope="module")
def young() -> tuple[World, pl.DataFrame]:
    """A world of 1,200 users after thirty days in which nobody was touched, and its orders."""
    world = found_world(made_up(500, 1), users=1200, days=10, before=30, begin=date(2026, 3, 2), seed=5)
    return world, pl.concat([world.step(nobody()).orders for _ in range(30)])


def _touched(users: list[int], benefit: str = "big", touchpoint: str = "sms") -> pl.DataFrame:
    rows = {"user": users, "benefit": [benefit] * len(users), "touchpoint": [touchpoint] * len(users)}
    return pl.DataFrame(rows, schema=TOUCHED)


def test_a_touch_of_one_changes_nothing_for_the_others(young: tuple[World, pl.DataFrame]) -> None:
    left, right = copy.deepcopy(young[0]), copy.deepcopy(young[0])
    without, with_ = [], []
    for day in range(6):
        without.append(left.step(nobody()).orders)
        with_.append(right.step(_touched([7]) if day == 0 else nobody()).orders)
    columns = ["user_id", "ordered_at", "total", "discount"]
    others = [pl.concat(each).filter(pl.col("user_id") != 7).select(columns) for each in (without, with_)]
    assert others[0].equals(others[1])
    assert others[0].height > 300


def test_profit_is_what_is_said_of_its_parts(young: tuple[World, pl.DataFrame]) -> None:
    world = copy.deepcopy(young[0])
    users = (np.flatnonzero(world.here)[:400] + 1).tolist()
    found = world.step(_touched(users))
    assert found.margin == pytest.approx(0.3 * found.orders["total"].sum())
    assert found.touches == pytest.approx(400 * 0.06)
    assert found.coupons == pytest.approx(5.0 * found.used.height)
    assert found.opt_outs == found.left * world.nature.opt_out_cost
    assert found.profit == pytest.approx(found.margin - found.coupons - found.touches - found.opt_outs)
    assert set(found.used["user_id"]) <= set(users)
    assert 250 < found.seen.height <= 400
    assert found.seen["offer"].unique().to_list() == ["big 4"]


def test_what_is_expected_is_what_happens_on_average() -> None:
    """Planted expectations against thousands of draws: purchases, coupons, the put off, opt-outs."""
    foreseen, seen = [], []
    for seed in range(16):
        world = found_world(
            made_up(400, 2), users=1500, days=10, before=20, begin=date(2026, 3, 2), seed=seed
        )
        for _ in range(20):
            world.step(nobody())
        worth, _, _ = world.expected()
        here = np.flatnonzero(world.here & (world.goes > world.day + 3))
        chosen = here[worth[here, 1, 0] > 0.3]
        foreseen.append(worth[chosen, 1, 0].sum())
        other = copy.deepcopy(world)
        first = world.step(_touched((chosen + 1).tolist(), "small")).profit
        second = other.step(nobody()).profit
        for _ in range(4):
            first += world.step(nobody()).profit
            second += other.step(nobody()).profit
        seen.append(first - second)
    error = np.std(seen, ddof=1) / np.sqrt(len(seen))
    assert np.mean(foreseen) > 20
    assert abs(np.mean(seen) - np.mean(foreseen)) < 3.5 * error
    assert error < 0.1 * np.mean(foreseen)


def test_tastes_turn_effects_tire_and_full_price_regulars_are_put_off() -> None:
    nature, due, deal = Nature(), np.array([1.5]), np.array([0.95])
    before, after = (nature.wins(deal, due, drifted)[0] for drifted in (False, True))
    assert before[0] > 2 * before[1]
    assert after[1] > 2 * after[0]
    assert nature.tired(np.array([2.0]))[0] < 0.5
    assert nature.touchy(np.array([0.05, 0.6]), np.array([0.3, 0.3])).round(1).tolist() == [1.0, 0.0]
    worth, _, _ = _still(0.02).expected()
    assert worth[:, :, 0].max() < 0


def _still(deal: float) -> World:
    world = found_world(made_up(50, 3), users=50, days=5, before=1, begin=date(2026, 3, 2), seed=1)
    world.deal = np.full(len(world.homes), deal)
    world.last = np.zeros(len(world.homes), np.int64)
    return world


def test_every_policy_keeps_budget_places_and_caps(young: tuple[World, pl.DataFrame]) -> None:
    world, orders = copy.deepcopy(young[0]), young[1]
    used = guess_used(np.array([400.0, 400.0]), np.array([120.0, 120.0]))
    response = np.tile(np.linspace(0.1, 0.6, len(world.homes))[:, None], (1, len(BENEFITS)))
    response[:, 1] += 0.01
    for _ in range(9):
        closed = ~world.open(MEANS.cap)
        known = count_up(world, orders)
        chosen = [
            rules_of_a_team(world, known, MEANS, used),
            most_responsive(world, response, MEANS),
            all_knowing(world, MEANS),
        ]
        for each in chosen:
            assert each.height > 10
            assert each["user"].is_unique().all()
            assert not closed[each["user"].to_numpy() - 1].any()
            for place, name in enumerate(("sms", "push")):
                assert each.filter(touchpoint=name).height <= MEANS.capacity[place]
        _, cost, _ = world.expected()
        best = chosen[2]
        rows = best["user"].to_numpy() - 1
        what = best["benefit"].replace_strict(BENEFITS, [0, 1], return_dtype=pl.Int64).to_numpy()
        how = best["touchpoint"].replace_strict(["sms", "push"], [0, 1], return_dtype=pl.Int64).to_numpy()
        assert cost[rows, what, how].sum() <= MEANS.budget + 1e-9
        world.step(chosen[0])
    assert world.recent.sum(axis=1).max() == MEANS.cap


def test_habits_are_those_of_the_households() -> None:
    rows = [
        {
            "user": user,
            "at": date(2026, 1, 1 + 2 * visit),
            "event_id": 100 * user + visit,
            "amount": 10.0 + user,
        }
        for user in range(40)
        for visit in range(14)
    ]
    homes = households_of(pl.DataFrame(rows).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))
    assert len(homes) == 40
    assert homes.rate.tolist() == pytest.approx([14 / 28] * 40)
    assert np.exp(homes.log_mean).tolist() == pytest.approx([10.0 + user for user in range(40)])
    with pytest.raises(BadInput, match="too few users"):
        households_of(pl.DataFrame(rows[:100]).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))


def test_figures_are_of_differences_within_a_world_and_the_page_tells_them() -> None:
    more = {1: 3.0, 2: 5.0}
    rows = [
        Row(
            seed=seed, policy=name, day=day, profit=1000.0 * seed + (more[seed] if name == ENGINE else 0.0),
            coupons=2.0, touch_cost=0.5, touches=4, opt_outs=1, seconds=0.1,
        )
        for seed in (1, 2)
        for name in (ENGINE, NOBODY)
        for day in (1, 2)
    ]  # fmt: skip
    found = summarise(rows, budget=5.0)
    assert found["days"] == 2
    (ahead,) = found["ahead"]
    assert ahead["policy"] == NOBODY
    # 6 and 10: mean 8, Student's quantile of one degree 12.706 times 2
    assert ahead["by"]["mean"] == pytest.approx(8.0)
    assert ahead["by"]["low"] == pytest.approx(8.0 - 12.706 * 2.0, abs=0.01)
    assert found["policies"][0]["budget_used"] == pytest.approx(0.5)
    page = render_days(found, title="2 days ahead", playing=True, told="Some users.", currency="USD")
    assert 'http-equiv="refresh"' in page
    assert "Still playing" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    done = render_days(found, title="2 days ahead", playing=False, told="Some users.", currency="USD")
    assert "refresh" not in done
    first = summarise([each for each in rows if each.seed == 1], budget=5.0)
    assert first["ahead"][0]["by"] == {"mean": 6.0, "low": None, "high": None}
    lines = day_lines(first["curves"])["lines"]
    assert lines[0]["path"].count(",") == 3
