"""Sociology as numbers: ordered levels such as `Under 15K`, `15-24K`, `5+` become midpoints, other
text one column a level. Unknown stays NULL; nobody is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from kernel.errors import BadInput, NotFound

_NUMBER = r"[$€£¥]?\s*(\d[\d,]*(?:\.\d+)?)\s*([km])?"
_LEVEL = re.compile(
    rf"(?P<under>under|below|less than|up to|<)?\s*{_NUMBER}"
    rf"(?:\s*(?:-|–|to)\s*{_NUMBER})?\s*(?P<over>\+|plus|or more|and over|and above)?\s*(?:years?|yrs?)?",
    re.IGNORECASE,
)
_THOUSANDS = {"k": 1_000.0, "m": 1_000_000.0}
#: levels of a text field that are told apart: the commonest, each of at least this part of those known
MOST_LEVELS, LEAST_PART = 12, 0.05


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A column of sociology: a number (`is_share` false) or 0/1 for one level of a text field."""

    #: column name
    name: str
    #: as a person says it
    label: str
    is_share: bool


def level_number(level: str) -> float | None:
    """The number that an ordered level stands for: midpoint of a range, half of `under x`, x of `x+`.

    None when it is not a level of an ordered scale.
    """
    match = _LEVEL.fullmatch(level.strip())
    if match is None:
        return None
    low, low_unit, high, high_unit = match[2], match[3], match[4], match[5]
    first = float(low.replace(",", "")) * _THOUSANDS.get((low_unit or high_unit or "").lower(), 1.0)
    if high is not None:
        second = float(high.replace(",", "")) * _THOUSANDS.get((high_unit or "").lower(), 1.0)
        return (first + second) / 2
    return first / 2 if match["under"] else first


def derive_sociology(
    users: pl.DataFrame, fields: pl.DataFrame, names: Sequence[str]
) -> tuple[pl.DataFrame, tuple[Fact, ...]]:
    """One row a user of `users`, in that order, with a Float64 column per fact, NULL where unknown.

    Raises NotFound for a name that is no column of `fields`, BadInput for a column that is neither text,
    number nor truth, and for a user with two rows.
    """
    for name in names:
        if name == "user" or name not in fields.columns:
            raise NotFound("field", name, set(fields.columns) - {"user"}, where="cells", field="sociology")
    if fields["user"].is_duplicated().any():
        twice = fields.filter(pl.col("user").is_duplicated())["user"].sort()[0]
        raise BadInput("has two rows of fields", where="cells", field="user", value=twice)
    known = users.select("user").join(
        fields.select("user", *names), on="user", how="left", maintain_order="left"
    )
    columns, facts = [], []
    for name in names:
        for fact, column in _facts(name, known[name]):
            columns.append(column.alias(fact.name))
            facts.append(fact)
    return users.select("user").with_columns(columns), tuple(facts)


def _facts(name: str, values: pl.Series) -> list[tuple[Fact, pl.Series]]:
    label = name.rpartition(".")[2].replace("_", " ")
    number = Fact(name=name, label=label, is_share=False)
    if values.dtype.is_numeric():
        column = values.cast(pl.Float64)
        return [(number, pl.select(pl.when(column.is_finite()).then(column)).to_series())]
    if values.dtype == pl.Boolean:
        return [(Fact(name=name, label=label, is_share=True), values.cast(pl.Float64))]
    if values.dtype == pl.Null:
        return []
    if not isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        raise BadInput("is not text, a number or a truth", where="cells", field=name, value=str(values.dtype))
    text = values.cast(pl.String)
    counts = text.drop_nulls().value_counts().sort(["count", text.name], descending=[True, False])
    levels = counts[text.name].to_list()
    common = counts.filter(pl.col("count") >= LEAST_PART * pl.col("count").sum())[text.name].to_list()
    numbers = {level: level_number(level) for level in levels}
    if levels and all(value is not None for value in numbers.values()):
        return [(number, text.replace_strict(numbers, return_dtype=pl.Float64))]
    return [
        (
            Fact(name=f"{name}={level}", label=f"{label}: {level.lower()}", is_share=True),
            (text == level).cast(pl.Float64),
        )
        for level in common[:MOST_LEVELS]
    ]
