"""What was chosen of streamed candidates, all columns, in the order of the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from conflict.problem import Mask
from conflict.stream import Loaded
from kernel.errors import BadInput


def frame(loaded: Loaded, chosen: Mask) -> pl.DataFrame:
    """The chosen candidates [n] as a table. Raises Stale where the files have changed meanwhile."""
    schema = loaded.source.schema
    return pl.concat([pl.DataFrame(schema=schema), *_chosen(loaded, chosen)], rechunk=True)


def write(loaded: Loaded, chosen: Mask, out_file: Path) -> None:
    """The chosen candidates [n] as a Parquet file, piece by piece.

    Written beside its place first and then renamed; a reader never sees half a file. Raises BadInput when it
    cannot be written, and Stale where the files have changed since they were read.
    """
    schema = loaded.source.schema
    loaded.source.check_unchanged()
    failed: list[Exception] = []

    def pieces(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=schema)
        try:
            yield from _chosen(loaded, chosen)
        except Exception as error:
            # Polars would tell of it in words of its own
            failed.append(error)
            raise

    try:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out_file.parent, prefix=".chosen-") as draft:
            register_io_source(pieces, schema=schema).sink_parquet(Path(draft) / out_file.name)
            os.replace(Path(draft) / out_file.name, out_file)
    except (OSError, pl.exceptions.PolarsError) as error:
        if failed:
            raise failed[0] from None
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0][:120]
        raise BadInput(f"cannot be written: {reason}", where=str(out_file), field="out") from None


def _chosen(loaded: Loaded, chosen: Mask) -> Iterator[pl.DataFrame]:
    loaded.source.check_unchanged()
    inside = loaded.in_file(chosen)

    def some(first: int, piece: pl.DataFrame) -> pl.DataFrame:
        return piece.filter(pl.Series(inside[first : first + piece.height]))

    columns = list(loaded.source.schema)
    return loaded.source.pieces(columns, some, lambda first, end: bool(inside[first:end].any()))
