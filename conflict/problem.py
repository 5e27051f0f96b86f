"""Candidates and limits as compact columns: what every method of this room works on.

All that limits and rules select on is a candidate's labels, so each combination of labels that occurs is a
*kind*: a candidate is its value, what it uses of each summed column, and the number of its kind. Candidates
stand by user, then task, whatever order their rows came in; nothing is ever decided by that place (samples
and ties are drawn by a seed).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conflict.labels import slice_of
from kernel.choices import Limits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: candidates above which values and amounts are held in 32 bits; the proof is then about those
WIDE = 32_000_000


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Limits and rules by kind: what does not grow with the candidates."""

    #: whether candidates of a kind are in a limit, [kinds, L]
    member: Mask
    #: what a limit sums: 0 counts, k is row k − 1 of `amounts`, [L]
    summed: Ints
    #: +inf where there is none, [L]
    at_most: Floats
    #: −inf where there is none, [L]
    at_least: Floats
    #: what one unit past a bound costs; inf where it may not be passed, [L]
    penalty: Floats
    #: slot that a kind fills in each family (label column, or set never together); 0 = none, [kinds, F]
    slots: NDArray[np.int32]
    #: most of a slot a user, by slot; slot 0 is unlimited
    caps: NDArray[np.int32]
    #: name of each family's rule, [F]
    families: tuple[str, ...]
    #: whether slots are nested in one another or apart, so that greedy replies are exact
    nested: bool
    max_tasks: int
    min_tasks: int

    @property
    def limits(self) -> int:
        return int(self.summed.size)

    @property
    def kinds(self) -> int:
        return int(self.member.shape[0])

    def tolls(self, prices: Floats, rows: int) -> Floats:
        """What a candidate pays for being there and for each unit of its amounts, [1 + rows, kinds]."""
        tolls = np.zeros((1 + rows, self.kinds))
        for row in range(1 + rows):
            here = self.summed == row
            if here.any():
                tolls[row] = self.member[:, here] @ prices[here]
        return tolls

    def use(self, table: Floats) -> Floats:
        """What was gathered by row and kind, by limit, [L]."""
        return np.asarray(np.einsum("lk,kl->l", table[self.summed], self.member.astype(np.float64)))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """n candidates of U users under L limits; a user's candidates stand together."""

    rules: Rules
    #: [n], 64 or 32 bits
    value: NDArray[np.floating]
    #: distinct columns that limits sum, [K, n]
    amounts: NDArray[np.floating]
    #: row of `rules.member` and `rules.slots`, [n]
    kind: NDArray[np.unsignedinteger]
    #: user u has candidates starts[u]:starts[u+1], [U+1]
    starts: Ints
    #: place of each candidate in the problem that this one was taken from; None: its own
    origin: Ints | None = None
    #: value of what is chosen elsewhere for good
    elsewhere: float = 0.0

    @staticmethod
    def nothing(rules: Rules) -> Problem:
        """No candidates at all."""
        return Problem(
            rules=rules, value=np.zeros(0), amounts=np.zeros((int(rules.summed.max(initial=0)), 0)),
            kind=np.zeros(0, np.uint16), starts=np.zeros(1, np.int64),
        )  # fmt: skip

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def users(self) -> int:
        return int(self.starts.size - 1)

    def user_of(self) -> Ints:
        """Position of each candidate's user, [n]."""
        return np.repeat(np.arange(self.users), np.diff(self.starts))

    def usage(self, limit: int) -> Floats:
        """What each candidate uses of a limit, [n]."""
        inside = self.rules.member[:, limit][self.kind]
        row = int(self.rules.summed[limit])
        return np.where(inside, self.amounts[row - 1] if row else 1.0, 0.0).astype(np.float64)

    def table(self, at: Ints) -> Floats:
        """What some candidates use, by row and kind, [1 + K, kinds]."""
        kind, kinds = self.kind[at], self.rules.kinds
        counts = np.bincount(kind, minlength=kinds)
        sums = (np.bincount(kind, weights=each[at], minlength=kinds) for each in self.amounts)
        return np.array([counts, *sums], np.float64)

    def used(self, chosen: Mask) -> Floats:
        """What a choice uses of every limit, [L]."""
        return self.rules.use(self.table(np.flatnonzero(chosen)))

    def adjusted(self, prices: Floats) -> Floats:
        """Value less what the candidate pays at the prices, [n]."""
        tolls = self.rules.tolls(prices, self.amounts.shape[0])
        left = self.value - tolls[0][self.kind]
        for row, amounts in enumerate(self.amounts):
            left = left - amounts * tolls[row + 1][self.kind]
        return np.asarray(left, np.float64)

    def keep(self, mask: Mask) -> Problem:
        """The same with fewer candidates; every user stays, perhaps with none."""
        cumulated = np.r_[0, np.cumsum(mask)].astype(np.int64)
        at = np.flatnonzero(mask)
        return replace(
            self,
            value=self.value[at],
            amounts=self.amounts[:, at],
            kind=self.kind[at],
            starts=cumulated[self.starts],
            origin=at if self.origin is None else self.origin[at],
        )

    def people(self, users: Ints) -> Problem:
        """The same with fewer users (ascending), all their candidates."""
        counts = np.diff(self.starts)[users]
        starts = np.r_[0, np.cumsum(counts)].astype(np.int64)
        at = np.repeat(self.starts[users] - starts[:-1], counts) + np.arange(starts[-1])
        return replace(
            self,
            value=self.value[at],
            amounts=np.ascontiguousarray(self.amounts[:, at]),
            kind=self.kind[at],
            starts=starts,
            origin=at if self.origin is None else self.origin[at],
        )

    def bounded(self, at_most: Floats, at_least: Floats, elsewhere: float | None = None) -> Problem:
        """The same under other bounds."""
        return replace(
            self,
            rules=replace(self.rules, at_most=at_most, at_least=at_least),
            elsewhere=self.elsewhere if elsewhere is None else elsewhere,
        )


def compile_problem(candidates: pl.DataFrame, limits: Limits) -> tuple[Problem, Ints | None]:
    """Checked candidates and limits as columns, and the row of each candidate (None: as they stand)."""
    rows = _order(candidates)
    frame = candidates if rows is None else candidates[rows]
    width = np.float32 if frame.height > WIDE else np.float64
    columns = summed_columns(limits)
    amounts = np.empty((len(columns), frame.height), width)
    for row, column in enumerate(columns):
        amounts[row] = frame[column].cast(pl.Float64).to_numpy()
    kinds, kind = kinds_of(frame, label_columns(limits))
    problem = Problem(
        rules=compile_rules(kinds, limits),
        value=frame["value"].cast(pl.Float64).to_numpy().astype(width),
        amounts=amounts,
        kind=kind,
        starts=_starts(frame["user"]),
    )
    return problem, rows


def summed_columns(limits: Limits) -> list[str]:
    """Columns that limits sum, each once."""
    return sorted({limit.sum for limit in limits.limits if limit.sum is not None})


def label_columns(limits: Limits) -> list[str]:
    """Columns that limits and rules select on, each once."""
    columns = {column for limit in limits.limits for column in limit.where}
    columns |= set(limits.per_user.max_by)
    if limits.per_user.never_together:
        columns.add("task")
    return sorted(columns)


def kinds_of(frame: pl.DataFrame, labels: list[str]) -> tuple[pl.DataFrame, NDArray[np.unsignedinteger]]:
    """Combinations of labels that occur, in ascending order, and which of them each row is."""
    if not labels or frame.height == 0:
        return frame.select(labels).head(0), np.zeros(frame.height, np.uint16)
    # a name that no label has
    number = "kind" + "_" * max(map(len, labels))
    kinds = frame.select(labels).unique().sort(labels, nulls_last=True).with_row_index(number)
    joined = frame.select(labels).join(kinds, on=labels, how="left", nulls_equal=True, maintain_order="left")
    return kinds.drop(number), joined[number].to_numpy().astype(kind_type(kinds.height))


def kind_type(kinds: int) -> type[np.unsignedinteger]:
    return np.uint16 if kinds <= 2**16 else np.uint32


def compile_rules(kinds: pl.DataFrame, limits: Limits, columns: list[str] | None = None) -> Rules:
    """Limits and rules for combinations of labels; with no label column, for the one kind there is.

    `columns` are those of `amounts`; by default the ones that the limits sum.
    """
    count = max(1, kinds.height)
    columns = summed_columns(limits) if columns is None else columns
    slots, caps, families = _slots(kinds, count, limits)
    bounds = limits.limits
    return Rules(
        member=_member(kinds, count, limits),
        summed=np.array(
            [0 if each.sum is None else 1 + columns.index(each.sum) for each in bounds], np.int64
        ),
        at_most=np.array([np.inf if each.at_most is None else each.at_most for each in bounds], np.float64),
        at_least=np.array(
            [-np.inf if each.at_least is None else each.at_least for each in bounds], np.float64
        ),
        penalty=np.array([np.inf if each.penalty is None else each.penalty for each in bounds], np.float64),
        slots=slots,
        caps=caps,
        families=families,
        nested=nested(slots),
        max_tasks=limits.per_user.max_tasks,
        min_tasks=limits.per_user.min_tasks,
    )


def _member(kinds: pl.DataFrame, count: int, limits: Limits) -> Mask:
    member = np.ones((count, len(limits.limits)), np.bool_)
    for place, limit in enumerate(limits.limits):
        if limit.where and kinds.height:
            member[:, place] = kinds.select(slice_of(limit, kinds)).to_series().to_numpy()
    return member


def _slots(
    kinds: pl.DataFrame, count: int, limits: Limits
) -> tuple[NDArray[np.int32], NDArray[np.int32], tuple[str, ...]]:
    rules = limits.per_user
    families: list[tuple[str, NDArray[np.int32]]] = []
    caps = [np.iinfo(np.int32).max]
    for column, labels in rules.max_by.items():
        slot = np.zeros(count, np.int32)
        for label, most in labels.items():
            if kinds.height:
                same = kinds.select(pl.col(column).cast(pl.String) == label).to_series()
                slot[same.fill_null(value=False).to_numpy()] = len(caps)
            caps.append(most)
        families.append((f"per_user.max_by.{column}", slot))
    apart: list[NDArray[np.int32]] = []
    for tasks in rules.never_together:
        inside: Mask = np.zeros(count, np.bool_)
        if kinds.height:
            inside = kinds.select(pl.col("task").is_in(list(tasks))).to_series().to_numpy()
        # sets that share no task need no family each
        free = next((slot for slot in apart if not slot[inside].any()), None)
        if free is None:
            apart.append(free := np.zeros(count, np.int32))
        free[inside] = len(caps)
        caps.append(1)
    families += [("per_user.never_together", slot) for slot in apart]
    # a slot with room for every task that a user may have binds nobody
    loose = np.array(caps) >= rules.max_tasks
    families = [(name, np.where(loose[slot], 0, slot).astype(np.int32)) for name, slot in families]
    stacked = np.ascontiguousarray(
        np.array([slot for _, slot in families], np.int32).reshape(len(families), count).T
    )
    return stacked, np.array(caps, np.int32), tuple(name for name, _ in families)


def nested(slots: NDArray[np.int32]) -> bool:
    """Whether the slots [kinds, F] of all families are nested in one another or apart."""
    if slots.shape[1] <= 1:
        return True
    inside = [frozenset(np.flatnonzero((slots == slot).any(axis=1))) for slot in np.unique(slots[slots > 0])]
    return all(
        not (one & two) or one <= two or two <= one
        for place, one in enumerate(inside)
        for two in inside[:place]
    )


def _order(candidates: pl.DataFrame) -> Ints | None:
    """Rows by user and task, or None where they stand so already."""
    text = [
        pl.col(column).cast(pl.String)
        if candidates.schema[column] in (pl.Categorical, pl.Enum)
        else pl.col(column)
        for column in ("user", "task")
    ]  # fmt: skip
    keys = candidates.select(text)
    user, task = pl.col("user"), pl.col("task")
    ascending = (user > user.shift(1)) | ((user == user.shift(1)) & (task > task.shift(1)))
    if keys.height < 2 or keys.select(ascending.slice(1).all()).item():
        return None
    return np.asarray(keys.select(pl.arg_sort_by("user", "task")).to_series().to_numpy(), np.int64)


def _starts(user: pl.Series) -> Ints:
    if user.is_empty():
        return np.zeros(1, np.int64)
    changes = (user != user.shift(1)).fill_null(value=True).arg_true().to_numpy()
    return np.append(changes, user.len()).astype(np.int64)
