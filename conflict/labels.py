"""Labels: what a person writes in YAML, and what stands in a typed column."""

from __future__ import annotations

import polars as pl

from kernel.choices import Limit
from kernel.errors import BadInput

Label = str | int | float | bool


def labels_of(chosen: Label | tuple[Label, ...]) -> tuple[Label, ...]:
    return chosen if isinstance(chosen, tuple) else (chosen,)


def as_typed(label: Label, dtype: pl.DataType, *, where: str, field: str) -> Label:
    """The label as a value of the column. Raises BadInput where the types differ: 3 is not "3"."""
    if dtype == pl.Boolean:
        fits: bool = isinstance(label, bool)
    elif dtype.is_integer():
        fits = not isinstance(label, bool) and (
            isinstance(label, int) or (isinstance(label, float) and label.is_integer())
        )
        label = int(label) if fits else label
    elif dtype.is_float():
        fits = isinstance(label, int | float) and not isinstance(label, bool)
    else:
        fits = isinstance(label, str)
    if not fits:
        raise BadInput(f"is not a label of a column of type {dtype}", where=where, field=field, value=label)
    return label


def slice_of(limit: Limit, frame: pl.DataFrame) -> pl.Expr:
    """Whether a row is in the slice that the limit is about."""
    inside = pl.lit(value=True)
    for column, chosen in limit.where.items():
        dtype = frame.schema[column]
        wanted = [
            as_typed(each, dtype, where=f"limit {limit.name}", field=f"where.{column}")
            for each in labels_of(chosen)
        ]
        text = dtype in (pl.Categorical, pl.Enum)
        own = pl.col(column).cast(pl.String) if text else pl.col(column)
        inside = inside & own.is_in(pl.Series(wanted, dtype=pl.String if text else dtype).implode())
    return inside.fill_null(value=False) if limit.where else pl.repeat(True, pl.len())
