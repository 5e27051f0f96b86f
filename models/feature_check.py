"""Does a feature know the future? What can be proven from its definition, and what data gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from kernel.clock import aware
from kernel.errors import BadInput
from models.feature_batch import derive
from models.feature_definitions import FeatureSet, OfEvent, OfField
from models.feature_facts import Facts

#: a single feature that ranks so well has probably seen the label: real ones rarely pass .9
SUSPICIOUS = 0.98
#: rows of each label that an AUC is worth naming for
_FEWEST = 20


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Why a feature may know what happens after the instant."""

    #: column, or field, that it is about
    feature: str
    #: `as it is now`, `changes with the future`, `knows the label`, `holds later times`
    kind: str
    said: str


def check_trainable(features: FeatureSet | None) -> None:
    """Raises BadInput for a field known only as it is now: a model would learn from the future."""
    for each in () if features is None else features.features:
        if isinstance(each, OfField) and not each.static:
            raise BadInput(
                "is known as it is now only, not as it was; say static: true if it never changes, or declare"
                " the table of its values as an event and take the last",
                where=f"features {features.name if features else ''}",
                field=each.field,
            )


def find_leaks(
    features: FeatureSet, facts: Facts, as_of: datetime, label: pl.DataFrame | None = None
) -> list[Leak]:
    """Everything suspicious about a settled set as of an instant. `label`: user, label (0 or 1), if at hand.

    Built twice, with and without what happened or became known after the instant, and compared; each column
    held against the label by itself; each field with a time after the instant in a line from before it named.
    """
    as_of = aware(as_of, "as_of")
    found = [
        Leak(
            feature=each.field,
            kind="as it is now",
            said="has no history; only static: true may be learned from",
        )
        for each in features.features
        if isinstance(each, OfField) and not each.static
    ]
    whole = derive(features, facts, as_of).sort("user").collect()
    cut = derive(features, _cut(features, facts, as_of), as_of).sort("user").collect()
    found += _changed(whole, cut)
    found += _later(features, facts, as_of, label)
    if label is not None:
        found += tell_tale(whole, label)
    return found


def tell_tale(frame: pl.DataFrame, label: pl.DataFrame) -> list[Leak]:
    """Columns of `frame` that alone order the users by the label almost without a mistake."""
    rows = frame.join(label.select("user", "label"), on="user")
    y = rows["label"].to_numpy() > 0
    if min(y.sum(), (~y).sum()) < _FEWEST:
        return []
    found = []
    for name in frame.columns:
        if name in ("user", "at") or not (rows[name].dtype.is_numeric() or rows[name].dtype == pl.Boolean):
            continue
        auc = _auc(rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy(), y)
        if max(auc, 1 - auc) >= SUSPICIOUS:
            said = f"tells the label by itself: AUC {max(auc, 1 - auc):.3f} of {len(y):,} users"
            found.append(Leak(feature=name, kind="knows the label", said=said))
    return found


def _auc(x: NDArray[np.float64], y: NDArray[np.bool_]) -> float:
    """Mann-Whitney; missing values tie below all others."""
    ranks = rankdata(np.where(np.isnan(x), -np.inf, x))
    ones = int(y.sum())
    return float((ranks[y].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))


def _cut(features: FeatureSet, facts: Facts, as_of: datetime) -> Facts:
    """Without any line that happened or became known after the instant."""
    events = {name: facts.known(features, name, as_of).drop("age") for name in facts.events}
    return Facts(events=events, fields=facts.fields, whole=facts.whole)


def _changed(whole: pl.DataFrame, cut: pl.DataFrame) -> list[Leak]:
    both = whole.join(cut, on="user", how="full", coalesce=True, suffix="//cut")
    found = []
    for name in whole.columns[1:]:
        same = pl.col(name).eq_missing(pl.col(f"{name}//cut"))
        differ = both.filter(~same).height
        if differ:
            said = f"changes for {differ:,} users when what came after the instant is removed"
            found.append(Leak(feature=name, kind="changes with the future", said=said))
    return found


def _later(features: FeatureSet, facts: Facts, as_of: datetime, label: pl.DataFrame | None) -> list[Leak]:
    """Fields that features read, of lines from before the instant, which hold times from after it; and what
    such a time says of the label."""
    at, found = pl.lit(as_of), []
    for event, read in features.events.items():
        lines = facts.known(features, event, as_of)
        schema = lines.collect_schema()
        for name in (
            each for each in schema.names() if schema[each].is_temporal() and each not in ("at", "age")
        ):
            if schema[name] == pl.Duration or schema[name] == pl.Time:
                continue
            late = (
                lines.filter(pl.col(name).cast(pl.Datetime("us", "UTC")) > at)
                .select("user")
                .unique()
                .collect()
            )
            if late.is_empty():
                continue
            used = _using(features, event, name) if name in read else []
            said = f"holds times after the instant for {late.height:,} users"
            if label is not None:
                said += _told(late, label)
            for column in used or [f"{event}.{name}"]:
                found.append(Leak(feature=column, kind="holds later times", said=f"{event}.{name} {said}"))
    return found


def _using(features: FeatureSet, event: str, name: str) -> list[str]:
    return [
        column
        for each in features.features
        if isinstance(each, OfEvent) and each.event == event and name in each.fields
        for column in each.columns
    ]


def _told(late: pl.DataFrame, label: pl.DataFrame) -> str:
    rows = label.with_columns(late=pl.col("user").is_in(late["user"].implode()))
    y = rows["label"].to_numpy() > 0
    if not 0 < y.sum() < len(y):
        return ""
    auc = _auc(rows["late"].cast(pl.Float64).to_numpy(), y)
    return f", which alone tells the label with AUC {max(auc, 1 - auc):.3f}"


def check_rows(frame: pl.DataFrame, name: str, keys: Sequence[str]) -> None:
    """Raises BadInput for rows that share a key, and for a column that no learner can read."""
    if frame.select(keys).is_duplicated().any():
        row = frame.filter(frame.select(keys).is_duplicated()).select(keys).row(0)
        said = "is the key of more than one row"
        raise BadInput(said, where=f"dataset {name}", field=" × ".join(keys), value=", ".join(map(str, row)))
    for column, kind in frame.schema.items():
        if column not in keys and not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise BadInput(f"is {kind}, not a number", where=f"dataset {name}", field=column)
