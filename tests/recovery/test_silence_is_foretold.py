"""Time to the next purchase, lapses and money: planted rates come back, and intervals hold out of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from kernel.learning import ModelRecipe
from models.history import History
from models.survival import Hazard
from models.survival_labels import silence_labels, usual_gaps
from models.training import Trained, train

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=300)


@cache
def shop(users: int = 200) -> History:
    """Everyone buys at a steady rate of their own: the wait is exponential."""
    rng = np.random.default_rng(9)
    rate = rng.uniform(0.02, 0.3, users)
    count = rng.poisson(rate * 300) + 1
    user = np.repeat(np.arange(users), count)
    days = rng.uniform(0, 300, len(user))
    at = pl.Series([BEGIN + timedelta(days=float(each)) for each in days], dtype=pl.Datetime("us", "UTC"))
    money = rng.gamma(2, 5, len(user))
    frame = pl.DataFrame({"user": user, "at": at, "event_id": np.arange(len(user)), "amount": money})
    return History(purchases=frame.sort("at"))


@cache
def learned(predicts: str) -> Trained:
    told = {"within": "28d", "history": ["28d", "84d"], "every": "28d"}
    return train(
        shop(), AS_OF, ModelRecipe.model_validate({"name": predicts, "predicts": predicts, **told}), 1
    )


def test_the_wait_is_foretold_at_every_span() -> None:
    trained = learned("next_purchase")
    # a user's own usual gap is all that can be known of so even a pace: nothing beats it by much
    margins = {each.baseline: each for each in trained.evidence.margins}
    assert margins["average"].won
    assert margins["last value"].difference.mean > -0.5
    model, late = trained.judged.model, trained.held_out
    assert isinstance(model, Hazard)
    bought = model.bought(late.matrix(trained.judged.features))
    assert (np.diff(bought, axis=1) >= 0).all()
    for span, end in enumerate(model.ends):
        happened = ((late.labels <= end) & (late.labels < 28)).mean()
        assert bought[:, span].mean() == pytest.approx(happened, abs=0.06)
    assert trained.evidence.figures["bias"].mean == pytest.approx(0, abs=1.0)
    assert (trained.predictor.predict(trained.dataset.frame) <= 28).all()


@pytest.mark.parametrize("predicts", ["next_purchase", "spend"])
def test_intervals_hold_on_later_time(predicts: str) -> None:
    covered = learned(predicts).evidence.figures["coverage_90"]
    assert covered.mean > 0.85
    assert covered.high > 0.88


def test_a_silence_is_long_by_the_users_own_measure() -> None:
    at = BEGIN + timedelta(days=200)
    rows = pl.DataFrame({"user": [1, 2, 3], "at": [at] * 3})
    days = {1: [100, 105, 110, 195, 214], 2: [20, 110, 199, 219], 3: [190]}
    user = [u for u, found in days.items() for _ in found]
    when = [BEGIN + timedelta(days=each) for found in days.values() for each in found]
    frame = {"user": user, "at": pl.Series(when, dtype=pl.Datetime("us", "UTC")),
             "event_id": range(len(user)), "amount": 1.0}  # fmt: skip
    history = History(purchases=pl.DataFrame(frame))
    gaps = dict(usual_gaps(history, at).select("user", "gap").iter_rows())
    everyone = (95 + 179) / 5
    assert gaps[1] == pytest.approx((95 + 2 * everyone) / 5)
    assert gaps[3] == pytest.approx(everyone)
    recipe = ModelRecipe(name="lapse", predicts="lapse", within="84d", silence=0.4)
    label = silence_labels(history, rows, recipe)["label"].to_list()
    # 14 days of silence against 16 allowed, 19 against 25, never again
    assert label == [0.0, 0.0, 1.0]
    short = silence_labels(history, rows, recipe.model_copy(update={"silence": 0.3}))["label"].to_list()
    assert short == [1.0, 0.0, 1.0]
    wait = silence_labels(history, rows, recipe.model_copy(update={"predicts": "next_purchase"}))
    assert wait["label"].to_list() == [14.0, 19.0, 84.0]
