"""Behavioural clusters: basket mix, price sensitivity, visit pattern, and sociology where it is known.

Shares of spend enter as square roots (the Hellinger distance: Rao, "A review of canonical coordinates",
1995), the rest robustly scaled by median and quartiles and clipped; each block carries a stated weight,
so that no block wins by having more columns. k-means then finds clusters,
as many as cluster_choice says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from insight.cluster_choice import TRIED, find_clusters, nearest
from insight.cluster_match import carried_names, match_centres, moved
from insight.cluster_names import name_clusters, set_apart

#: the cluster of users who never bought
NO_PURCHASES = "no purchases yet"
#: weight of each block in the squared distance
WEIGHTS = {"mix": 1.0, "visits": 1.0, "habits": 0.4, "price": 0.3, "sociology": 0.3}
_BLOCKS = {
    "per_week": "visits",
    "basket": "visits",
    "weekend": "habits",
    "evening": "habits",
    "places": "habits",
}
_LOGS = ("per_week", "basket", "places")
_CLIP = 3.0

_Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How a trait becomes a coordinate; unknown becomes 0, the middle."""

    column: str
    transform: Literal["none", "log", "sqrt"]
    centre: float
    scale: float
    weight: float

    def coordinate(self, traits: pl.DataFrame) -> _Numbers:
        if self.column not in traits.columns:
            return np.zeros(traits.height)
        return _standard(_values(traits, self.column), self.centre, self.scale) * self.weight


@dataclass(frozen=True, kw_only=True)
class ClusterModel:
    """Clusters that were found once; assigning by it again keeps their names from day to day."""

    axes: tuple[Axis, ...]
    #: coordinates of each cluster's centre
    centres: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]

    def assign(self, traits: pl.DataFrame) -> NDArray[np.int64]:
        """Index of the nearest centre of each row."""
        return nearest(_matrix(self.axes, traits), np.array(self.centres).reshape(len(self.names), -1))


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Who is in which cluster, and how the clusters were chosen."""

    #: user, cluster
    members: pl.DataFrame
    #: one row a cluster: cluster, size, share (of all users), description
    facts: pl.DataFrame
    #: one row a number of clusters that was tried: clusters, stability (overlap of the weakest cluster
    #: with its like in resamples), error (its standard error), silhouette, smallest (part of buyers),
    #: chosen; empty for a given model
    tried: pl.DataFrame
    model: ClusterModel


def derive_clusters(
    *,
    users: pl.DataFrame,
    traits: pl.DataFrame,
    labels: Mapping[str, str],
    sociology: tuple[str, ...],
    max_clusters: int,
    seed: int,
    exactly: int | None = None,
    model: ClusterModel | None = None,
    before: ClusterModel | None = None,
) -> Clusters:
    """Every user of `users` in one cluster; those without a row in `traits` in `no purchases yet`.

    `traits`: one row a buyer, sorted by user, of cell_traits and cell_sociology; `labels`: column →
    words. With `model` nothing is learnt: users are assigned to its clusters. With `before` new clusters
    are found, and those that are the same as one of `before` have its name (cluster_match).
    """
    tried = pl.DataFrame(schema=TRIED)
    shown = traits.drop("user", "baskets")
    if model is None:
        axes = _axes(traits, sociology)
        centres, tried = find_clusters(_matrix(axes, traits), max_clusters, seed, exactly)
        bare = ClusterModel(axes=axes, centres=centres, names=tuple(str(i) for i in range(len(centres))))
        found = bare.assign(traits)
        effects = [set_apart(shown, found, i) for i in range(len(centres))]
        names = tuple(name_clusters(effects, labels))
        if before is not None:
            names = _carried(names, bare, before)
        model = ClusterModel(axes=axes, centres=centres, names=names)
    found = model.assign(traits)
    members = (
        users.select("user")
        .join(
            traits.select("user", cluster=pl.Series([model.names[i] for i in found], dtype=pl.String)),
            on="user",
            how="left",
        )
        .with_columns(pl.col("cluster").fill_null(NO_PURCHASES))
        .sort("user")
    )
    sentences = {
        name: _sentence(traits, shown, labels, found, i)
        for i, name in enumerate(model.names)
        if (found == i).any()
    }
    sentences[NO_PURCHASES] = "Known, and have bought nothing yet."
    facts = (
        members.group_by("cluster")
        .agg(pl.len().cast(pl.Int64).alias("size"))
        .with_columns(
            share=pl.col("size") / max(members.height, 1),
            description=pl.col("cluster").replace_strict(sentences, return_dtype=pl.String),
        )
        .sort(["size", "cluster"], descending=[True, False])
    )
    return Clusters(members=members, facts=facts, tried=tried, model=model)


def _carried(names: tuple[str, ...], bare: ClusterModel, before: ClusterModel) -> tuple[str, ...]:
    now = np.array(bare.centres).reshape(len(names), -1)
    then = np.array(before.centres).reshape(len(before.names), -1)
    # without any trait that differs there is one cluster, and nothing to compare
    then = moved(then, before.axes, bare.axes) if bare.axes else np.zeros((len(then), now.shape[1]))
    return carried_names(names, before.names, match_centres(then, now).same)


def _axes(traits: pl.DataFrame, sociology: tuple[str, ...]) -> tuple[Axis, ...]:
    blocks: dict[str, list[str]] = {}
    for column in traits.columns:
        if column.startswith("mix:"):
            blocks.setdefault("mix", []).append(column)
        elif column in _BLOCKS:
            blocks.setdefault(_BLOCKS[column], []).append(column)
        elif column == "discount":
            blocks.setdefault("price", []).append(column)
        elif column in sociology:
            blocks.setdefault("sociology", []).append(column)
    axes: list[Axis] = []
    for block, columns in blocks.items():
        values = {column: _values(traits, column) for column in columns}
        known = {column: x[np.isfinite(x)] for column, x in values.items()}
        columns = [column for column in columns if known[column].size and known[column].std() > 1e-9]
        if not columns:
            continue
        scales = {column: _robust(known[column]) for column in columns}
        if block == "mix":
            # roots of shares are commensurable: one scale for all keeps the Hellinger distance
            common = float(np.sqrt(np.mean([known[column].var() for column in columns])))
            scales = {column: (float(known[column].mean()), common) for column in columns}
        total = sum(float(_standard(values[column], *scales[column]).var()) for column in columns)
        weight = WEIGHTS[block]
        if block == "sociology":
            # what is known of few may not rule all
            weight *= float(np.mean([known[column].size / traits.height for column in columns]))
        for column in columns:
            axes.append(
                Axis(
                    column=column,
                    transform=_transform(column),
                    centre=scales[column][0],
                    scale=scales[column][1],
                    weight=float(np.sqrt(weight / max(total, 1e-12))),
                )
            )
    return tuple(axes)


def _transform(column: str) -> Literal["none", "log", "sqrt"]:
    return "sqrt" if column.startswith("mix:") else "log" if column in _LOGS else "none"


def _values(traits: pl.DataFrame, column: str) -> _Numbers:
    values: _Numbers = traits[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    transform = _transform(column)
    if transform == "none":
        return values
    return np.sqrt(np.maximum(values, 0)) if transform == "sqrt" else np.log(np.maximum(values, 0.01))


def _robust(known: _Numbers) -> tuple[float, float]:
    """Median and normal-consistent quartile range; the standard deviation where half are alike."""
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    scale, spread = float(high - low) / 1.349, float(known.std())
    return float(middle), scale if scale >= 0.3 * spread else spread


def _standard(values: _Numbers, centre: float, scale: float) -> _Numbers:
    return np.nan_to_num(np.clip((values - centre) / scale, -_CLIP, _CLIP))


def _matrix(axes: tuple[Axis, ...], traits: pl.DataFrame) -> _Numbers:
    return (
        np.column_stack([axis.coordinate(traits) for axis in axes]) if axes else np.zeros((traits.height, 1))
    )


def _sentence(
    traits: pl.DataFrame,
    shown: pl.DataFrame,
    labels: Mapping[str, str],
    found: NDArray[np.int64],
    cluster: int,
) -> str:
    inside = traits.filter(pl.Series(found == cluster))
    pace, basket = (float(inside[name].to_numpy().mean()) for name in ("per_week", "basket"))
    words = f"{pace:.1f} baskets a week of {basket:,.2f}"
    if "discount" in inside.columns:
        words += f", {float(inside['discount'].to_numpy().mean()):.0%} off the full price"
    apart = [
        f"{labels[column]} {ratio:.1f}x"
        for column, effect, ratio in set_apart(shown, found, cluster)
        if abs(effect) >= 0.2 and column in labels and column not in ("per_week", "basket", "discount")
    ][:3]
    return f"{words}; against the others: {', '.join(apart)}." if apart else f"{words}."
