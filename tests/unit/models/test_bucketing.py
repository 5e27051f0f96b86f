"""Bucketing: shares, independence, layers, the global holdout, and what is refused."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from scipy.stats import chi2_contingency

from kernel.errors import BadInput
from kernel.randomness import unit
from models.bucketing import ELSEWHERE, HELD_OUT, bucket_user, bucket_users, held_out
from models.experiments import Experiment, Holdout, Metric
from models.hashing import hashes, units

USERS = pl.Series("user", range(60_000))


def experiment(name: str = "e", **told: Any) -> Experiment:
    raw = {"variants": {"none": 0.5, "mail": 0.3, "push": 0.2}, "holdout": "none", "planned": 1000}
    return Experiment.model_validate(
        {"name": name, "starts": date(2026, 1, 1), "metrics": (Metric(name="bought"),), **raw, **told}
    )


def test_shares_are_those_declared() -> None:
    found = bucket_users(USERS, experiment())["variant"].value_counts(normalize=True)
    counted = dict(found.iter_rows())
    assert counted == pytest.approx({"none": 0.5, "mail": 0.3, "push": 0.2}, abs=0.01)


def test_known_users_stay_where_they_are_for_ever() -> None:
    # written down once: a change here deals every running experiment anew
    assert [bucket_user(user, experiment()) for user in (1, 2, 3, 4, 5, "ann", "bob")] == [
        "mail",
        "none",
        "mail",
        "none",
        "push",
        "none",
        "none",
    ]
    assert hashes(pl.Series(["ann"]), "salt")[0] == 0xF301895CFD54D98A


def test_the_order_of_writing_decides_nothing_and_the_salt_everything() -> None:
    turned = experiment(variants={"push": 0.2, "none": 0.5, "mail": 0.3})
    assert bucket_users(USERS, turned).equals(bucket_users(USERS, experiment()))
    other = bucket_users(USERS, experiment(salt="again"))["variant"]
    assert (other == bucket_users(USERS, experiment())["variant"]).mean() == pytest.approx(0.38, abs=0.01)


def test_text_and_number_are_one_user() -> None:
    assert bucket_users(USERS.cast(pl.String), experiment())["variant"].equals(
        bucket_users(USERS, experiment())["variant"]
    )


def test_experiments_layers_and_holdout_are_independent_of_each_other() -> None:
    one = bucket_users(USERS, experiment("one", layer="a", slice=(0.0, 0.7)))
    two = bucket_users(USERS, experiment("two", layer="b", slice=(0.2, 1.0)))
    held = held_out(USERS, Holdout(name="all", share=0.3))
    for this, that in (
        (one["variant"], two["variant"]),
        (one["variant"], held),
        (one["why"], two["why"]),
        (two["why"], held),
    ):
        table = pl.DataFrame({"this": this.cast(pl.String), "that": that.cast(pl.String)}).fill_null("-")
        counts = table.pivot("that", index="this", values="that", aggregate_function="len").drop("this")
        assert chi2_contingency(counts.to_numpy()).pvalue > 0.001


def test_experiments_of_a_layer_share_nobody_and_fill_it() -> None:
    first = bucket_users(USERS, experiment("one", layer="a", slice=(0.0, 0.4)))["variant"].is_not_null()
    second = bucket_users(USERS, experiment("two", layer="a", slice=(0.4, 1.0)))["variant"].is_not_null()
    assert (first != second).all()
    assert first.mean() == pytest.approx(0.4, abs=0.01)


def test_nobody_held_out_is_reached_and_it_says_why() -> None:
    holdout = Holdout(name="all", share=0.1)
    found = bucket_users(USERS, experiment(layer="a", slice=(0.0, 0.5)), holdout)
    held = held_out(USERS, holdout)
    assert held.mean() == pytest.approx(0.1, abs=0.01)
    assert (found["why"] == HELD_OUT).fill_null(False).equals(held.alias("why"))
    assert found.filter(pl.col("why") == ELSEWHERE)["variant"].null_count() > 0
    assert (found["variant"].is_null() == found["why"].is_not_null()).all()


def test_units_are_the_kernels() -> None:
    assert units(pl.Series([7, -1]), "s").tolist() == [unit(7, "s"), unit(-1, "s")]


def test_slices_of_a_column_and_empty_ones_hash_as_themselves() -> None:
    texts = pl.Series("user", [f"u{i}" for i in range(100)])
    assert hashes(texts[40:60], "s").tolist() == hashes(texts, "s")[40:60].tolist()
    assert len(hashes(texts[:0], "s")) == 0
    assert hashes(pl.Series(["", "a"]), "")[0] == hashes(pl.Series([""]), "")[0]


@pytest.mark.parametrize("ids", [pl.Series("user", [1.5]), pl.Series("user", [True])])
def test_ids_that_are_neither_numbers_nor_text_are_refused(ids: pl.Series) -> None:
    with pytest.raises(BadInput, match="neither whole numbers nor text"):
        bucket_users(ids, experiment())


def test_a_missing_id_is_refused() -> None:
    with pytest.raises(BadInput, match="user = 1: is missing"):
        bucket_users(pl.Series("user", [1, None]), experiment())
