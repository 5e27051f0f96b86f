"""Any other database that Ibis can open: its tables are copied to Parquet, and asked there.

Such an engine cannot cheaply say whether a table has changed, and may mean something else by a rounding, an
order or a hash. So a table is read whole through Ibis, at most once in `refresh`; conditions then mean what
they mean on Parquet, and the version is that of the copy: the same rows keep it.
"""

from __future__ import annotations

import filecmp
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from typing import Any

import ibis
import ibis.expr.operations as ops
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.util import backend_entry_points

from insight.sources.duck import DuckSource
from insight.sources.source import Place
from kernel.clock import parse_window
from kernel.errors import BadInput, GrowthError
from kernel.ids import fingerprint

#: what stands before an Ibis address in the catalog
PREFIX = "ibis+"
#: below the catalog's folder
COPIES = ".copies"
#: backends whose address is a file, found from the catalog's folder
_FILES = ("sqlite",)
_ROWS = 100_000


class CopiedSource:
    """`ibis+BACKEND://…`: the address that `ibis.connect` takes, after `ibis+`."""

    def __init__(self, place: Place) -> None:
        """Raises BadInput for a backend that Ibis has not, or a file that is not there."""
        self.place = place
        self._backend = place.kind.removeprefix(PREFIX)
        known = sorted(entry.name for entry in backend_entry_points())
        if self._backend not in known:
            raise place.wrong(f"names no backend of Ibis: {', '.join(known)}")
        if self._backend in _FILES and not place.path.is_file():
            raise place.wrong("leads to no file")
        self._folder = place.folder / COPIES / f"{place.name}-{fingerprint(place.shown)}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._copy = DuckSource(replace(place, kind="parquet", rest=str(self._folder.resolve())))
        self._open: Any = None

    def tables(self) -> list[str]:
        with self._connected() as connection:
            return sorted(name for name in connection.list_tables() if _is_plain(name))

    def schema(self, table: str, field: str) -> Any:
        self._copied(table, field)
        return self._copy.schema(table, field)

    def frame(self, expression: Any) -> pl.DataFrame:
        self._copy_all(expression)
        return self._copy.frame(expression)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        self._copy_all(expression)
        return self._copy.batches(expression)

    def version(self, table: str, field: str) -> str:
        """Of the copy, which is made anew when it is older than `refresh`."""
        self._copied(table, field, parse_window(self.place.refresh).total_seconds())
        return self._copy.version(table, field)

    def close(self) -> None:
        self._copy.close()
        if self._open is not None:
            self._open.disconnect()
            self._open = None

    def _copy_all(self, expression: Any) -> None:
        for table in {each.name for each in expression.op().find(ops.UnboundTable)}:
            self._copied(table, f"sources.{self.place.name}")

    def _copied(self, table: str, field: str, seconds: float | None = None) -> None:
        """There is a copy, not older than so many seconds."""
        path, read = self._folder / f"{table}.parquet", self._folder / f"_{table}.read"
        there = _is_plain(table) and path.exists() and read.exists()
        if there and (seconds is None or time.time() - read.stat().st_mtime < seconds):
            return
        known = self.tables()
        if table not in known:
            raise self.place.unknown(table, known, field)
        fresh = self._folder / f"_{table}.{os.getpid()}.{get_ident()}"
        begun = time.time()
        try:
            self._write(table, fresh)
            if path.exists() and filecmp.cmp(path, fresh, shallow=False):
                fresh.unlink()
            else:
                fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        read.touch()
        os.utime(read, (begun, begun))

    def _write(self, table: str, path: Path) -> None:
        with self._connected() as connection:
            rows = connection.table(table)
            kinds = {name: kind for name, kind in rows.schema().items() if not kind.is_unknown()}
            if not kinds:
                raise BadInput("has no column that can be read", where=self.place.where,
                               field=f"sources.{self.place.name}", value=table)  # fmt: skip
            # in one order, so that the same rows make the same file
            rows = rows.select(*kinds).order_by(list(kinds))
            kept = rows.schema().to_pyarrow()
            # on the way some backends use what pandas is about to drop
            with warnings.catch_warnings(action="ignore"), pq.ParquetWriter(path, kept) as writer:
                for batch in rows.to_pyarrow_batches(chunk_size=_ROWS):
                    writer.write_batch(batch)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self._open is None:
                rest = self.place.address().partition("://")[2]
                if self._backend in _FILES:
                    rest = str(self.place.path.resolve())
                self._open = ibis.connect(f"{self._backend}://{rest}")
            yield self._open
        except GrowthError:
            raise
        except ImportError as error:
            raise self.place.wrong(f"needs the package {error.name}") from None
        except Exception as error:  # noqa: BLE001  every driver has errors of its own
            raise self.place.silent(error) from None


def _is_plain(table: str) -> bool:
    """Whether it can be the name of a file."""
    return table[:1] not in ("", ".", "_") and "/" not in table and "\0" not in table
