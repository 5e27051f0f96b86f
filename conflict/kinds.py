"""Kinds found piece by piece: combinations of labels are numbered as they occur, and sorted at the end."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conflict import runs
from conflict.candidates import is_text

#: places of the table of combinations; where labels need more, they are joined instead
_TABLE = 2**22
_FAR = 2**62
#: rows from which the first combinations are taken
_FIRST = 20_000
#: integers that NumPy knows
NARROW = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


class Words:
    """Numbers for the texts of each column, in the order in which they first occur."""

    def __init__(self) -> None:
        self._known: dict[str, pl.Categories] = {}
        #: Polars forgets categories that no series has
        self._held: dict[str, pl.Series] = {}
        self._ranks: dict[str, NDArray[np.int64]] = {}

    def codes(self, texts: pl.Series) -> NDArray[np.unsignedinteger]:
        own = self._known.setdefault(texts.name, pl.Categories.random())
        plain = texts if texts.dtype == pl.String else texts.cast(pl.String)
        coded = plain.cast(pl.Categorical(own))
        self._held.setdefault(texts.name, coded.head(0))
        return coded.to_physical().to_numpy()

    def ranks(self, column: str, least: int) -> NDArray[np.int64]:
        """Place of each code in the order of the texts; `least`: how many there are at least."""
        ranks = self._ranks.get(column)
        if ranks is None or ranks.size < least:
            names = self._known[column].to_series().cast(pl.String)
            ranks = names.rank("ordinal").cast(pl.Int64).to_numpy()
            self._ranks[column] = ranks
        return ranks


class Kinds:
    """Numbers for the combinations of some label columns; no label is null."""

    def __init__(self, labels: list[str], schema: pl.Schema, words: Words) -> None:
        self._labels, self._words = labels, words
        self._known = pl.DataFrame(schema={column: schema[column] for column in labels})
        self._plain = all(_is_plain(schema[column]) for column in labels)
        self._low: list[int] = []
        #: labels from the lowest on, by column
        self._span: list[int] = []
        self._table = np.full(0, -1, np.int32)

    @property
    def count(self) -> int:
        return self._known.height

    def number(self, piece: pl.DataFrame) -> NDArray[np.integer]:
        """Number of each row's combination, [n]."""
        if not self._labels or piece.height == 0:
            return np.zeros(piece.height, np.int32)
        if not self.count:
            # most occur at once, so that their numbers stand to the end
            self._known = piece.select(self._labels).head(_FIRST).unique().sort(self._labels)
        if self._plain:
            columns = [self._whole(piece[column]) for column in self._labels]
            self._widen(columns)
        return self._looked_up(piece, columns) if self._plain else self._joined(piece)

    def finish(self) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """Combinations in ascending order, and the place there of each number."""
        if not self._labels or self._known.is_empty():
            return self._known, np.zeros(1, np.int64)
        order = self._known.select(pl.arg_sort_by(*self._labels, nulls_last=True)).to_series().to_numpy()
        places = np.empty(order.size, np.int64)
        places[order] = np.arange(order.size)
        return self._known[order], places

    def _whole(self, labels: pl.Series) -> NDArray[np.generic]:
        return self._words.codes(labels) if is_text(labels.dtype) else labels.to_numpy()

    def _widen(self, columns: list[NDArray[np.generic]]) -> None:
        """Makes the table hold these labels, or gives it up where it would be too large."""
        lows = [int(each.min()) for each in columns]
        highs = [int(each.max()) for each in columns]
        if self._low:
            if all(
                low >= have and high < have + span
                for low, high, have, span in zip(lows, highs, self._low, self._span, strict=True)
            ):
                return
            lows = [min(pair) for pair in zip(lows, self._low, strict=True)]
            ends = zip(self._low, self._span, strict=True)
            highs = [max(high, low + span - 1) for high, (low, span) in zip(highs, ends, strict=True)]
        # room to grow, so that it is not made anew each time
        self._span = [1 << (high - low).bit_length() for low, high in zip(lows, highs, strict=True)]
        self._low = lows
        size = int(np.prod([float(each) for each in self._span]))
        if size > _TABLE or max(map(abs, lows + highs)) > _FAR:
            self._plain = False
            return
        self._table = np.full(size, -1, np.int32)
        if self.count:
            known = [self._whole(self._known[column]) for column in self._labels]
            self._table[self._places(known)] = np.arange(self.count)

    def _places(self, columns: list[NDArray[np.generic]]) -> NDArray[np.int32]:
        places, stride = np.zeros(columns[0].size, np.int32), 1
        for labels, low, span in zip(columns, self._low, self._span, strict=True):
            runs.place(labels, low, stride, places)
            stride *= span
        return places

    def _looked_up(self, piece: pl.DataFrame, columns: list[NDArray[np.generic]]) -> NDArray[np.int32]:
        places = self._places(columns)
        count = self.count
        fresh = np.zeros(min(self._table.size, count + places.size), np.int64)
        total = runs.number(self._table, count, places, fresh)
        if total > count:
            self._known = pl.concat([self._known, piece.select(self._labels)[fresh[count:total]]])
        return places

    def _joined(self, piece: pl.DataFrame) -> NDArray[np.uint32]:
        """As a table, for labels of any type and number."""
        own = piece.select(self._labels)
        new = own.unique(maintain_order=True).join(
            self._known, on=self._labels, how="anti", nulls_equal=True, maintain_order="left"
        )
        if new.height:
            self._known = pl.concat([self._known, new])
        number = "number" + "_" * max(map(len, self._labels))
        numbered = self._known.with_row_index(number)
        joined = own.join(numbered, on=self._labels, how="left", nulls_equal=True, maintain_order="left")
        return joined[number].to_numpy()


def _is_plain(dtype: pl.DataType) -> bool:
    return is_text(dtype) or dtype == pl.Boolean or dtype in NARROW
