"""Plans of a shop in which the treated spend five more: read in money, learned from, and watched."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.effects import train_effects
from engine.effects_samples import sample_of
from engine.holdout import INTENDED, kept_from
from engine.holdout_readout import ALL, parse_days, read_plans
from engine.monitoring import UPLIFT, monitor
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.clock import start_of_day
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import CONTROL, Holdout, UpliftRecipe, held_out, train_once

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: user_id}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
DEFINITIONS = """
kind: group
name: everyone
entity: user
where: {event: order, agg: count, within: 364d, op: ge, value: 1}
---
kind: goal
name: grow
outcome: order
window: 7d
audiences: [everyone]
base: spend
margin: 0.5
lift: 0.2
---
{kind: benefit, name: coupon, cost_per_response: 0.5, goals: [grow], touchpoints: [letter]}
---
{kind: benefit, name: book, cost_per_response: 0.5, goals: [grow], touchpoints: [letter]}
---
{kind: touchpoint, name: letter, channel: mail, cost_per_touch: 0.2}
---
{kind: content, name: hello, goals: [grow], touchpoints: [letter]}
---
{kind: holdout, name: untouched, share: 0.25}
---
{kind: uplift, name: coupon_effect, goal: grow, benefit: coupon, history: [28d], learner: s, halves: 2}
"""
USERS, PLANS, DAY = 1200, (date(2025, 9, 1), date(2025, 9, 8)), date(2025, 9, 29)
BEGIN = datetime(2025, 4, 1, tzinfo=UTC)
#: of the treated, in the week after each plan; what the plans had foreseen is twice as much
EFFECT, FORESEEN, COST = 5.0, 10.0, 0.4


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("readout") / "shop"
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (root / "definitions" / "all.yaml").write_text(DEFINITIONS, encoding="utf-8")
    rng, users = np.random.default_rng(3), pl.Series("user", range(USERS))
    usual = [
        (user, BEGIN + timedelta(days=7 * week + 3), 10 + rng.normal())
        for user in range(USERS)
        for week in range(27)
    ]
    found = open_workspace(root)
    pl.DataFrame({"user_id": range(USERS)}).write_parquet(root / "data" / "users.parquet")
    out = held_out(users, Holdout(name="untouched", share=0.25)).to_numpy()
    more = []
    for day in PLANS:
        at = start_of_day(day, found.settings.zone) + timedelta(days=2)
        more += [(user, at, EFFECT + rng.normal()) for user in np.flatnonzero(~out[: known(day)])]
    lines = pl.DataFrame(usual + more, schema=["user_id", "ordered_at", "total"], orient="row")
    lines.with_columns(pl.col("total").round(2)).write_parquet(root / "data" / "orders.parquet")
    apply(found, root / "definitions", by="test")
    for day in PLANS:
        _plan(found, day, users, out)
    return found


def known(day: date) -> int:
    """The first plan is for half of the users, the second for all."""
    return USERS // 2 if day == PLANS[0] else USERS


def _plan(space: Workspace, day: date, users: pl.Series, out: np.ndarray) -> None:
    """What a plan keeps of its intentions: a coupon for even users, a book for odd ones."""
    folder = space.root / "plans" / day.isoformat()
    folder.mkdir(parents=True)
    even = (users % 2 == 0).to_numpy()
    meant = pl.DataFrame(
        {
            "user": users,
            "task": np.where(even, "grow.coupon.letter.everyone", "grow.book.letter.everyone"),
            "goal": ["grow"] * USERS,
            "benefit": np.where(even, "coupon", "book"),
            "touchpoint": ["letter"] * USERS,
            "channel": ["mail"] * USERS,
            "value": [1.0] * USERS,
            "gain": [0.5 * FORESEEN] * USERS,
            "gain_low": [0.0] * USERS,
            "gain_high": [9.0] * USERS,
            "cost": [COST] * USERS,
            "worth": [1.0] * USERS,
            "why": [("holdout untouched" if each else None) for each in out],
        }
    )
    meant = meant.head(known(day))
    meant.write_parquet(folder / INTENDED)
    given = meant.filter(pl.col("why").is_null()).select("user", "task", "cost")
    given.write_parquet(folder / "assignments.parquet")
    # the first ten were refused, and cost nothing
    given.head(10).select("user", "task").write_parquet(folder / "refusals.parquet")
    space.plans.add(day, f"inputs {day}", str(folder), {}, space.clock.now())


def test_plans_are_read_in_money_all_and_by_what_they_meant(space: Workspace) -> None:
    found = read_plans(space, *PLANS, within="7d", before="28d")
    assert (found.plans, [each.lines[0].subject for each in found.readouts]) == (
        2,
        [ALL, "grow", "grow book", "grow coupon"],
    )
    whole = found.readouts[0]
    profit, spend, bought = whole.lines
    assert profit.always is not None
    # a user counts from the first plan on, and its window only
    assert profit.always.low < 0.5 * EFFECT - COST < profit.always.high
    assert profit.always.high - profit.always.low < 0.5
    assert profit.finding == "better"
    assert profit.users + profit.users_holdout == USERS
    assert spend.always is not None
    assert spend.always.mean == pytest.approx(EFFECT, abs=0.3)
    assert bought.finding == "too little"
    assert sum(each.lines[0].users for each in found.readouts[2:]) == profit.users
    # who was treated before is no trial any more
    second = read_plans(space, PLANS[1], PLANS[1], within="7d", before="28d").readouts[0].lines[0]
    assert second.users + second.users_holdout == USERS // 2
    assert second.always is not None
    assert second.always.low < 0.5 * EFFECT - COST < second.always.high


def test_a_split_that_is_not_the_holdouts_is_called_out(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "less.yaml").write_text("{kind: holdout, name: untouched, share: 0.05}\n", encoding="utf-8")
    apply(space, tmp_path / "less.yaml", by="test")
    found = read_plans(space, *PLANS, within="7d", before=None)
    assert "the split is not what was declared" in found.readouts[0].warnings[0]
    (tmp_path / "less.yaml").write_text("{kind: holdout, name: untouched, share: 0.25}\n", encoding="utf-8")
    apply(space, tmp_path / "less.yaml", by="test")


def test_past_plans_teach_the_effect_of_what_they_meant(space: Workspace) -> None:
    as_of = plan_instant(space, DAY)
    history = read_history(space, as_of)
    (recipe,) = space.definitions().of(UpliftRecipe)
    sample = sample_of(space, space.definitions(), recipe, as_of, history)
    # the even users from their first plan on; the odd ones were meant for the book
    assert sample.frame.height == USERS // 2
    assert (sample.frame["user"] % 2 == 0).all()
    assert sample.propensity is not None
    assert sample.propensity["coupon"].unique().to_list() == [0.75]
    out = held_out(sample.frame["user"], Holdout(name="untouched", share=0.25))
    assert ((sample.frame["treatment"] == CONTROL) == out).all()
    ((version, new),) = train_effects(space, as_of, history, "data", lambda _: None)
    assert new
    assert version.metrics["average_effect_low"] < EFFECT < version.metrics["average_effect_high"]
    assert version.params["held_out"] == "from 2025-09-08 on"
    # a day earlier the second plan's window is not over
    early = plan_instant(space, date(2025, 9, 14))
    assert sample_of(space, space.definitions(), recipe, early, history).immature == USERS // 4


def test_effects_that_do_not_come_true_are_alarmed_of(space: Workspace) -> None:
    at = plan_instant(space, date(2025, 8, 25))
    told = {"name": "spend", "predicts": "spend", "within": "28d", "history": ("28d",)}
    train_once(
        read_history(space, at), at, ModelRecipe.model_validate(told), space.registry, data="test", seed=1
    )
    alarms = [each for each in monitor(space, DAY, lambda _: None).alarms if each.what == UPLIFT]
    assert [(each.model, each.name) for each in alarms] == [("coupon_effect", "grow coupon")]
    assert "less comes than it foretells, since 2025-09-01" in alarms[0].said
    assert math.isfinite(alarms[0].size)


def test_a_held_out_user_is_told_what_was_meant(space: Workspace) -> None:
    folder = Path(space.plans.newest_of_each_day()[0].folder)
    meant = pl.read_parquet(folder / INTENDED)
    out, got = (meant.filter(pl.col("why").is_null() == each)["user"][0] for each in (False, True))
    (told,) = kept_from(folder, str(out))
    assert (told["why"], told["goal"]) == ("holdout untouched", "grow")
    assert kept_from(folder, str(got)) == []
    assert kept_from(folder.parent, str(out)) == []


def test_days_are_read_as_written() -> None:
    assert parse_days("2025-09-01..2025-09-08") == PLANS
    assert parse_days("2025-09-01") == (PLANS[0], PLANS[0])
    with pytest.raises(BadInput, match="ends before it begins"):
        parse_days("2025-09-08..2025-09-01")
