"""Cells of many users: in chunks as at once, clusters found again, names that persist, drift that is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from insight.cell_drift import CellMemory, derive_drift, shares_of
from insight.cells import CellMap, derive_cells
from insight.cluster_choice import _overlaps, find_clusters, nearest
from insight.cluster_many import find_many
from insight.cluster_match import carried_names, match_centres, stability_index
from kernel.errors import BadInput
from kernel.people import CellRecipe

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
RECIPE = CellRecipe(name="cells", max_clusters=4, sociology=("user.age",))


def world(people: int = 150, seed: int = 1) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    baskets = rng.integers(1, 25, people)
    user = np.repeat(np.arange(people), baskets)
    tea = rng.choice([0.1, 0.9], people)[user]
    gap = rng.choice([2.0, 9.0], people)[user]
    back = rng.gamma(3, gap / 3 * 4, len(user)).cumsum() % 300
    purchases = pl.DataFrame(
        {
            "user": user,
            "at": [AS_OF - timedelta(days=float(x) + 0.1) for x in back],
            "event_id": np.arange(len(user)),
            "amount": (rng.gamma(2, 10, len(user)) * np.where(tea > 0.5, 1, 5)).round(2),
            "discount": rng.gamma(1, 1, len(user)).round(2),
            "category": np.where(rng.uniform(size=len(user)) < tea, "TEA", "BREAD"),
            "place": rng.integers(0, 3, len(user)),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    everybody = pl.DataFrame({"user": range(people + 5)})
    return {
        "users": everybody,
        "purchases": purchases,
        "fields": everybody.with_columns(pl.Series("user.age", rng.choice(["19-24", "65+"], people + 5))),
        "spend": pl.DataFrame({"user": range(people), "spend": rng.gamma(2, 50, people)}),
    }


def derive(frames: dict[str, pl.DataFrame], **change: object) -> CellMap:
    return derive_cells(**{**frames, "as_of": AS_OF, "recipe": RECIPE, "seed": 7, **change})  # type: ignore[arg-type]  # a mix of kinds


@pytest.mark.parametrize("text", [False, True])
def test_in_chunks_everybody_is_where_she_is_at_once(tmp_path: Path, text: bool) -> None:
    frames = world()
    if text:
        frames = {
            name: each.with_columns(pl.format("u{}", "user").alias("user")) for name, each in frames.items()
        }
    at_once = derive(frames)
    frames["purchases"].sample(fraction=1, shuffle=True, seed=3).write_parquet(tmp_path / "lines.parquet")
    lazy = {**frames, "purchases": pl.scan_parquet(tmp_path / "lines.parquet")}
    in_chunks = derive(lazy, at_scale=1, chunk=40)
    assert in_chunks.clusters.model == at_once.clusters.model
    assert in_chunks.cells.equals(at_once.cells)
    assert in_chunks.clusters.members.equals(at_once.clusters.members)
    assert in_chunks.clusters.facts.equals(at_once.clusters.facts)
    assert in_chunks.lifecycle.equals(at_once.lifecycle)
    assert in_chunks.profiles.equals(at_once.profiles)
    again = derive(lazy, at_scale=1, chunk=40)
    assert again.cells.equals(in_chunks.cells)
    holes = frames["purchases"].with_columns(pl.lit(None, pl.Int64).alias("event_id"))
    with pytest.raises(BadInput, match="is missing in a line"):
        derive({**frames, "purchases": holes.lazy()}, at_scale=1)


def planted(kinds: int, people: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(kinds, 8)) * 3
    kind = rng.integers(0, kinds, people)
    return centres[kind] + rng.normal(size=(people, 8)) * 0.4, kind


def test_dozens_of_clusters_are_found_by_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insight.cluster_choice.FIT_USERS", 1_000)
    points, kind = planted(18, 2_000)
    centres, tried = find_clusters(points, 20, seed=1)
    assert tried.filter("chosen")["clusters"].to_list() == [len(centres)]
    assert 16 <= len(centres) <= 18, "kinds that lie close together may be one cluster"
    found = nearest(points, np.array(centres))
    both = np.bincount(kind * 20 + found, minlength=18 * 20).reshape(18, 20)
    assert both.max(axis=1).sum() > 0.98 * len(points), "a kind is in one cluster"


def test_what_does_not_come_back_is_no_cluster_here_either() -> None:
    noise = np.random.default_rng(0).normal(size=(1_500, 6))
    centres, rows = find_many(noise, 8, 1, nearest, _overlaps, reproduced=0.75, separated=0.85)
    assert centres is None
    assert {row["clusters"] for row in rows} >= {2, 3, 4, 6, 8}


def test_clusters_are_paired_with_those_that_they_were() -> None:
    before = np.array([[0.0, 0], [4, 0], [0, 4]])
    match = match_centres(before, np.array([[0.2, 4.0], [0.1, 0.0], [9.0, 9.0]]))
    assert match.same == {0: 2, 1: 0}
    assert match.shift[1] == pytest.approx(0.1 / np.hypot(0.1, 4))
    assert match_centres(before, before[:1]).same == {}
    assert match_centres(before[:1], before[:1] + 5).same == {0: 0}
    names = carried_names(["tea", "bread", "bread"], ["bread", "tea", "milk"], {0: 1})
    assert names == ("tea", "bread (2)", "bread (3)")


def test_names_persist_and_what_has_changed_is_told() -> None:
    frames = world()
    first = derive(frames)
    memory = CellMemory(model=first.clusters.model, shares=shares_of(first.cells))
    kept = CellMemory.from_json(json.loads(json.dumps(memory.as_json())))
    assert kept == memory
    unlike = CellMemory(
        model=kept.model.__class__(
            axes=kept.model.axes,
            centres=kept.model.centres,
            names=tuple(f"called {i}" for i in range(len(kept.model.names))),
        ),
        shares=kept.shares,
    )
    lines = frames["purchases"]
    next_day = {**frames, "purchases": lines.filter(pl.col("event_id") % 97 != 0)}
    second = derive(next_day, before=unlike.model, seed=8)
    assert set(second.clusters.model.names) == set(unlike.model.names)
    drift = derive_drift(unlike, CellMemory(model=second.clusters.model, shares=shares_of(second.cells)))
    assert (drift.new, drift.gone) == ((), ())
    assert drift.psi["cluster"] > 1, "the shares are of other names"
    assert max(drift.shift.values()) < 0.2
    same = derive_drift(memory, memory)
    assert same.as_json() == {
        "psi": {"stage": 0.0, "cluster": 0.0, "tier": 0.0, "cell": 0.0},
        "shift": dict.fromkeys(memory.model.names, 0.0), "new": [], "gone": [],
    }  # fmt: skip
    for wrong in ({}, {"model": {}}, [], {**memory.as_json(), "shares": {}}):
        with pytest.raises(BadInput, match="is not what was kept"):
            CellMemory.from_json(wrong)


def test_the_stability_index_is_its_formula() -> None:
    found = stability_index({"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.6})
    assert found == pytest.approx(-0.1 * np.log(0.8) + 0.1 * np.log(1.2))
    assert stability_index({"a": 1.0}, {"b": 1.0}) > 10
