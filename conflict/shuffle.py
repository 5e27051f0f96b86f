"""Rows by user where files are in another order; ranges of users go through files of their own if many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from conflict.candidates import is_text, stands_twice
from conflict.scan import Source

#: rows that are sorted at once, about
_AT_ONCE = 4_000_000
#: rows that come out at once
_PIECE = 500_000
#: users looked at to find ranges of like size
_SAMPLE = 200_000


def spare_name(schema: pl.Schema) -> str:
    """A name that no column has."""
    return "row" + "_" * max(map(len, schema))


def by_user(
    source: Source, pieces: Iterable[tuple[int, pl.DataFrame]], folder: Path
) -> Iterator[pl.DataFrame]:
    """The same rows in pieces by user, then task, with their rows as a further column (`spare_name`).

    Raises BadInput for the first row whose user and task stand in another one too. If rows are many, the
    folder holds what the pieces do, uncompressed, for a while.
    """
    row = spare_name(source.schema)
    plain = (_plain(piece, first, row) for first, piece in pieces)
    if source.rows <= _AT_ONCE:
        frames = iter([pl.concat(list(plain))])
    else:
        frames = map(_taken, _spread(plain, _edges(source), folder))
    twice: tuple[int, object, object] | None = None
    for frame in frames:
        ordered = frame.sort("user", "task", row)
        same = ordered.select("user", "task", row).filter(
            (pl.col("user") == pl.col("user").shift(-1)) & (pl.col("task") == pl.col("task").shift(-1))
        )
        if same.height:
            user, task, at = same.row(int(same[row].arg_min() or 0))
            twice = min(twice or (at, user, task), (at, user, task), key=lambda each: each[0])
        if twice is None:
            typed = [
                pl.col(column).cast(dtype)
                for column, dtype in source.schema.items()
                if column != "user" and ordered.schema.get(column, dtype) != dtype
            ]
            yield from ordered.with_columns(typed).iter_slices(_PIECE)
    if twice is not None:
        raise stands_twice(source.where, twice[1], twice[2])


def _plain(piece: pl.DataFrame, first: int, row: str) -> pl.DataFrame:
    """With rows, and labels as text, which sorts by its letters and goes through any file."""
    texts = [pl.col(column).cast(pl.String) for column, dtype in piece.schema.items() if is_text(dtype)]
    return piece.with_columns(*texts, pl.int_range(first, first + piece.height, dtype=pl.Int64).alias(row))


def _spread(pieces: Iterable[pl.DataFrame], edges: pl.Series, folder: Path) -> list[Path]:
    """Files with the rows of each range of users, in their order."""
    writers: dict[int, pa.RecordBatchFileWriter] = {}
    files = [folder / f"{each}.arrow" for each in range(edges.len() + 1)]
    try:
        for piece in pieces:
            ranges = pl.Series("range", edges.search_sorted(piece["user"], side="right"))
            for each in ranges.unique():
                table = piece.filter(ranges == each).to_arrow(compat_level=pl.CompatLevel.oldest())
                if each not in writers:
                    writers[each] = pa.RecordBatchFileWriter(files[each], table.schema)
                writers[each].write_table(table)
    finally:
        for writer in writers.values():
            writer.close()
    return [files[each] for each in sorted(writers)]


def _taken(file: Path) -> pl.DataFrame:
    frame = pl.read_ipc(file)
    file.unlink()
    return frame


def _edges(source: Source) -> pl.Series:
    """Users at which ranges of users begin, all but the first."""
    text = is_text(source.schema["user"])
    step = max(1, source.rows // _SAMPLE)

    def some(first: int, piece: pl.DataFrame) -> pl.Series:
        users = piece["user"].gather_every(step, -first % step)
        return users.cast(pl.String) if text else users

    users = pl.concat(list(source.pieces(["user"], some, lambda first, end: True))).sort()
    ranges = -(-source.rows // _AT_ONCE)
    return users.gather([users.len() * each // ranges for each in range(1, ranges)]).unique().sort()
