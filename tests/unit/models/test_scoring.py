"""Scores of users × tasks: those of LightGBM and of the predictor itself, in batch and for one user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from scipy.stats import norm

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.calibration import Calibrator
from models.datasets import response_dataset, response_rows
from models.history import History
from models.learners import Learned, Parameters, Setting, fit_amount, fit_probability, fit_two_part
from models.predictor import Predictor
from models.scoring import Scorer, score_blocks, score_one
from models.scoring_linear import _normal, linear_of
from models.scoring_offers import score_offers
from models.scoring_trees import Unsupported, compile_forest, prepare, raw_scores
from models.training import fit

Floats = NDArray[np.float64]
USER, TASK, PAIR = 5, 3, 2
NAMES = [*(f"u{i}" for i in range(USER)), *(f"t{i}" for i in range(TASK)), *(f"p{i}" for i in range(PAIR))]
QUICK = Setting(parameters=Parameters(rounds=12, bags=2))


def rows(count: int, seed: int = 0) -> Floats:
    """With missing values, ties, and zeros where nothing is in common."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, len(NAMES)))
    x[:, 1] = np.round(x[:, 1] * 2)
    x[:, -PAIR:] = np.where(rng.random((count, PAIR)) < 0.7, 0.0, np.abs(x[:, -PAIR:]))
    x[:, :USER][rng.random((count, USER)) < 0.1] = np.nan
    return x


def outcomes(x: Floats) -> Floats:
    known = np.nan_to_num(x)
    noise = np.random.default_rng(1).normal(size=len(x))
    return (known[:, 0] + known[:, USER] * known[:, 1] + 2 * known[:, -1] + noise > 0).astype(float)


@pytest.fixture(scope="module")
def learned() -> dict[str, Learned]:
    x = rows(600)
    y = outcomes(x)
    return {
        "probability": fit_probability(x, y, NAMES, 1, QUICK),
        "amount": fit_amount(x, y * 7, NAMES, 1, QUICK),
        "two-part": fit_two_part(x, y * np.exp(np.nan_to_num(x[:, 2])), NAMES, 1, QUICK),
    }


def predictor(model: Learned, **more: Any) -> Predictor:
    given: dict[str, Any] = {
        "recipe": ModelRecipe(name="r", predicts="response"),
        "features": tuple(NAMES),
        "model": model,
        "calibrator": Calibrator(method="platt", fitted=(0.2, 0.7)),
        "factor": 1.5,
        "average": 0.3,
        "trusted": True,
    }
    return Predictor(**given | more)


def world(users: int, tasks: int) -> tuple[Floats, pl.DataFrame, Floats]:
    """Features × users, tasks as a frame, tasks × features × users."""
    given = pl.DataFrame(rows(tasks, 5)[:, USER : USER + TASK], schema=NAMES[USER : USER + TASK])
    pairs = np.stack([rows(users, 10 + task)[:, -PAIR:].T for task in range(tasks)])
    return rows(users, 3)[:, :USER].T, given, pairs


def one_by_one(told: Predictor, users: Floats, tasks: pl.DataFrame, pairs: Floats) -> Floats:
    found = []
    for task in range(tasks.height):
        given = np.broadcast_to(tasks.row(task), (users.shape[1], TASK))
        frame = pl.DataFrame(np.concatenate([users.T, given, pairs[task].T], axis=1), schema=NAMES)
        found.append(told.predict(frame))
    return np.stack(found)


@pytest.mark.parametrize("kind", ["probability", "amount", "two-part"])
def test_scores_are_those_of_the_predictor(learned: dict[str, Learned], kind: str) -> None:
    users, tasks, pairs = world(530, 4)
    calibrator = Calibrator(method="none" if kind != "probability" else "platt", fitted=(0.2, 0.7))
    told = predictor(learned[kind], calibrator=calibrator)
    scorer = Scorer(told, tasks, ("p0", "p1"))
    found = scorer(users, pairs)
    np.testing.assert_allclose(found, one_by_one(told, users, tasks, pairs), rtol=1e-12, atol=1e-12)
    for user in (0, 255, 256, 529):
        alone = scorer(users[:, user : user + 1], pairs[:, :, user : user + 1])
        np.testing.assert_allclose(alone[:, 0], found[:, user], rtol=1e-9, atol=0)


def test_one_user_from_named_features(learned: dict[str, Learned]) -> None:
    users, tasks, pairs = world(3, 2)
    scorer = Scorer(predictor(learned["probability"]), tasks, ("p0", "p1"))
    named = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(NAMES, users[:, 1], strict=False)
    }
    np.testing.assert_array_equal(score_one(scorer, named, pairs[:, :, 1:2]), scorer(users, pairs)[:, 1])
    with pytest.raises(BadInput, match="u0: is a feature of the model and not known"):
        score_one(scorer, {})


def test_blocks_come_in_order_whatever_their_size(learned: dict[str, Learned]) -> None:
    users, tasks, pairs = world(100, 3)
    scorer = Scorer(predictor(learned["probability"]), tasks, ("p0", "p1"))
    people = pl.DataFrame(users.T, schema=NAMES[:USER]).with_columns(pl.all().fill_nan(None))
    whole = scorer(users, pairs)
    for block, threads in ((7, 2), (100, 1), (1000, 3)):
        parts = list(
            score_blocks(scorer, people, lambda a, b: pairs[:, :, a:b], threads=threads, block=block)
        )
        assert [begin for begin, _ in parts] == list(range(0, 100, block))
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts], axis=1), whole)
    with pytest.raises(BadInput, match="u0: is a feature of the model and missing"):
        list(score_blocks(scorer, people.drop("u0")))


def test_what_did_not_earn_trust_says_the_average(learned: dict[str, Learned]) -> None:
    users, tasks, pairs = world(4, 2)
    scorer = Scorer(predictor(learned["amount"], trusted=False), tasks, ("p0", "p1"))
    assert (scorer(users, pairs) == 0.3).all()


class _Sum:
    """A learner that is no forest."""

    def predict(self, x: Floats) -> Floats:
        return np.asarray(np.nansum(x * np.arange(1, x.shape[1] + 1), axis=1))

    def explain(self, x: Floats) -> Floats:
        return x


def test_other_learners_are_asked_row_by_row() -> None:
    users, tasks, pairs = world(9, 3)
    told = predictor(_Sum(), calibrator=Calibrator(method="none"))
    found = Scorer(told, tasks, ("p0", "p1"))(users, pairs)
    np.testing.assert_allclose(found, one_by_one(told, users, tasks, pairs), rtol=1e-12)


def booster(x: Floats, y: Floats, rounds: int = 20, **told: Any) -> lgb.Booster:
    given = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, "seed": 1, **told}
    categorical = given.pop("categorical_feature", "auto")
    return lgb.train(given, lgb.Dataset(x, y, categorical_feature=categorical), rounds)


@pytest.mark.parametrize("told", [
    {"num_leaves": 7}, {"num_leaves": 31}, {"num_leaves": 60}, {"num_leaves": 4, "zero_as_missing": True},
    {"num_leaves": 15, "use_missing": False}, {"num_leaves": 2},
])  # fmt: skip
def test_trees_add_up_as_lightgbm_adds_them(told: dict[str, Any]) -> None:
    x = rows(2000)
    x[:, 3] = np.where(np.random.default_rng(2).random(len(x)) < 0.3, 0.0, x[:, 3])
    model = booster(x, outcomes(x), **told)
    forest = compile_forest([model], NAMES)
    users, tasks, pairs = world(300, 3)
    users[3, ::5], users[2, 1], users[2, 2] = 0.0, 1e300, -1e300
    out = np.zeros((3, 300))
    given = tasks.to_numpy()
    raw_scores(
        prepare(forest, given, NAMES[USER : USER + TASK], ("p0", "p1")),
        np.ascontiguousarray(users),
        pairs,
        out,
    )
    for task in range(3):
        block = np.concatenate([users.T, np.broadcast_to(given[task], (300, TASK)), pairs[task].T], axis=1)
        np.testing.assert_allclose(out[task], model.predict(block, raw_score=True), rtol=1e-12, atol=1e-12)


def test_values_on_a_threshold_go_left() -> None:
    x = np.repeat(np.arange(10.0), 40)[:, None]
    model = booster(x, (x[:, 0] > 4).astype(float), rounds=3)
    forest = compile_forest([model], ["a"])
    at = np.sort(np.concatenate([forest.thresholds, np.nextafter(forest.thresholds, np.inf)]))
    out = np.zeros((1, len(at)))
    raw_scores(prepare(forest, np.empty((1, 0)), ()), at[None], np.empty((1, 0, 0)), out)
    np.testing.assert_allclose(out[0], model.predict(at[:, None], raw_score=True), rtol=1e-12)


def test_what_bits_cannot_say_is_told() -> None:
    x = np.column_stack([np.tile(np.arange(8.0), 100), np.arange(800.0)])
    y = (x[:, 0] % 2 == 0).astype(float)
    with pytest.raises(Unsupported, match="categories"):
        compile_forest([booster(x, y, categorical_feature=[0])], ["a", "b"])
    many = np.random.default_rng(6).normal(size=800)
    large = booster(x, many, num_leaves=200, min_data_in_leaf=1, rounds=2, objective="l2")
    with pytest.raises(Unsupported, match="leaves"):
        compile_forest([large], ["a", "b"])


def test_normal_scores_are_those_of_the_pipeline(learned: dict[str, Learned]) -> None:
    shares = np.concatenate(
        [10.0 ** -np.arange(1, 17), np.linspace(0.001, 0.999, 999), 1 - 10.0 ** -np.arange(1, 16)]
    )
    np.testing.assert_allclose([_normal(p) for p in shares], norm.ppf(shares), rtol=1e-13, atol=1e-15)
    pipeline = learned["probability"].linear  # type: ignore[attr-defined]
    x = np.concatenate([rows(200, 8), 1e6 * rows(5, 9), np.nan_to_num(rows(600))])
    linear, out = linear_of(pipeline), np.zeros(len(x))
    linear.add(range(len(NAMES)), np.ascontiguousarray(x.T), out)
    np.testing.assert_allclose(out + linear.intercept, pipeline.decision_function(x), rtol=1e-11, atol=1e-11)


def test_all_offers_in_one_go_are_offer_after_offer() -> None:
    begin, rng, users = datetime(2024, 1, 1, tzinfo=UTC), np.random.default_rng(4), 120

    def events(count: int, **columns: Any) -> pl.DataFrame:
        at = [begin + timedelta(days=float(day)) for day in rng.uniform(0, 90, count)]
        frame = {"user": rng.integers(0, users, count), "at": at, "event_id": range(count), **columns}
        return pl.DataFrame(frame).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))

    starts = np.repeat([20.0, 40.0, 60.0], users)
    received = pl.DataFrame({
        "user": np.tile(np.arange(users), 3),
        "at": [begin + timedelta(days=float(day)) for day in starts],
        "event_id": range(3 * users),
        "offer": np.repeat([1, 2, 3], users),
        "percent": np.repeat([5, 10, 20], users),
        "kind": np.repeat(["a", "b", "a"], users),
    }).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    answered = received.filter((pl.col("user") * 7 + pl.col("offer")) % 5 < 2)
    known = History(
        purchases=events(1500, amount=rng.gamma(2, 9, 1500), item=rng.integers(0, 30, 1500)),
        treatments=received,
        responses=answered.select("user", pl.col("at") + timedelta(days=2), "event_id", "offer"),
        offer_items=pl.DataFrame({"offer": [1, 1, 2, 3], "item": [1, 2, 3, 4]}),
    )
    as_of = begin + timedelta(days=85)
    recipe = ModelRecipe(name="r", predicts="response", within="14d", matured="10d", history=("28d",))
    told = fit(response_dataset(known, as_of, recipe), recipe, 1)
    offers = pl.DataFrame({"offer": [3, 1], "percent": [20, 5], "kind": ["a", "a"]})
    people = pl.Series("user", [*range(users), 5000])  # the last has never bought
    found = score_offers(told, known, people, offers, as_of)
    parts = []
    for place, offer in enumerate(offers.iter_slices(1)):
        targets = pl.DataFrame({"user": people}).join(offer.select("offer"), how="cross")
        rows_ = response_rows(known, targets, offer, as_of, recipe)
        scores = pl.Series("response", told.predict(rows_))
        parts.append(rows_.select("user", pl.lit(place, pl.Int64).alias("place"), scores))
    assert_frame_equal(found, pl.concat(parts), rel_tol=1e-12)
    # an offer that nobody has received has traits, and no items
    new = score_offers(told, known, people, offers.with_columns(offer=pl.lit(None, pl.Int64)), as_of)
    assert new["response"].is_between(0, 1).all()
