"""Counting a condition over large sets in one pass: block by block, with no set in between.

A set lies in blocks of 65,536 users: nobody, everybody, a list of at most 512, or a bit a user. A condition
is a short program on a stack of blocks, which stays in the processor's nearest memory: each set is read once
and nothing is written back. Each thread takes its share of the blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.block_kernels import AND, LESS, LISTED, OR, PUSH, lay, measure, run
from insight.conditions import AllOf, AnyOf, Condition, InGroup, Linked, Not, ends, leaf_id, parents_first
from insight.reverse import BLOCK, containers

#: users from which on this is quicker than Roaring's own algebra
LARGE = 2**21
#: parts of the largest condition that becomes a program
MOST_PARTS = 200
_WORDS, _THREADS = BLOCK // 64, 2
#: in the place of a set: what lies on top of the stack
_TOP = -1


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A set of user numbers by block."""

    #: users in each block
    sizes: NDArray[np.int64]
    #: address of each block's words, or of its list
    places: NDArray[np.uint64]
    #: what the addresses point into
    words: NDArray[np.uint64]
    lists: NDArray[np.uint16]

    @property
    def nbytes(self) -> int:
        return self.sizes.nbytes + self.places.nbytes + self.words.nbytes + self.lists.nbytes


def blocks_of(members: BitMap) -> Blocks:
    """The set, laid out to be counted."""
    raw = members.serialize()
    found, data = containers(raw), np.frombuffer(raw, np.uint8)
    size = int(found.blocks[-1]) + 1 if len(found.blocks) else 0
    sizes, places = np.zeros(size, np.int64), np.zeros(size, np.int64)
    measure(data, found.blocks, found.kinds, found.offsets, sizes)
    listed, dense = sizes <= LISTED, (sizes > LISTED) & (sizes < BLOCK)
    places[listed] = np.cumsum(sizes[listed]) - sizes[listed]
    places[dense] = np.arange(np.count_nonzero(dense)) * _WORDS
    words = np.zeros(np.count_nonzero(dense) * _WORDS, np.uint64)
    lists = np.zeros(int(sizes[listed].sum()), np.uint16)
    lay(data, found.blocks, found.kinds, found.offsets, sizes, places, words, lists)
    where = np.where(dense, words.ctypes.data + 8 * places, lists.ctypes.data + 2 * places).astype(np.uint64)
    return Blocks(sizes=sizes, places=where, words=words, lists=lists)


def countable(condition: Condition) -> bool:
    """Whether it is made of leaves alone, and small enough to be a program."""
    nodes = parents_first(condition)
    return len(nodes) <= MOST_PARTS and not any(isinstance(node, InGroup | Linked) for node in nodes)


class Laid:
    """Sets laid out, the ones used longest ago going first. Safe for many threads."""

    def __init__(self, most_bytes: int = 2**28) -> None:
        self._most, self._lock = most_bytes, Lock()
        self._known: OrderedDict[str, tuple[BitMap, Blocks]] = OrderedDict()
        self._busy: Thread | None = None

    def count(self, condition: Condition, sets: Mapping[str, BitMap], universe: BitMap) -> int | None:
        """How many of `universe` fulfil it; None as long as not all that it needs is laid out.

        `sets`: of each leaf by its id, inside the universe; the same object as long as it is the same set.
        """
        program: list[tuple[int, str | None]] = []
        high = _write(condition, sets, program)
        needed = {name: sets[name] if name else universe for _, name in program if name is not None}
        with self._lock:
            laid = {}
            for name, members in needed.items():
                known = self._known.get(name)
                if known is not None and known[0] is members:
                    self._known.move_to_end(name)
                    laid[name] = known[1]
        return _count(program, high, laid) if len(laid) == len(needed) else None

    def lay(self, condition: Condition, sets: Mapping[str, BitMap], universe: BitMap) -> None:
        """Lays out what the next such count needs, in a thread of its own: nobody waits for that."""
        needed = {
            leaf_id(each): sets[leaf_id(each)] for each in ends(condition) if not isinstance(each, InGroup)
        }
        needed[""] = universe
        with self._lock:
            known = {name: pair[0] for name, pair in self._known.items()}
            rest = {name: each for name, each in needed.items() if known.get(name) is not each}
            if self._busy is None and rest and _bytes(len(needed), universe) <= self._most:
                self._busy = Thread(target=self._lay, args=(rest,))
                self._busy.start()

    def wait(self) -> None:
        """Until nothing is being laid out."""
        busy = self._busy
        if busy is not None:
            busy.join()

    def _lay(self, sets: Mapping[str, BitMap]) -> None:
        try:
            for name, members in sets.items():
                blocks = blocks_of(members)
                with self._lock:
                    self._known[name] = (members, blocks)
                    self._known.move_to_end(name)
                    while sum(each.nbytes for _, each in self._known.values()) > self._most:
                        self._known.popitem(last=False)
        finally:
            self._busy = None


def _bytes(sets: int, universe: BitMap) -> int:
    """The most that so many sets may come to."""
    return sets * (int(universe.max()) // 8 if universe else 0)


def _count(program: Sequence[tuple[int, str | None]], high: int, laid: Mapping[str, Blocks]) -> int:
    names = list(laid)
    size = max(len(each.sizes) for each in laid.values())
    sizes, places = np.zeros((len(names), size), np.int64), np.zeros((len(names), size), np.uint64)
    for i, each in enumerate(laid.values()):
        sizes[i, : len(each.sizes)], places[i, : len(each.sizes)] = each.sizes, each.places
    steps = np.array([(step, _TOP if name is None else names.index(name)) for step, name in program])
    edges = [size * i // _THREADS for i in range(_THREADS + 1)]
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = pool.map(lambda a, b: int(run(steps, high, sizes, places, a, b)), edges[:-1], edges[1:])
        return sum(parts)


def _write(node: Condition, sets: Mapping[str, BitMap], program: list[tuple[int, str | None]]) -> int:
    """Adds the steps that leave `node` on top of the stack; how high that grows. `""`: everybody."""
    if isinstance(node, Not):
        program.append((PUSH, ""))
        return _join(LESS, node.part, sets, program)
    if isinstance(node, AllOf | AnyOf):
        whole = isinstance(node, AllOf)
        # Leaves before what must be worked out and `not` last; small ones first where they leave few.
        parts = sorted(
            node.parts, key=lambda part: (_kind(part), _size(part, sets) if whole else -_size(part, sets))
        )
        high = _write(parts[0], sets, program)
        for part in parts[1:]:
            if whole and isinstance(part, Not):
                high = max(high, _join(LESS, part.part, sets, program))
            else:
                high = max(high, _join(AND if whole else OR, part, sets, program))
        return high
    assert not isinstance(node, InGroup | Linked)  # noqa: S101  `countable` has looked
    program.append((PUSH, leaf_id(node)))
    return 1


def _join(
    step: int, node: Condition, sets: Mapping[str, BitMap], program: list[tuple[int, str | None]]
) -> int:
    """Joins `node` to what lies on top of the stack."""
    if _kind(node) == 0:
        assert not isinstance(node, AllOf | AnyOf | Not | InGroup | Linked)  # noqa: S101
        program.append((step, leaf_id(node)))
        return 1
    high = 1 + _write(node, sets, program)
    program.append((step, None))
    return high


def _kind(node: Condition) -> int:
    if isinstance(node, Not):
        return 2
    return int(isinstance(node, AllOf | AnyOf))


def _size(node: Condition, sets: Mapping[str, BitMap]) -> int:
    return 0 if isinstance(node, AllOf | AnyOf | Not | InGroup | Linked) else len(sets[leaf_id(node)])
