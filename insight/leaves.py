"""What has been worked out once and is kept: members of leaves, and arrays that help to find others.

Memory first, the least recently used going first, then (with a folder) the disk. Everything here can be
worked out again: a file that is damaged, half written or gone is as if it had never been, and writes are not
waited for to reach the platter.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.dictionary import UserDictionary

#: what something is kept under: all that it depends on
Key = tuple[object, ...]
Arrays = dict[str, NDArray[Any]]
_MAGIC = b"growth1\n"
#: most bytes kept in memory and on disk, unless told otherwise
IN_MEMORY, ON_DISK = 2**30, 20 * 2**30


class LeafCache:
    """Bitmaps and arrays by what they depend on. Safe for many threads; a folder may serve many processes.

    What it holds is never changed: callers get their own copy, or one that they only read.
    """

    def __init__(
        self, folder: Path | None = None, *, most_bytes: int = IN_MEMORY, disk_bytes: int = ON_DISK
    ) -> None:
        """`most_bytes`: kept in memory; `disk_bytes`: kept in `folder`, the oldest going first."""
        self._folder, self._most, self._disk = folder, most_bytes, disk_bytes
        self._lock, self._held, self._written = Lock(), 0, 0
        self._known: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._dictionaries: dict[str, UserDictionary] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._written = sum(size for _, size, _ in _files(folder))

    def get(self, key: Key) -> BitMap | None:
        """The members kept under `key`; None when they are not known, or no longer."""
        found: BitMap | None = self._remembered(key)
        if found is None:
            arrays = self._read(key)
            if arrays is not None:
                found = BitMap.deserialize(arrays["members"].tobytes())
                self._remember(key, found, arrays["members"].nbytes)
        return found

    def put(self, key: Key, members: BitMap, *, disk: bool = True) -> None:
        """Keeps members, on disk too unless they are as quickly made again."""
        written = np.frombuffer(members.serialize(), np.uint8)
        self._remember(key, members, written.nbytes)
        if disk:
            self._write(key, {"members": written})

    def arrays(self, key: Key) -> Arrays | None:
        """Arrays kept under `key`, only to be read."""
        found: Arrays | None = self._remembered(key)
        if found is None and (found := self._read(key)) is not None:
            self._remember(key, found, sum(each.nbytes for each in found.values()))
        return found

    def put_arrays(self, key: Key, arrays: Arrays, *, memory: bool = True) -> None:
        if memory or self._folder is None:
            self._remember(key, arrays, sum(each.nbytes for each in arrays.values()))
        self._write(key, arrays)

    def drop(self, key: Key) -> None:
        """No longer kept."""
        with self._lock:
            if key in self._known:
                self._held -= self._known.pop(key)[1]
        if self._folder is not None:
            self._path(key).unlink(missing_ok=True)

    def clear(self) -> None:
        """Nothing is kept any more, in memory or on disk."""
        with self._lock:
            self._known.clear()
            self._held = self._written = 0
        if self._folder is not None:
            for _, _, path in _files(self._folder):
                path.unlink(missing_ok=True)

    def dictionary(self, ids: str) -> UserDictionary:
        """One in memory for those who bring none: bitmaps here mean nothing without the numbers they speak.

        `ids`: which ids are meant.
        """
        with self._lock:
            return self._dictionaries.setdefault(ids, UserDictionary())

    def _remembered(self, key: Key) -> Any:
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            self._known.move_to_end(key)
            return found[0]

    def _remember(self, key: Key, value: Any, size: int) -> None:
        with self._lock:
            if key in self._known:
                self._held -= self._known.pop(key)[1]
            self._known[key] = (value, size)
            self._held += size
            while self._held > self._most and len(self._known) > 1:
                self._held -= self._known.popitem(last=False)[1][1]

    def _path(self, key: Key) -> Path:
        assert self._folder is not None  # noqa: S101  asked only where there is one
        return self._folder / f"{hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()}.leaf"

    def _read(self, key: Key) -> Arrays | None:
        """From the disk; None for a file that is not there, or not whole."""
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            raw = np.fromfile(path, np.uint8)
            os.utime(path)
        except OSError:
            return None
        found = _unpacked(raw)
        if found is None:
            path.unlink(missing_ok=True)
        return found

    def _write(self, key: Key, arrays: Arrays) -> None:
        if self._folder is None:
            return
        path, parts = self._path(key), _packed(arrays)
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as handle:
                for part in parts:
                    handle.write(part)
            Path(handle.name).replace(path)
        except OSError:  # a full disk costs time, not answers
            with suppress(OSError, UnboundLocalError):
                Path(handle.name).unlink(missing_ok=True)
            return
        with self._lock:
            self._written += sum(len(part) for part in parts)
            full = self._written > self._disk
        if full:
            self._make_room()

    def _make_room(self) -> None:
        """Removes the files that were used longest ago, to nine tenths of what may be."""
        assert self._folder is not None  # noqa: S101  asked only where there is one
        files = sorted(_files(self._folder))
        held = sum(size for _, size, _ in files)
        for _, size, path in files:
            if held <= 0.9 * self._disk:
                break
            path.unlink(missing_ok=True)
            held -= size
        with self._lock:
            self._written = held


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    """(last use, bytes, path) of each."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            state = path.stat()
            found.append((state.st_mtime_ns, state.st_size, path))
    return found


def _packed(arrays: Arrays) -> list[bytes | memoryview]:
    """Magic, a checksum of all that follows, the length of the head, the head, and the arrays."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    head = json.dumps({name: [array.dtype.str, len(array)] for name, array in plain.items()}).encode()
    head += b" " * (-(len(head) + 16) % 8)
    parts: list[bytes | memoryview] = [len(head).to_bytes(4, "little"), head]
    parts += [array.data.cast("B") for array in plain.values() if len(array)]
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return [_MAGIC, check.to_bytes(4, "little"), *parts]


def _unpacked(raw: NDArray[np.uint8]) -> Arrays | None:
    if len(raw) < 16 or raw[:8].tobytes() != _MAGIC:
        return None
    if zlib.crc32(raw[12:].data) != int.from_bytes(raw[8:12].tobytes(), "little"):
        return None
    at = 16 + int.from_bytes(raw[12:16].tobytes(), "little")
    found: Arrays = {}
    for name, (kind, length) in json.loads(raw[16:at].tobytes()).items():
        size = np.dtype(kind).itemsize * length
        found[name] = raw[at : at + size].view(kind)
        at += size
    return found
