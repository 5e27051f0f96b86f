"""Cells of millions of users: learnt from a sample, laid out in chunks whose size bounds the memory.

What speaks of everybody (rhythm, usual shares, sociology's scales, clusters and their names) is learnt from a
sample of users by hash. Each chunk of users then goes through the same steps as a small population does, with
what was learnt given; their traits wait on disk until the profiles are made, a column at a time. Value tiers
and profiles are of all users.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dataframely as dy
import numpy as np
import polars as pl

from insight.cell_profile import derive_profiles
from insight.cell_sociology import Fact
from insight.cell_traits import Usual, derive_traits
from insight.clusters import NO_PURCHASES, ClusterModel, Clusters, derive_clusters
from insight.lifecycle import Rhythm, derive_stages, population_rhythm
from insight.tiers import derive_tiers
from kernel.people import CellProfiles, CellRecipe, Cells, Stage, Tier

#: users that are learnt from, and users in a chunk
SAMPLE, CHUNK = 200_000, 500_000


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What was learnt from the sample."""

    rhythm: Rhythm | None
    usual: Usual
    #: trait → words
    labels: dict[str, str]
    #: of the sample; its model assigns everybody
    clusters: Clusters


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """As in insight.cells.CellMap."""

    cells: dy.DataFrame[Cells]
    profiles: dy.DataFrame[CellProfiles]
    clusters: Clusters
    lifecycle: pl.DataFrame


def lay_out(
    *,
    users: pl.DataFrame,
    purchases: pl.LazyFrame,
    sociology: pl.DataFrame,
    facts: tuple[Fact, ...],
    labels: dict[str, str],
    spend: pl.DataFrame,
    as_of: datetime,
    recipe: CellRecipe,
    seed: int,
    zone: ZoneInfo,
    model: ClusterModel | None = None,
    before: ClusterModel | None = None,
    sample: int = SAMPLE,
    chunk: int = CHUNK,
) -> LaidOut:
    """Arguments checked by `derive_cells`. `users` sorted; `sociology` row by row of `users`; `labels`: the
    words for traits that are the same everywhere; `model`, `before`: as in derive_clusters."""
    learnt = _learn(
        users, purchases, sociology, facts, labels, as_of, recipe, seed, zone, model, before, sample
    )
    with tempfile.TemporaryDirectory(prefix="growth-cells-") as folder:
        stages, codes, buyers = [], [], []
        for i, (part, begin) in enumerate(_parts(users, chunk)):
            lines = _lines_of(purchases, part, as_of)
            lifecycle = derive_stages(
                users=part, purchases=lines, as_of=as_of, zone=zone, rhythm=learnt.rhythm
            )
            traits = derive_traits(purchases=lines, as_of=as_of, zone=zone, usual=learnt.usual).frame
            mine = sociology[begin : begin + part.height]
            known = traits.join(mine, on="user", how="left", maintain_order="left")
            code = np.full(part.height, -1, np.int16)
            code[part["user"].search_sorted(traits["user"]).to_numpy()] = learnt.clusters.model.assign(known)
            everything = (
                lifecycle.select("user", "recency_days", "rhythm_days")
                .join(
                    traits.select("user").join(spend.select("user", "spend"), on="user", how="left"),
                    on="user",
                    how="left",
                    maintain_order="left",
                )
                .join(traits.drop("baskets"), on="user", how="left", maintain_order="left")
                .join(mine, on="user", how="left", maintain_order="left")
            )
            everything.drop("user").write_parquet(Path(folder) / f"{i:06}.parquet", compression="lz4")
            stages.append(lifecycle)
            codes.append(code)
            buyers.append(traits.select("user"))
        lifecycle = pl.concat(stages)
        tiers = derive_tiers(users=users, buyers=pl.concat(buyers), spend=spend, shares=recipe.tiers)["tier"]
        names = pl.Series([*learnt.clusters.model.names, NO_PURCHASES], dtype=pl.String)
        code = np.concatenate(codes)
        code[code < 0] = len(names) - 1
        cells = _cells(lifecycle, code, names, tiers)
        seen = pl.scan_parquet(Path(folder) / "*.parquet", glob=True)
        columns = seen.collect_schema()
        told = {column: words for column, words in learnt.labels.items() if column in columns}
        profiles = derive_profiles(cells, seen, told)
    return LaidOut(
        cells=cells, profiles=profiles, clusters=_clusters(cells, learnt.clusters), lifecycle=lifecycle
    )


def _learn(
    users: pl.DataFrame,
    purchases: pl.LazyFrame,
    sociology: pl.DataFrame,
    facts: tuple[Fact, ...],
    labels: dict[str, str],
    as_of: datetime,
    recipe: CellRecipe,
    seed: int,
    zone: ZoneInfo,
    model: ClusterModel | None,
    before: ClusterModel | None,
    sample: int,
) -> Learnt:
    every = max(users.height // sample, 1)
    some = users.filter(pl.col("user").hash(0) % every == 0)
    lines = (
        purchases.filter(pl.col("at") <= as_of)
        .join(some.lazy(), on="user", how="semi")
        .collect(engine="streaming")
    )
    traits = derive_traits(purchases=lines, as_of=as_of, zone=zone)
    told = {**labels, **traits.categories, **{fact.name: fact.label for fact in facts}}
    clusters = derive_clusters(
        users=some,
        traits=traits.frame.join(sociology, on="user", how="left", maintain_order="left"),
        labels=told,
        sociology=tuple(fact.name for fact in facts),
        max_clusters=recipe.max_clusters,
        exactly=recipe.clusters,
        seed=seed,
        model=model,
        before=before,
    )
    rhythm = population_rhythm(purchases=lines, as_of=as_of, zone=zone)
    return Learnt(rhythm=rhythm, usual=traits.usual, labels=told, clusters=clusters)


def _parts(users: pl.DataFrame, chunk: int) -> Iterator[tuple[pl.DataFrame, int]]:
    for begin in range(0, users.height, chunk):
        yield users[begin : begin + chunk], begin


def _lines_of(purchases: pl.LazyFrame, part: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Of users between the first and the last of a part, and of them those who are in it."""
    low, high = part["user"][0], part["user"][-1]
    mine = purchases.filter(pl.col("user").is_between(pl.lit(low), pl.lit(high)) & (pl.col("at") <= as_of))
    return mine.join(part.lazy(), on="user", how="semi").collect(engine="streaming")


def _cells(
    lifecycle: pl.DataFrame,
    code: np.ndarray[tuple[int], np.dtype[np.int16]],
    names: pl.Series,
    tiers: pl.Series,
) -> dy.DataFrame[Cells]:
    """Row by row; each name is written once, however many have it."""
    stages = lifecycle["stage"]
    words = (
        pl.DataFrame({"stage": [str(stage) for stage in Stage]})
        .join(pl.DataFrame({"cluster": names}), how="cross")
        .join(pl.DataFrame({"tier": [str(tier) for tier in Tier]}), how="cross")
    )
    told = words.select(pl.concat_str("stage", "cluster", "tier", separator=" · ")).to_series()
    places = stages.to_physical().cast(pl.Int64) * len(names) + pl.Series(code).cast(pl.Int64)
    places = places * len(Tier) + tiers.to_physical().cast(pl.Int64)
    return Cells.validate(
        pl.DataFrame(
            {
                "user": lifecycle["user"],
                "stage": stages,
                "cluster": names.gather(pl.Series(code).cast(pl.UInt32)),
                "tier": tiers,
                "cell": told.gather(places.cast(pl.UInt32)),
            }
        )
    )


def _clusters(cells: pl.DataFrame, sample: Clusters) -> Clusters:
    """The sample's, with everybody's sizes."""
    said = dict(sample.facts.select("cluster", "description").iter_rows())
    said.setdefault(NO_PURCHASES, "Known, and have bought nothing yet.")
    members = cells.select("user", "cluster")
    facts = (
        members.group_by("cluster")
        .agg(pl.len().cast(pl.Int64).alias("size"))
        .with_columns(
            share=pl.col("size") / max(cells.height, 1),
            description=pl.col("cluster").replace_strict(
                said, default="Too few to be in the sample that was learnt from.", return_dtype=pl.String
            ),
        )
        .sort(["size", "cluster"], descending=[True, False])
    )
    return Clusters(members=members, facts=facts, tried=sample.tried, model=sample.model)
