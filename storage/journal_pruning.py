"""Journals that have had their time: segments that nobody needs any more go, oldest first, whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import Unavailable
from storage.journal import FileJournalReader, Position, begin_segment, path_of, segments_of


@dataclass(frozen=True, kw_only=True)
class JournalSize:
    """What the journals take."""

    #: on the disk
    bytes: int
    segments: int
    writers: int
    #: when the oldest segment that holds anything was last written, seconds since 1970; None: there is none
    oldest: float | None


def journal_size(folder: Path) -> JournalSize:
    """Raises Unavailable when it cannot be looked at."""
    found, writers = list[os.stat_result](), FileJournalReader(folder).writers()
    try:
        for writer in writers:
            for number in segments_of(folder, writer):
                with suppress(FileNotFoundError):
                    found.append(path_of(folder, writer, number).stat())
    except OSError as error:
        raise Unavailable(f"the journal cannot be read: {error}") from error
    return JournalSize(
        bytes=sum(each.st_size for each in found),
        segments=len(found),
        writers=len(writers),
        oldest=min((each.st_mtime for each in found if each.st_size), default=None),
    )


def prune(folder: Path, before: float, passed: Mapping[str, Position]) -> int:
    """Removes segments last written before an instant (seconds since 1970) that lie behind what everybody
    has `passed` (writer → position; of a writer that is not there, nothing goes); bytes that were freed.

    Killed at any point, it has removed the oldest. Raises Unavailable when the disk refuses.
    """
    freed = 0
    try:
        for writer, place in passed.items():
            _end(folder, writer, before)
            for number in segments_of(folder, writer)[:-1]:
                path = path_of(folder, writer, number)
                told = path.stat()
                if told.st_mtime >= before or not _is_behind(folder, writer, number, place):
                    break
                path.unlink()
                freed += told.st_size
    except OSError as error:
        raise Unavailable(f"the journal cannot be pruned: {error}") from error
    return freed


def _end(folder: Path, writer: str, before: float) -> None:
    """The newest segment of a writer that is no more, as one with a follower: its number stays taken."""
    numbers = segments_of(folder, writer)
    if not numbers:
        return
    told = path_of(folder, writer, numbers[-1]).stat()
    if not told.st_size or told.st_mtime >= before:
        return
    with (folder / f"{writer}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it is at work, and ends its segments itself
            return
        if segments_of(folder, writer)[-1] == numbers[-1]:
            os.close(begin_segment(folder, writer, numbers[-1] + 1))


def _is_behind(folder: Path, writer: str, number: int, place: Position) -> bool:
    """Whether no whole record of the segment follows the place."""
    if place[0] != number:
        return place[0] > number
    following = FileJournalReader(folder).read(writer, place, 1)
    return not following or following[0][0][0] > number
