"""What the models get wrong."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import response_dataset, response_rows
from models.history import History
from models.training import train

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
RECIPE = ModelRecipe(name="response", predicts="response", within="20d", matured="10d", history=("28d",))


def events(rows: list[tuple[int, float]], **fields: list[object]) -> pl.DataFrame:
    at = pl.Series([BEGIN + timedelta(days=d) for _, d in rows], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"user": [u for u, _ in rows], "at": at, "event_id": range(len(rows)), **fields})


def history(offers: list[tuple[int, float, str]], answers: dict[int, int], users: int = 60) -> History:
    """`answers`: offer → how many users answered it a day later."""
    rng = np.random.default_rng(0)
    buys = [(u, float(d)) for u in range(users) for d in rng.uniform(0, 100, 4)]
    got = [(u, at, o, kind) for o, at, kind in offers for u in range(users)]
    said = [(u, at + 1, o) for o, at, _ in offers for u in range(answers.get(o, 0))]
    return History(
        purchases=events(buys, amount=[10.0] * len(buys)),
        treatments=events([g[:2] for g in got], offer=[g[2] for g in got], kind=[g[3] for g in got]),
        responses=events([s[:2] for s in said], offer=[s[2] for s in said]).cast({"offer": pl.Int64}),
    )


def test_the_label_of_a_later_offer_adds_no_column() -> None:
    as_of = BEGIN + timedelta(days=70)
    before = history([(1, 30.0, "A"), (2, 50.0, "B")], {1: 20, 2: 20})
    after = history([(1, 30.0, "A"), (2, 50.0, "B"), (3, 71.0, "C")], {1: 20, 2: 20})
    offers = pl.DataFrame({"offer": [1, 2], "kind": ["A", "B"]})
    targets = pl.DataFrame({"user": [1], "offer": [2]})
    one, two = (response_rows(known, targets, offers, as_of, RECIPE) for known in (before, after))
    assert_frame_equal(one, two)
    assert_frame_equal(
        response_dataset(before, as_of, RECIPE).frame, response_dataset(after, as_of, RECIPE).frame
    )


@pytest.mark.parametrize(
    "answers",
    [{1: 0, 2: 0, 3: 0, 4: 20}, {1: 0, 2: 0, 3: 3, 4: 20}, {1: 20, 2: 20, 3: 20, 4: 0}],
    ids=["early has none", "early has three", "late has none"],
)
def test_one_kind_of_label_on_one_side_of_the_split_is_said_or_handled(answers: dict[int, int]) -> None:
    known = history([(o, 20.0 + 10 * o, "A") for o in range(1, 5)], answers)
    with contextlib.suppress(BadInput):
        train(known, BEGIN + timedelta(days=90), RECIPE, 1)
