"""Files of a selection: written in one go with their sum, read back to be checked, on any file system."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from insight.addresses import is_local, local_path, system_of
from kernel.errors import BadInput

FORMATS = (".parquet", ".csv")
_BLOCK = 2**20


class _Summed(io.RawIOBase):
    """Passes everything on and keeps its length and SHA-256."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self._inner, self._digest, self.size = inner, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._inner.write(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def write_frames(address: str, frames: Iterable[pl.DataFrame]) -> dict[str, Any]:
    """`{file, rows, bytes, sha256}` of a file with these pieces. At least one piece."""
    rows = 0
    with _sink(address) as inner:
        summed = _Summed(inner)
        writer: pq.ParquetWriter | None = None
        for frame in frames:
            if address.endswith(".csv"):
                summed.write(frame.write_csv(include_header=rows == 0).encode())
            else:
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or pq.ParquetWriter(
                    pa.PythonFile(summed, "w"), table.schema, compression="zstd"
                )
                writer.write_table(table)
            rows += frame.height
        if writer is not None:
            writer.close()
    return {"file": address.rpartition("/")[2], "rows": rows, "bytes": summed.size, "sha256": summed.sha256}


@contextmanager
def _sink(address: str) -> Iterator[Any]:
    """A local file appears whole under its name, or not at all; others as their store does it."""
    if not is_local(address):
        system, place = system_of(address, "out")
        with system.open(place, "wb") as handle:
            yield handle
        return
    out = local_path(address)
    number, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    path = Path(temporary)
    try:
        with os.fdopen(number, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        path.chmod(0o644)
        path.replace(out)
    finally:
        path.unlink(missing_ok=True)


def write_json(address: str, value: dict[str, Any]) -> None:
    with _sink(address) as handle:
        handle.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def exists(address: str) -> bool:
    system, path = system_of(address)
    return bool(system.exists(path))


def remove(address: str) -> None:
    system, path = system_of(address)
    if system.exists(path):
        system.rm(path)


def read_json(address: str, field: str = "manifest") -> dict[str, Any]:
    """Raises BadInput when there is none, or it is something else."""
    try:
        with open_file(address) as handle:
            found = json.loads(handle.read())
    except FileNotFoundError:
        raise BadInput("does not exist", field=field, value=address) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read: {error}", field=field, value=address) from None
    if not isinstance(found, dict):
        raise BadInput("is not a manifest", field=field, value=address)
    return found


@contextmanager
def open_file(address: str) -> Iterator[IO[bytes]]:
    system, path = system_of(address)
    with system.open(path, "rb") as handle:
        yield handle


def sum_of(address: str) -> tuple[int, str]:
    """(bytes, SHA-256). Raises FileNotFoundError."""
    digest, size = hashlib.sha256(), 0
    with open_file(address) as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def pieces_of(address: str) -> Iterator[pl.DataFrame]:
    """What a file of a selection holds, piece by piece; ids of CSV as text."""
    with open_file(address) as handle:
        if address.endswith(".parquet"):
            for batch in pq.ParquetFile(handle).iter_batches(65_536):
                yield pl.DataFrame(pl.from_arrow(batch))
            return
        rest = b""
        header = handle.readline()
        while block := handle.read(8 * _BLOCK):
            block = rest + block
            cut = _last_line(block)
            rest = block[cut:]
            if cut:
                yield _csv(header + block[:cut])
        if rest:
            yield _csv(header + rest)


def _last_line(block: bytes) -> int:
    """Where the last whole line ends: a line break outside of quotes."""
    cut = block.rfind(b"\n") + 1
    while cut and block.count(b'"', 0, cut) % 2:
        cut = block.rfind(b"\n", 0, cut - 1) + 1
    return cut


def _csv(text: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(text), infer_schema=False)
