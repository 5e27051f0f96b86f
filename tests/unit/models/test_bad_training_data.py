"""What cannot be learned from is refused in one sentence that names it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import Dataset
from models.history import History
from models.training import fit, train
from models.training_data import check_learnable, learnable_matrix, varying

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=200)


def recipe(predicts: str, **more: object) -> ModelRecipe:
    told = {
        "name": predicts,
        "predicts": predicts,
        "within": "28d",
        "history": ["28d", "84d"],
        "every": "21d",
    }
    return ModelRecipe.model_validate({**told, **more})


def shop(users: int = 60, amount: float | None = None, every: float | None = None) -> History:
    """Purchases at random; `amount`: all the same; `every`: all users on the same days."""
    rng = np.random.default_rng(1)
    if every is None:
        user = np.repeat(np.arange(users), 1 + rng.poisson(np.arange(users) / 4, users))
        day = rng.uniform(0, 200, len(user))
    else:
        days = np.arange(0, 200, every)
        user, day = np.repeat(np.arange(users), len(days)), np.tile(days, users)
    at = pl.Series([BEGIN + timedelta(days=float(each)) for each in day], dtype=pl.Datetime("us", "UTC"))
    money = rng.gamma(2, 10, len(user)) if amount is None else np.full(len(user), amount)
    return History(
        purchases=pl.DataFrame({"user": user, "at": at, "event_id": np.arange(len(user)), "amount": money})
    )


def frame(**columns: object) -> Dataset:
    at = [BEGIN, BEGIN + timedelta(days=1)] * 40
    told = {"user": range(80), "at": at, "label": [0.0, 1.0, 1.0, 0.0] * 20, "x": np.arange(80.0), **columns}
    return Dataset(frame=pl.DataFrame(told), as_of=AS_OF)


def test_three_rows_are_too_few() -> None:
    with pytest.raises(BadInput, match=r"has \d+ examples; 50 are needed"):
        train(shop(users=1), AS_OF, recipe("spend"), 1)


@pytest.mark.parametrize("predicts", ["churn", "lapse"])
def test_one_class_is_named(predicts: str) -> None:
    with pytest.raises(BadInput, match=rf"dataset {predicts}: has 0 of \d+ positive; 10 of each kind"):
        train(shop(every=5.0), AS_OF, recipe(predicts), 1)


def test_a_constant_amount_is_named() -> None:
    with pytest.raises(BadInput, match=r"dataset spend: label = .*: is the same for all \d+ examples"):
        train(shop(every=7.0, amount=5.0), AS_OF, recipe("spend"), 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_labels_that_are_no_numbers_are_named(bad: float | None) -> None:
    data = frame(label=[bad, *([0.0, 1.0, 1.0] * 26), 0.0])
    with pytest.raises(BadInput, match="dataset churn: user = '0': has no finite label"):
        check_learnable(data, recipe("churn"))


def test_a_user_twice_at_one_instant_is_named() -> None:
    data = frame(user=[0, 1, 0, *range(3, 80)])
    with pytest.raises(BadInput, match="dataset churn: user = '0': is there twice at one instant"):
        check_learnable(data, recipe("churn"))


def test_columns_that_say_nothing_are_left_out_and_named() -> None:
    data = frame(nothing=pl.Series([None] * 80, dtype=pl.Float64), same=1.0, holes=[float("nan")] * 80)
    assert varying(data) == ["x"]
    assert fit(data, recipe("churn"), 1).features == ("x",)
    with pytest.raises(BadInput, match="has no feature that varies"):
        varying(frame(x=2.0))


def test_an_infinite_feature_is_named() -> None:
    data = frame(x=[float("inf"), *np.arange(79.0)])
    with pytest.raises(BadInput, match="user 0: x: is infinite"):
        learnable_matrix(data, ["x"])


def test_a_sign_for_a_feature_that_is_not_there_is_named() -> None:
    told = recipe("spend", monotone={"purchses_*": "rises"})
    with pytest.raises(BadInput, match=r"model spend: monotone = 'purchses_\*': fits no feature"):
        train(shop(), AS_OF, told, 1)


def test_probabilities_have_no_interval() -> None:
    predictor = fit(frame(), recipe("churn"), 1)
    with pytest.raises(BadInput, match="has no interval"):
        predictor.interval(frame().frame)
