"""Has what a model sees moved? Features and scores by day against a reference, and which moved most.

How far is told by the population stability index Σ (q − p) ln(q / p) over bins, which for a number whose
mean shifts by d standard deviations is about d². A fixed threshold such as 0.1 or 0.25 is no test: without
any drift the index is about (1/n + 1/m) χ² with bins − 1 degrees of freedom (Yurdakul 2018), so that 100
rows against 100 in ten bins average 0.18, and a million against a million never reach 0.001. So both are
asked: a feature has moved when the two samples differ by more than chance (Pearson's chi-squared on the
bins, with the false discoveries among all features and days held to `fdr`, Benjamini & Hochberg 1995) *and*
the index is above `least`, the smallest move that matters: 0.04 is a fifth of a standard deviation. The
index's own null threshold stands beside it.

Bins see order only. A number with a few heavy values (orders per week of a growing record, say) changes bins
altogether when those values change in their third digit. So of a number the distance itself must matter too:
Wasserstein's, the mean way that a value has gone, above √least spreads; or as many must have gone missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2, wasserstein_distance

from kernel.errors import BadInput

Floats = NDArray[np.float64]
#: the smallest index that matters: a shift by a fifth of a standard deviation
LEAST = 0.04
#: bins of equal count in the reference; labels of a text beyond so many are one
BINS, LABELS = 10, 20
#: rows that a bin of the pooled samples must be expected to have on either side, else it joins its neighbour
_EXPECTED = 5.0


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """Every feature on every day against the reference."""

    #: day (or None), feature, rows, psi, threshold (of psi, without drift, at `fdr` for one feature),
    #: p, q (adjusted for all rows of this frame), moved, shift (of the mean) and distance (Wasserstein's),
    #: both in the reference's spreads and None for labels, psi_missing, missing, missing_before
    rows: pl.DataFrame
    #: expected part of false alarms among alarms
    fdr: float
    #: smallest index that is an alarm
    least: float

    @property
    def moved(self) -> pl.DataFrame:
        """The alarms, largest move first."""
        return self.rows.filter("moved").sort("psi", "day", "feature", descending=[True, False, False])

    def as_json(self) -> dict[str, Any]:
        worst = self.moved.group_by("feature", maintain_order=True).agg(pl.col("day"), pl.col("psi").max())
        return {
            "fdr": self.fdr,
            "least": self.least,
            "alarm": self.moved.height > 0,
            "moved": worst.with_columns(pl.col("day").list.eval(pl.element().cast(pl.String))).to_dicts(),
            "rows": self.rows.with_columns(pl.col("day").cast(pl.String)).to_dicts(),
        }


def feature_drift(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    features: Sequence[str],
    *,
    day: str | None = None,
    fdr: float = 0.01,
    least: float = LEAST,
) -> FeatureDrift:
    """`current` against `reference`, whole or by its column `day`; a score is a feature like any other.

    Numbers (missing or NaN: a bin of its own) and labels (text, truth, categories). Raises BadInput for a
    feature that is missing on either side or is of another type, and when one side is empty. Rows of one
    user on several days, or on both sides, are alike: tests are then careful rather than quick to alarm.
    """
    if not 0 < fdr < 1:
        raise BadInput("is not between 0 and 1", field="fdr", value=fdr)
    if not features:
        raise BadInput("names nothing to look at", field="features")
    for name, frame in (("reference", reference), ("current", current)):
        if frame.is_empty():
            raise BadInput("holds no rows", field=name)
        for feature in (*features, *([day] if day and name == "current" else [])):
            if feature not in frame.columns:
                raise BadInput("is missing", where=name, field=feature)
    parts = current.partition_by(day, as_dict=True) if day else {(None,): current}
    rows = []
    for feature in features:
        old, *new = _comparable(feature, reference, *parts.values())
        for (at,), series in zip(parts, new, strict=True):
            rows.append({"day": at, "feature": feature, "rows": len(series), **_compared(old, series, fdr)})
    frame = pl.DataFrame(rows, infer_schema_length=None).sort("day", "feature", nulls_last=False)
    q = pl.Series("q", false_discovery(frame["p"].to_numpy()))
    far = pl.col("distance").is_null() | (pl.col("distance") >= least**0.5) | (pl.col("psi_missing") >= least)
    moved = (pl.col("q") <= fdr) & (pl.col("psi") >= least) & far
    return FeatureDrift(rows=frame.with_columns(q).with_columns(moved=moved), fdr=fdr, least=least)


def null_threshold(rows: int, reference: int, bins: int, alpha: float) -> float:
    """The index that is exceeded with probability `alpha` when nothing has moved."""
    return float((1 / rows + 1 / reference) * chi2.ppf(1 - alpha, max(bins - 1, 1)))


def false_discovery(p: Floats) -> Floats:
    """Benjamini & Hochberg's adjusted p-values, in the order of `p`."""
    order = np.argsort(-p, kind="stable")
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted


def _comparable(feature: str, *frames: pl.DataFrame) -> list[pl.Series]:
    """The feature of each frame: all as floats, or all as text."""
    found = [frame[feature] for frame in frames]
    if all(series.dtype.is_numeric() or series.dtype == pl.Null for series in found):
        return [series.cast(pl.Float64).fill_nan(None) for series in found]
    if any(series.dtype.is_numeric() or series.dtype.is_temporal() for series in found):
        kinds = " and ".join(sorted({str(series.dtype) for series in found}))
        raise BadInput("is neither a number nor a label on both sides", field=feature, value=kinds)
    return [series.cast(pl.String) for series in found]


def _compared(old: pl.Series, new: pl.Series, alpha: float) -> dict[str, Any]:
    before, after = _merged(*(_numbers(old, new) if old.dtype == pl.Float64 else _labels(old, new)))
    n, m = len(new), len(old)
    shift, distance = _gone(old, new) if old.dtype == pl.Float64 else (None, None)
    absent = [
        np.array([float(each.null_count()), float(each.len() - each.null_count())]) for each in (old, new)
    ]
    return {
        "psi": _psi(before, after),
        "threshold": null_threshold(n, m, len(before), alpha),
        "p": _chi_squared(before, after),
        "shift": shift,
        "distance": distance,
        "psi_missing": _psi(absent[0], absent[1]),
        "missing": new.null_count() / n,
        "missing_before": old.null_count() / m,
    }


def _gone(old: pl.Series, new: pl.Series) -> tuple[float | None, float | None]:
    """Shift of the mean and Wasserstein distance in spreads of the reference: its standard deviation, or by
    quartiles where those say less (a few huge values make any move look small)."""
    before, after = old.drop_nulls().to_numpy(), new.drop_nulls().to_numpy()
    if not (len(before) and len(after) and np.isfinite(before).all() and np.isfinite(after).all()):
        return None, None  # infinite values are a bin like any other, but no way is known to them
    low, high = np.quantile(before, [0.25, 0.75])
    spread = float(before.std())
    spread = min(spread, float(high - low) / 1.349) if high > low else spread
    way = float(wasserstein_distance(before, after))
    if not spread:  # it was constant: any move is endless, none is none
        return (None, None) if way else (0.0, 0.0)
    return float(after.mean() - before.mean()) / spread, way / spread


def _numbers(old: pl.Series, new: pl.Series) -> tuple[Floats, Floats]:
    """Counts by bin. Edges are quantiles of both together: those of one would fit it better."""
    known = np.concatenate([old.drop_nulls().to_numpy(), new.drop_nulls().to_numpy()])
    places = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, places, method="inverted_cdf")) if len(known) else known
    counts = []
    for series in (old, new):
        place = np.searchsorted(edges, series.drop_nulls().to_numpy(), side="right")
        inside = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
        counts.append(np.append(inside, float(series.null_count())))
    return counts[0], counts[1]


def _labels(old: pl.Series, new: pl.Series) -> tuple[Floats, Floats]:
    """Counts by label: the commonest of both together, the rest as one, missing as another."""
    both = pl.concat([old.rename("label"), new.rename("label")]).drop_nulls()
    common = both.value_counts().sort("count", "label", descending=[True, False])["label"][:LABELS].to_list()
    counts = []
    for series in (old, new):
        mine = dict(series.drop_nulls().rename("label").value_counts().iter_rows())
        listed = [float(mine.pop(label, 0)) for label in common]
        counts.append(np.array([*listed, float(sum(mine.values())), float(series.null_count())]))
    return counts[0], counts[1]


def _merged(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Bins too thin for the chi-squared approximation joined with their neighbour."""
    both = before + after
    thin = _EXPECTED / min(before.sum(), after.sum()) * both.sum()
    group, groups, held = np.zeros(len(both), np.int64), 0, 0.0
    for i, count in enumerate(both):
        group[i] = groups
        held += count
        if held >= thin and both[i + 1 :].sum() >= thin:
            groups, held = groups + 1, 0.0
    joined = [np.bincount(group, each).astype(np.float64) for each in (before, after)]
    return joined[0], joined[1]


def _psi(before: Floats, after: Floats) -> float:
    # half a row a bin, so that an empty one is far but not infinitely far
    p, q = ((each + 0.5) / (each.sum() + 0.5 * len(each)) for each in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def _chi_squared(before: Floats, after: Floats) -> float:
    """Pearson's test that both counts are of one distribution: the p-value."""
    table = np.vstack([before, after])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if table.shape[1] < 2:
        return 1.0
    return float(chi2.sf((np.square(table - expected) / expected).sum(), table.shape[1] - 1))
