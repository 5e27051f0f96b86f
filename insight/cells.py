"""Cells: lifecycle stage × behavioural cluster × value tier. Every user is in exactly one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import dataframely as dy
import polars as pl

from insight.cell_profile import derive_profiles
from insight.cell_sociology import derive_sociology
from insight.cell_traits import derive_traits
from insight.cells_at_scale import CHUNK, lay_out
from insight.clusters import ClusterModel, Clusters, derive_clusters
from insight.lifecycle import derive_stages
from insight.tiers import derive_tiers
from kernel.clock import aware
from kernel.errors import BadInput
from kernel.events import check_event_frame
from kernel.people import CellProfiles, CellRecipe, Cells

_UTC = ZoneInfo("UTC")
#: users from which on cells are learnt from a sample and laid out in chunks
AT_SCALE = 1_000_000
#: column → words, for traits that are the same everywhere
_LABELS = {
    "spend": "predicted spend",
    "recency_days": "days since last purchase",
    "rhythm_days": "days between purchases",
    "per_week": "baskets a week",
    "basket": "basket size",
    "discount": "discount share",
    "weekend": "weekend baskets",
    "evening": "evening baskets",
    "places": "places",
}


@dataclass(frozen=True, kw_only=True)
class CellMap:
    """Where everybody stands as of one instant."""

    #: one row a user, sorted by user
    cells: dy.DataFrame[Cells]
    #: one row a cell, largest first
    profiles: dy.DataFrame[CellProfiles]
    #: the clusters, how they were chosen, and the model that assigns to them
    clusters: Clusters
    #: one row a user: user, stage, late (P(own gap > silence)), rhythm_days, recency_days, tenure_days,
    #: purchase_days
    lifecycle: pl.DataFrame


def derive_cells(
    *,
    users: pl.DataFrame,
    purchases: pl.DataFrame | pl.LazyFrame,
    fields: pl.DataFrame,
    spend: pl.DataFrame,
    as_of: datetime,
    recipe: CellRecipe,
    seed: int,
    zone: ZoneInfo = _UTC,
    clusters: ClusterModel | None = None,
    before: ClusterModel | None = None,
    at_scale: int = AT_SCALE,
    chunk: int = CHUNK,
) -> CellMap:
    """The cell of each user of `users` (column user) as of an instant.

    `purchases`: kernel.events with amount, and discount, category, place where known; lines after
    `as_of` and of users outside `users` are not looked at. `fields`: user and the recipe's sociology.
    `spend`: user, spend (predicted, major units) of every buyer. `zone` is where days and hours are
    read. `clusters` (of an earlier map) keeps the clusters and their names instead of finding new ones;
    `before` (of an earlier map) finds new ones, of which those that are the same keep their names.
    At least `at_scale` users are laid out in chunks of `chunk` (cells_at_scale), so that memory is
    bounded where `purchases` are a lazy scan.
    The same for any order of rows. Raises BadInput for what it cannot read.
    """
    as_of = aware(as_of, "as_of")
    users = _users(users)
    _check(users, purchases=purchases, fields=fields, spend=spend)
    lines = purchases.lazy()
    check_event_frame(lines, "purchases", ["amount"])
    missing = lines.select(pl.col("user", "at", "event_id").null_count()).collect(engine="streaming")
    for column in missing.columns:
        if missing[column][0]:
            raise BadInput("is missing in a line", where="purchases", field=column)
    if users.height >= at_scale:
        sociology, facts = derive_sociology(users, fields, recipe.sociology)
        found_in_chunks = lay_out(
            users=users, purchases=lines, sociology=sociology, facts=facts, labels=dict(_LABELS), spend=spend,
            as_of=as_of, recipe=recipe, seed=seed, zone=zone, model=clusters, before=before,
            chunk=chunk,
        )  # fmt: skip
        return CellMap(**vars(found_in_chunks))
    known = lines.join(users.lazy(), on="user", how="semi").collect()
    lifecycle = derive_stages(users=users, purchases=known, as_of=as_of, zone=zone)
    traits = derive_traits(purchases=known, as_of=as_of, zone=zone)
    sociology, facts = derive_sociology(users, fields, recipe.sociology)
    labels = {**_LABELS, **traits.categories, **{fact.name: fact.label for fact in facts}}
    found = derive_clusters(
        users=users,
        traits=traits.frame.join(sociology, on="user", how="left", maintain_order="left"),
        labels=labels,
        sociology=tuple(fact.name for fact in facts),
        max_clusters=recipe.max_clusters,
        exactly=recipe.clusters,
        seed=seed,
        model=clusters,
        before=before,
    )
    tiers = derive_tiers(users=users, buyers=traits.frame, spend=spend, shares=recipe.tiers)
    cells = _cross(lifecycle, found.members, tiers)
    everything = (
        lifecycle.select("user", "recency_days", "rhythm_days")
        .join(tiers.select("user", "spend"), on="user", how="left", maintain_order="left")
        .join(traits.frame.drop("baskets"), on="user", how="left", maintain_order="left")
        .join(sociology, on="user", how="left", maintain_order="left")
    )
    told = {column: words for column, words in labels.items() if column in everything.columns}
    return CellMap(
        cells=cells, profiles=derive_profiles(cells, everything, told), clusters=found, lifecycle=lifecycle
    )


def _cross(lifecycle: pl.DataFrame, members: pl.DataFrame, tiers: pl.DataFrame) -> dy.DataFrame[Cells]:
    joined = (
        lifecycle.select("user", "stage")
        .join(members, on="user", how="left")
        .join(tiers, on="user", how="left")
    )
    parts = [pl.col(each).cast(pl.String) for each in ("stage", "cluster", "tier")]
    cell = pl.concat_str(parts, separator=" · ").alias("cell")
    return Cells.validate(joined.sort("user").select("user", "stage", "cluster", "tier", cell))


def _users(users: pl.DataFrame) -> pl.DataFrame:
    if "user" not in users.columns:
        raise BadInput("is missing", where="users", field="user")
    if users.is_empty():
        raise BadInput("has nobody in it", where="users", field="user")
    if users["user"].null_count():
        raise BadInput("is missing in a row", where="users", field="user")
    if users["user"].is_duplicated().any():
        twice = users.filter(pl.col("user").is_duplicated())["user"].sort()[0]
        raise BadInput("is there twice", where="users", field="user", value=twice)
    return users.select("user").sort("user")


def _check(users: pl.DataFrame, **frames: pl.DataFrame | pl.LazyFrame) -> None:
    """Every frame names users, and in the same type: a join across types would find nobody."""
    for where, frame in frames.items():
        schema = frame.collect_schema()
        for column in ("user", "spend") if where == "spend" else ("user",):
            if column not in schema:
                raise BadInput("is missing", where=where, field=column)
        if schema["user"] != users.schema["user"]:
            raise BadInput(
                f"is not of the type of users, {users.schema['user']}",
                where=where,
                field="user",
                value=str(schema["user"]),
            )
