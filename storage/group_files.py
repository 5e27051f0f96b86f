"""Members of published groups as files: Roaring bitmaps, each named by the hash of what it holds."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: a file that no row names may be one that is about to get its row, seconds
_GRACE = 3600.0
#: files written at once
_WRITERS = 8


def mark_of(members: bytes) -> str:
    """The name of a serialised bitmap: BLAKE2b, 32 hex digits."""
    return hashlib.blake2b(members, digest_size=16).hexdigest()


class MemberFiles:
    """Bitmaps in a folder by their marks. Safe for many threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def exists(self, mark: str) -> bool:
        return self._path(mark).exists()

    def read(self, mark: str) -> bytes:
        """Raises OSError."""
        return self._path(mark).read_bytes()

    def remove(self, mark: str) -> None:
        self._path(mark).unlink(missing_ok=True)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Each file whole and on disk under its mark, or not there. Disks flush many as fast as one."""
        if len(files) == 1:
            written = {self._write_one(file) for file in files.items()}
        else:
            with ThreadPoolExecutor(_WRITERS) as pool:
                written = set(pool.map(self._write_one, files.items()))
        folders = {folder for folder in written if folder is not None}
        for folder in {*folders, self._folder} if folders else folders:
            _flush(folder)

    def sweep(self, named: set[str]) -> None:
        """Removes what is not named, but for what is too young to be told from one about to be named."""
        edge = time.time() - _GRACE
        for path in self._folder.glob("??/*"):
            if path.stem not in named and path.stat().st_mtime < edge:
                path.unlink(missing_ok=True)

    def _path(self, mark: str) -> Path:
        return self._folder / mark[:2] / f"{mark}.roaring"

    def _write_one(self, file: tuple[str, bytes]) -> Path | None:
        """The folder in which it was written; None when it was there."""
        mark, content = file
        path = self._path(mark)
        if path.exists() and path.read_bytes() == content:
            os.utime(path)  # young again, so that no sweep takes it before its row is there
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{mark}.{os.getpid()}.{time.monotonic_ns()}")
        with fresh.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
        return path.parent


def _flush(folder: Path) -> None:
    """A folder's own entries, to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
