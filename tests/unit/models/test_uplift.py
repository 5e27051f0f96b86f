"""Uplift learners: their shape, their promises, and what they refuse."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from models.uplift import KINDS, Uplift
from models.uplift_base import Trees, logistic, ridge
from models.uplift_dose import DoseUplift
from models.uplift_evidence import Worth, evaluate_uplift
from models.uplift_scores import score
from models.uplift_trial import as_trial

QUICK = Trees(rounds=5)
Drawn = tuple[pl.DataFrame, list[str], np.ndarray]


def drawn(seed: int = 1, count: int = 600, arms: tuple[str, ...] = ("none", "mail", "push")) -> Drawn:
    """Outcome 0 or 1; mail helps where `a` is high, push nobody."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, count))
    place = rng.integers(0, len(arms), count)
    chance = 0.4 + 0.2 * np.tanh(b) + 0.25 * np.tanh(a) * (place == 1)
    y = (rng.random(count) < chance).astype(float)
    users = pl.DataFrame({"a": a, "b": b, "gap": np.where(rng.random(count) < 0.1, np.nan, b)})
    return users.with_columns(pl.col("gap").fill_nan(None)), [arms[each] for each in place], y


@pytest.mark.parametrize("kind", KINDS)
def test_every_learner_tells_treatments_apart_and_says_the_same_again(kind: str) -> None:
    users, treatment, y = drawn()
    learner = Uplift(kind=kind, control="none", trees=QUICK, seed=3)
    fitted = learner.fit(users, treatment, y)
    found = fitted.predict(users)
    assert found.columns == ["mail", "push"]
    assert found.height == users.height
    assert np.corrcoef(found["mail"], users["a"])[0, 1] > 0.5
    assert found["mail"].std() > found["push"].std()
    again = learner.fit(users, treatment, y).predict(users)
    assert found.equals(again)
    if kind != "stack":
        other = Uplift(kind=kind, control="none", trees=QUICK, seed=4).fit(users, treatment, y)
        assert not found.equals(other.predict(users))
    mail, push = fitted.averages
    assert mail.effect.low < mail.effect.mean < mail.effect.high
    assert abs(push.effect.mean) < 4 * push.error
    assert found["mail"].mean() == pytest.approx(mail.effect.mean, abs=0.1)
    assert (mail.share, mail.warning) == (1.0, "")


@pytest.mark.parametrize("kind", ["t", "class"])
def test_money_is_learned_as_well_as_yes_or_no(kind: str) -> None:
    users, treatment, y = drawn(count=3000, arms=("none", "mail"))
    fitted = Uplift(kind=kind, control="none", trees=QUICK).fit(users, treatment, 50 * y + 1)
    found = fitted.effects(users)[:, 0]
    assert np.corrcoef(found, users["a"])[0, 1] > 0.6
    assert found.mean() == pytest.approx(fitted.averages[0].effect.mean, abs=2.0)


def test_a_weight_of_two_is_a_user_twice_in_the_average() -> None:
    users, treatment, y = drawn(count=2000, arms=("none", "mail"))
    high = (users["a"] > 0).to_numpy()
    heavy = Uplift(kind="dr", control="none", trees=QUICK).fit(
        users, treatment, y, weight=np.where(high, 1.0, 1e-6), propensity={"mail": 0.5}
    )
    plain = Uplift(kind="dr", control="none", trees=QUICK).fit(users, treatment, y, propensity={"mail": 0.5})
    assert heavy.averages[0].effect.mean > plain.averages[0].effect.mean + 0.05


@pytest.mark.parametrize("kind", ["dr", "class"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_sign_of_a_feature_is_kept(kind: str, sign: int) -> None:
    users, treatment, y = drawn(arms=("none", "mail"))
    fitted = Uplift(kind=kind, control="none", monotone={"a": sign}).fit(users, treatment, y)
    line = pl.DataFrame({"a": np.linspace(-3, 3, 200), "b": np.zeros(200), "gap": np.zeros(200)})
    steps = np.diff(fitted.effects(line)[:, 0])
    assert (sign * steps >= -1e-12).all()
    free = Uplift(kind=kind, control="none").fit(users, treatment, y)
    assert (np.diff(free.effects(line)[:, 0]) < 0).any()


def test_more_of_a_dose_never_does_less_where_that_is_promised() -> None:
    rng = np.random.default_rng(5)
    count = 3000
    a, dose = rng.normal(size=count), rng.choice([0.0, 5.0, 10.0, 20.0], count)
    y = rng.normal(size=count) + 0.04 * dose * (1 + (a > 0))
    users = pl.DataFrame({"a": a})
    fitted = DoseUplift(more=1, seed=2).fit(users, dose, y)
    assert fitted.levels == (5.0, 10.0, 20.0)
    found = fitted.predict(users, [0, 5, 7.5, 10, 20])
    assert found.columns == ["0", "5", "7.5", "10", "20"]
    assert (found["0"] == 0).all()
    steps = np.diff(found.drop("0").to_numpy(), axis=1)
    assert (steps >= -1e-12).all()
    assert steps.sum(axis=1).min() > 0
    for name, truth in (("5", 0.3), ("20", 1.2)):
        assert found[name].mean() == pytest.approx(truth, abs=0.15)
    assert found.filter(users["a"] > 0)["20"].mean() > found.filter(users["a"] < 0)["20"].mean() + 0.3
    assert [each.effect.mean for each in fitted.averages] == pytest.approx([0.3, 0.6, 1.2], abs=0.2)
    with pytest.raises(BadInput, match=r"dose = 30: was never seen; doses went from 5 to 20"):
        fitted.predict(users, [30])


def test_many_doses_are_cut_into_levels() -> None:
    rng = np.random.default_rng(6)
    dose = np.where(rng.random(2000) < 0.4, 0.0, rng.uniform(1, 9, 2000))
    fitted = DoseUplift(trees=QUICK).fit(pl.DataFrame({"a": rng.normal(size=2000)}), dose, 0.5 * dose)
    assert len(fitted.levels) == 8
    assert list(fitted.levels) == sorted(fitted.levels)
    assert fitted.averages[-1].effect.mean == pytest.approx(0.5 * fitted.levels[-1], abs=0.1)


def test_single_users_have_intervals_when_half_samples_were_learned_from() -> None:
    users, treatment, y = drawn(count=600, arms=("none", "mail"))
    fitted = Uplift(kind="t", control="none", trees=QUICK, groups=3).fit(users, treatment, y)
    low, high = fitted.predict_interval(users)
    narrow, _ = fitted.predict_interval(users, level=0.5)
    middle = fitted.predict(users)["mail"]
    assert ((low["mail"] < narrow["mail"]) & (narrow["mail"] < middle) & (middle < high["mail"])).all()
    without = Uplift(kind="t", control="none", trees=QUICK).fit(users, treatment, y)
    with pytest.raises(BadInput, match="groups: is 0"):
        without.predict_interval(users)


def test_what_the_gate_refuses_falls_back_on_the_average() -> None:
    users, treatment, y = drawn(count=300)
    fitted = Uplift(kind="t", control="none", trees=QUICK).fit(users, treatment, y)
    safe = fitted.trusting({"mail": True, "push": False}).predict(users)
    assert safe["mail"].equals(fitted.predict(users)["mail"])
    assert set(safe["push"]) == {fitted.averages[1].effect.mean}


def test_the_evidence_tells_who_is_helped() -> None:
    users, treatment, y = drawn(2, 4000, ("none", "mail"))
    fitted = Uplift(kind="s", control="none").fit(users[:2000], treatment[:2000], y[:2000])
    last = users["b"][2000:].to_numpy()
    found = evaluate_uplift(
        fitted,
        users[2000:],
        treatment[2000:],
        y[2000:],
        seed=1,
        propensity={"mail": 0.5},
        baselines={"last value": last},
        segment=np.where(users["a"][2000:] > 0, "high", "low"),
        money=Worth(value=10.0, cost=0.5),
        resamples=30,
    )["mail"]
    assert found.verdict.promote
    assert [each.baseline for each in found.verdict.margins] == [
        "random",
        "response",
        "last value",
        "average effect",
    ]
    assert set(found.coefficients) == {"model", "response", "last value"}
    assert found.coefficients["model"]["qini"].low > 0
    assert found.segment_effects["high"].low > 0 > found.segment_effects["low"].high
    assert set(found.segments) == {"high", "low"}
    assert sum(step.users for step in found.ladder) == 2000
    assert [step.foreseen for step in found.ladder] == sorted(step.foreseen for step in found.ladder)
    assert found.ladder[0].found.high < 0 < found.ladder[-1].found.low
    assert found.profit is not None
    assert found.profit.over_average.low > 0


def test_scores_are_what_their_formula_says() -> None:
    users, treatment, y = drawn(count=300)
    chances = {"mail": 0.6, "push": 0.15}
    trial = as_trial(users, treatment, y, control="none", propensity=chances)
    found = score(trial, seed=1, trees=QUICK)
    shares = [0.25, 0.6, 0.15]
    for row in range(0, 300, 17):
        for column in (1, 2):
            expected = found.outcome[row, column] - found.outcome[row, 0]
            surprise = (y[row] - found.outcome[row, trial.arm[row]]) / shares[trial.arm[row]]
            if trial.arm[row] in (0, column):
                expected += surprise if trial.arm[row] else -surprise
            assert found.effect[row, column - 1] == pytest.approx(expected)
    assert found.overlap.all()
    alone = as_trial(users, treatment, y, control="none", propensity={"mail": 0.6, "push": 0.005})
    assert score(alone, seed=1, trees=QUICK).overlap.all(axis=0).tolist() == [True, False]


def test_no_user_is_scored_by_a_model_that_saw_it() -> None:
    """Noise learned by heart would make outcomes look foreseen."""
    rng = np.random.default_rng(9)
    users, y = pl.DataFrame({"a": rng.normal(size=400)}), rng.normal(size=400)
    trial = as_trial(users, np.arange(400) % 2, y, control="0", propensity={"1": 0.5})
    deep = Trees(rounds=200, leaves=31, leaf_users=5, rate=0.3, l2=0.0)
    found = score(trial, seed=1, trees=deep)
    foreseen = found.outcome[np.arange(400), trial.arm]
    assert abs(np.corrcoef(foreseen, y)[0, 1]) < 0.2


def test_ridge_bounds_and_newton_find_the_optimum() -> None:
    rng = np.random.default_rng(8)
    z, weight = rng.normal(size=(500, 3)), rng.uniform(0.5, 2, 500)
    y = z @ [1.0, -1.0, 0.0] + 0.1 * rng.normal(size=500)
    _, free = ridge(z, y, weight)
    assert free == pytest.approx([1.0, -1.0, 0.0], abs=0.03)
    _, bound = ridge(z, y, weight, (-1, 0, 0))
    assert bound[0] == pytest.approx(0.0, abs=1e-9)
    assert bound[1] == pytest.approx(-1.0, abs=0.15)
    yes = (y > 0).astype(float)
    intercept, slopes = logistic(z, yes, weight)
    p = 1 / (1 + np.exp(-intercept - z @ slopes))
    assert z.T @ (weight * (p - yes)) + 10.0 * slopes == pytest.approx(np.zeros(3), abs=1e-2)
    assert weight @ (p - yes) == pytest.approx(0.0, abs=1e-2)


_USERS, _TREATMENT, _Y = drawn(count=200, arms=("none", "mail"))


@pytest.mark.parametrize(
    ("users", "treatment", "y", "said"),
    [
        (_USERS.with_columns(pl.lit("x").alias("city")), _TREATMENT, _Y, "city: is String, not a number"),
        (_USERS.with_columns(gap=pl.lit(None, pl.Float64)), _TREATMENT, _Y, "gap: is missing for every"),
        (_USERS.with_columns(a=pl.lit(float("inf"))), _TREATMENT, _Y, "a: is infinite"),
        (_USERS.select([]), _TREATMENT, _Y, "y = "),
        (_USERS, _TREATMENT, np.ones(200), "y = 1.0: is the same for every user"),
        (_USERS, _TREATMENT, np.full(200, np.nan), "y: is missing or infinite"),
        (_USERS, _TREATMENT, ["x"] * 200, "y: is not a column of numbers"),
        (_USERS, _TREATMENT[:-1], _Y, "treatment = 199: needs one label"),
        (_USERS, ["mail"] * 200, _Y, "treatment = 'none': has 0 users"),
        (_USERS, ["none"] * 200, _Y, "has no treated users"),
        (_USERS, np.ones(200) / 2, _Y, "not a label"),
        (_USERS[:3], _TREATMENT[:3], _Y[:3], "treatment = 'none': has . users; 30 are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_named(
    users: pl.DataFrame, treatment: object, y: object, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        Uplift(control="none").fit(users, treatment, y)  # type: ignore[arg-type] # bad on purpose


def test_bad_settings_and_propensities_are_named() -> None:
    for settings, said in (
        ({"kind": "z"}, "kind = 'z'"),
        ({"kind": "s", "monotone": {"a": 1}}, "monotone: cannot be promised by s"),
        ({"kind": "dr", "monotone": {"a": 2}}, "monotone a = 2"),
        ({"groups": 1}, "groups = 1"),
    ):
        with pytest.raises(BadInput, match=said):
            Uplift(**settings)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="monotone = 'c': is not a feature"):
        Uplift(kind="dr", control="none", monotone={"c": 1}).fit(_USERS, _TREATMENT, _Y)
    for propensity, said in (
        ({"mail": 1.0}, "propensity: is not within 0 and 1"),
        ({"push": 0.5}, "needs exactly the treatments mail"),
        (pl.DataFrame({"mail": [0.5]}), "needs one row"),
    ):
        with pytest.raises(BadInput, match=said):
            as_trial(_USERS, _TREATMENT, _Y, control="none", propensity=propensity)
    with pytest.raises(BadInput, match=r"weight = 0\.0: is not positive"):
        as_trial(_USERS, _TREATMENT, _Y, control="none", weight=np.zeros(200))
    fitted = Uplift(kind="t", control="none", trees=QUICK).fit(_USERS, _TREATMENT, _Y)
    with pytest.raises(BadInput, match="gap: is a feature of the model and missing"):
        fitted.predict(_USERS.drop("gap"))
    with pytest.raises(BadInput, match=r"dose = -1\.0: is negative"):
        DoseUplift().fit(_USERS, np.full(200, -1.0), _Y)
