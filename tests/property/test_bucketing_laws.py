"""Laws of bucketing: one by one as in bulk, few moves, independence, nobody in two places."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.ids import stable_hash
from models.bucketing import bucket_user, bucket_users, held_out
from models.experiments import Experiment, Holdout, Metric
from models.hashing import hashes

IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), max_size=30),
)
SALTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
MANY = pl.Series("user", range(20_000))


def experiment(variants: dict[str, float], **told: object) -> Experiment:
    raw = {"name": "e", "holdout": next(iter(variants)), "starts": date(2026, 1, 1), "planned": 1000, **told}
    return Experiment.model_validate({**raw, "variants": variants, "metrics": (Metric(name="bought"),)})


@settings(max_examples=40, deadline=None)
@given(IDS, SALTS)
def test_bulk_hashes_are_the_kernels(ids: list[int] | list[str], salt: str) -> None:
    kind = pl.String if ids and isinstance(ids[0], str) else pl.Int64
    assert hashes(pl.Series("user", ids, dtype=kind), salt).tolist() == [stable_hash(salt, i) for i in ids]


def shares(weights: list[int]) -> dict[str, float]:
    return {f"v{i}": weight / sum(weights) for i, weight in enumerate(weights)}


WEIGHTS = st.lists(st.integers(1, 20), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(IDS, WEIGHTS, st.floats(0.01, 0.9), st.floats(0.01, 0.5))
def test_one_by_one_is_as_in_bulk(
    ids: list[int] | list[str], weights: list[int], to: float, held: float
) -> None:
    kind = pl.String if ids and isinstance(ids[0], str) else pl.Int64
    told = experiment(shares(weights), layer="checkout", slice=(0.0, to))
    holdout = Holdout(name="all", share=held)
    bulk = bucket_users(pl.Series("user", ids, dtype=kind), told, holdout)
    assert bulk["variant"].to_list() == [bucket_user(user, told, holdout) for user in ids]


@settings(max_examples=8, deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_few_move_when_shares_change(old: list[int], new: list[int]) -> None:
    before, after = shares(old), shares(new)
    moved = (
        bucket_users(MANY, experiment(before))["variant"] != bucket_users(MANY, experiment(after))["variant"]
    )
    distance = sum(max(after[name] - before[name], 0) for name in before)
    assert moved.mean() <= 2 * distance / (1 + distance) + 0.015


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 99), st.integers(1, 99))
def test_of_two_variants_as_few_as_can_be_move_and_only_one_way(old: int, new: int) -> None:
    one, other = (
        bucket_users(MANY, experiment({"a": share / 100, "b": 1 - share / 100}))["variant"]
        for share in (old, new)
    )
    gained = "a" if new > old else "b"
    assert set(other.filter(one != other)) <= {gained}
    assert (one != other).mean() == pytest.approx(abs(old - new) / 100, abs=0.018)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.01, 0.4), st.floats(0.01, 0.5))
def test_a_wider_slice_or_holdout_only_adds_users(narrow: float, more: float) -> None:
    small, large = (
        bucket_users(MANY, experiment({"a": 0.5, "b": 0.5}, layer="l", slice=(0.0, to)))["variant"]
        for to in (narrow, narrow + more)
    )
    inside = small.is_not_null()
    assert (small.filter(inside) == large.filter(inside)).all()
    fewer, others = (held_out(MANY, Holdout(name="h", share=s)) for s in (narrow, narrow + more * 0.2))
    assert (others | ~fewer).all()
