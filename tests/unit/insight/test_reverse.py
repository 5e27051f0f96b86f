"""The groups of a user, turned round from bitmaps of every shape."""

from __future__ import annotations

import random

import pytest
from pyroaring import BitMap

from insight.reverse import BLOCK, Reverse, containers
from kernel.errors import BadInput

USERS = 3 * BLOCK + 500


def shapes(seed: int) -> dict[str, BitMap]:
    """Empty, single, lists, dense blocks, runs, blocks left out, and mixtures of them."""
    chance = random.Random(seed)  # noqa: S311  a world, not a secret
    found = {
        "empty": BitMap(),
        "one": BitMap([USERS - 1]),
        "first": BitMap([0, BLOCK - 1, BLOCK]),
        "everyone": BitMap(range(USERS)),
        "run": BitMap(range(100, BLOCK + 50)),
        "edge list": BitMap(range(0, 2 * 4096, 2)),
        "edge dense": BitMap(range(0, 2 * 4097, 2)),
        "last block": BitMap(range(3 * BLOCK, USERS, 3)),
        "runs": BitMap(user for start in range(0, USERS, 1000) for user in range(start, start + 300)),
    }
    for i, part in enumerate((0.0005, 0.02, 0.3, 0.9)):
        found[f"random {i}"] = BitMap(chance.sample(range(USERS), int(part * USERS)))
    for name in ("everyone", "run", "runs"):
        found[name].run_optimize()
    return found


def asked_of(groups: dict[str, BitMap], seed: int) -> list[int]:
    chance = random.Random(seed)  # noqa: S311
    edges = [0, 99, 100, BLOCK - 1, BLOCK, BLOCK + 49, BLOCK + 50, USERS - 1, 2 * 4096, 3 * BLOCK]
    return [*edges, *chance.sample(range(USERS), 300)]


def check(reverse: Reverse, groups: dict[str, BitMap], seed: int) -> None:
    for user in asked_of(groups, seed):
        found = reverse.groups_of(user)
        assert len(found) == len(set(found))
        assert set(found) == {name for name, members in groups.items() if user in members}, user


def test_what_it_finds_is_what_the_bitmaps_say() -> None:
    groups, reverse = shapes(1), Reverse()
    reverse.put({name: each.serialize() for name, each in groups.items()})
    check(reverse, groups, 2)
    assert reverse.groups_of(USERS + 10 * BLOCK) == []
    assert reverse.nbytes > 0


@pytest.mark.parametrize("several", [1, 40])
def test_groups_are_replaced_added_and_taken_away_after_blocks_were_turned(several: int) -> None:
    groups, reverse = shapes(1), Reverse()
    reverse.put({name: each.serialize() for name, each in groups.items()})
    check(reverse, groups, 2)
    names, others = sorted(groups), list(shapes(5).values())
    for turn in range(3):
        changes: dict[str, BitMap | None] = {
            f"new {turn} {i}": others[(i + turn) % len(others)] for i in range(several)
        }
        changes |= {names[turn]: others[turn + 3], names[turn + 5]: None}
        groups = {name: each for name, each in {**groups, **changes}.items() if each is not None}
        reverse.put({name: None if each is None else each.serialize() for name, each in changes.items()})
        check(reverse, groups, turn)


def test_an_index_of_nothing_and_what_is_no_bitmap() -> None:
    reverse = Reverse()
    assert reverse.groups_of(0) == []
    reverse.put({"none": BitMap().serialize()})
    assert reverse.groups_of(0) == []
    for content in (b"", b"abc", b"\x00" * 16):
        with pytest.raises(BadInput, match="no serialised bitmap"):
            reverse.put({"bad": content})
    assert containers(BitMap([5]).serialize()).kinds.tolist() == [1]
