"""Worlds whose truth is planted: what is there is found, and what is not is not believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from kernel.learning import ModelRecipe
from models.backtest import back_test
from models.history import History
from models.training import Trained, train

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=210)
RESPONSE = ModelRecipe(
    name="response", predicts="response", within="28d", matured="21d", history=("28d", "84d")
)


def events(user: np.ndarray, days: np.ndarray, **fields: np.ndarray) -> pl.DataFrame:
    at = [BEGIN + timedelta(days=float(each)) for each in days]
    return pl.DataFrame(
        {
            "user": user,
            "at": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "event_id": np.arange(len(user)),
            **fields,
        }
    )


def world(seed: int, effect: float, users: int = 150) -> History:
    """Purchases at a rate of each user's own; a response has log-odds −1 + effect × standardised log rate."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=users)
    counts = rng.poisson(210 * np.exp(taste) / 20) + 1
    buyer = np.repeat(np.arange(users), counts)
    bought = events(buyer, rng.uniform(0, 210, len(buyer)), amount=rng.gamma(2, 10, len(buyer)).round(2))
    offers = np.arange(6)
    who, which = np.tile(np.arange(users), len(offers)), np.repeat(offers, users)
    started = 60.0 + 24 * which
    answered = rng.random(len(who)) < expit(-1 + effect * taste[who])
    return History(
        purchases=bought,
        treatments=events(who, started, offer=which),
        responses=events(
            who[answered], started[answered] + rng.uniform(1, 14, answered.sum()), offer=which[answered]
        ),
    )


@cache
def learned(seed: int, effect: float, users: int = 400) -> Trained:
    return train(world(seed, effect, users), AS_OF, RESPONSE, seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_effect_is_found_and_trusted(seed: int) -> None:
    trained = learned(seed, 2.0)
    assert trained.predictor.trusted
    auc = trained.evidence.figures["auc"]
    assert auc.low < auc.mean < auc.high
    assert auc.mean > 0.75
    assert auc.low > 0.65
    better, naive = trained.evidence.figures["log_loss"], trained.evidence.baseline_figures["log_loss"]
    assert better.mean < naive.mean
    assert {each.baseline for each in trained.evidence.margins} == {"base rate", "last value"}
    assert trained.evidence.figures["calibration_error"].mean < 0.12
    predicted = trained.predictor.predict(trained.dataset.frame)
    assert predicted.mean() == pytest.approx(trained.dataset.labels.mean(), abs=0.03)
    # what drives responses is how often the user buys (or what responses themselves betray)
    first = list(trained.evidence.importance)[:5]
    assert any(name.startswith(("purchases", "amount", "responses", "gap", "recency")) for name in first)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_is_not_believed_and_everyone_gets_the_average(seed: int) -> None:
    trained = learned(seed, 0.0)
    assert not trained.predictor.trusted
    assert trained.evidence.margin <= 2
    assert trained.evidence.figures["auc"].mean == pytest.approx(0.5, abs=0.13)
    predicted = trained.predictor.predict(trained.dataset.frame)
    assert set(predicted.tolist()) == {float(trained.dataset.labels.mean())}


def test_the_evidence_is_of_the_latest_rows_only() -> None:
    trained = learned(1, 2.0)
    evidence, rows = trained.evidence, trained.dataset.frame
    assert evidence.rows_held_out == rows.filter(pl.col("at") >= evidence.held_out_from).height
    # offers that were too young when the held-out time began had no outcome yet
    young = evidence.held_out_from - timedelta(days=21)
    assert evidence.rows_learned == rows.filter(pl.col("at") <= young).height
    assert evidence.rows_held_out >= rows.height / 4
    assert sum(count for _, _, count in evidence.reliability) == evidence.rows_held_out


def test_the_same_seed_learns_the_same() -> None:
    one, two = learned(1, 2.0), train(world(1, 2.0, 400), AS_OF, RESPONSE, 1)
    frame = one.dataset.frame
    np.testing.assert_array_equal(one.predictor.predict(frame), two.predictor.predict(frame))


@pytest.mark.parametrize("predicts", ["spend", "churn"])
def test_a_steady_rate_tells_spend_and_churn(predicts: str) -> None:
    recipe = ModelRecipe.model_validate(
        {"name": predicts, "predicts": predicts, "within": "28d", "history": ["28d", "84d"], "every": "21d"}
    )
    trained = train(world(5, 0.0), AS_OF, recipe, 5)
    predicted, truth = trained.predictor.predict(trained.dataset.frame), trained.dataset.labels
    assert trained.predictor.trusted
    assert predicted.min() >= 0
    assert predicted.mean() == pytest.approx(truth.mean(), rel=0.1)
    figure = trained.evidence.figures["gini" if predicts == "spend" else "auc"]
    assert figure.mean > 0.6
    # no early label looks into the held-out time
    early = trained.dataset.frame.filter(pl.col("at") < trained.evidence.held_out_from)
    assert trained.evidence.rows_learned < early.height


def test_the_back_test_shows_what_was_planted() -> None:
    plans = [BEGIN + timedelta(days=135), BEGIN + timedelta(days=160)]
    found = back_test(world(1, 2.0), plans, RESPONSE, ahead=timedelta(days=24), seed=1)
    assert found.auc["model"].low > 0.7
    assert found.lift["model"].low > 1.5
    assert found.dates["plan"].to_list() == plans
    assert found.dates["offers"].to_list() == [1, 1]
    assert found.dates["recipients"].to_list() == [150, 150]
    assert found.rows["responded"].sum() == found.dates["responders"].sum()
