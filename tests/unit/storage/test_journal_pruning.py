"""Segments go when they are old and behind everybody; whoever reads does not notice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage import journal
from storage.journal import FileJournalReader, FileJournalWriter, Position, segments_of
from storage.journal_pruning import journal_size, prune

OLD, CUT, NEW = 1_000_000.0, 2_000_000.0, 3_000_000.0


def write(folder: Path, name: str, records: int, *, segment: int = 1) -> None:
    """A life of a writer, one record a segment."""
    writer = FileJournalWriter(folder, name, segment=segment)
    for number in range(records):
        writer.append(b"%d" % number)
    writer.close()


def age(folder: Path, at: float, *names: str) -> None:
    for name in names or (each.name for each in folder.glob("*.log")):
        os.utime(folder / name, (at, at))


def rest(folder: Path, name: str, after: Position) -> list[bytes]:
    reader, found = FileJournalReader(folder), list[bytes]()
    while records := reader.read(name, after, 1):
        after = records[-1][0]
        found += [record for _, record in records]
    return found


def places(folder: Path, name: str) -> list[Position]:
    reader, after, found = FileJournalReader(folder), (0, 0), [(0, 0)]
    while records := reader.read(name, after, 1):
        after = records[-1][0]
        found.append(after)
    return found


def test_what_is_old_and_passed_goes_and_nobody_misses_it(tmp_path: Path) -> None:
    write(tmp_path, "w", 6)
    behind = places(tmp_path, "w")
    age(tmp_path, OLD)
    assert prune(tmp_path, CUT, {"w": behind[3]}) == 3 * 9
    for read, place in enumerate(behind):
        assert rest(tmp_path, "w", place) == [b"%d" % number for number in range(max(read, 3), 6)]
    assert prune(tmp_path, CUT, {"w": behind[3]}) == 0


def test_what_is_young_or_not_passed_stays(tmp_path: Path) -> None:
    write(tmp_path, "w", 3)
    write(tmp_path, "v", 3)
    end = places(tmp_path, "w")[-1]
    age(tmp_path, NEW)
    assert prune(tmp_path, CUT, {"w": end, "v": end}) == 0
    age(tmp_path, OLD)
    assert prune(tmp_path, CUT, {"w": (0, 0)}) == 0
    assert rest(tmp_path, "w", (0, 0)) == rest(tmp_path, "v", (0, 0)) == [b"0", b"1", b"2"]


def test_only_the_oldest_go_so_that_there_are_no_holes(tmp_path: Path) -> None:
    write(tmp_path, "w", 4)
    end = places(tmp_path, "w")[-1]
    age(tmp_path, OLD)
    age(tmp_path, NEW, "w.00000002.log")
    prune(tmp_path, CUT, {"w": end})
    assert segments_of(tmp_path, "w")[0] == 2


def test_a_writer_that_is_no_more_leaves_its_number(tmp_path: Path) -> None:
    write(tmp_path, "w", 2, segment=1000)
    end = places(tmp_path, "w")[-1]
    age(tmp_path, OLD)
    assert prune(tmp_path, CUT, {"w": end}) == 2 * 9
    assert rest(tmp_path, "w", (0, 0)) == []
    write(tmp_path, "w", 1)
    assert rest(tmp_path, "w", end) == rest(tmp_path, "w", (0, 0)) == [b"0"]


def test_a_writer_at_work_keeps_its_newest_segment(tmp_path: Path) -> None:
    writer = FileJournalWriter(tmp_path, "w")
    writer.append(b"a")
    age(tmp_path, OLD)
    assert prune(tmp_path, CUT, {"w": (1, 9)}) == 0
    writer.append(b"b")
    assert rest(tmp_path, "w", (1, 9)) == [b"b"]
    writer.close()


@pytest.mark.parametrize("torn", [b"\x40\0\0\0torn", b"\x01"])
def test_a_torn_end_holds_nobody_up(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, "w", 1, segment=1000)
    end = places(tmp_path, "w")[-1]
    with (tmp_path / "w.00000001.log").open("ab") as file:
        file.write(torn)
    age(tmp_path, OLD)
    assert prune(tmp_path, CUT, {"w": end}) == 9 + len(torn)
    write(tmp_path, "w", 1)
    assert rest(tmp_path, "w", end) == [b"0"]


def test_a_day_is_a_segment(tmp_path: Path) -> None:
    writer = FileJournalWriter(tmp_path, "w", day=0.0)
    writer.flush()
    assert segments_of(tmp_path, "w") == [1]  # an empty one need not end
    writer.append(b"a")
    writer.flush()
    writer.flush()
    writer.append(b"b")
    assert segments_of(tmp_path, "w") == [1, 2]
    assert rest(tmp_path, "w", (0, 0)) == [b"a", b"b"]
    writer.close()


def test_amending_and_pruning_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    write(tmp_path, "w", 3)
    end = places(tmp_path, "w")[-1]

    def change(record: bytes) -> bytes:
        age(tmp_path, OLD)
        prune(tmp_path, CUT, {"w": end})
        return b"x"

    assert journal.amend(tmp_path, change) >= 1
    assert rest(tmp_path, "w", end) == []


def test_the_size_is_told(tmp_path: Path) -> None:
    assert journal_size(tmp_path).oldest is None
    write(tmp_path, "w", 3)
    write(tmp_path, "v", 1)
    age(tmp_path, NEW)
    age(tmp_path, OLD, "w.00000001.log")
    told = journal_size(tmp_path)
    assert (told.bytes, told.writers, told.oldest) == (4 * 9, 2, OLD)
    assert told.segments == len(list(tmp_path.glob("*.log")))
