"""From Parquet straight into compact columns: never all rows as a table, never an object a row.

Memory is the columns of `Problem` and a few pieces of the file. Where the file is ascending by user, pieces
are taken as they come; each user's candidates are then put in order of task, so that the order of rows never
matters. Otherwise rows are sorted, in memory or, when there are too many, through a temporary folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conflict import problem as compact
from conflict import runs
from conflict.candidates import check_candidates, check_columns, check_rows, is_text, stands_twice
from conflict.kinds import NARROW, Kinds, Words
from conflict.limits import check_labels, check_terms, check_used
from conflict.problem import Ints, Mask, Problem, compile_problem, compile_rules, kind_type
from conflict.scan import Source, open_source
from conflict.shuffle import by_user, spare_name
from kernel.choices import Limits
from kernel.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Candidates as columns, and where each stands in the files."""

    problem: Problem
    source: Source
    #: row of each candidate in the files, [n]; None: users stand there as they do here
    rows: NDArray[np.integer] | None = None
    #: which of its user's rows each candidate is, [n]; None: candidates stand there as they do here
    places: NDArray[np.unsignedinteger] | None = None

    def rows_of(self, at: Ints) -> Ints:
        """Rows in the files of some candidates."""
        if self.rows is not None:
            return self.rows[at].astype(np.int64)
        if self.places is None:
            return at
        first = self.problem.starts[np.searchsorted(self.problem.starts, at, side="right") - 1]
        return np.asarray(first + self.places[at], np.int64)

    def in_file(self, chosen: Mask) -> Mask:
        """The same choice by row of the files, [n]."""
        if self.rows is None and self.places is None:
            return chosen
        out = np.zeros(chosen.size, np.bool_)
        if self.rows is not None:
            out[self.rows[chosen]] = True
        else:
            runs.back(self.problem.starts, self.places, chosen, out)
        return out


class _Unordered(Exception):
    """Users do not ascend."""


def load(path: Path, limits: Limits) -> Loaded:
    """What `compile_problem` makes of `read_candidates(path)`, without ever holding that.

    A file, a folder of Parquet files or a pattern; only columns that matter are read. Above `problem.WIDE`
    rows values and amounts have 32 bits. Raises BadInput as `check_candidates` and `check_limits` do (of
    several faults perhaps another), and where a number is too large for 32 bits.
    """
    source = open_source(path)
    check_columns(source.schema, source.where, empty=source.rows == 0)
    check_terms(source.schema, limits, empty=source.rows == 0)
    # ids that no column of NumPy holds are rare, and sorted as a whole
    far = any(source.schema[column] in (pl.Int128, pl.UInt128) for column in _needed(limits))
    if far:
        frame = source.frame(_needed(limits))
        check_candidates(frame, source.where)
        check_used(frame, limits)
        check_labels(frame, limits)
        problem, rows = compile_problem(frame, limits)
        return Loaded(problem=problem, source=source, rows=rows)
    with ThreadPoolExecutor(1) as pool:
        try:
            columns = _Columns(source, limits, pool)
            for first, piece in _checked(source, limits):
                columns.add(piece, first)
            return columns.finish()
        except _Unordered:
            del columns
    with TemporaryDirectory(prefix="candidates-") as folder:
        columns = _Columns(source, limits, None)
        first = 0
        for piece in by_user(source, _checked(source, limits), Path(folder)):
            columns.add(piece, first)
            first += piece.height
        return columns.finish()


def _needed(limits: Limits) -> list[str]:
    """Columns of the files that matter, each once."""
    return list(
        dict.fromkeys(
            ["user", "task", "value", *compact.summed_columns(limits), *compact.label_columns(limits)]
        )
    )


def _checked(source: Source, limits: Limits) -> Iterator[tuple[int, pl.DataFrame]]:
    """Pieces of the columns that matter, with their first row, checked."""

    def check(first: int, piece: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        check_rows(piece, source.where, first)
        check_used(piece, limits, first=first)
        return first, piece

    return source.pieces(_needed(limits), check, lambda first, end: True)


class _Columns:
    """The columns of a problem, filled piece by piece."""

    def __init__(self, source: Source, limits: Limits, pool: ThreadPoolExecutor | None) -> None:
        """`pool`: one thread, which puts users' candidates in order; None: they come so, with their rows."""
        self._source, self._limits, self._pool = source, limits, pool
        self._working: Future[None] | None = None
        size = source.rows
        width = np.dtype(np.float32 if size > compact.WIDE else np.float64)
        self._summed = compact.summed_columns(limits)
        self._value: NDArray[np.floating] = np.empty(size, width)
        self._amounts: NDArray[np.floating] = np.empty((len(self._summed), size), width)
        self._kind: NDArray[np.unsignedinteger] = np.empty(size, np.uint16)
        # as many users as rows at most; pages that are never touched take no memory
        self._starts = np.empty(size + 1, np.int64)
        self._places: NDArray[np.unsignedinteger] | None = None
        self._rows: NDArray[np.integer] | None = None
        if pool is None:
            self._rows = np.empty(size, np.uint32) if size < 2**32 else np.empty(size, np.int64)
        self._words = Words()
        self._kinds = Kinds(compact.label_columns(limits), source.schema, self._words)
        self._filled = self._users = 0
        self._last: object = None
        #: tasks of the last user so far
        self._open = np.empty(0, np.int64)

    def add(self, piece: pl.DataFrame, first: int) -> None:
        """More rows; their users are the last one or come after it. Raises _Unordered where not."""
        end = first + piece.height
        begins = self._begins(piece["user"], first)
        self._fill(self._value[first:end], piece["value"])
        for row, column in enumerate(self._summed):
            self._fill(self._amounts[row, first:end], piece[column])
        numbers = self._kinds.number(piece)
        if kind_type(self._kinds.count) != self._kind.dtype:
            self._wait()
            self._kind = self._kind.astype(np.uint32)
        self._kind[first:end] = numbers
        if self._rows is not None:
            self._rows[first:end] = piece[spare_name(self._source.schema)].to_numpy()
        settled = self._users - 1
        self._starts[self._users : self._users + begins.size] = begins
        self._users += begins.size
        self._filled = end
        if self._pool is not None:
            keys = np.empty(self._open.size + piece.height, np.int64)
            keys[: self._open.size] = self._open
            keys[self._open.size :] = self._keys(piece["task"])
            self._open = keys
            self._settle(max(settled, 0), self._users - 1)

    def finish(self) -> Loaded:
        self._starts[self._users] = self._filled
        if self._users:
            self._settle(self._users - 1, self._users)
        self._wait()
        kinds, places = self._kinds.finish()
        check_labels(kinds, self._limits)
        if not np.array_equal(places, np.arange(places.size)):
            places = places.astype(self._kind.dtype)
            for at in range(0, self._filled, 2**20):
                self._kind[at : at + 2**20] = places[self._kind[at : at + 2**20]]
        problem = Problem(
            rules=compile_rules(kinds, self._limits),
            value=self._value,
            amounts=self._amounts,
            kind=self._kind,
            starts=self._starts[: self._users + 1],
        )
        return Loaded(problem=problem, source=self._source, rows=self._rows, places=self._places)

    def _begins(self, user: pl.Series, first: int) -> Ints:
        """Rows at which another user begins."""
        if user.dtype in NARROW:
            out = np.empty(user.len(), np.int64)
            count = runs.begins(user.to_numpy(), out)
            begins, ascending = out[: max(count, 0)], count >= 0
        else:
            user = user.cast(pl.String) if is_text(user.dtype) else user
            begins = (user != user.shift(1)).fill_null(value=False).arg_true().to_numpy().astype(np.int64)
            ascending = bool((user[begins] > user[begins - 1]).all())
        head = user[0]
        if not ascending or (self._users and head < self._last):
            raise _Unordered
        if not self._users or head != self._last:
            begins = np.r_[0, begins]
        self._last = user[-1]
        return begins + first

    def _fill(self, out: NDArray[np.floating], numbers: pl.Series) -> None:
        plain = numbers if numbers.dtype.is_float() else numbers.cast(pl.Float64)
        try:
            with np.errstate(over="raise"):
                out[:] = plain.to_numpy()
        except FloatingPointError:
            raise BadInput(
                f"goes beyond what 32 bits hold, which is all that more than {compact.WIDE:,} rows get",
                where=self._source.where,
                field=numbers.name,
                value=plain.abs().max(),
            ) from None

    def _keys(self, task: pl.Series) -> NDArray[np.integer]:
        """Numbers in the order of integers; of text, codes."""
        if not is_text(task.dtype):
            whole = task.to_numpy()
            if whole.dtype == np.uint64:
                return (whole ^ np.uint64(2**63)).view(np.int64)
            return whole
        return self._words.codes(task)

    def _settle(self, first: int, last: int) -> None:
        """Has the candidates of these users put in order, while the next piece is taken in."""
        if last <= first or self._pool is None:
            return
        starts = self._starts[first : last + 1]
        keys, self._open = np.split(self._open, [int(starts[-1] - starts[0])])
        self._open = self._open.copy()  # lets go of the others
        if is_text(self._source.schema["task"]):
            keys = self._words.ranks("task", int(keys.max()) + 1)[keys]
        self._wait()
        self._working = self._pool.submit(self._in_order, first, starts, keys)

    def _wait(self) -> None:
        if self._working is not None:
            self._working.result()

    def _in_order(self, first: int, starts: Ints, keys: Ints) -> None:
        offset = int(starts[0])
        if self._places is None and runs.ordered(keys, starts, offset):
            return
        room = int(np.diff(starts).max())
        places = self._make_places(first, room)
        twice = runs.settle(keys, starts, offset, self._value, self._amounts, self._kind, places, room)
        if twice >= 0:
            raise self._twice(int(starts[twice]), int(starts[twice + 1]))

    def _make_places(self, first: int, room: int) -> NDArray[np.unsignedinteger]:
        """Room for places up to `room`; users before `first` stood in order if there was none."""
        need = np.uint8 if room <= 2**8 else np.uint16 if room <= 2**16 else np.uint32
        if self._places is None:
            self._places = np.empty(self._source.rows, need)
            starts = self._starts[: first + 1]
            at = np.repeat(starts[:-1], np.diff(starts))
            self._places[: at.size] = np.arange(at.size) - at
        elif np.dtype(need).itemsize > self._places.dtype.itemsize:
            self._places = self._places.astype(need)
        return self._places

    def _twice(self, begin: int, end: int) -> BadInput:
        """The first of a user's rows that there is twice."""
        own = pl.concat(
            list(
                self._source.pieces(
                    ["user", "task"],
                    lambda first, piece: piece[max(begin - first, 0) : max(end - first, 0)],
                    lambda first, last: first < end and last > begin,
                )
            )
        )
        user, task = own.row(int(own.is_duplicated().arg_true()[0]))
        return stands_twice(self._source.where, user, task)
