"""A leaderboard of millions, kept in order: an update moves a stretch of two arrays, a rank is a search.

At a million participants an update moves at most 12 MB where they lie, a millisecond or two; the alternative,
a tree, allocates for each participant and takes longer to build than sorting does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import memmove
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A line of the board."""

    #: 1 is first; equal values share a rank, and the next is skipped
    rank: int
    user: str
    value: float


class Leaderboard:
    """Users by value, `most` first or `least` first. Equals share a rank, and who came to the value earlier
    stands before. Not safe for threads."""

    def __init__(self, order: str = "most") -> None:
        self._sign = -1.0 if order == "most" else 1.0
        #: signed values ascending, and the number of who has each; the first `_count` are in use
        self._values: NDArray[np.float64] = np.empty(16)
        self._who: NDArray[np.int32] = np.empty(16, np.int32)
        self._count = 0
        self._numbers: dict[str, int] = {}
        self._users: list[str] = []
        #: number → signed value now
        self._now: dict[int, float] = {}

    def __len__(self) -> int:
        return self._count

    def load(self, users: Sequence[str], values: Iterable[float]) -> None:
        """Everybody at once, in the order in which they came to their values."""
        self._users = list(users)
        self._numbers = {user: number for number, user in enumerate(self._users)}
        signed = self._sign * np.fromiter(values, np.float64, len(self._users))
        order = np.argsort(signed, kind="stable")
        self._values, self._who, self._count = signed[order], order.astype(np.int32), len(order)
        self._now = dict(enumerate(signed.tolist()))

    def put(self, user: str, value: float) -> None:
        """The user's value now, new or changed."""
        signed, number = self._sign * value, self._numbers.get(user)
        if number is None:
            number = self._numbers[user] = len(self._users)
            self._users.append(user)
            if self._count == len(self._values):
                self._grow()
            old = self._count
            self._count += 1
        else:
            if self._now[number] == signed:
                return
            old = self._place(number)
        self._now[number] = signed
        new = self._moved(old, signed)
        self._values[new], self._who[new] = signed, number

    def drop(self, user: str) -> None:
        """The user is not on the board any more; nothing when she was not."""
        number = self._numbers.pop(user, None)
        if number is None:
            return
        place = self._place(number)
        self._shift(place + 1, self._count, by=-1)
        self._count -= 1
        del self._now[number]

    def of(self, user: str) -> Standing | None:
        """Where the user stands; None when not on the board."""
        number = self._numbers.get(user)
        if number is None:
            return None
        signed = self._now[number]
        rank = int(np.searchsorted(self._values[: self._count], signed, "left")) + 1
        return Standing(rank=rank, user=user, value=self._sign * signed)

    def between(self, first: int, last: int) -> list[Standing]:
        """The users at places `first` to `last`, from 1, in order; with the ranks that they share."""
        low, high = max(first, 1) - 1, min(last, self._count)
        values = self._values[low:high]
        ranks = np.searchsorted(self._values[: self._count], values, "left") + 1
        lines = zip(ranks.tolist(), self._who[low:high].tolist(), values.tolist(), strict=True)
        return [
            Standing(rank=rank, user=self._users[who], value=self._sign * value) for rank, who, value in lines
        ]

    def ranked(self, first: int, last: int) -> list[Standing]:
        """Everybody whose rank is `first` to `last`: more than that many where values are equal."""
        values = self._values[: self._count]
        if first > self._count:
            return []
        edge = values[min(last, self._count) - 1]
        found = self.between(1, int(np.searchsorted(values, edge, "right")))
        return [each for each in found if first <= each.rank <= last]

    def around(self, user: str, near: int) -> list[Standing]:
        """The user with `near` neighbours to either side; nobody when she is not on the board."""
        number = self._numbers.get(user)
        if number is None:
            return []
        place = self._place(number) + 1
        return self.between(place - near, place + near)

    def _place(self, number: int) -> int:
        signed, values = self._now[number], self._values[: self._count]
        low, high = np.searchsorted(values, signed, "left"), np.searchsorted(values, signed, "right")
        return int(low + np.flatnonzero(self._who[low:high] == number)[0])

    def _moved(self, old: int, signed: float) -> int:
        """The place of a signed value when that at `old` goes; all between has made room."""
        before = int(np.searchsorted(self._values[:old], signed, "right"))
        if before < old:
            self._shift(before, old, by=1)
            return before
        after = old + int(np.searchsorted(self._values[old + 1 : self._count], signed, "right"))
        self._shift(old + 1, after + 1, by=-1)
        return after

    def _shift(self, start: int, stop: int, *, by: int) -> None:
        """Without the copy that an assignment between overlapping slices makes first: half the time, and no
        fresh pages, which are what the slowest updates waited for."""
        for kept in (self._values, self._who):
            first, size = kept.ctypes.data, kept.itemsize
            memmove(first + (start + by) * size, first + start * size, (stop - start) * size)

    def _grow(self) -> None:
        size = max(16, 2 * self._count)
        self._values, self._who = np.resize(self._values, size), np.resize(self._who, size)
