"""A list of ids in a query as one value: JSON, which the engine opens into rows. Thousands of ids cost it
next to nothing so, where each as a literal of its own would be parsed and planned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import sqlglot as sg
import sqlglot.expressions as sge


def with_ids(query: Any, given: Mapping[str, pa.Table], dialect: str) -> Any:
    """A tree of sqlglot with its tables of these names replaced; `given`: name → table of one column."""

    def replaced(node: Any) -> Any:
        if not isinstance(node, sge.Table) or node.name not in given:
            return node
        return _rows(given[node.name], dialect).subquery(node.alias or node.name)

    return query.transform(replaced)


def _rows(table: pa.Table, dialect: str) -> Any:
    (column,), whole = table.column_names, pa.types.is_integer(table.schema.types[0])
    ids = table[column].to_pylist()
    rows: Any
    if dialect == "postgres":  # whose text has no NUL
        said = sge.cast(_text([each for each in ids if whole or "\0" not in each]), "jsonb")
        rows = sge.cast(sg.func("jsonb_array_elements_text", said), "bigint" if whole else "text")
    elif dialect == "clickhouse":
        kind = sge.Literal.string("Array(Int64)" if whole else "Array(String)")
        rows = sge.Anonymous(
            this="arrayJoin", expressions=[sge.Anonymous(this="JSONExtract", expressions=[_text(ids), kind])]
        )
    else:
        kind = sge.Literal.string("array<bigint>" if whole else "array<string>")
        rows = sge.Anonymous(
            this="explode", expressions=[sge.Anonymous(this="from_json", expressions=[_text(ids), kind])]
        )
    return sg.select(sge.alias_(rows, column, quoted=True))


def _text(ids: list[Any]) -> Any:
    return sge.Literal.string(json.dumps(ids))
