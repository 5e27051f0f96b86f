"""What is kept of leaves: by what it depends on, within its bytes, and never wrong however it is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from insight.api import LeafCache
from insight.packed import bitmap_of, bits_of, no_bits, renumbered, set_bits

SOME = BitMap([1, 5, 70_000, *range(200_000, 300_000)])


def test_it_remembers_on_disk_by_key(tmp_path: Path) -> None:
    cache = LeafCache(tmp_path)
    cache.put(("leaf", "v1", None), SOME)
    cache.put_arrays(("slot", 1), {"a": np.arange(5, dtype=np.uint16), "none": np.zeros(0)})
    for again in (cache, LeafCache(tmp_path)):
        assert again.get(("leaf", "v1", None)) == SOME
        assert again.get(("leaf", "v2", None)) is None
        arrays = again.arrays(("slot", 1))
        assert arrays is not None
        assert (arrays["a"].tolist(), len(arrays["none"])) == ([0, 1, 2, 3, 4], 0)
    cache.drop(("slot", 1))
    assert LeafCache(tmp_path).arrays(("slot", 1)) is None
    cache.clear()
    assert (cache.get(("leaf", "v1", None)), list(tmp_path.iterdir())) == (None, [])


@pytest.mark.parametrize("at", [0, 9, 13, 30, -1])
def test_a_damaged_file_is_as_if_it_were_not(tmp_path: Path, at: int) -> None:
    LeafCache(tmp_path).put(("leaf",), SOME)
    (file,) = tmp_path.iterdir()
    whole = bytearray(file.read_bytes())
    whole[at] ^= 1
    file.write_bytes(whole)
    assert LeafCache(tmp_path).get(("leaf",)) is None
    assert not file.exists()
    file.write_bytes(bytes(whole[: len(whole) // 2]))
    assert LeafCache(tmp_path).get(("leaf",)) is None


def test_the_least_used_go_first_from_memory_and_disk(tmp_path: Path) -> None:
    size = len(SOME.serialize())
    memory = LeafCache(most_bytes=2 * size)
    for name in "abc":
        memory.put((name,), SOME)
        memory.get(("a",))
    assert [memory.get((name,)) is None for name in "abc"] == [False, True, False]
    disk = LeafCache(tmp_path, most_bytes=1, disk_bytes=4 * size)
    for name in range(9):
        disk.put((name,), SOME)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * size + 200
    assert LeafCache(tmp_path).get((8,)) == SOME


def test_a_full_disk_costs_no_answer(tmp_path: Path) -> None:
    cache = LeafCache(tmp_path / "there")
    (tmp_path / "there").rmdir()
    cache.put(("leaf",), SOME)
    assert cache.get(("leaf",)) == SOME


def test_bits_become_the_same_set() -> None:
    chance = random.Random(3)  # noqa: S311  a test's
    sets = [
        BitMap(),
        BitMap([0]),
        SOME,
        BitMap(range(4_096)),
        BitMap(range(4_097)),
        BitMap(range(0, 400_000, 7)),
    ]
    sets += [BitMap(chance.sample(range(10**6), count)) for count in (3, 5_000, 100_000)]
    for members in sets:
        assert bitmap_of(bits_of(members, 10**6)) == members
    assert len(bitmap_of(bits_of(BitMap(range(10**6)), 10**6)).serialize()) < 300, "runs are kept as runs"


def test_rows_become_numbers() -> None:
    numbers = np.array([5, 2, 2**32 - 1, 9, 900_000], np.uint32)
    out = no_bits(100)
    renumbered(np.array([0b11101], np.uint8), 5, numbers, out)
    set_bits(np.array([7, 2**32 - 1], np.uint32), out)
    assert bitmap_of(out) == BitMap([5, 7, 9])
