"""The back-test's weighted figures against counting: weights as repeated rows, ties as shared seats."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import groupby

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from models.backtest import SHARE, _weighted, ranking_figures

Row = tuple[int, int, int, int, int]
#: group, outcome, model's score, rule's score, weight: few values, so that ties are common
ROWS = st.lists(st.tuples(*(st.integers(0, top) for top in (2, 1, 3, 2, 3))), min_size=1, max_size=25)


def by_hand(rows: list[Row], score: int) -> tuple[float, float]:
    """(lift, AUC): every row as often as its weight; exact fractions."""
    copies = [row for row in rows for _ in range(row[4])]
    taken, expected, won, pairs = Fraction(0), Fraction(0), Fraction(0), 0
    share = Fraction(SHARE).limit_denominator(100)
    for _, found in groupby(sorted(copies), key=lambda row: row[0]):
        group = list(found)
        seats = share * len(group)
        expected += share * sum(row[1] for row in group)
        for value in sorted({row[score] for row in group}, reverse=True):
            block = [row for row in group if row[score] == value]
            given_ = min(seats, Fraction(len(block)))
            taken += given_ * Fraction(sum(row[1] for row in block), len(block))
            seats -= given_
        for good in (row for row in group if row[1]):
            for bad in (row for row in group if not row[1]):
                pairs += 1
                won += 1 if good[score] > bad[score] else Fraction(1, 2) * (good[score] == bad[score])
    return float(taken / expected), float(won / pairs)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_weighted_figures_agree_with_counting(rows: list[Row]) -> None:
    copies = [row for row in rows if row[4]]
    mixed = {row[0] for row in copies if row[1]} & {row[0] for row in copies if not row[1]}
    if not mixed:
        return
    # the groups that occur are numbered from nought without gaps, as ranks are
    places = {group: place for place, group in enumerate(sorted({row[0] for row in rows}))}
    table = np.array([(places[row[0]], *row[1:]) for row in rows])
    scores = {"model": table[:, 2].astype(float), "rfm": table[:, 3].astype(float)}
    found = _weighted(table[:, 0], table[:, 1].astype(float), scores, table[:, 4].astype(float))
    for name, column in (("model", 2), ("rfm", 3)):
        lift, auc = by_hand(rows, column)
        assert found[f"lift_{name}"] == pytest.approx(lift, abs=1e-9)
        assert found[f"auc_{name}"] == pytest.approx(auc, abs=1e-9)
    if found["lift_rfm"] > 0:
        ratio = found["lift_model"] / found["lift_rfm"]
        assert found["lift_model_over_rfm"] == pytest.approx(ratio)


@pytest.mark.parametrize("seed", range(5))
def test_auc_within_one_group_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, score = (rng.random(60) < 0.4).astype(float), rng.integers(0, 8, 60).astype(float)
    weight = rng.integers(1, 4, 60).astype(float)
    found = _weighted(np.zeros(60, dtype=np.int64), y, {"model": score, "rfm": -score}, weight)
    assert found["auc_model"] == pytest.approx(roc_auc_score(y, score, sample_weight=weight))
    assert found["auc_rfm"] == pytest.approx(1 - found["auc_model"])


def test_rows_of_one_user_are_drawn_together() -> None:
    """Ten users of twenty rows each give wide intervals; as many users of one row each narrow ones."""
    user = np.arange(200) % 10
    rows = pl.DataFrame(
        {
            "plan": [datetime(2017, 1, 1, tzinfo=UTC)] * 200,
            "user": user,
            "offer": 1,
            "model": user.astype(float),
            "rfm": user[::-1].astype(float),
            "responded": (user % 2 == 0).astype(float),
        }
    )
    few = ranking_figures(rows, seed=1, resamples=100)
    many = ranking_figures(rows.with_columns(user=pl.int_range(200)), seed=1, resamples=100)
    assert few == ranking_figures(rows, seed=1, resamples=100)
    for name in ("lift_model", "lift_rfm", "auc_model"):
        assert few[name].mean == many[name].mean
        assert many[name].low <= many[name].mean <= many[name].high
        assert few[name].high - few[name].low > 2 * (many[name].high - many[name].low)
