"""What happens to touches, appended to files: after the machine went down, the ledger is told again by them.

`touches.NNNNNNNN.log`: frames of length, CRC-32 (4 bytes each) and items. All processes append to the newest
segment, one at a time, inside the store's transaction, which says which segment that is. A frame that a crash
tore is passed over. Whoever begins a segment writes all labels into it first, so that older ones can go.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import NamedTuple

from kernel.errors import Unavailable
from storage.exposure_records import HASH, RECORD, Record, pack, unpack

_FRAME, _LABEL = Struct("<II"), Struct("<BIH")
_TOUCH = Struct("<BB")
_SEGMENT = re.compile(r"touches\.([0-9]{8})\.log")
#: kinds of items
_L, _T = b"LT"
#: bytes after which the next segment begins
SEGMENT = 1 << 26


class Label(NamedTuple):
    """A label got a number."""

    number: int
    label: str


class Touched(NamedTuple):
    """A touch is in this state; its user, and who else holds it."""

    holders: bytes
    record: Record


Item = Label | Touched


class TouchLog:
    """One process's hand on the log. `append` is called inside the store's transaction: by one at a time."""

    def __init__(self, folder: Path, *, segment: int = SEGMENT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.segment = folder, segment
        self._number, self._file = 0, -1
        self._opening = Lock()

    def append(self, number: int, items: Sequence[Item]) -> bool:
        """To the segment of this number; False when it is full, and another should begin. Raises Unavailable
        when the disk refuses: then nothing must be granted."""
        return self.write(number, b"".join([_coded(item) for item in items]))

    def write(self, number: int, body: bytes) -> bool:
        """Items that are bytes already."""
        try:
            if number != self._number:
                self.close()
                with self._opening:
                    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
                    self._file = os.open(self._path(number), flags, 0o600)
                    self._number = number
            frame = _FRAME.pack(len(body), zlib.crc32(body)) + body
            if os.write(self._file, frame) < len(frame):
                raise Unavailable("the ledger's disk is full")
            return os.lseek(self._file, 0, os.SEEK_CUR) < self.segment
        except OSError as error:
            raise Unavailable(f"the ledger's log cannot be written: {error}") from error

    def flush(self) -> None:
        """All that was appended is on the disk when it returns. Safe for threads."""
        try:
            with self._opening:
                if self._file < 0:
                    return
                file = os.dup(self._file)  # the next segment may begin meanwhile
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise Unavailable(f"the ledger's log cannot be flushed: {error}") from error

    def close(self) -> None:
        self.flush()
        with self._opening:
            if self._file >= 0:
                os.close(self._file)
            self._file, self._number = -1, 0

    def numbers(self) -> list[int]:
        """Of the segments, the oldest first."""
        found = (_SEGMENT.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(each[1]) for each in found if each)

    def read(self, number: int) -> Iterator[Item]:
        yield from (item for body in self._bodies(number) for item in _items(body))

    def amend(self, before: int, keep: Callable[[Item], bool]) -> int:
        """Rewrites the segments before this one without what is not to be kept; how many items that were. One
        with nothing but labels left goes."""
        gone = 0
        with self._alone():
            for number in self.numbers():
                if number >= before:
                    break
                items = list(self.read(number))
                left = [item for item in items if keep(item)]
                if len(left) == len(items):
                    continue
                gone += len(items) - len(left)
                if all(isinstance(item, Label) for item in left):
                    self._path(number).unlink()
                    continue
                draft = self._path(number).with_suffix(".draft")
                with draft.open("wb") as handle:
                    body = b"".join(map(_coded, left))
                    handle.write(_FRAME.pack(len(body), zlib.crc32(body)) + body)
                    handle.flush()
                    os.fsync(handle.fileno())
                draft.replace(self._path(number))
        return gone

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / "amend.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _bodies(self, number: int) -> Iterator[bytes]:
        try:
            raw = self._path(number).read_bytes()
        except FileNotFoundError:  # amended away meanwhile
            return
        at = 0
        while at + _FRAME.size <= len(raw):
            length, check = _FRAME.unpack_from(raw, at)
            body = raw[at + _FRAME.size : at + _FRAME.size + length]
            if length and len(body) == length and zlib.crc32(body) == check:
                yield body
                at += _FRAME.size + length
            else:  # torn; the next whole frame is somewhere behind it
                at += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"touches.{number:08d}.log"


def _coded(item: Item) -> bytes:
    match item:
        case Label():
            text = item.label.encode(errors="surrogatepass")
            return _LABEL.pack(_L, item.number, len(text)) + text
        case Touched():
            return touched(item.holders, pack([item.record]))


def touched(holders: bytes, record: bytes) -> bytes:
    """A touch as an item's bytes."""
    return _TOUCH.pack(_T, len(holders) // HASH) + holders + record


def _items(body: bytes) -> Iterator[Item]:
    at = 0
    while at < len(body):
        kind = body[at]
        if kind == _L:
            _, number, length = _LABEL.unpack_from(body, at)
            at += _LABEL.size + length
            yield Label(number, body[at - length : at].decode(errors="surrogatepass"))
        else:
            size = body[at + 1] * HASH
            at += _TOUCH.size + size + RECORD
            yield Touched(body[at - RECORD - size : at - RECORD], unpack(body[at - RECORD : at])[0])
