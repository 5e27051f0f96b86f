"""Candidates in Parquet, one file or many, piece by piece: nothing here ever holds all rows."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kernel.errors import BadInput, Stale

T = TypeVar("T")

#: rows of a piece, about: row groups are taken whole where they are not far larger
_PIECE = 500_000


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Parquet file."""

    path: Path
    #: first row of each piece, and the number of rows
    cuts: tuple[int, ...]
    #: bytes, and nanoseconds of its last change
    stamp: tuple[int, int]
    #: its columns in the order of the first part
    scan: pl.LazyFrame

    @property
    def rows(self) -> int:
        return self.cuts[-1]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Parquet files with the same columns, in order of their names, as one table."""

    #: what errors call it
    where: str
    parts: tuple[Part, ...]
    schema: pl.Schema
    rows: int

    def pieces(
        self,
        columns: Sequence[str],
        use: Callable[[int, pl.DataFrame], T],
        wanted: Callable[[int, int], bool],
    ) -> Iterator[T]:
        """`use(first row, piece)` of every piece [first row, end) that is wanted, in order.

        The next piece is read and used while the last is worked on. Raises BadInput where the file breaks
        off, and Stale where it is no longer what was opened.
        """
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for first, part, begin, end in self._plan():
                if not wanted(first, first + end - begin):
                    continue
                following = pool.submit(self._piece, part, columns, begin, end, first, use)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()
        self.check_unchanged()

    def labels(self, columns: Sequence[str]) -> pl.DataFrame:
        """Combinations of labels that occur, in ascending order, as `problem.kinds_of` numbers them."""
        found = pl.DataFrame(schema={column: self.schema[column] for column in columns})
        for piece in self.pieces(columns, lambda _, piece: piece.unique(), lambda *_: True):
            found = pl.concat([found, piece]).unique()
        return found.sort(list(columns), nulls_last=True) if columns else found

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows at once."""
        try:
            return pl.concat(
                [part.scan.select(columns or list(self.schema)) for part in self.parts]
            ).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _broken(self.where, error) from None

    def check_unchanged(self) -> None:
        """Raises Stale where a file has changed since it was opened."""
        for part in self.parts:
            if not part.path.is_file() or _stamp(part.path) != part.stamp:
                raise Stale(f"{part.path}: has changed since it was read; run again")

    def _plan(self) -> Iterator[tuple[int, Part, int, int]]:
        first = 0
        for part in self.parts:
            for begin, end in zip(part.cuts, part.cuts[1:], strict=False):
                yield first + begin, part, begin, end
            first += part.rows

    def _piece(
        self,
        part: Part,
        columns: Sequence[str],
        begin: int,
        end: int,
        first: int,
        use: Callable[[int, pl.DataFrame], T],
    ) -> T:
        try:
            piece = part.scan.select(columns).slice(begin, end - begin).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            self.check_unchanged()
            raise _broken(str(part.path), error) from None
        if piece.height != end - begin:
            raise Stale(f"{part.path}: has changed since it was opened; run again")
        return use(first, piece)


def open_source(path: Path) -> Source:
    """A Parquet file, a folder of `*.parquet`, or a pattern such as `day/part-*.parquet`.

    Raises BadInput where there is none, one is not Parquet, or their columns differ.
    """
    where = str(path)
    if path.is_file():
        paths = [path]
    elif path.is_dir():
        paths = sorted(each for each in path.glob("*.parquet") if each.is_file())
        if not paths:
            raise BadInput("this folder holds no *.parquet", where=where, field="candidates")
    else:
        paths = sorted(each for each in map(Path, glob.glob(where)) if each.is_file())
        if not paths:
            raise BadInput("no such file", where=where, field="candidates")
    parts = [_part(paths[0], None)]
    schema = parts[0].scan.collect_schema()
    parts += [_part(each, schema) for each in paths[1:]]
    return Source(where=where, parts=tuple(parts), schema=schema, rows=sum(part.rows for part in parts))


def _part(path: Path, like: pl.Schema | None) -> Part:
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = scan.collect_schema()
        groups = _groups(path, scan)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(
            f"is not a Parquet file: {_line(error)}", where=str(path), field="candidates"
        ) from None
    if like is not None and dict(schema) != dict(like):
        differs = next(
            column for column in [*like, *schema] if schema.get(column) != like.get(column)
        )  # a column that is missing has type None
        raise BadInput("is not the same in all files", where=str(path), field=differs,
                       value=str(schema.get(differs, "missing")))  # fmt: skip
    return Part(path=path, cuts=_cuts(groups), stamp=_stamp(path), scan=scan.select(list(like or schema)))


def _groups(path: Path, scan: pl.LazyFrame) -> list[int]:
    """Rows of each row group."""
    try:
        data = pq.read_metadata(path)
    except pa.lib.ArrowException:
        # integers of 128 bits, which Polars writes and Arrow does not read
        return [scan.select(pl.len()).collect().item()]
    return [data.row_group(each).num_rows for each in range(data.num_row_groups)]


def _cuts(groups: list[int]) -> tuple[int, ...]:
    """Where to cut: between row groups, and inside very large ones."""
    cuts, at = [0], 0
    for rows in groups:
        at += rows
        if rows > 4 * _PIECE:
            cuts += range(cuts[-1] + 2 * _PIECE, at - _PIECE, 2 * _PIECE)
        if at - cuts[-1] >= _PIECE:
            cuts.append(at)
    return tuple(cuts) if cuts[-1] == at else (*cuts, at)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _broken(where: str, error: Exception) -> BadInput:
    return BadInput(f"cannot be read: {_line(error)}", where=where, field="candidates")


def _line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:120]
