"""Laws of every attribution: credits sum to the outcomes, rows have no order, who did not help gets
nothing."""

from __future__ import annotations

import math
import random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from touchpoint.attribution import RULES, attribute
from touchpoint.paths import PATHS

Row = tuple[list[str], int, float, int]
ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcde"), min_size=1, max_size=6),
        st.integers(0, 5),
        st.floats(0, 1e6, allow_nan=False),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
)


def table(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        [(path, won, value if won else 0.0, lost, None) for path, won, value, lost in rows],
        schema=PATHS,
        orient="row",
    )


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 3), st.floats(0.1, 30))
def test_credits_sum_to_the_outcomes_and_their_value_to_the_last_digit(
    rows: list[Row], order: int, half_life: float
) -> None:
    paths = table(rows)
    found = attribute(paths, order=order, half_life=half_life)
    won = paths["conversions"].sum()
    for rule in RULES if won else ():
        mine = found.filter(pl.col("rule") == rule)
        assert math.fsum(mine["conversions"]) == won
        assert math.fsum(mine["value"]) == math.fsum(paths["value"])
    assert (found["conversions"] >= -1e-9).all()
    assert (found["value"] >= -1e-9 * max(paths["value"].sum(), 1)).all()


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 2), st.randoms())
def test_the_order_of_rows_and_how_they_are_grouped_do_not_matter(
    rows: list[Row], order: int, luck: random.Random
) -> None:
    paths = table(rows)
    mixed = list(rows)
    luck.shuffle(mixed)
    apart = [
        (path, won if kind else 0, value if kind else 0.0, 0 if kind else lost)
        for path, won, value, lost in mixed
        for kind in (True, False)
    ]
    one, other, split = (attribute(each, order=order) for each in (paths, table(mixed), table(apart)))
    assert one.equals(other)
    both = one.join(split, on=["rule", "channel"], how="full", coalesce=True).fill_null(0.0)
    assert ((both["conversions"] - both["conversions_right"]).abs() < 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 3))
def test_a_channel_in_no_converting_path_gets_nothing(rows: list[Row], order: int) -> None:
    paths = table(rows)
    helped = set(paths.filter(pl.col("conversions") > 0)["path"].explode())
    for row in attribute(paths, order=order).iter_rows(named=True):
        if row["channel"] not in helped:
            assert (row["conversions"], row["value"], row["share"]) == (0.0, 0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_a_path_of_one_channel_is_its_own_by_every_rule(rows: list[Row]) -> None:
    same = table([([path[0]] * len(path), won, value, lost) for path, won, value, lost in rows])
    alone = same.group_by(pl.col("path").list.first().alias("channel")).agg(pl.col("conversions").sum())
    for rule in RULES[:-1]:
        found = attribute(same, [rule]).join(alone, on="channel", how="left")
        assert ((found["conversions"] - found["conversions_right"]).abs() < 1e-9).all()
