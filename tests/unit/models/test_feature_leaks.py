"""A planted look into the future is caught: by what features are made of, and by the check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernel.definitions import parse
from kernel.events import INSTANT
from models.feature_batch import derive
from models.feature_check import Leak, find_leaks, tell_tale
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts

NOW = datetime(2024, 6, 1, tzinfo=UTC)
USERS = 200
LABEL = pl.DataFrame({"user": range(USERS), "label": [user % 2 for user in range(USERS)]})
HONEST: list[dict[str, Any]] = [
    {"event": "order", "agg": "count", "within": "28d"},
    {"event": "order", "agg": "sum", "of": "amount"},
    {"event": "order", "since": "last"},
    {"event": "order", "rhythm": True},
]


def declared(*more: dict[str, Any], **told: Any) -> FeatureSet:
    return parse(FeatureSet, {"name": "mine", "features": [*HONEST, *more], **told}, "features mine")


def orders() -> pl.DataFrame:
    """Three orders each before the instant, with a column that knows who will return."""
    rng = np.random.default_rng(3)
    back = rng.uniform(0.1, 60, (USERS, 3))
    rows = [
        {
            "user": user,
            "at": NOW - timedelta(days=float(days)),
            "event_id": 3 * user + number,
            "amount": float(rng.gamma(2, 10)),
            "returns": float(user % 2),
            "returned_at": NOW + timedelta(days=3) if user % 2 else None,
            "heard": NOW - timedelta(days=float(days) - 1),
        }
        for user in range(USERS)
        for number, days in enumerate(back[user])
    ]
    return pl.DataFrame(rows).with_columns(pl.col("at", "returned_at", "heard").cast(INSTANT))


def plain() -> pl.DataFrame:
    return orders().drop("returned_at", "heard")


def facts(frame: pl.DataFrame, fields: pl.DataFrame | None = None) -> Facts:
    return Facts(events={"order": frame.lazy()}, fields=None if fields is None else fields.lazy())


def later(seconds: float, **more: Any) -> pl.DataFrame:
    """Another order of everybody, so long after the instant."""
    one = (
        orders()
        .unique("user")
        .with_columns(
            at=pl.lit(NOW + timedelta(seconds=seconds)).cast(INSTANT), event_id=pl.col("event_id") + 100_000
        )
    )
    return pl.concat([orders(), one.with_columns(**more)])


def kinds(leaks: list[Leak]) -> set[tuple[str, str]]:
    return {(each.feature, each.kind) for each in leaks}


def test_an_event_a_second_later_reaches_no_feature_and_one_at_the_instant_does() -> None:
    before = derive(declared(), facts(orders()), NOW).sort("user").collect()
    assert_frame_equal(derive(declared(), facts(later(1)), NOW).sort("user").collect(), before)
    at = derive(declared(), facts(later(0)), NOW).sort("user").collect()
    assert (at["order_count_28d"] == before["order_count_28d"] + 1).all()


def test_what_was_not_known_by_then_reaches_no_feature() -> None:
    heard = declared(known_at={"order": "heard"})
    frame = orders().with_columns(heard=pl.lit(NOW + timedelta(seconds=1)).cast(INSTANT))
    assert derive(heard, facts(frame), NOW).collect().is_empty()
    known = derive(heard, facts(orders()), NOW, pl.LazyFrame({"user": range(USERS)})).collect()
    whole = derive(declared(), facts(orders()), NOW).collect()
    assert 0 < known["order_sum_amount"].sum() < whole["order_sum_amount"].sum()


@pytest.mark.parametrize("frame", [orders(), later(1), later(86_400)])
def test_honest_features_pass(frame: pl.DataFrame) -> None:
    assert kinds(find_leaks(declared(), facts(frame.drop("returned_at", "heard")), NOW, LABEL)) == set()


def test_a_column_that_knows_the_label_is_named() -> None:
    spy = {"event": "order", "agg": "max", "of": "returns", "name": "spy"}
    found = find_leaks(declared(spy), facts(plain()), NOW, LABEL)
    assert kinds(found) == {("spy", "knows the label")}
    assert "AUC 1.000 of 200 users" in found[0].said
    # without a label nothing can be known, and nothing is claimed
    assert find_leaks(declared(spy), facts(plain()), NOW) == []


def test_a_field_with_a_time_after_the_instant_is_named_with_what_it_tells() -> None:
    found = find_leaks(declared(), facts(orders().drop("heard")), NOW, LABEL)
    assert kinds(found) == {("order.returned_at", "holds later times")}
    assert "for 100 users, which alone tells the label with AUC 1.000" in found[0].said
    using = {"event": "order", "agg": "distinct", "of": "returned_at", "name": "returned"}
    named = find_leaks(declared(using), facts(orders()), NOW)
    assert ("returned", "holds later times") in kinds(named)


def test_a_field_as_it_is_now_is_named_unless_it_never_changes() -> None:
    ages = pl.DataFrame({"user": range(USERS), "user.age": range(USERS)})
    frame = plain()
    now = find_leaks(declared({"field": "user.age"}), facts(frame, ages), NOW, LABEL)
    assert kinds(now) == {("user.age", "as it is now")}
    static = declared({"field": "user.age", "static": True})
    assert find_leaks(static, facts(frame, ages), NOW, LABEL) == []


def test_a_frame_of_somebody_else_can_be_held_against_a_label() -> None:
    frame = LABEL.select("user", (1 - pl.col("label")).alias("inverse"), pl.lit(1.0).alias("constant"))
    frame = frame.with_columns(nothing=pl.lit(None, pl.Float64), name=pl.lit("x"))
    assert [each.feature for each in tell_tale(frame, LABEL)] == ["inverse"]
    assert tell_tale(frame, LABEL.with_columns(label=pl.lit(1))) == []
