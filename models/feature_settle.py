"""Labels that a feature set leaves to the data, found once and then part of the definition.

A model keeps the set that it was learned with, labels and all: what becomes frequent later changes no column.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from kernel.clock import aware
from kernel.definitions import parse
from kernel.errors import BadInput
from models.feature_batch import holds
from models.feature_definitions import CELL, Aggregate, Feature, FeatureSet, OfCell, OfField
from models.feature_facts import Facts, check_facts


def settle(features: FeatureSet, facts: Facts, as_of: datetime) -> FeatureSet:
    """The set with its labels: the most frequent in lines known by `as_of`, ties by name.

    Raises BadInput for a text field in which nothing has ever been.
    """
    if features.settled:
        return features
    as_of = aware(as_of, "as_of")
    check_facts(features, facts)
    found = tuple(_settled(each, features, facts, as_of) for each in features.features)
    # validated again: labels make columns, and columns must differ
    raw = features.model_dump(exclude_unset=True)
    raw["features"] = [each.model_dump(exclude_unset=True) for each in found]
    return parse(FeatureSet, raw | {"settled": True}, f"features {features.name}")


def _settled(each: Feature, features: FeatureSet, facts: Facts, as_of: datetime) -> Feature:
    if isinstance(each, OfCell):
        lines = facts.known(features, CELL, as_of).select(label=each.cell)
        return each.model_copy(update={"labels": _top(lines, each.top, features, f"cell.{each.cell}")})
    if isinstance(each, OfField) and not each.labels:
        column = (facts.fields if facts.fields is not None else pl.LazyFrame()).select(label=each.field)
        if not _is_text(column):
            return each
        return each.model_copy(update={"labels": _top(column, each.top, features, each.field)})
    if isinstance(each, Aggregate) and not each.labels and (each.by or each.agg == "last"):
        name = each.by or each.of or ""
        lines = facts.known(features, each.event, as_of).filter(holds(each.where)).select(label=name)
        if each.by is None and not _is_text(lines):
            return each
        return each.model_copy(update={"labels": _top(lines, each.top, features, f"{each.event}.{name}")})
    return each


def _is_text(column: pl.LazyFrame) -> bool:
    kind = column.collect_schema()["label"]
    return kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)


def _top(
    column: pl.LazyFrame, most: int, features: FeatureSet, field: str
) -> tuple[str | int | float | bool, ...]:
    counted = column.drop_nulls().group_by("label").agg(n=pl.len()).collect(engine="streaming")
    if _is_text(counted.lazy()):
        counted = counted.with_columns(pl.col("label").cast(pl.String)).filter(pl.col("label") != "")
    if counted.is_empty():
        raise BadInput(
            "has no value in any line known by then", where=f"features {features.name}", field=field
        )
    return tuple(counted.sort(["n", "label"], descending=[True, False])["label"].head(most).to_list())
