"""Candidates and limits as compact arrays: what every method of this room works on.

Candidates are put in a canonical order (users by a seeded hash, then tasks), so the order of the rows
that came in cannot matter, and ties favour nobody by position. Which limits a candidate is in depends on
its labels only, so that is kept as one number a candidate, its *pattern*, and a small table.
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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """n candidates of U users under L limits; a user's candidates stand together."""

    #: row of each candidate in the frame, [n]
    rows: Ints
    #: [n]
    value: Floats
    #: user u has candidates starts[u]:starts[u+1], [U+1]
    starts: Ints
    #: row of `member` for each candidate, [n]
    pattern: NDArray[np.int32]
    #: whether candidates of a pattern are in a limit, [patterns, L]
    member: Mask
    #: distinct columns that limits sum, the first all ones (a count), [K, n]
    amounts: Floats
    #: row of `amounts` that a limit sums, [L]
    summed: Ints
    #: +inf where there is none, [L]
    at_most: Floats
    #: −inf where there is none, [L]
    at_least: Floats
    #: slot that a candidate fills in each family (label column, or set never together); 0 = none, [F, n]
    slots: NDArray[np.int32]
    #: most of a slot a user, by slot; slot 0 is unlimited
    caps: NDArray[np.int32]
    #: name of each family's rule, [F]
    families: tuple[str, ...]
    max_tasks: int
    min_tasks: int

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
        inside = self.member[:, limit][self.pattern]
        return np.where(inside, self.amounts[self.summed[limit]], 0.0)

    def used(self, chosen: Mask) -> Floats:
        """What a choice uses of every limit, [L]."""
        at = np.flatnonzero(chosen)
        inside = self.member[self.pattern[at]]
        return np.array(
            [float(np.sum(self.amounts[row][at][inside[:, limit]])) for limit, row in enumerate(self.summed)]
        )

    def adjusted(self, prices: Floats) -> Floats:
        """Value less what the candidate pays at the prices, [n]."""
        left = self.value.copy()
        for row in range(self.amounts.shape[0]):
            here = self.summed == row
            if here.any():
                toll = self.member[:, here] @ prices[here]
                left -= self.amounts[row] * toll[self.pattern]
        return left

    def keep(self, mask: Mask) -> Problem:
        """The same with fewer candidates; every user stays, perhaps with none."""
        counts = np.add.reduceat(np.r_[mask, False], self.starts[:-1]) if self.users else np.zeros(0, int)
        counts = np.where(np.diff(self.starts) > 0, counts, 0)
        return replace(
            self,
            rows=self.rows[mask],
            value=self.value[mask],
            starts=np.r_[0, np.cumsum(counts)].astype(np.int64),
            pattern=self.pattern[mask],
            amounts=self.amounts[:, mask],
            slots=self.slots[:, mask],
        )


def compile_problem(candidates: pl.DataFrame, limits: Limits, seed: int = 0) -> Problem:
    """Checked candidates and limits as arrays. `seed` decides whose ties go first."""
    rows, starts = _order(candidates, seed)
    frame = candidates[rows] if candidates.height else candidates
    columns = sorted({limit.sum for limit in limits.limits if limit.sum is not None})
    amounts = np.ones((1 + len(columns), frame.height))
    for row, column in enumerate(columns, start=1):
        amounts[row] = frame[column].cast(pl.Float64).to_numpy()
    pattern, member = _patterns(frame, limits)
    slots, caps, families = _slots(frame, limits)
    return Problem(
        rows=rows,
        value=frame["value"].cast(pl.Float64).to_numpy().copy(),
        starts=starts,
        pattern=pattern,
        member=member,
        amounts=amounts,
        summed=np.array(
            [0 if each.sum is None else 1 + columns.index(each.sum) for each in limits.limits], np.int64
        ),
        at_most=np.array([np.inf if each.at_most is None else each.at_most for each in limits.limits]),
        at_least=np.array([-np.inf if each.at_least is None else each.at_least for each in limits.limits]),
        slots=slots,
        caps=caps,
        families=families,
        max_tasks=limits.per_user.max_tasks,
        min_tasks=limits.per_user.min_tasks,
    )


def _order(candidates: pl.DataFrame, seed: int) -> tuple[Ints, Ints]:
    keys = candidates.select(
        pl.col("user"),
        pl.col("task"),
        lot=pl.col("user").hash(seed),
        draw=pl.col("task").hash(seed),
        row=pl.int_range(pl.len(), dtype=pl.Int64),
    ).sort("lot", "user", "draw", "task")
    first = keys.select(pl.col("user").rle_id()).to_series().to_numpy()
    counts = np.bincount(first) if first.size else np.zeros(0, np.int64)
    return keys["row"].to_numpy().copy(), np.r_[0, np.cumsum(counts)].astype(np.int64)


def _patterns(frame: pl.DataFrame, limits: Limits) -> tuple[NDArray[np.int32], Mask]:
    if not limits.limits:
        return np.zeros(frame.height, np.int32), np.zeros((1, 0), np.bool_)
    labels = sorted({column for limit in limits.limits for column in limit.where})
    if not labels:
        return np.zeros(frame.height, np.int32), np.ones((1, len(limits.limits)), np.bool_)
    # limits are judged once for every combination of labels that occurs, not once for every candidate
    combos = frame.select(labels).unique(maintain_order=True).with_row_index("pattern")
    member = np.column_stack(
        [combos.select(slice_of(limit, combos)).to_series().to_numpy() for limit in limits.limits]
    )
    joined = frame.select(labels).join(combos, on=labels, how="left", nulls_equal=True, maintain_order="left")
    return joined["pattern"].to_numpy().astype(np.int32), member.astype(np.bool_)


def _slots(
    frame: pl.DataFrame, limits: Limits
) -> tuple[NDArray[np.int32], NDArray[np.int32], tuple[str, ...]]:
    rules = limits.per_user
    families: list[tuple[str, NDArray[np.int32]]] = []
    caps = [np.iinfo(np.int32).max]
    for column, labels in rules.max_by.items():
        slot = np.zeros(frame.height, np.int32)
        for label, most in labels.items():
            inside = frame.select(pl.col(column).cast(pl.String) == label).to_series().fill_null(value=False)
            slot[inside.to_numpy()] = len(caps)
            caps.append(most)
        families.append((f"per_user.max_by.{column}", slot))
    for tasks in rules.never_together:
        inside = frame.select(pl.col("task").is_in(list(tasks))).to_series()
        slot = np.where(inside.to_numpy(), len(caps), 0).astype(np.int32)
        caps.append(1)
        families.append(("per_user.never_together", slot))
    stacked = np.array([slot for _, slot in families], np.int32).reshape(len(families), frame.height)
    return stacked, np.array(caps, np.int32), tuple(name for name, _ in families)
