"""All groups of one user: the members of many groups, turned round.

Asking each of a thousand bitmaps takes the time of a thousand dictionary look-ups. Here the
containers of all bitmaps lie by block of 65,536 users: dense ones (a bit a user) are read where they are, one
load a group; sparse ones (a list of users) are turned into a list of groups a user, block by block, when a
user of the block is first asked for. That takes as much memory as those lists; what is dense is not copied.

The layout of a serialised Roaring bitmap is that of the format specification of the Roaring project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernel.errors import BadInput

#: users in a block, and bits of a number within it
BLOCK, _BITS = 65_536, 16
#: groups changed since a block was turned, above which it is turned again
_MOST_CHANGED = 32
_NO_RUNS, _RUNS = 12_346, 12_347
_DENSE = -1


@dataclass(frozen=True, kw_only=True)
class Containers:
    """The parts of one bitmap, by block."""

    #: numbers of the blocks, rising
    blocks: NDArray[np.int64]
    #: 0 none, −1 dense, n > 0 a list of n users, −1 − r a list of r runs
    kinds: NDArray[np.int32]
    #: where each begins, bytes
    offsets: NDArray[np.int64]


def containers(serialised: bytes) -> Containers:
    """What `BitMap.serialize` wrote, as a table of contents. Raises BadInput for anything else."""
    raw = np.frombuffer(serialised, np.uint8)
    if len(raw) < 4:
        raise BadInput("is no serialised bitmap", field="members", value=f"{len(raw)} bytes")
    cookie = int(raw[:4].view("<u4")[0])
    if cookie & 0xFFFF == _RUNS:
        number = (cookie >> 16) + 1
        wide = (number + 7) // 8
        runs = np.unpackbits(raw[4 : 4 + wide], bitorder="little")[:number].astype(bool)
        at = 4 + wide
    elif cookie == _NO_RUNS:
        number, at = int(raw[4:8].copy().view("<u4")[0]), 8
        runs = np.zeros(number, bool)
    else:
        raise BadInput("is no serialised bitmap", field="members", value=hex(cookie))
    head = raw[at : at + 4 * number].copy().view("<u2").reshape(number, 2).astype(np.int64)
    sizes, at = head[:, 1] + 1, at + 4 * number
    if cookie == _NO_RUNS or number >= 4:
        offsets = raw[at : at + 4 * number].copy().view("<u4").astype(np.int64)
    else:
        offsets = _follow(raw, at, sizes, runs)
    kinds = np.where(sizes > 4096, _DENSE, sizes).astype(np.int32)
    for i in np.flatnonzero(runs):
        kinds[i] = -1 - int(raw[offsets[i] : offsets[i] + 2].copy().view("<u2")[0])
        offsets[i] += 2
    # A list of no runs does not occur; −1 − 0 would read as dense.
    return Containers(blocks=head[:, 0], kinds=kinds, offsets=offsets)


def _follow(raw: NDArray[np.uint8], at: int, sizes: Any, runs: Any) -> NDArray[np.int64]:
    """Few containers with runs have no offsets: they lie one after the other."""
    offsets = np.zeros(len(sizes), np.int64)
    for i, size in enumerate(sizes):
        offsets[i] = at
        if runs[i]:
            at += 2 + 4 * int(raw[at : at + 2].copy().view("<u2")[0])
        else:
            at += 8192 if size > 4096 else 2 * int(size)
    return offsets


@dataclass(frozen=True, kw_only=True)
class _Turned:
    """A block from the users' side, as of one moment."""

    #: state of the index that it was made from
    serial: int
    #: groups whose containers are dense or runs: they are asked one by one
    asked: NDArray[np.int32]
    #: user i of the block is in the groups listed[starts[i] : starts[i + 1]] of those with lists
    starts: NDArray[np.uint32]
    listed: NDArray[np.uint16]


class Reverse:
    """Groups by user. Safe for many threads; a group is replaced as a whole."""

    def __init__(self) -> None:
        self._lock, self._serial = Lock(), 0
        self._names: list[str] = []
        self._slots: dict[str, int] = {}
        self._buffers: dict[int, bytes] = {}
        self._where = np.zeros((0, 0), np.uint64)
        self._kinds = np.zeros((0, 0), np.int32)
        self._changed = np.zeros(0, np.int64)
        self._turned: dict[int, _Turned] = {}
        self._out = np.zeros(1, np.int32)

    def put(self, members: Mapping[str, bytes | None]) -> None:
        """These groups now have these members (serialised bitmaps); None takes a group away."""
        parsed = {name: None if each is None else containers(each) for name, each in members.items()}
        if len(self._names) + len(set(parsed) - set(self._names)) > BLOCK:
            raise BadInput(f"are more than {BLOCK:,}", field="groups", value=len(self._names))
        with self._lock:
            self._serial += 1
            for name in parsed:
                if name not in self._slots:
                    self._slots[name] = len(self._names)
                    self._names.append(name)
            most = max(
                (int(each.blocks[-1]) for each in parsed.values() if each and len(each.blocks)), default=-1
            )
            self._grow(max(most + 1, len(self._where)), len(self._names))
            for name, each in parsed.items():
                slot, content = self._slots[name], members[name]
                self._kinds[:, slot], self._changed[slot] = 0, self._serial
                if each is None or content is None:
                    self._buffers.pop(slot, None)
                    continue
                start = np.frombuffer(content, np.uint8).ctypes.data if content else 0
                self._kinds[each.blocks, slot] = each.kinds
                self._where[each.blocks, slot] = np.uint64(start) + each.offsets.astype(np.uint64)
                self._buffers[slot] = content  # keeps alive what the addresses point to

    def groups_of(self, number: int) -> list[str]:
        """Names of the groups that a user belongs to, in no particular order."""
        block, low = number >> _BITS, number & (BLOCK - 1)
        with self._lock:
            if not 0 <= block < len(self._where):
                return []
            turned = self._turned.get(block)
            if turned is None or turned.serial < self._serial:
                turned = self._fresh(block, turned)
            where, kinds = self._where[block], self._kinds[block]
            changed = np.flatnonzero(self._changed > turned.serial).astype(np.int32)
            listed = turned.listed[turned.starts[low] : turned.starts[low + 1]]
            count = _find(
                where, kinds, turned.asked, listed, changed, self._changed, turned.serial, low, self._out
            )
            names = self._names
            return [names[slot] for slot in self._out[:count].tolist()]

    @property
    def nbytes(self) -> int:
        """Memory beyond the bitmaps themselves, bytes."""
        with self._lock:
            tables = self._where.nbytes + self._kinds.nbytes
            return tables + sum(
                each.asked.nbytes + each.starts.nbytes + each.listed.nbytes for each in self._turned.values()
            )

    def _grow(self, blocks: int, groups: int) -> None:
        if blocks > len(self._where) or groups > self._where.shape[1]:
            wide = max(groups, self._where.shape[1])
            wide = wide if wide == self._where.shape[1] else max(wide, 2 * self._where.shape[1])
            where, kinds = np.zeros((blocks, wide), np.uint64), np.zeros((blocks, wide), np.int32)
            old = self._where.shape
            where[: old[0], : old[1]], kinds[: old[0], : old[1]] = self._where, self._kinds
            changed = np.zeros(wide, np.int64)
            changed[: old[1]] = self._changed
            self._where, self._kinds, self._changed = where, kinds, changed
            self._out = np.zeros(wide + 1, np.int32)

    def _fresh(self, block: int, turned: _Turned | None) -> _Turned:
        """The block turned, at most a few groups behind."""
        if turned is not None and int((self._changed > turned.serial).sum()) <= _MOST_CHANGED:
            return turned
        kinds = self._kinds[block]
        lists = np.flatnonzero(kinds > 0).astype(np.int32)
        starts = np.zeros(BLOCK + 1, np.uint32)
        _count(self._where[block], kinds, lists, starts)
        np.cumsum(starts, out=starts)
        listed = np.empty(int(starts[-1]), np.uint16)
        _list(self._where[block], kinds, lists, starts.copy(), listed)
        turned = _Turned(
            serial=self._serial,
            asked=np.flatnonzero(kinds < 0).astype(np.int32),
            starts=starts,
            listed=listed,
        )
        self._turned[block] = turned
        return turned


def _load_at(_context: Any, _address: Any) -> Any:
    """Sixteen bits at an address, little-endian."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = context.get_value_type(types.uint16).as_pointer()
        return builder.load(builder.inttoptr(arguments[0], pointer), align=1)

    return types.uint16(types.uint64), generate


_load = intrinsic(_load_at)


def _find_python(
    where: Any,
    kinds: Any,
    asked: Any,
    listed: Any,
    changed: Any,
    changed_at: Any,
    serial: int,
    low: int,
    out: Any,
) -> int:
    """Slots of the groups that hold user `low` of a block, into `out`; how many."""
    found = 0
    word, bit = np.uint64((low >> 4) << 1), low & 15
    for i in range(asked.size):
        slot = asked[i]
        if changed_at[slot] > serial:
            continue
        if kinds[slot] == -1:
            out[found] = slot
            found += (_load(where[slot] + word) >> bit) & 1
        elif _in_runs(where[slot], -1 - kinds[slot], low):
            out[found] = slot
            found += 1
    for i in range(listed.size):
        slot = np.int32(listed[i])
        if changed_at[slot] <= serial:
            out[found] = slot
            found += 1
    for i in range(changed.size):
        slot = changed[i]
        kind = kinds[slot]
        if kind == -1:
            inside = ((_load(where[slot] + word) >> bit) & 1) == 1
        elif kind < 0:
            inside = _in_runs(where[slot], -1 - kind, low)
        else:
            inside = kind > 0 and _in_list(where[slot], kind, low)
        if inside:
            out[found] = slot
            found += 1
    return found


def _in_list_python(start: Any, length: Any, low: int) -> Any:
    first, last = 0, length
    while first < last:
        middle = (first + last) >> 1
        if _load(start + np.uint64(2 * middle)) < low:
            first = middle + 1
        else:
            last = middle
    return first < length and _load(start + np.uint64(2 * first)) == low


def _in_runs_python(start: Any, length: Any, low: int) -> Any:
    """Runs are pairs: first user, and how many follow it."""
    first, last = 0, length
    while first < last:
        middle = (first + last) >> 1
        if _load(start + np.uint64(4 * middle)) <= low:
            first = middle + 1
        else:
            last = middle
    if first == 0:
        return False
    at = start + np.uint64(4 * (first - 1))
    return low <= np.int64(_load(at)) + np.int64(_load(at + np.uint64(2)))


def _count_python(where: Any, kinds: Any, lists: Any, starts: Any) -> None:
    """Adds to starts[user + 1] the number of lists that the user is in."""
    for i in range(lists.size):
        at = where[lists[i]]
        for j in range(kinds[lists[i]]):
            starts[np.int64(_load(at + np.uint64(2 * j))) + 1] += 1


def _list_python(where: Any, kinds: Any, lists: Any, places: Any, listed: Any) -> None:
    """Writes each list's group to each of its users; `places`: where the next one goes."""
    for i in range(lists.size):
        at = where[lists[i]]
        for j in range(kinds[lists[i]]):
            user = np.int64(_load(at + np.uint64(2 * j)))
            listed[places[user]] = lists[i]
            places[user] += 1


_in_list = njit(cache=True)(_in_list_python)
_in_runs = njit(cache=True)(_in_runs_python)
_find = njit(cache=True)(_find_python)
_count = njit(cache=True)(_count_python)
_list = njit(cache=True)(_list_python)
