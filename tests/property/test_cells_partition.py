"""Cells partition users, whatever they bought."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from insight.cells import derive_cells
from kernel.people import CellProfiles, CellRecipe, Cells, Stage

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
RECIPE = CellRecipe(name="cells", max_clusters=3)
SCHEMA = {
    "user": pl.Int64, "hours": pl.Int64, "event_id": pl.Int64, "amount": pl.Float64,
    "discount": pl.Float64, "category": pl.String, "place": pl.Int64,
}  # fmt: skip
lines = st.lists(
    st.tuples(
        st.integers(0, 39),
        st.one_of(st.just(0), st.integers(-500, 9_000)),
        st.integers(0, 200),
        st.one_of(st.just(0.0), st.floats(-50, 500, allow_nan=False)),
        st.one_of(st.none(), st.floats(0, 20, allow_nan=False)),
        st.sampled_from([None, "TEA", "BREAD", ""]),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=150,
)


@given(
    lines=lines,
    spend=st.lists(st.sampled_from([0.0, 1.0, 7.5, 300.0]), min_size=40, max_size=40),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_cells_partition_users(lines: list[tuple[object, ...]], spend: list[float], seed: int) -> None:
    purchases = pl.DataFrame(lines, schema=SCHEMA, orient="row").select(
        "user",
        (pl.lit(AS_OF) - pl.duration(hours="hours")).cast(pl.Datetime("us", "UTC")).alias("at"),
        pl.exclude("user", "hours"),
    )
    users = pl.DataFrame({"user": range(45)}, schema={"user": pl.Int64})
    predicted = users.head(40).with_columns(spend=pl.Series(spend))
    frames = {"users": users, "purchases": purchases, "fields": users, "spend": predicted}
    found = derive_cells(**frames, as_of=AS_OF, recipe=RECIPE, seed=seed)

    Cells.validate(found.cells)
    CellProfiles.validate(found.profiles)
    assert found.cells["user"].to_list() == users["user"].to_list()
    assert set(found.profiles["cell"]) == set(found.cells["cell"])
    assert found.profiles["size"].sum() == users.height
    # a cell's name says its parts, and parts that differ make cells that differ
    assert found.cells.select("stage", "cluster", "tier").n_unique() == found.cells["cell"].n_unique()
    assert found.clusters.facts["cluster"].is_unique().all()
    assert len(set(found.clusters.model.names)) == len(found.clusters.model.names)
    bought = set(purchases.filter(pl.col("at") <= AS_OF)["user"])
    prospects = set(found.cells.filter(pl.col("stage") == str(Stage.PROSPECT))["user"])
    assert prospects == set(users["user"]) - bought
    late = found.lifecycle["late"].drop_nulls()
    assert late.is_between(0, 1).all()

    shuffled = {name: frame.sample(fraction=1, shuffle=True, seed=1) for name, frame in frames.items()}
    again = derive_cells(**shuffled, as_of=AS_OF, recipe=RECIPE, seed=seed)
    assert again.cells.equals(found.cells)
    assert again.profiles.equals(found.profiles)
