"""Candidates as chunks: rows to compact columns, columns to bytes and back; in the workers of a cluster.

A partition holds whole users in order. Its candidates are cut into *chunks* at ends of users, the same ones
whatever the batches in which rows arrive, and a chunk is one row of `CHUNK`: its columns as bytes, and its
*seal*, a checksum, by which the driver knows whether a chunk that had to be made again is the same.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from conflict.problem import Floats, Ints, Problem, Rules, kind_type

#: rows of a batch that goes to a worker
READ = 50_000
#: place of a candidate in the crowd: partition · 2^40 + place in the partition
PARTITION = 40

#: `first` is the chunk's first candidate in the partition, `fault` a user and task that stand twice, as JSON
CHUNK = (
    "partition int, first long, users long, size long, seal long, fault string, "
    "starts binary, value binary, amounts binary, kind binary"
)
Batches = Iterator[pa.RecordBatch]
Round = Callable[[Batches], Batches]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a frame make a problem, by position."""

    user: str
    task: str
    value: str
    #: columns that limits sum
    sums: tuple[str, ...]
    #: columns that limits and rules select on
    labels: tuple[str, ...]
    #: combinations of labels, in the order of `rules.member`
    kinds: pl.DataFrame
    #: limits under bounds of 0, so that what is taken off a bound is the use itself
    rules: Rules
    #: type of values and amounts
    width: str
    #: most candidates of a chunk, unless one user has more
    chunk: int


class Changed(Exception):
    """The candidates are not those of the first reading."""


def packing(columns: Columns) -> Round:
    """Rows by user and task → a row of `CHUNK` for each chunk."""

    def run(batches: Batches) -> Batches:
        for partition, first, rows in chunks_of(batches, columns):
            problem, fault = problem_of_rows(rows, columns)
            yield row_of(
                CHUNK,
                partition=partition,
                first=first,
                users=problem.users,
                size=problem.size,
                seal=seal_of(problem),
                fault=fault,
                starts=problem.starts.tobytes(),
                value=problem.value.tobytes(),
                amounts=problem.amounts.tobytes(),
                kind=problem.kind.tobytes(),
            )

    return run


def chunks_of(batches: Batches, columns: Columns) -> Iterator[tuple[int, int, pa.Table]]:
    """(partition, first candidate, rows), cut at the last end of a user before there would be too many."""
    # only there is in a worker
    from pyspark import TaskContext

    partition, first = int(TaskContext.get().partitionId()), 0
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.num_rows
        while size > columns.chunk:
            table = pa.Table.from_batches(held)
            starts = _starts(table[columns.user])
            after = starts[1:-1]
            cut = (
                after[after <= columns.chunk][-1:] if after.size and after[0] <= columns.chunk else after[:1]
            )
            if not cut.size:
                break
            yield partition, first, table.slice(0, int(cut[0]))
            first += int(cut[0])
            held = table.slice(int(cut[0])).to_batches()
            size -= int(cut[0])
    if size:
        yield partition, first, pa.Table.from_batches(held)


def problem_of_rows(rows: pa.Table, columns: Columns) -> tuple[Problem, str | None]:
    """A chunk's rows as columns; a user and task that stand twice, if any do."""
    user, task = rows[columns.user].combine_chunks(), rows[columns.task].combine_chunks()
    again = pc.and_(pc.equal(user[1:], user[:-1]), pc.equal(task[1:], task[:-1]))
    fault = None
    if pc.any(again).as_py():
        row = int(np.flatnonzero(again.to_numpy(zero_copy_only=False))[0])
        fault = json.dumps([user[row].as_py(), task[row].as_py()])
    kinds = columns.kinds.height
    kind = np.zeros(rows.num_rows, kind_type(kinds))
    if columns.labels:
        labels = pl.DataFrame(pl.from_arrow(rows.select(list(columns.labels))))
        known = columns.kinds.with_row_index("kind")
        joined = labels.join(
            known, on=list(columns.labels), how="left", nulls_equal=True, maintain_order="left"
        )
        if joined["kind"].null_count():
            raise Changed
        kind = joined["kind"].to_numpy().astype(kind.dtype)
    amounts = np.empty((len(columns.sums), rows.num_rows), columns.width)
    for row, column in enumerate(columns.sums):
        amounts[row] = _numbers(rows[column])
    problem = Problem(
        rules=columns.rules,
        value=_numbers(rows[columns.value]).astype(columns.width),
        amounts=amounts,
        kind=kind,
        starts=_starts(rows[columns.user]),
    )
    return problem, fault


def _numbers(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _starts(user: pa.ChunkedArray) -> Ints:
    whole = user.combine_chunks()
    changes = pc.not_equal(whole[1:], whole[:-1]).to_numpy(zero_copy_only=False)
    return np.asarray(np.r_[0, np.flatnonzero(changes) + 1, len(whole)], np.int64)


def problems(batches: Batches, rules: Rules, width: str) -> Iterator[tuple[dict[str, Any], Problem]]:
    for batch in batches:
        for chunk in batch.to_pylist():
            yield chunk, problem_of(chunk, rules, width, "starts")


def problem_of(row: dict[str, Any], rules: Rules, width: str, users: str) -> Problem:
    """Columns out of bytes. `users` is `starts`, or `counts` where a row tells how many each user has.

    Copied, as kernels are compiled for arrays that may be written.
    """
    value = np.frombuffer(row["value"], width).copy()
    starts = np.frombuffer(row[users], np.int64).copy()
    return Problem(
        rules=rules,
        value=value,
        amounts=np.frombuffer(row["amounts"], width)
        .copy()
        .reshape(int(rules.summed.max(initial=0)), value.size),
        kind=np.frombuffer(row["kind"], kind_type(rules.kinds)).copy(),
        starts=starts if users == "starts" else np.r_[0, np.cumsum(starts)].astype(np.int64),
        origin=np.frombuffer(row["origin"], np.int64).copy() if "origin" in row else None,
    )


def places(problem: Problem) -> Ints:
    """Where its candidates stand in what it was taken from, [n]."""
    return np.arange(problem.size) if problem.origin is None else problem.origin


def seal_of(problem: Problem) -> int:
    seal = 0
    for column in (problem.starts, problem.value, problem.amounts, problem.kind):
        seal = zlib.crc32(np.ascontiguousarray(column).view(np.uint8).data if column.size else b"", seal)
    return seal


_TYPES = {
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
}


def row_of(schema: str, **values: Any) -> pa.RecordBatch:
    fields = [field.split() for field in schema.split(", ")]
    return pa.record_batch({name: pa.array([values[name]], _TYPES[kind]) for name, kind in fields})
