"""What a source is: a place that the catalog names, and the few things that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a source is."""

    #: in the catalog
    name: str
    #: what stands before `://`
    kind: str
    #: what stands behind it, as it was written
    rest: str
    #: folder that relative paths start from
    folder: Path
    #: IANA zone of its naive times
    timezone: str
    #: catalog file, for messages
    where: str

    @property
    def path(self) -> Path:
        """The file or folder, for kinds that are one."""
        return self.folder / self.rest


class Source(Protocol):
    """One source, open for reading. For one thread, for a short while; connects when first asked."""

    @property
    def place(self) -> Place: ...

    def schema(self, table: str, field: str) -> Any:
        """Column → Ibis type. `field`: what to name in an error. Raises NotFound, BadInput, Unavailable."""

    def frame(self, expression: Any) -> pl.DataFrame:
        """What an unbound expression over this source's tables gives; instants in UTC, to the microsecond.

        Raises Unavailable when the source does not answer, BadInput when a value does not fit its type.
        """

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        """The same piece by piece, as it comes: never the whole in memory. To be read before closing."""

    def version(self, table: str, field: str) -> str:
        """Changes whenever the table's contents may have changed. Cheap: reads no rows."""

    def close(self) -> None: ...
