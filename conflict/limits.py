"""Limits as they come in: from YAML, checked on their own and against the candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from conflict.candidates import check_candidates, check_numbers, check_numeric, first_row
from conflict.labels import Label, as_typed, labels_of, slice_of
from kernel.choices import Limits
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound


class _Once(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: the second would silently win."""


def _mapping(loader: _Once, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key} stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_limits(path: Path) -> Limits:
    """The limits file of `growth allocate`. Raises BadInput naming file, line or field, and value."""
    where = str(path)
    if not path.is_file():
        raise BadInput("no such file", where=where, field="limits")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Once)  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError:
        raise BadInput("is not text in UTF-8", where=where, field="document") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else "document"
        problem = getattr(error, "problem", None) or "does not parse"
        raise BadInput(f"is not YAML: {problem}", where=where, field=place) from None
    return parse(Limits, _label_keys({} if raw is None else raw), where)


def _label_keys(raw: Any) -> Any:
    """Labels of max_by as text: YAML reads `3:` as a number and `true:` as a boolean."""
    try:
        max_by = raw["per_user"]["max_by"]
        texts = {column: {_text(each): most for each, most in by.items()} for column, by in max_by.items()}
    except (TypeError, KeyError, AttributeError):
        return raw
    return {**raw, "per_user": {**raw["per_user"], "max_by": texts}}


def _text(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def check_limits(candidates: pl.DataFrame, limits: Limits, where: str = "limits") -> None:
    """Raises BadInput unless every limit and rule speaks of what the candidates have.

    A label or task that occurs nowhere is taken for a slip of the pen. With no candidates at all nothing can
    occur, so only columns are judged. A slice of known labels that is empty is right for a ceiling, which
    then binds nothing, and an error for a floor above zero.
    """
    check_candidates(candidates)
    check_terms(candidates.schema, limits, where, empty=candidates.height == 0)
    check_used(candidates, limits, where)
    check_labels(candidates, limits, where)


def check_terms(schema: pl.Schema, limits: Limits, where: str = "limits", *, empty: bool) -> None:
    """Raises BadInput unless the columns that limits and rules name are there and of types that fit."""
    for limit in limits.limits:
        place = f"{where}: limit {limit.name}"
        if limit.sum is not None:
            _known_column(schema, limit.sum, place, "sum")
            check_numeric(schema, limit.sum, f"{place}: candidates", empty=empty)
        for column, chosen in limit.where.items():
            _known_column(schema, column, place, "where")
            for label in () if empty else labels_of(chosen):
                as_typed(label, schema[column], where=place, field=f"where.{column}")
    for column in limits.per_user.max_by:
        _known_column(schema, column, where, "per_user.max_by")
    for task in () if empty else sum(limits.per_user.never_together, ()):
        as_typed(task, schema["task"], where=where, field="per_user.never_together")


def check_used(candidates: pl.DataFrame, limits: Limits, where: str = "limits", first: int = 0) -> None:
    """Raises BadInput unless what limits sum is finite and what they select on is there in every row.

    `first`: number of the first row.
    """
    summed = set[str]()
    for limit in limits.limits:
        place = f"{where}: limit {limit.name}"
        if limit.sum is not None and limit.sum not in summed:
            check_numbers(candidates, limit.sum, f"{place}: candidates", first)
            summed.add(limit.sum)
        for column in limit.where:
            _no_nulls(candidates, column, place, f"where.{column}", first)
    for column in limits.per_user.max_by:
        _no_nulls(candidates, column, where, "per_user.max_by", first)


def check_labels(seen: pl.DataFrame, limits: Limits, where: str = "limits") -> None:
    """Raises BadInput unless labels and tasks occur; `seen`: candidates, or each combination of labels."""
    if seen.height == 0:
        return
    for limit in limits.limits:
        place = f"{where}: limit {limit.name}"
        for column, chosen in limit.where.items():
            for label in labels_of(chosen):
                _known_label(seen, column, label, place, f"where.{column}")
        if (
            limit.where
            and (limit.at_least or 0) > 0
            and not seen.select(slice_of(limit, seen)).to_series().any()
        ):
            raise BadInput("is above 0, and no candidate is in its slice", where=place, field="at_least",
                           value=limit.at_least)  # fmt: skip
    for column, labels in limits.per_user.max_by.items():
        known = seen[column].cast(pl.String).unique()
        for label in labels:
            if label not in known:
                raise NotFound(f"label of {column}", label, known, where=where, field="per_user.max_by")
    for tasks in limits.per_user.never_together:
        for task in tasks:
            _known_label(seen, "task", task, where, "per_user.never_together")


def _known_column(schema: pl.Schema, column: str, where: str, field: str) -> None:
    if column not in schema:
        raise NotFound("column", column, schema, where=where, field=field)


def _known_label(seen: pl.DataFrame, column: str, label: Label, where: str, field: str) -> None:
    dtype = seen.schema[column]
    typed = as_typed(label, dtype, where=where, field=field)
    own = seen[column].cast(pl.String) if dtype in (pl.Categorical, pl.Enum) else seen[column]
    if not (own == typed).any():
        raise NotFound(f"label of {column}", label, own.drop_nulls().unique(), where=where, field=field)


def _no_nulls(candidates: pl.DataFrame, column: str, where: str, field: str, first: int) -> None:
    if candidates[column].null_count():
        row = first + first_row(candidates[column].is_null())
        raise BadInput(
            f"selects on a column that is empty in row {row}", where=where, field=field, value=column
        )
