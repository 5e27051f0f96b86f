"""Users as dense 32-bit numbers, sets of them as Roaring bitmaps, and a cache of those sets."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
import polars as pl
from pyroaring import BitMap

from kernel.errors import NotFound


class UserDictionary:
    """User ids of a universe, in order, as numbers 0 … n − 1. Both ways; immutable."""

    def __init__(self, users: pl.Series) -> None:
        """`users`: distinct, without NULL, Int64 or String."""
        self._frame = pl.DataFrame({"user": users.sort()}).with_row_index("position")

    def __len__(self) -> int:
        return self._frame.height

    @property
    def dtype(self) -> pl.DataType:
        return self._frame.schema["user"]

    def positions(self, users: pl.Series) -> BitMap:
        """The set of their numbers. Ids that are not in the universe are left out."""
        if users.is_empty():
            return BitMap()
        asked = pl.DataFrame({"user": users}).cast({"user": self.dtype})
        found = self._frame.join(asked, on="user", how="semi")["position"]
        return BitMap(found.to_numpy().astype(np.uint32, copy=False))

    def numbers(self, users: pl.Series) -> pl.Series:
        """The number of each, UInt32; NULL for ids that are not in the universe."""
        asked = pl.DataFrame({"user": users}).cast({"user": self.dtype})
        return asked.join(self._frame, on="user", how="left", maintain_order="left")["position"]

    def users(self, members: BitMap) -> pl.Series:
        """The ids of a set, in order."""
        return self._frame["user"].gather(np.asarray(members.to_array(), dtype=np.uint32))

    def position(self, user: object) -> int:
        """The number of one user. Raises NotFound for an id that is not in the universe."""
        ids = self._frame["user"]
        fits = isinstance(user, int) and not isinstance(user, bool) and -(2**63) <= user < 2**63
        if fits if self.dtype == pl.Int64 else isinstance(user, str):
            found = ids.search_sorted(pl.Series([user], dtype=self.dtype))[0]
            if found < len(self) and ids[found] == user:
                return int(found)
        raise NotFound("user", user, ids.head(8).to_list())

    def all(self) -> BitMap:
        return BitMap(range(len(self)))


class LeafCache:
    """Members of leaves by what they say, when, of which sources. Least recently used go first.

    Safe for many threads. What it holds is never changed: callers get their own copy.
    """

    def __init__(self, most: int = 1000) -> None:
        self._most, self._lock = most, Lock()
        self._known: OrderedDict[tuple[object, ...], BitMap] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> BitMap | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: tuple[object, ...], members: BitMap) -> None:
        with self._lock:
            self._known[key] = members
            while len(self._known) > self._most:
                self._known.popitem(last=False)
