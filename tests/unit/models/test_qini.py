"""The one scorer of uplift: its definition, against scikit-uplift's figures and against the words of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import BadInput
from models.qini import auuc, coefficient_intervals, qini, qini_curve, segment_intervals, uplift_curve

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(seed: int, count: int, ties: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    s = rng.normal(size=count)
    treated = (rng.random(count) < 0.4).astype(int)
    y = (rng.random(count) < np.clip(0.2 + 0.1 * s * treated, 0, 1)).astype(int)
    score = s + rng.normal(size=count)
    return y, (np.round(score) if ties else score), treated


@pytest.mark.parametrize(
    ("seed", "count", "ties", "its_qini", "its_auuc"),
    [
        (1, 400, False, 0.12071875662694906, 0.0663396850131533),
        (2, 400, True, 0.14550996207292066, 0.08371615066453),
        (3, 1000, False, 0.13071003120491512, 0.09141919932236751),
        (4, 60, True, 0.030188951343519795, 0.008262723145791132),
    ],
)
def test_as_scikit_uplift_has_them(
    seed: int, count: int, ties: bool, its_qini: float, its_auuc: float
) -> None:
    """The figures are those of qini_auc_score and uplift_auc_score of scikit-uplift 0.5.1 on these rows."""
    y, score, treated = drawn(seed, count, ties)
    assert qini(y, score, treated) == pytest.approx(its_qini, abs=1e-12)
    assert auuc(y, score, treated) == pytest.approx(its_auuc, abs=1e-12)


rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=30
).filter(lambda each: len({treated for _, _, treated in each}) == 2)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_curves_are_what_the_words_say(given_rows: list[tuple[int, int, int]]) -> None:
    y, score, treated = (list(column) for column in zip(*given_rows, strict=True))
    expected_qini, expected_uplift = [(0, 0.0)], [(0, 0.0)]
    for threshold in sorted(set(score), reverse=True):
        part = [(o, t) for o, s, t in given_rows if s >= threshold]
        with_it, without = [o for o, t in part if t], [o for o, t in part if not t]
        rest = sum(without) * len(with_it) / len(without) if without else 0.0
        expected_qini.append((len(part), sum(with_it) - rest))
        rates = [sum(each) / len(each) if each else 0.0 for each in (with_it, without)]
        expected_uplift.append((len(part), (rates[0] - rates[1]) * len(part)))
    for found, expected in (
        (qini_curve(y, score, treated), expected_qini),
        (uplift_curve(y, score, treated), expected_uplift),
    ):
        np.testing.assert_allclose(np.column_stack([found.users, found.gain]), expected, atol=1e-9)
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(expected))
        assert found.area == pytest.approx(area)


def test_the_best_order_is_one_and_no_order_is_none() -> None:
    y, _, treated = drawn(5, 500)
    assert qini(y, y * treated - y * (1 - treated), treated) == pytest.approx(1.0)
    assert qini(y, np.zeros(500), treated) == 0.0
    assert auuc(y, np.zeros(500), treated) == 0.0


def test_a_weight_of_two_is_a_user_twice() -> None:
    y, score, treated = drawn(6, 200)
    weight = np.random.default_rng(1).integers(0, 3, 200)
    twice = np.repeat(np.arange(200), weight)
    assert qini(y, score, treated, weight) == pytest.approx(qini(y[twice], score[twice], treated[twice]))
    assert auuc(y, score, treated, weight) == pytest.approx(auuc(y[twice], score[twice], treated[twice]))


def test_intervals_are_as_wide_as_new_draws_of_users_spread() -> None:
    fresh = [qini(*drawn(100 + seed, 600)) for seed in range(150)]
    widths = []
    for seed in range(5):
        y, score, treated = drawn(300 + seed, 600)
        found = coefficient_intervals(y, {"a": score, "b": -score}, treated, seed=1, resamples=150)
        interval = found["a"]["qini"]
        assert interval.low < interval.mean == qini(y, score, treated) < interval.high
        assert found["b"]["qini"].mean < 0
        widths.append(interval.high - interval.low)
    assert np.mean(widths) == pytest.approx(3.92 * np.std(fresh), rel=0.25)


def test_segments_with_enough_users_are_told_apart() -> None:
    y, score, treated = drawn(7, 3000)
    segment = np.where(np.arange(3000) < 1400, "one", np.where(np.arange(3000) < 2800, "two", "few"))
    mixed = np.where(segment == "two", -score, score)
    found = segment_intervals(y, mixed, treated, segment, seed=1, resamples=50)
    assert set(found) == {"one", "two"}
    assert found["one"]["qini"].mean > 0 > found["two"]["qini"].mean


@pytest.mark.parametrize(
    ("y", "score", "treated", "said"),
    [
        ([0, 2], [1, 2], [0, 1], "y: is not 0 or 1"),
        ([0, 1], [1, 2], [1, 1], "treated: is the same"),
        ([0, 1], [1, np.nan], [0, 1], "score: is missing"),
        ([0, 1], [1, 2, 3], [0, 1], "score = "),
    ],
)
def test_what_cannot_be_scored_is_named(y: list, score: list, treated: list, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        qini(y, score, treated)
