"""What a source is: a place that the catalog names, and the few things that can be asked of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import polars as pl
import pyarrow as pa

from kernel.errors import BadInput, NotFound, Unavailable

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: what stands between a user's name and the host
_PASSWORD = re.compile(r"(://[^/@:]*:)([^/@]*)@")


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
    #: how long a copy of it is good, where it must be copied
    refresh: str
    #: catalog file, for messages
    where: str

    @property
    def path(self) -> Path:
        """The file or folder, for kinds that are one."""
        return self.folder / self.rest

    @property
    def at(self) -> str:
        """Its place in the catalog, for messages."""
        return f"sources.{self.name}.url"

    @property
    def shown(self) -> str:
        """The address without what is secret in it."""
        return _PASSWORD.sub(r"\1***@", f"{self.kind}://{self.rest}")

    def address(self) -> str:
        """The whole address, `${NAME}` read from the environment. Raises BadInput for one that is not set."""

        def read(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                problem = f"needs the environment variable {found[1]}, which is not set"
                raise BadInput(problem, where=self.where, field=self.at, value=self.shown)
            return os.environ[found[1]]

        return _VARIABLE.sub(read, f"{self.kind}://{self.rest}")

    def said(self, error: BaseException) -> str:
        """The first line of what a driver says, without what is secret in the address."""
        lines = str(error).strip().splitlines()
        text = lines[0][:300] if lines else type(error).__name__
        secrets = [os.environ.get(name, "") for name in _VARIABLE.findall(self.rest)]
        found = _PASSWORD.search(f"{self.kind}://{self.rest}")
        secrets += [found[2]] if found else []
        for secret in sorted({unquote(each) for each in secrets} | set(secrets), key=len, reverse=True):
            text = text.replace(secret, "***") if secret else text
        return text

    def wrong(self, problem: str) -> BadInput:
        """About its address."""
        return BadInput(problem, where=self.where, field=self.at, value=self.shown)

    def silent(self, error: BaseException) -> Unavailable:
        return Unavailable(f"source {self.name!r} did not answer: {self.said(error)}")

    def misfit(self, error: BaseException) -> BadInput:
        return BadInput(
            f"holds a value that does not fit its type: {self.said(error)}",
            where=self.where,
            field=f"sources.{self.name}",
        )

    def unknown(self, table: str, known: Iterable[str], field: str) -> NotFound:
        return NotFound(f"table of source {self.name}", table, known, where=self.where, field=field)


def needs(place: Place, module: str, extra: str) -> None:
    """Raises BadInput when a driver is not installed, naming the extra that has it."""
    if find_spec(module) is None:
        raise place.wrong(f"needs the package {module}: pip install 'growth-decision-engine[{extra}]'")


def as_asked(batch: pa.RecordBatch, expression: Any) -> pa.RecordBatch:
    """An engine's answer in the types of the expression: engines have their own of truth and of counts."""
    columns = []
    for column, wanted in zip(batch.columns, expression.schema().to_pyarrow().types, strict=True):
        if pa.types.is_timestamp(wanted):
            wanted = pa.timestamp("us", wanted.tz)
        columns.append(column if column.type == wanted else column.cast(wanted, safe=not _is_time(wanted)))
    return pa.RecordBatch.from_arrays(columns, names=list(expression.columns))


def _is_time(kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind))


def whole(batches: Iterable[pa.RecordBatch], expression: Any) -> pl.DataFrame:
    """Pieces of an answer as one frame, which has its columns also when there are none."""
    none = pa.RecordBatch.from_pylist([], expression.schema().to_pyarrow())
    return in_utc(pl.DataFrame(pl.from_arrow(pa.Table.from_batches([as_asked(none, expression), *batches]))))


def in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """Its instants in UTC, to the microsecond."""
    zoned = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime) and kind.time_zone]
    return frame.with_columns(pl.col(zoned).dt.convert_time_zone("UTC")) if zoned else frame


class Source(Protocol):
    """One source, open for reading. For one thread, for a short while; connects when first asked."""

    @property
    def place(self) -> Place: ...

    def tables(self) -> list[str]:
        """The tables that it has. Raises Unavailable when it does not answer."""

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
