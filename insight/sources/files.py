"""Files as they were when last looked at, so that a change is noticed without reading them anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from kernel.ids import fingerprint

#: a file: path, modification time (ns), size (bytes)
Stamp = tuple[str, int, int]
#: bytes up to which the whole file decides its version; of a longer one the edges and the time do
WHOLE, EDGE = 64 * 2**20, 2**20


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Of those files that exist."""
    found = []
    for path in paths:
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


def parts(folder: Path, suffix: str) -> list[Path]:
    """The part files of a table below its folder, sorted; what starts with `_` or `.` is not data."""
    found = [path for path in folder.rglob(f"*.{suffix}") if path.is_file()]
    return sorted(p for p in found if not any(n[0] in "_." for n in p.relative_to(folder).parts))


def files_version(paths: Iterable[Path], below: Path) -> str:
    """Of the names (from `below`), sizes and contents of files: 16 digits.

    Of a file above 64 MB the first and last megabyte, where Parquet keeps its footer, and the time of its
    last change stand for its contents.
    """
    named = [(str(Path(each[0]).relative_to(below)), each) for each in stamps(paths)]
    return fingerprint([[name, stamp[2], _content(stamp)] for name, stamp in named])


@lru_cache(maxsize=16384)
def _content(stamp: Stamp) -> str:
    path, changed, size = stamp
    with Path(path).open("rb") as handle:
        if size <= WHOLE:
            return hashlib.file_digest(handle, "blake2b").hexdigest()[:32]
        digest = hashlib.blake2b(handle.read(EDGE), digest_size=16)
        handle.seek(-EDGE, 2)
        digest.update(handle.read(EDGE))
    digest.update(str(changed).encode())
    return digest.hexdigest()
