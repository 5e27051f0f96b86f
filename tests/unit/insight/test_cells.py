from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from insight.cells import CellMap, derive_cells
from kernel.errors import BadInput
from kernel.people import CellProfiles, CellRecipe, Cells

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
RECIPE = CellRecipe(name="cells", max_clusters=4, sociology=("user.age", "user.home"))


def world(seed: int = 1, people: int = 120) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(people):
        gap, tea = rng.choice([2.0, 7.0, 20.0]), rng.choice([0.1, 0.9])
        at = AS_OF - timedelta(days=float(rng.uniform(0, 2 * gap)))
        for basket in range(int(rng.integers(1, 40))):
            for line in range(2):
                category = "TEA" if rng.uniform() < tea else "BREAD"
                rows.append(
                    (
                        user,
                        at,
                        user * 1000 + basket,
                        float(rng.uniform(1, 20)),
                        float(rng.uniform(0, 2)),
                        category,
                        line % 3,
                    )
                )
            at -= timedelta(days=float(gap * rng.uniform(0.6, 1.6)))
    columns = {
        "user": pl.Int64,
        "at": pl.Datetime("us", "UTC"),
        "event_id": pl.Int64,
        "amount": pl.Float64,
        "discount": pl.Float64,
        "category": pl.String,
        "place": pl.Int64,
    }
    users = pl.DataFrame({"user": range(people + 3)})
    homes = rng.choice(["Owner", "Renter"], people)
    fields = pl.DataFrame(
        {"user": range(people), "user.age": rng.choice(["19-24", "65+"], people), "user.home": homes}
    )
    spend = pl.DataFrame({"user": range(people), "spend": rng.gamma(2, 50, people)})
    return {
        "users": users,
        "purchases": pl.DataFrame(rows, schema=columns, orient="row"),
        "fields": fields,
        "spend": spend,
    }


def derive(frames: dict[str, pl.DataFrame], **change: Any) -> CellMap:
    return derive_cells(**{**frames, "as_of": AS_OF, "recipe": RECIPE, "seed": 7, **change})


def test_everybody_is_in_one_named_cell_and_the_profiles_add_up() -> None:
    frames = world()
    found = derive(frames)
    Cells.validate(found.cells)
    CellProfiles.validate(found.profiles)
    assert found.cells["user"].to_list() == frames["users"]["user"].to_list()
    row = found.cells.row(0, named=True)
    assert row["cell"] == f"{row['stage']} · {row['cluster']} · {row['tier']}"
    assert found.profiles["size"].sum() == frames["users"].height
    assert found.profiles["share"].sum() == pytest.approx(1)
    counted = dict(found.cells["cell"].value_counts().rows())
    assert dict(found.profiles.select("cell", "size").rows()) == counted
    assert found.cells.filter(pl.col("user") >= 120)["cell"].unique().to_list() == [
        "prospect · no purchases yet · low"
    ]


def test_the_order_of_rows_changes_nothing() -> None:
    frames = world()
    one = derive(frames)
    shuffled = {
        name: frame.sample(fraction=1, shuffle=True, seed=i) for i, (name, frame) in enumerate(frames.items())
    }
    other = derive(shuffled)
    assert one.cells.equals(other.cells)
    assert one.profiles.equals(other.profiles)
    assert one.clusters.facts.equals(other.clusters.facts)
    assert one.clusters.tried.equals(other.clusters.tried)


def test_nothing_after_the_instant_and_nobody_outside_is_looked_at() -> None:
    frames = world()
    lines = frames["purchases"]
    later = lines.with_columns(
        pl.col("at") + timedelta(days=400), pl.col("event_id") + 10**6, amount=pl.lit(1e5)
    )
    later = later.filter(pl.col("at") > AS_OF)
    stranger = lines.head(50).with_columns(user=pl.lit(9999, pl.Int64), amount=pl.lit(1e5))
    assert later.height > 100
    one, other = derive(frames), derive({**frames, "purchases": pl.concat([later, stranger, lines])})
    assert one.cells.equals(other.cells)
    assert one.profiles.equals(other.profiles)


def test_kept_clusters_keep_their_names_the_day_after() -> None:
    frames = world()
    first = derive(frames)
    day_after = derive(frames, as_of=AS_OF + timedelta(days=1), clusters=first.clusters.model, seed=8)
    assert day_after.clusters.model == first.clusters.model
    assert (day_after.cells["cluster"] == first.cells["cluster"]).mean() == 1.0


def test_only_what_must_be_there_is_needed() -> None:
    frames = world()
    bare = {
        **frames,
        "purchases": frames["purchases"].select("user", "at", "event_id", "amount"),
        "fields": frames["users"],
    }
    found = derive(bare, recipe=CellRecipe(name="bare"))
    assert found.cells.height == frames["users"].height
    nobody = derive({**frames, "purchases": frames["purchases"].clear()})
    assert nobody.cells["cell"].unique().to_list() == ["prospect · no purchases yet · low"]


def test_one_user_and_users_who_are_all_alike() -> None:
    frames = world()
    one = {**frames, "users": frames["users"].head(1)}
    assert derive(one).cells.height == 1
    lines = frames["purchases"].head(1)
    alike = pl.concat(
        [lines.with_columns(user=pl.lit(i, pl.Int64), event_id=pl.lit(i, pl.Int64)) for i in range(60)]
    )
    found = derive(
        {**frames, "purchases": alike, "spend": frames["spend"].with_columns(spend=pl.lit(5.0))},
        recipe=CellRecipe(name="bare"),
    )
    assert found.cells.filter(pl.col("user") < 60)["cell"].n_unique() == 1


def test_users_may_be_text() -> None:
    frames = {
        name: frame.with_columns(pl.format("u{}", "user").alias("user")) for name, frame in world().items()
    }
    assert derive(frames).cells["user"].is_sorted()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"users": lambda f: pl.concat([f, f])}, "users: user = 0: is there twice"),
        ({"users": lambda f: f.clear()}, "users: user: has nobody in it"),
        ({"users": lambda f: f.rename({"user": "id"})}, "users: user: is missing"),
        ({"purchases": lambda f: f.drop("amount")}, "event purchases: amount: is missing"),
        (
            {"purchases": lambda f: f.with_columns(pl.col("at").dt.replace_time_zone(None))},
            "at = .*: is not a time in UTC",
        ),
        (
            {"purchases": lambda f: f.with_columns(amount=pl.lit(float("nan")))},
            "purchases: amount: has a line",
        ),
        (
            {"purchases": lambda f: f.with_columns(amount=pl.lit("x"))},
            "purchases: amount = 'String': is not a number",
        ),
        (
            {"purchases": lambda f: f.with_columns(at=pl.lit(None, f["at"].dtype))},
            "purchases: at: is missing in a line",
        ),
        (
            {"purchases": lambda f: f.with_columns(pl.col("user").cast(pl.String))},
            "purchases: user = 'String'",
        ),
        ({"spend": lambda f: f.head(5)}, "spend: user = 5: has bought and has no predicted spend"),
        ({"fields": lambda f: f.drop("user.age")}, r"cells: sociology = 'user.age': unknown field"),
    ],
)
def test_bad_input_is_one_sentence(change: dict[str, Any], words: str) -> None:
    frames = world(people=30)
    with pytest.raises(BadInput, match=words):
        derive({**frames, **{name: make(frames[name]) for name, make in change.items()}})


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(BadInput, match="as_of"):
        derive(world(people=5), as_of=datetime(2024, 6, 1))  # noqa: DTZ001 - the naive time is the point
