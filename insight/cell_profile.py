"""What a cell is like: size, one sentence, and what sets it apart from everybody else."""

from __future__ import annotations

from collections.abc import Mapping

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.people import CellProfiles, Stage, Tier

#: users' worth of the rest that is mixed into a cell before its traits are ranked: one odd user in a
#: cell of three does not top the list (shrinkage toward the rest, as in James and Stein, 1961)
PRIOR_USERS = 10
#: shrunk standard deviations from the rest at which a trait is told; at most so many
WORTH_TELLING, MOST_TOLD = 0.2, 5
#: no more is said of a ratio than that it is beyond this
LARGEST_RATIO = 99.0
_IN_SENTENCES = ("rhythm_days", "recency_days", "spend", "per_week", "basket")
_WHO = {
    Stage.PROSPECT: "Known, and have not bought yet",
    Stage.NEW: "First purchases only lately",
    Stage.ACTIVE: "Buy at their own rhythm",
    Stage.LOYAL: "Buy regularly, for long, and keep their pace",
    Stage.COOLING: "Later than their own rhythm would have it",
    Stage.LAPSED: "Silent for far longer than their own rhythm",
    Stage.WON_BACK: "Back after a silence that was no part of their rhythm",
}
_SPENDS = {Tier.TOP: "highest", Tier.HIGH: "high", Tier.MIDDLE: "middling", Tier.LOW: "lowest"}

_Numbers = NDArray[np.float64]


def derive_profiles(
    cells: pl.DataFrame, traits: pl.DataFrame | pl.LazyFrame, labels: Mapping[str, str]
) -> dy.DataFrame[CellProfiles]:
    """kernel.people.CellProfiles, largest cell first.

    `cells`: kernel.people.Cells; `traits`: a row for each row of `cells`, in that order, a numeric
    column for each of `labels` (column → words), NULL where unknown; of a lazy frame one column is read at
    a time. `apart` gives the ratio of the
    cell's mean to the mean of all other users (for a 0/1 column, of shares), the largest shrunk
    standardised difference first.
    """
    lazy = traits.lazy()
    sizes = (
        cells.group_by("cell")
        .agg(
            pl.col("stage", "cluster", "tier").first().cast(pl.String), pl.len().cast(pl.Int64).alias("size")
        )
        .with_columns(share=pl.col("size") / max(cells.height, 1))
        .sort(["size", "cell"], descending=[True, False])
        .with_row_index("number")
    )
    number = cells.join(sizes.select("cell", "number"), on="cell", how="left", maintain_order="left")[
        "number"
    ]
    group = number.to_numpy().astype(np.int64)
    found: list[list[tuple[float, str]]] = [[] for _ in range(sizes.height)]
    for column, label in labels.items():
        values = lazy.select(column).collect()[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for i, effect, ratio in _differences(values, group, sizes.height):
            found[i].append((effect, _told(label, ratio)))
    apart = ["; ".join(words for _, words in sorted(each, key=_strength)[:MOST_TOLD]) for each in found]
    told = [name for name in _IN_SENTENCES if name in lazy.collect_schema()]
    sentences = _sentences(sizes, cells.select("cell").hstack(lazy.select(told).collect()))
    return CellProfiles.validate(
        sizes.with_columns(
            description=pl.Series(sentences, dtype=pl.String),
            apart=pl.Series([words or "close to everybody else" for words in apart], dtype=pl.String),
        ).select(*CellProfiles.column_names())
    )


def _differences(values: _Numbers, group: NDArray[np.int64], groups: int) -> list[tuple[int, float, float]]:
    """(group, shrunk standardised difference from the rest, ratio of means) where worth telling."""
    known = np.isfinite(values)
    spread = float(values[known].std()) if known.any() else 0.0
    if spread <= 1e-9:
        return []
    count = np.bincount(group[known], minlength=groups).astype(np.float64)
    total = np.bincount(group[known], weights=values[known], minlength=groups)
    others = count.sum() - count
    usable = (count > 0) & (others > 0)
    mean = np.divide(total, count, out=np.zeros(groups), where=usable)
    rest = np.divide(total.sum() - total, others, out=np.zeros(groups), where=usable)
    effect = (mean - rest) / spread * count / (count + PRIOR_USERS)
    told = usable & (np.abs(effect) >= WORTH_TELLING) & (rest > 1e-9) & (mean >= 0)
    return [(int(i), round(float(effect[i]), 6), float(mean[i] / rest[i])) for i in np.flatnonzero(told)]


def _strength(told: tuple[float, str]) -> tuple[float, str]:
    return -abs(told[0]), told[1]


def _told(label: str, ratio: float) -> str:
    if ratio > LARGEST_RATIO:
        return f"{label} over {LARGEST_RATIO:.0f}x"
    return f"{label} {ratio:.1f}x" if ratio >= 0.95 else f"{label} {ratio:.2f}x"


def _sentences(sizes: pl.DataFrame, traits: pl.DataFrame) -> list[str]:
    columns = [c for c in ("rhythm_days", "recency_days") if c in traits.columns]
    facts = traits.group_by("cell").agg(
        pl.col(columns).median(), pl.col("spend").mean(), pl.col("per_week").mean(), pl.col("basket").mean()
    )
    rows = sizes.select("cell", "stage", "cluster", "tier", "size", "share").join(
        facts, on="cell", how="left", maintain_order="left"
    )
    return [_sentence(row) for row in rows.iter_rows(named=True)]


def _sentence(row: Mapping[str, object]) -> str:
    size, share = row["size"], row["share"]
    words = f"{_WHO[Stage(str(row['stage']))]}: {size:,} user{'s' * (size != 1)} ({share:.1%})"
    if row["recency_days"] is None:
        return f"{words}."
    pace = f"last bought {_days(row['recency_days'])} ago"
    if row["rhythm_days"] is not None:
        pace = f"usually every {_days(row['rhythm_days'])}, {pace}"
    return (
        f"{words}, {pace}; predicted spend {_SPENDS[Tier(str(row['tier']))]}, {row['spend']:,.2f} each; "
        f"shop as “{row['cluster']}”, with baskets of {row['basket']:,.2f}."
    )


def _days(days: object) -> str:
    whole = round(float(str(days)))
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole} days"
