"""What a user did in the own window: by hand, at the edges, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from kernel.errors import BadInput
from models.experiment_outcomes import user_outcomes
from models.experiments import Experiment

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
LATE = BEGIN + timedelta(days=60)
DAY = timedelta(days=1)
INSTANT = pl.Datetime("us", "UTC")


def experiment(**told: Any) -> Experiment:
    raw = {
        "name": "e", "variants": {"none": 0.5, "coupon": 0.5}, "holdout": "none", "starts": date(2026, 3, 1),
        "planned": 1000, "within": "7d",
        "metrics": [
            {"name": "profit", "sum": {"amount": 0.25, "cost": -1}, "cap": 20},
            {"name": "bought", "event": "order"},
            {"name": "basket", "sum": {"amount": 1}, "per": {"orders": 1}},
        ],
    }  # fmt: skip
    return Experiment.model_validate({**raw, **told})


def people(rows: list[tuple[Any, str | None, datetime]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"user": pl.Int64, "variant": pl.String, "at": INSTANT}, orient="row")


def events(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    schema = {
        "user": pl.Int64, "at": INSTANT, "event": pl.String,
        "amount": pl.Float64, "cost": pl.Float64, "orders": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


TWO = people([(1, "coupon", BEGIN), (2, "none", BEGIN + DAY)])
SOME = events(
    [
        (1, BEGIN - DAY, "order", 40.0, None, 1),
        (1, BEGIN, "order", 8.0, None, 1),  # at the instant itself: before
        (1, BEGIN + DAY, "order", 30.0, None, 1),
        (1, BEGIN + 2 * DAY, "redeem", None, 3.0, None),
        (1, BEGIN + 7 * DAY, "order", 10.0, None, 1),  # the window's last instant
        (1, BEGIN + 7 * DAY + timedelta(microseconds=1), "order", 99.0, None, 1),
        (2, BEGIN + DAY + timedelta(hours=1), "view", None, None, None),
        (3, BEGIN + DAY, "order", 1000.0, None, 1),  # nobody of ours
    ]
)


def test_sums_by_hand() -> None:
    found = user_outcomes(TWO, SOME, experiment(), LATE)
    one, two = found.frame.rows(named=True)
    assert (one["value_0"], one["value_1"]) == (pytest.approx(40 * 0.25 - 3), 1.0)
    assert (one["value_2"], one["per_2"]) == (40.0, 2.0)
    assert (two["value_0"], two["value_1"], two["value_2"], two["per_2"]) == (0.0, 0.0, 0.0, 0.0)
    assert (found.immature, found.crossed, found.covariates) == (0, 0, ())
    assert found.capped == {"profit": 0.0}


def test_the_pre_period_ends_where_the_window_begins() -> None:
    found = user_outcomes(TWO, SOME, experiment(before="7d"), LATE)
    one = found.frame.row(0, named=True)
    assert one["before_value_2"] == 48.0
    assert one["before_per_2"] == 2.0
    assert one["value_2"] == 40.0
    names = ("before_value_0", "before_value_1", "before_value_2", "before_per_2")
    assert sorted(found.covariates) == sorted(names)
    # nothing that happened afterwards can be seen in it
    later = SOME.filter(pl.col("at") <= BEGIN)
    again = user_outcomes(TWO, later, experiment(before="7d"), LATE).frame
    assert again.select(names).equals(found.frame.select(names))


def test_values_beyond_the_cap_count_as_the_cap() -> None:
    rich = events([(1, BEGIN + DAY, "order", 4000.0, 0.0, 1), (2, BEGIN + 2 * DAY, "order", 4.0, 500.0, 1)])
    found = user_outcomes(TWO, rich, experiment(), LATE)
    assert found.frame["value_0"].to_list() == [20.0, -20.0]
    assert found.capped == {"profit": 1.0}
    assert found.frame["value_2"].to_list() == [4000.0, 4.0]


def test_only_whole_windows_count() -> None:
    found = user_outcomes(TWO, SOME, experiment(), BEGIN + 7 * DAY)
    assert found.frame["user"].to_list() == [1]
    assert found.immature == 1
    assert found.everyone.height == 2
    early = user_outcomes(TWO, SOME, experiment(), BEGIN + 7 * DAY - timedelta(microseconds=1))
    assert early.frame.is_empty()


def test_who_was_seen_in_two_variants_counts_in_the_first() -> None:
    rows = [(1, "none", BEGIN + DAY), (1, "coupon", BEGIN), (2, "none", BEGIN), (2, "none", BEGIN + DAY)]
    seen = people([*rows, (3, "coupon", BEGIN + DAY), (3, "none", BEGIN)])
    found = user_outcomes(seen, SOME, experiment(), LATE)
    assert found.frame.select("user", "variant").rows() == [(1, "coupon"), (2, "none"), (3, "none")]
    assert found.crossed == 2


def test_a_user_counts_for_each_subject() -> None:
    seen = pl.concat([TWO.with_columns(subject=pl.lit(name)) for name in ("rule a", "rule b")])
    found = user_outcomes(seen, SOME, experiment(), LATE)
    assert found.frame.select("subject", "user").rows() == [
        ("rule a", 1), ("rule a", 2), ("rule b", 1), ("rule b", 2),
    ]  # fmt: skip
    assert found.crossed == 0


def test_without_instants_everyone_begins_with_the_experiment() -> None:
    found = user_outcomes(TWO.drop("at"), SOME, experiment(), LATE)
    assert set(found.frame["at"]) == {BEGIN}


def test_users_without_a_variant_are_none_of_it_and_text_ids_match_numbers() -> None:
    seen = people([(1, "coupon", BEGIN), (2, None, BEGIN)]).with_columns(pl.col("user").cast(pl.String))
    found = user_outcomes(seen, SOME, experiment(), LATE)
    assert found.frame["user"].to_list() == ["1"]
    assert found.frame["value_2"].to_list() == [40.0]


def test_given_covariates_are_joined_and_unknown_ones_count_as_the_mean() -> None:
    told = pl.DataFrame({"user": [1, 9], "visits": [4.0, 7.0], "card": [True, False]})
    found = user_outcomes(TWO, SOME, experiment(), LATE, told)
    assert found.covariates == ("given_visits", "given_card")
    assert found.frame["given_visits"].to_list() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("assigned", "outcomes", "said"),
    [
        (TWO.drop("variant"), SOME, "assignments: variant: is missing"),
        (TWO.with_columns(variant=pl.lit("x")), SOME, "variant = 'x': is not a variant of experiment e"),
        (TWO.with_columns(pl.col("at").dt.replace_time_zone(None)), SOME, "assignments: at"),
        (TWO.with_columns(user=pl.lit(None, pl.Int64)), SOME, "assignments: user: is missing in some rows"),
        (TWO, SOME.drop("cost"), "outcomes: cost: is missing"),
        (TWO, SOME.drop("event"), "outcomes: event: is missing"),
        (TWO, SOME.with_columns(amount=pl.lit("12")), "outcomes: amount = 'String': is not a number"),
        (TWO, SOME.with_columns(amount=pl.lit(float("inf"))), "amount: is not finite"),
        (TWO, SOME.with_columns(at=pl.lit(None, INSTANT)), "outcomes: at: is missing in some rows"),
    ],
)
def test_frames_that_do_not_fit_are_one_sentence(
    assigned: pl.DataFrame, outcomes: pl.DataFrame, said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        user_outcomes(assigned, outcomes, experiment(), LATE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (pl.DataFrame({"user": [1]}), "covariates: columns"),
        (pl.DataFrame({"user": [1, 1], "x": [1, 2]}), "covariates: user: is there more than once"),
        (pl.DataFrame({"user": [1], "x": ["a"]}), "covariates: x = 'String'"),
    ],
)
def test_covariates_that_do_not_fit_are_one_sentence(told: pl.DataFrame, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        user_outcomes(TWO, SOME, experiment(), LATE, told)
    assert said in str(caught.value)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(BadInput, match="as_of"):
        user_outcomes(TWO, SOME, experiment(), datetime(2026, 5, 1))  # noqa: DTZ001 (that is the point)
