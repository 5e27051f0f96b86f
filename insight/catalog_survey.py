"""What a database looks like to someone who does not know it: tables, columns, keys, who refers to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import polars as pl

from insight.catalog import Catalog, Type, parse_catalog
from insight.elastic import ElasticSource
from insight.sources.opening import open_source
from insight.sources.source import Source
from kernel.errors import BadInput, GrowthError

#: rows that a question about two columns looks at
_LOOK = 200_000


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    #: as the catalog would declare it; None for what it cannot use
    type: Type | None
    #: whether its times have no zone
    naive: bool
    #: different values, rows without one
    distinct: int
    nulls: int
    #: every value, most frequent first, where they are few
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table and its columns."""

    name: str
    rows: int
    columns: dict[str, Column] = field(default_factory=dict)

    def unique(self, column: str) -> bool:
        """Whether every row has a value of its own."""
        found = self.columns[column]
        return self.rows > 0 and found.nulls == 0 and found.distinct == self.rows

    def of_type(self, *types: str) -> list[Column]:
        return [column for column in self.columns.values() if column.type in types]


class Survey:
    """An open source, and its tables as they were found."""

    def __init__(self, source: Source, tables: dict[str, Table]) -> None:
        self._source, self.tables = source, tables

    def share_known(self, child: str, parent: str, column: str) -> float:
        """Of the different values of a child's column, the share that the parent's has, from 0 to 1."""
        one, other = self._look(child, column), self._table(parent).select(key=ibis._[column]).distinct()
        all_of = one.aggregate(n=one.count())
        kept = one.semi_join(other, one.key == other.key)
        whole = self._source.frame(all_of)["n"][0]
        return float(self._source.frame(kept.aggregate(n=kept.count()))["n"][0]) / whole if whole else 0.0

    def decides(self, table: str, one: str, others: Iterable[str]) -> bool:
        """Whether each value of a column comes with one value of each other."""
        names = list(others)
        rows = self._table(table).filter(ibis._[one].notnull())
        counted = rows.group_by(one).agg(**{f"n {i}": rows[name].nunique() for i, name in enumerate(names)})
        worst = counted.aggregate(**{f"n {i}": counted[f"n {i}"].max() for i in range(len(names))})
        return all((found or 0) <= 1 for found in self._source.frame(worst).row(0))

    def _look(self, table: str, column: str) -> Any:
        rows = self._table(table).select(key=ibis._[column])
        return rows.filter(rows.key.notnull()).distinct().limit(_LOOK)

    def _table(self, name: str) -> Any:
        return ibis.table(self._source.schema(name, "table"), name=name)


def draft_of(url: str, name: str, folder: Path, timezone: str) -> Catalog:
    """A catalog with one source and nothing else that is true."""
    nobody = {"source": name, "table": "unknown", "key": "unknown"}
    raw = {"sources": {name: {"url": url, "timezone": timezone}}, "entities": {"user": nobody}}
    return parse_catalog(raw, folder=folder, where="draft")


def survey(catalog: Catalog, name: str, use: Callable[[Survey], Any], most_values: int) -> Any:
    """What `use` makes of the survey, while the source is open. Raises BadInput when it has no tables."""
    with open_source(catalog, name) as source:
        if isinstance(source, ElasticSource):
            problem = "is Elasticsearch; a catalog is drafted from sources that Ibis knows"
            raise BadInput(problem, field="URL", value=source.place.shown)
        tables = {}
        for table in source.tables():
            try:
                found = _table(source, table, most_values)
            except GrowthError:
                continue  # a table that cannot be read is none that a catalog could name
            tables[table] = found
        if not tables:
            raise BadInput("holds no tables that can be read", field="URL", value=source.place.shown)
        return use(Survey(source, tables))


def _table(source: Source, name: str, most_values: int) -> Table:
    schema = source.schema(name, "table")
    rows = ibis.table(schema, name=name)
    kinds = {column: _type(kind) for column, kind in schema.items()}
    asked: dict[str, Any] = {"rows": rows.count()}
    for i, (column, kind) in enumerate(kinds.items()):
        if kind is not None:
            asked |= {f"known {i}": rows[column].count(), f"distinct {i}": rows[column].nunique()}
    totals = source.frame(rows.aggregate(**asked)).row(0, named=True)
    columns = {}
    for i, (column, kind) in enumerate(kinds.items()):
        distinct = totals.get(f"distinct {i}", 0)
        few = kind in ("string", "integer") and 0 < distinct <= most_values
        columns[column] = Column(
            name=column,
            type=kind,
            naive=schema[column].is_timestamp() and schema[column].timezone is None,
            distinct=distinct,
            nulls=totals["rows"] - totals.get(f"known {i}", totals["rows"]),
            values=_values(source, rows, column) if few else (),
        )
    return Table(name=name, rows=totals["rows"], columns=columns)


def _values(source: Source, rows: Any, column: str) -> tuple[Any, ...]:
    counted = rows.select(value=rows[column]).group_by("value").agg(n=ibis._.count())
    kept = counted.filter(counted.value.notnull()).order_by(ibis.desc("n"), "value")
    frame: pl.DataFrame = source.frame(kept)
    return tuple(frame["value"].to_list())


def _type(kind: Any) -> Type | None:
    if kind.is_boolean():
        return "boolean"
    if kind.is_integer():
        return "integer"
    if kind.is_numeric():
        return "decimal"
    if kind.is_string() or kind.is_uuid():
        return "string"
    if kind.is_timestamp():
        return "datetime"
    return "date" if kind.is_date() else None
