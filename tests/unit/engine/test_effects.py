"""Effects planted in a small shop: learned from an experiment, valued in money, or refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from engine.effects import ASSUMED, AVERAGE, UPLIFT, PlanEffects, plan_effects, train_effects
from engine.effects_samples import sample_of
from engine.holdout import held_out_now, withheld_from
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from models.api import Experiment, Holdout, UpliftRecipe, bucket_users, held_out
from planner.api import compose

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
  mailed:
    source: shop
    table: mailings
    user: user_id
    time: mailed_at
    role: treatment
    fields: {offer: {column: offer, type: integer, role: offer}}
  used:
    source: shop
    table: redeemed
    user: user_id
    time: used_at
    role: response
    fields: {offer: {column: offer, type: integer, role: offer}}
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
window: 28d
audiences: [everyone]
base: spend
margin: 0.5
lift: 0.2
---
kind: benefit
name: coupon
cost_per_response: 0.5
goals: [grow]
touchpoints: [letter]
offer: {offer: 1}
---
kind: touchpoint
name: letter
channel: mail
cost_per_touch: 0.2
---
kind: content
name: hello
goals: [grow]
touchpoints: [letter]
---
kind: cells
name: cells
max_clusters: 2
"""
EXPERIMENT = """
kind: experiment
name: trial
variants: {none: 0.5, sent: 0.5}
holdout: none
starts: 2025-09-01
ends: 2025-09-02
within: 28d
planned: 2000
metrics: [{name: spend, sum: {amount: 1}}]
gives: {sent: coupon}
---
kind: uplift
name: coupon_effect
goal: grow
experiment: trial
history: [28d, 84d]
learner: s
halves: 2
"""
HOLDOUT = "kind: holdout\nname: untouched\nshare: 0.2\n"
USERS, BEGIN, DAY = 1600, datetime(2025, 1, 1, 12, tzinfo=UTC), date(2025, 10, 15)
START = datetime(2025, 9, 1, tzinfo=UTC)


def _shop(root: Path, effect: float) -> None:
    """Whoever bought little before spends `effect` more in the trial's window when sent the coupon; others
    nothing more."""
    rng = np.random.default_rng(4)
    pace = rng.uniform(0.05, 0.6, USERS)
    weeks = np.arange(41)
    user, week = np.nonzero(rng.random((USERS, len(weeks))) < pace[:, None])
    days = 7 * week + rng.integers(0, 7, len(week))
    total = rng.gamma(4, 3, len(week)).round(2)
    trial = Experiment.model_validate(_definition("trial"))
    dealt = bucket_users(pl.Series("user", range(USERS)), trial)
    sent = (dealt["variant"] == "sent").to_numpy() & (pace < 0.33)
    extra = np.flatnonzero(sent)
    lines = {
        "user_id": np.concatenate([user, extra]),
        "ordered_at": [BEGIN + timedelta(days=int(day)) for day in days]
        + [START + timedelta(days=5, hours=int(each % 24)) for each in extra],
        "total": np.concatenate([total, rng.normal(effect, 1, len(extra)).round(2)]),
    }
    pl.DataFrame({"user_id": range(USERS)}).write_parquet(root / "data" / "users.parquet")
    pl.DataFrame(lines).write_parquet(root / "data" / "orders.parquet")
    mailed, used = [], []
    for offer, day in ((1, 90), (2, 130), (3, 170), (4, 200)):
        for each in range(0, USERS, 2):
            mailed.append((each, BEGIN + timedelta(days=day), offer))
            if rng.random() < 0.1 + 0.5 * pace[each]:
                used.append((each, BEGIN + timedelta(days=day + 3), offer))
    for name, rows, when in (("mailings", mailed, "mailed_at"), ("redeemed", used, "used_at")):
        schema = ["user_id", when, "offer"]
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / "data" / f"{name}.parquet")


def _definition(name: str) -> dict[str, Any]:
    return next(each for each in yaml.safe_load_all(EXPERIMENT) if each["name"] == name)


def _space(root: Path, effect: float, *texts: str, definitions: str = DEFINITIONS) -> Workspace:
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    _shop(root, effect)
    (root / "definitions" / "all.yaml").write_text("---\n".join((definitions, *texts)), encoding="utf-8")
    space = open_workspace(root)
    apply(space, root / "definitions", by="test")
    return space


def silent(_: str) -> None:
    pass


def valued(space: Workspace, users: int = USERS) -> PlanEffects:
    resources, as_of = space.definitions().resources(), plan_instant(space, DAY)
    audiences = pl.DataFrame({"user": range(users)}).with_columns(audience=pl.lit("everyone"))
    tasks = compose(resources, DAY).tasks
    found = plan_effects(space, resources, tasks, read_history(space, as_of), audiences, as_of)
    assert found is not None
    return found


def learn(space: Workspace, told: list[str] | None = None) -> list[Any]:
    as_of = plan_instant(space, DAY)
    said = told.append if told is not None else silent
    return train_effects(space, as_of, read_history(space, as_of), "data", said)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With an experiment whose effect was learned and let through."""
    space = _space(tmp_path_factory.mktemp("trial") / "shop", 16.0, EXPERIMENT)
    told: list[str] = []
    ((version, new),) = learn(space, told)
    assert (new, version.name, version.alias) == (True, "coupon_effect", "champion"), version.reason
    return space


def test_single_effects_value_candidates_with_their_intervals(trial: Workspace) -> None:
    found = valued(trial)
    (told,) = found.valued
    assert (told.goal, told.benefit, told.touchpoints, told.by) == ("grow", "coupon", ("letter",), UPLIFT)
    assert told.model is not None
    assert told.model.version == 1
    assert told.adds is not None
    assert told.adds[1] < 0.5 * 16 * 0.51 < told.adds[2]
    frame = found.frame
    assert set(frame["touchpoint"]) == {"letter"}
    assert (frame["adds_low"] < frame["adds"]).all()
    assert (frame["adds"] < frame["adds_high"]).all()
    pace = np.random.default_rng(4).uniform(0.05, 0.6, USERS)
    rare = frame.sort("user").filter(pl.Series(pace < 0.2))["adds"].mean()
    often = frame.sort("user").filter(pl.Series(pace > 0.45))["adds"].mean()
    # planted: 8 and 0
    assert isinstance(rare, float)
    assert isinstance(often, float)
    assert rare > 5
    assert often < 3


def test_the_same_again_is_the_same_version(trial: Workspace) -> None:
    ((version, new),) = learn(trial)
    assert (version.version, new) == (1, False)


def test_the_card_says_what_a_reviewer_asks(trial: Workspace) -> None:
    version = trial.registry.usable_version("coupon_effect", plan_instant(trial, DAY))
    assert version.params["learned_from"] == "experiment trial"
    assert version.params["held_out"] == "other users, by hash"
    assert {"average_effect_low", "targeting_gain", "profit_of_policy"} <= set(version.metrics)
    model, _ = trial.registry.load("coupon_effect", 1)
    rows = sample_of(
        trial, trial.definitions(), recipe(trial), plan_instant(trial, DAY), history(trial)
    ).frame
    served = model.predict(rows.select(model.features).head(20))
    np.testing.assert_allclose(served[:, 0], model.effects(rows.head(20))["effect"].to_numpy())


def recipe(space: Workspace) -> UpliftRecipe:
    (found,) = space.definitions().of(UpliftRecipe)
    return found


def history(space: Workspace) -> Any:
    return read_history(space, plan_instant(space, DAY))


def test_low_ends_value_where_that_is_declared(trial: Workspace, tmp_path: Path) -> None:
    before = valued(trial, 100).frame
    (tmp_path / "low.yaml").write_text(EXPERIMENT.split("---")[1] + "value_at: low\n", encoding="utf-8")
    apply(trial, tmp_path / "low.yaml", by="test")
    low = valued(trial, 100).frame
    assert low["adds"].equals(before["adds_low"])
    (tmp_path / "low.yaml").write_text(EXPERIMENT.split("---")[1], encoding="utf-8")
    apply(trial, tmp_path / "low.yaml", by="test")


def test_exposures_of_a_file_with_their_own_chances(trial: Workspace, tmp_path: Path) -> None:
    """Of the variants that count, P(coupon) is what the file says; features know the day's beginning."""
    n = 400
    exposed = pl.DataFrame(
        {
            "user": range(n),
            "variant": ["sent", "none"] * (n // 2),
            "at": [START + timedelta(days=each % 3, hours=9) for each in range(n)],
            "p_sent": [0.2 + 0.1 * (each % 2) for each in range(n)],
            "p_none": [0.6] * n,
        }
    ).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    exposed.write_parquet(trial.root / "exposed.parquet")
    mine = recipe(trial).model_copy(update={"assigned": "exposed.parquet"})
    sample = sample_of(trial, trial.definitions(), mine, plan_instant(trial, DAY), history(trial))
    assert sample.frame["at"].n_unique() == 3
    assert sample.frame["at"].min() == START
    chances = sample.propensity
    assert chances is not None
    assert set(chances["coupon"].round(6)) == {round(0.2 / 0.8, 6), round(0.3 / 0.9, 6)}
    (trial.root / "exposed.parquet").unlink()
    with pytest.raises(BadInput, match="no such file"):
        sample_of(trial, trial.definitions(), mine, plan_instant(trial, DAY), history(trial))


def test_whom_an_experiment_or_the_holdout_keeps_from_what(trial: Workspace, tmp_path: Path) -> None:
    (tmp_path / "holdout.yaml").write_text(HOLDOUT, encoding="utf-8")
    apply(trial, tmp_path / "holdout.yaml", by="test")
    definitions, users = trial.definitions(), pl.Series("user", range(500))
    holdout = definitions.one(Holdout)
    assert holdout is not None
    out = set(users.filter(held_out(users, holdout)))
    during = withheld_from(definitions, users, datetime(2025, 9, 20, tzinfo=UTC))
    after = withheld_from(definitions, users, datetime(2025, 10, 1, tzinfo=UTC))
    assert during is not None
    assert after is not None
    assert set(after["user"]) == out
    assert after["benefit"].null_count() == after.height
    (experiment,) = definitions.of(Experiment)
    dealt = bucket_users(users, experiment, holdout)
    control = set(dealt.filter(variant="none")["user"])
    assert set(during.drop_nulls("benefit")["user"]) == control
    assert not control & out
    asked = held_out_now(definitions)
    assert {user for user in users if asked(str(user))} == out


# those below open workspaces of their own: MLflow knows one at a time


def test_where_nothing_differs_the_average_is_used_and_shrunken(tmp_path: Path) -> None:
    space = _space(tmp_path / "shop", 0.0, EXPERIMENT)
    ((version, _),) = learn(space)
    assert version.alias == "challenger"
    found = valued(space, 50)
    (told,) = found.valued
    assert told.by == AVERAGE
    assert "single effects are refused" in told.reason
    assert found.frame["adds"].n_unique() == 1
    assert found.frame["adds_low"][0] <= 0 <= found.frame["adds_high"][0]


def test_before_it_can_be_learned_the_assumption_stands_and_is_named(tmp_path: Path) -> None:
    later = EXPERIMENT.replace("2025-09-01", "2025-10-01").replace("2025-09-02", "2025-10-02")
    space, told = _space(tmp_path / "shop", 1.0, later), list[str]()
    assert learn(space, told) == []
    assert "has no user whose window is over" in told[-1]
    found = valued(space, 50)
    assert found.frame.is_empty()
    assert found.valued[0].by == ASSUMED
    assert "has not been learned by then" in found.valued[0].reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EXPERIMENT.replace("sent: coupon", "sent: voucher"), "unknown benefit"),
        (EXPERIMENT.replace("gives: {sent: coupon}\n", ""), "gives no benefits"),
        (EXPERIMENT.replace("gives: {sent", "gives: {none"), "which is no treated variant"),
        (EXPERIMENT.replace("goal: grow", "goal: shrink"), "unknown goal"),
        (EXPERIMENT + "touchpoints: [mail]\n", "unknown touchpoint"),
        (EXPERIMENT + "benefit: coupon\n", "an experiment, a benefit of past plans, or an exploration"),
        (EXPERIMENT + "outcome: bought\n", "outcome bought needs worth"),
        (EXPERIMENT + "---\n" + EXPERIMENT.split("---")[1].replace("coupon_effect", "b"), "as uplift"),
        ("kind: uplift\nname: a\ngoal: grow\nbenefit: coupon\n", "needs a definition of kind holdout"),
        ("kind: uplift\nname: a\ngoal: grow\nbenefit: coupon\nassigned: x\n", "assigned needs experiment"),
    ],
)
def test_what_does_not_fit_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        _space(tmp_path / "shop", 0.0, text)


def test_what_one_model_says_of_some_touchpoints_leaves_the_others_assumed(tmp_path: Path) -> None:
    definitions = DEFINITIONS.replace("touchpoints: [letter]", "touchpoints: [letter, visit]")
    more = "kind: touchpoint\nname: visit\nchannel: door\ncost_per_touch: 3\n"
    trial = EXPERIMENT + "touchpoints: [letter]\n"
    space = _space(tmp_path / "shop", 1.0, more, trial, definitions=definitions)
    told = {each.touchpoints: each.reason for each in valued(space, 50).valued}
    assert set(told) == {("letter",), ("visit",)}
    assert "has not been learned by then" in told["letter",]
    assert told["visit",] == "no uplift model is defined for it"
