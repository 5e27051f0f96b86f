"""Further columns of a selection: fields of the catalog beside the users' ids, never a whole table in memory.

Each table is read once, in batches, and its rows are put into one file a piece of the audience; a piece then
finds its rows there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl
import pyarrow as pa
from pyroaring import BitMap

from insight.population import Population
from insight.reading import check_one_row_each
from insight.sources.opening import open_source
from insight.tables import fields as fields_of


class Columns:
    """The audience in pieces of so many users, in the order of their numbers."""

    def __init__(self, population: Population, members: BitMap, fields: Sequence[str], piece: int) -> None:
        self._population, self._members, self._fields = population, members, tuple(dict.fromkeys(fields))
        self._piece = piece
        #: the number at which each piece begins
        self._starts = np.array([members[start] for start in range(0, len(members), piece)], dtype=np.uint32)
        self._places: list[tuple[str, ...]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        #: the piece that was asked for last, for files that are smaller than a piece
        self._last: tuple[int, pl.DataFrame] | None = None

    def __enter__(self) -> Columns:
        if self._fields:
            self._folder = tempfile.TemporaryDirectory(prefix="growth-select-")
            catalog = self._population.catalog
            places: dict[tuple[str, str, str], list[str]] = {}
            for name in self._fields:
                places.setdefault(catalog.field_place(name), []).append(name)
            for place, (source, _, _) in enumerate(places):
                here = places[list(places)[place]]
                check_one_row_each(catalog, here[0])
                self._places.append(tuple(here))
                self._spread(place, source, here)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _file(self, place: int, piece: int) -> Path:
        assert self._folder is not None  # noqa: S101  only called with fields
        return Path(self._folder.name) / f"{place}-{piece}.arrows"

    def _spread(self, place: int, source: str, names: Sequence[str]) -> None:
        """The table's rows, one file a piece."""
        writers: dict[int, pa.RecordBatchStreamWriter] = {}
        try:
            with open_source(self._population.catalog, source) as reader:
                for batch in reader.batches(fields_of(self._population.catalog, names)):
                    frame = pl.DataFrame(pl.from_arrow(batch))
                    numbers = self._population.dictionary.numbers(frame["user"])
                    frame = frame.drop("user").insert_column(0, numbers.alias("number")).drop_nulls("number")
                    of = np.searchsorted(self._starts, frame["number"].to_numpy(), side="right") - 1
                    frame = frame.with_columns(piece=pl.Series(of, dtype=pl.Int64)).filter(
                        pl.col("piece") >= 0
                    )
                    for rows in frame.partition_by("piece"):
                        number = int(rows["piece"][0])
                        table = rows.drop("piece").to_arrow(compat_level=pl.CompatLevel.oldest())
                        if number not in writers:
                            path = str(self._file(place, number))
                            writers[number] = pa.ipc.new_stream(pa.OSFile(path, "wb"), table.schema)
                        writers[number].write_table(table)
        finally:
            for writer in writers.values():
                writer.close()

    def frame(self, piece: int) -> pl.DataFrame:
        """[the entity's key, each field] of one piece, sorted by id."""
        if self._last is None or self._last[0] != piece:
            self._last = (piece, self._made(piece))
        return self._last[1]

    def _made(self, piece: int) -> pl.DataFrame:
        population, start = self._population, piece * self._piece
        numbers = BitMap(self._members[start : start + self._piece])
        key = population.catalog.entity.key
        frame = pl.DataFrame({
            "number": np.asarray(numbers.to_array(), dtype=np.uint32),
            key: population.dictionary.users(numbers),
        })  # fmt: skip
        for place, names in enumerate(self._places):
            path = self._file(place, piece)
            if path.exists():
                with pa.memory_map(str(path)) as mapped:
                    rows = pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(mapped).read_all()))
                frame = frame.join(rows.unique("number"), on="number", how="left")
            else:
                frame = frame.with_columns(pl.lit(None).alias(name) for name in names)
        return frame.select(key, *self._fields).sort(key)
