"""The laws of `realtime.ports.JournalWriter`, `JournalReader` and `Snapshots`."""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel.errors import BadInput, Unavailable
from storage import journal
from storage.journal import FileJournalReader, FileJournalWriter, Position
from storage.snapshots import FileSnapshots


def all_of(reader: FileJournalReader, writer: str, after: Position = (0, 0), most: int = 64) -> list[bytes]:
    found = []
    while entries := reader.read(writer, after, most):
        found += [record for _, record in entries]
        after = entries[-1][0]
    return found


def records(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311  a test's
    return [chance.randbytes(chance.choice((1, 7, 300))) for _ in range(count)]


@pytest.mark.parametrize("segment", [1, 1000, 1 << 20])
def test_records_come_back_whole_and_in_order(tmp_path: Path, segment: int) -> None:
    written = records(200)
    writer = FileJournalWriter(tmp_path, "w", segment=segment)
    reader = FileJournalReader(tmp_path)
    for number, record in enumerate(written):
        writer.append(record)
        if number % 50 == 0:
            writer.flush()
            assert all_of(reader, "w") == written[: number + 1]  # readable while it is written
    writer.close()
    assert reader.writers() == ["w"]
    assert all_of(reader, "w") == written
    assert all_of(reader, "w", most=1) == written
    assert all_of(reader, "w", most=1 << 20) == written


def test_reading_goes_on_from_any_position(tmp_path: Path) -> None:
    written = records(60)
    writer = FileJournalWriter(tmp_path, "w", segment=500)
    for record in written:
        writer.append(record)
    reader, after = FileJournalReader(tmp_path), (0, 0)
    for number in range(60):
        after, record = reader.read("w", after)[0]
        assert record == written[number]
        assert all_of(reader, "w", after) == written[number + 1 :]


def test_a_started_writer_goes_on_after_its_former_self(tmp_path: Path) -> None:
    for life in range(3):
        writer = FileJournalWriter(tmp_path, "w")
        writer.append(b"%d" % life)
        writer.close()
    assert all_of(FileJournalReader(tmp_path), "w") == [b"0", b"1", b"2"]


def test_any_torn_end_is_passed_over_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for cut in range(1, 30):
        folder = tmp_path / str(cut)
        writer = FileJournalWriter(folder, "w")
        for record in (b"first", b"second", b"third"):
            writer.append(record)
        writer.close()
        (path,) = folder.glob("*.log")
        path.write_bytes(path.read_bytes()[:-cut])
        whole = all_of(FileJournalReader(folder), "w")
        assert whole == [b"first", b"second", b"third"][: len(whole)]
        assert len(whole) == (2 if cut <= 13 else 1 if cut <= 27 else 0)
        caplog.clear()
        later = FileJournalWriter(folder, "w")
        later.append(b"fourth")
        with caplog.at_level(logging.WARNING):
            assert all_of(FileJournalReader(folder), "w") == [*whole, b"fourth"]
        later.close()
        assert ("torn" in caplog.text) == (cut not in (13, 27))


def test_a_flipped_bit_is_not_taken_for_a_record(tmp_path: Path) -> None:
    writer = FileJournalWriter(tmp_path, "w")
    for record in (b"first", b"second"):
        writer.append(record)
    writer.close()
    (path,) = tmp_path.glob("*.log")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert all_of(FileJournalReader(tmp_path), "w") == [b"first"]


def test_a_writer_s_name_belongs_to_one_process(tmp_path: Path) -> None:
    first = FileJournalWriter(tmp_path, "w")
    with pytest.raises(BadInput, match="written by another"):
        FileJournalWriter(tmp_path, "w")
    first.close()
    FileJournalWriter(tmp_path, "w").close()


def test_names_and_records_of_nonsense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="writer"):
        FileJournalWriter(tmp_path, "a/b")
    writer = FileJournalWriter(tmp_path, "w")
    for record in (b"", b"x" * (journal.LONGEST + 1)):
        with pytest.raises(BadInput, match="record"):
            writer.append(record)
    assert all_of(FileJournalReader(tmp_path), "w") == []


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    reader = FileJournalReader(tmp_path / "none")
    assert reader.writers() == []
    assert reader.read("w", (0, 0)) == []


def test_snapshots_rise_and_the_newest_stands(tmp_path: Path) -> None:
    snapshots = FileSnapshots(tmp_path / "s", kept=3)
    assert snapshots.newest("p") is None
    assert [snapshots.put("p", b"%d" % each) for each in range(6)] == [1, 2, 3, 4, 5, 6]
    assert snapshots.put("p-2", b"other") == 1
    assert snapshots.newest("p") == (6, b"5")
    assert snapshots.newest("p", 5) == (6, b"5")
    assert snapshots.newest("p", 6) is None
    assert len(list((tmp_path / "s").glob("p.*"))) == 3
    (tmp_path / "s" / "p.new").write_bytes(b"half")  # a crash before the rename
    assert FileSnapshots(tmp_path / "s").newest("p") == (6, b"5")
    with pytest.raises(BadInput, match="name"):
        snapshots.put("../p", b"")


def shout(record: bytes) -> bytes:
    return record.upper() if record.startswith(b"a") else record


def test_records_are_amended_in_place(tmp_path: Path) -> None:
    for name, written in (("w", [b"a1", b"b", b"a2"]), ("v", [b"c", b"a3"])):
        writer = FileJournalWriter(tmp_path, name, segment=12)
        for record in written:
            writer.append(record)
        writer.close()
    reader = FileJournalReader(tmp_path)
    before = [place for name in ("v", "w") for place, _ in reader.read(name, (0, 0))]
    with (tmp_path / "v.00000001.log").open("ab") as file:
        file.write(b"\x40\0\0\0torn: secret")
    assert journal.amend(tmp_path, shout) == 3
    assert all_of(reader, "w") == [b"A1", b"b", b"A2"]
    assert all_of(reader, "v") == [b"c", b"A3"]
    assert [place for name in ("v", "w") for place, _ in reader.read(name, (0, 0))] == before
    assert journal.amend(tmp_path, shout) == 0
    assert all(each.suffix in (".log", ".lock") for each in tmp_path.iterdir())


def test_what_changes_its_length_is_refused(tmp_path: Path) -> None:
    writer = FileJournalWriter(tmp_path, "w")
    writer.append(b"abc")
    writer.close()
    with pytest.raises(ValueError, match="may not become"):
        journal.amend(tmp_path, lambda record: record + b"x")
    assert all_of(FileJournalReader(tmp_path), "w") == [b"abc"]


def test_a_writer_at_work_makes_room_first(tmp_path: Path) -> None:
    writer = FileJournalWriter(tmp_path, "w")
    writer.append(b"a1")
    with pytest.raises(Unavailable, match="does not make room"):
        journal.amend(tmp_path, shout, patience=0.05)
    assert writer.asked_to_roll()
    writer.roll()
    assert not writer.asked_to_roll()
    writer.append(b"a2")

    def make_room() -> None:
        while not writer.asked_to_roll():
            time.sleep(0.005)
        writer.roll()
        writer.append(b"a3")

    with ThreadPoolExecutor(1) as pool:
        rolled = pool.submit(make_room)
        assert journal.amend(tmp_path, shout) == 2
        rolled.result()
    assert all_of(FileJournalReader(tmp_path), "w") == [b"A1", b"A2", b"a3"]
    writer.close()
    assert journal.amend(tmp_path, shout) == 1
