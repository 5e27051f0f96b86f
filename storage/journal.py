"""Append-only journals: a folder, a writer's own segments in it, records framed by length and checksum.

`WRITER.NNNNNNNN.log`: one frame a record: length and CRC-32 (little-endian, 4 bytes each), then the bytes.
A writer begins a new segment whenever it starts, so what a crash tore stands at the end of a segment that
nobody appends to again; readers pass over it. It begins one every day too, so that days can be pruned
(`storage/journal_pruning.py`); a writer's newest segment always stays, and with it the count.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from threading import Lock
from time import monotonic, sleep

from kernel.errors import BadInput, Unavailable

Position = tuple[int, int]

_FRAME = Struct("<II")
_WRITER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SEGMENT = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{8})\.log")
#: no record is longer; a length beyond it is torn
LONGEST = 1 << 26
#: a segment that has reached this many bytes is followed by another
SEGMENT = 1 << 27
#: and so is one that was begun so many seconds ago and is not empty
DAY = 86_400.0

_log = logging.getLogger(__name__)


class FileJournalWriter:
    """Satisfies `realtime.ports.JournalWriter`. Safe for threads; one process a writer's name.

    Raises BadInput when another process writes under this name, Unavailable when the disk refuses.
    """

    def __init__(self, folder: Path, writer: str, *, segment: int = SEGMENT, day: float = DAY) -> None:
        if not _WRITER.fullmatch(writer):
            raise BadInput(
                "is not letters, digits, '-' and '_'", where="journal", field="writer", value=writer
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._writer, self._most, self._day = folder, writer, segment, day
        self._lock = Lock()
        self._only = os.open(folder / f"{writer}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._only, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._only)
            raise BadInput(
                "is written by another process", where="journal", field="writer", value=writer
            ) from None
        self._number = max(segments_of(folder, writer), default=0)
        self._file, self._size = -1, 0
        self._next_segment()

    def append(self, record: bytes) -> None:
        if not 0 < len(record) <= LONGEST:
            raise BadInput(f"is not 1 to {LONGEST} bytes", where="journal", field="record", value=len(record))
        frame = _FRAME.pack(len(record), zlib.crc32(record)) + record
        with self._lock:
            try:
                if self._size >= self._most:
                    self._next_segment()
                written = os.write(self._file, frame)
                if written < len(frame):  # a full disk: what is torn must not be appended to
                    self._next_segment()
                    raise Unavailable("the journal's disk is full")
                self._size += written
            except OSError as error:
                raise Unavailable(f"the journal cannot be written: {error}") from error

    def flush(self) -> None:
        """What is appended meanwhile does not wait for the disk."""
        try:
            with self._lock:
                if self._size and monotonic() - self._began >= self._day:
                    self._next_segment()
                file = os.dup(self._file)  # ours, should the next segment begin meanwhile
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise Unavailable(f"the journal cannot be flushed: {error}") from error

    def asked_to_roll(self) -> bool:
        """Whether somebody wants to change what was written so far."""
        return (self._folder / f"{self._writer}.roll").exists()

    def roll(self) -> None:
        """Begins a new segment: nothing is ever written into those before it."""
        with self._lock:
            try:
                self._next_segment()
                (self._folder / f"{self._writer}.roll").unlink(missing_ok=True)
            except OSError as error:
                raise Unavailable(f"the journal cannot be written: {error}") from error

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.fdatasync(self._file)
                os.close(self._file)
                os.close(self._only)
            self._file = -1  # its number may be another file's by now

    def _next_segment(self) -> None:
        """The old one is on disk before the new one is there."""
        if self._file >= 0:
            os.fdatasync(self._file)
            os.close(self._file)
        self._number, self._size, self._began = self._number + 1, 0, monotonic()
        self._file = begin_segment(self._folder, self._writer, self._number)


class FileJournalReader:
    """Satisfies `realtime.ports.JournalReader`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def writers(self) -> Sequence[str]:
        if not self._folder.exists():
            return []
        found = (_SEGMENT.fullmatch(name) for name in os.listdir(self._folder))
        return sorted({each[1] for each in found if each})

    def since(self, writer: str, at: float) -> Position:
        """Before all that was written at an instant (seconds since 1970) or later, and not much else."""
        numbers = segments_of(self._folder, writer)
        for number in numbers:
            with suppress(FileNotFoundError):  # pruned meanwhile
                if path_of(self._folder, writer, number).stat().st_mtime >= at:
                    return (number, 0)
        return (numbers[-1], 0) if numbers else (0, 0)

    def read(self, writer: str, after: Position, most: int = 1 << 20) -> Sequence[tuple[Position, bytes]]:
        number, offset = after
        try:
            while True:
                found = self._read_segment(writer, number, offset, most)
                if found:
                    return found
                # looked for after reading: a segment that has a follower does not grow any more
                later = [each for each in segments_of(self._folder, writer) if each > number]
                if not later:
                    return []
                found = self._read_segment(writer, number, offset, most)
                if found:
                    return found
                self._tell_torn(writer, number, offset)
                number, offset = min(later), 0
        except OSError as error:
            raise Unavailable(f"the journal cannot be read: {error}") from error

    def _read_segment(self, writer: str, number: int, offset: int, most: int) -> list[tuple[Position, bytes]]:
        if number == 0:
            return []
        try:
            file = os.open(path_of(self._folder, writer, number), os.O_RDONLY)
        except FileNotFoundError:  # pruned
            return []
        try:
            data = os.pread(file, max(most, _FRAME.size), offset)
            if len(data) >= _FRAME.size:
                length = _FRAME.unpack_from(data)[0]
                if len(data) < length + _FRAME.size <= LONGEST + _FRAME.size:
                    data = os.pread(file, length + _FRAME.size, offset)
        finally:
            os.close(file)
        found: list[tuple[Position, bytes]] = []
        for record in frames(data):
            offset += _FRAME.size + len(record)
            found.append(((number, offset), record))
        return found

    def _tell_torn(self, writer: str, number: int, offset: int) -> None:
        path = path_of(self._folder, writer, number)
        if number and path.exists() and (torn := path.stat().st_size - offset):
            _log.warning("journal %s, segment %d: %d bytes at its end are torn", writer, number, torn)


def amend(folder: Path, change: Callable[[bytes], bytes], *, patience: float = 30.0) -> int:
    """Changes records of all writers, each into one of the same length, so that every position stays what it
    is; how many were changed. Writers that are at work begin a new segment first, and what they write from
    then on is not looked at. Raises Unavailable when one does not within `patience` seconds: do it again.

    A segment is replaced whole or not at all.
    """
    amended = 0
    for writer in FileJournalReader(folder).writers():
        with (folder / f"{writer}.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _ask_to_roll(folder, writer, patience)
                *numbers, _ = segments_of(folder, writer)
            else:
                numbers = segments_of(folder, writer)
            for number in numbers:
                with suppress(FileNotFoundError):  # pruned meanwhile
                    amended += _amend_segment(path_of(folder, writer, number), change)
    return amended


def _ask_to_roll(folder: Path, writer: str, patience: float) -> None:
    asked, until = folder / f"{writer}.roll", monotonic() + patience
    asked.touch()
    while asked.exists():
        if monotonic() > until:
            raise Unavailable(f"journal {writer} is being written and does not make room; do it again")
        sleep(0.02)


def _amend_segment(path: Path, change: Callable[[bytes], bytes]) -> int:
    raw = path.read_bytes()
    parts, changed = list[bytes](), 0
    for record in frames(raw):
        new = change(record)
        if len(new) != len(record):
            raise ValueError(f"a record of {len(record)} bytes may not become one of {len(new)}")
        changed += new != record
        parts += [_FRAME.pack(len(new), zlib.crc32(new)), new]
    if not changed:
        return 0
    beside = path.with_suffix(".amended")
    with beside.open("wb") as file:
        file.write(b"".join(parts))
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    _keep_names(path.parent)
    return changed


def begin_segment(folder: Path, writer: str, number: int) -> int:
    """An empty one, there for good; its open file. Raises OSError."""
    path = path_of(folder, writer, number)
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
    _keep_names(folder)
    return file


def _keep_names(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def frames(data: bytes) -> Iterator[bytes]:
    """Whole records, up to what is torn or not yet whole."""
    start, size, head = 0, len(data), _FRAME.size
    while start + head <= size:
        length, checksum = _FRAME.unpack_from(data, start)
        end = start + head + length
        record = data[start + head : end]
        if end > size or not length or zlib.crc32(record) != checksum:
            return
        yield record
        start = end


def path_of(folder: Path, writer: str, number: int) -> Path:
    return folder / f"{writer}.{number:08d}.log"


def segments_of(folder: Path, writer: str) -> list[int]:
    """Numbers, oldest first."""
    if not folder.exists():
        return []
    found = (_SEGMENT.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(each[2]) for each in found if each and each[1] == writer)
