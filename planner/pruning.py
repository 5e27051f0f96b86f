"""The few candidates of each user that can matter, out of hundreds: proven at all prices of a box.

Prices make users independent (conflict's method), so a candidate matters only if some user's best reply
holds it at the prices that the day will have. Those are not known before it is decided, but a sample of
users, its limits scaled, tells about where they lie: in a box. Left out is a candidate that at every price of
the box

- is worth no more than it pays (`hopeless`), or
- is beaten by as many others of its user as could be in the way, each fitting where it fits (`beaten`): any
  choice with it can be changed for one without it that is worth as much.

Neither changes anybody's best reply anywhere in the box, so the bound by prices is that of all candidates.
Beyond `most` a user, the rest is cut, and what that may cost is added up. `bound` tells what no choice from
everything, pruned or not, can exceed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.choices import Limit, Limits
from planner.limits import slice_of
from planner.pruning_kernel import BEATEN, CUT, HOPELESS, KEPT, bound_users, prune_users

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: columns of candidates that are of the task: what limits and rules may select on
LABELS = ("task", "goal", "audience", "benefit", "touchpoint", "channel", "content")
#: fate → why, in the words of a plan
WHY = {
    HOPELESS: "worth less than it pays for limits, at all prices there may be",
    BEATEN: "others of the same user are better, at all prices there may be",
    CUT: "beyond the most candidates a user",
}
#: parts of a price, and of a typical one, by which prices of a sample are expected to miss at most
_REACH, _REACH_FLOOR = 0.15, 0.02
#: kept of a floor's slice in the sample, as a multiple of the floor, below which each user keeps one of it
_PLENTY = 4.0


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Candidates of users one after the other."""

    #: user u has candidates starts[u]:starts[u+1], [U+1]
    starts: Ints
    #: [n], 32 or 64 bits
    value: NDArray[np.floating]
    #: what limits sum, [K, n]
    amounts: NDArray[np.floating]
    #: number of the task, [n]
    kind: NDArray[np.integer]

    @property
    def users(self) -> int:
        return int(self.starts.size - 1)


@dataclass(frozen=True, kw_only=True)
class Fates:
    """What became of each candidate."""

    #: KEPT, HOPELESS, BEATEN or CUT, [n]
    fate: NDArray[np.uint8]
    #: what cutting may cost the objective at most
    lost: float

    @property
    def kept(self) -> Mask:
        return np.asarray(self.fate == KEPT)


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Limits and rules by task, and the box of prices: what does not grow with the users."""

    limits: Limits
    #: tasks by number
    tasks: tuple[str, ...]
    #: names of what is summed, row by row of `amounts`
    summed: tuple[str, ...]
    most: int
    #: lowest and highest price of each limit, [L]
    low: Floats
    high: Floats
    #: whether candidates of a task are in a limit, [tasks, L]
    member: Mask
    #: 0 counts, k is row k − 1 of `amounts`, [L]
    row: Ints
    #: slot that a task fills in each family of rules; 0: none, [tasks, F]
    slots: Ints
    #: most of a slot a user, by slot, [slots]
    caps: Ints
    #: floors of which each user keeps one candidate
    scarce: tuple[str, ...] = ()

    def prune(self, columns: Columns) -> Fates:
        """Works a user at a time; memory: one byte a candidate."""
        fate = np.zeros(columns.value.size, np.uint8)
        rules = self.limits.per_user
        lost = prune_users(
            0, columns.users, columns.starts, columns.value, columns.amounts, columns.kind, self._tolls(),
            *self._pairs(), self._fits(), self.slots, self.caps, self._floors(), rules.max_tasks,
            rules.min_tasks == 0, self.most, fate,
        )  # fmt: skip
        return Fates(fate=fate, lost=float(lost))

    def worth(self, columns: Columns, prices: Mapping[str, float]) -> float:
        """What the best replies of these users come to at prices, drawn into the box, at most."""
        at = self._at(prices)
        slot = self.slots[:, 0] if self.slots.shape[1] else np.zeros(len(self.tasks), np.int64)
        return float(
            bound_users(
                0, columns.users, columns.starts, columns.value, columns.amounts, columns.kind,
                self._table(at), slot, self.caps, self.limits.per_user.max_tasks,
            )
        )  # fmt: skip

    def bound(self, worth: float, lost: float, prices: Mapping[str, float]) -> float:
        """What nothing can exceed, whatever was pruned: `worth` of everybody's kept candidates at these
        prices, `lost` by cutting, and what the limits are worth."""
        total = worth + lost
        for price, limit in zip(self._at(prices), self.limits.limits, strict=True):
            bound = limit.at_most if price > 0 else limit.at_least
            if price:
                total += float(price) * (np.inf if bound is None else bound)
        return total

    def columns(self, frame: pl.DataFrame) -> Columns:
        """Of candidates sorted by user."""
        user = frame["user"]
        changes = np.flatnonzero((user != user.shift(1)).fill_null(value=True).to_numpy())
        kinds = frame["task"].cast(pl.Enum(self.tasks)).to_physical().cast(pl.Int64)
        amounts = [frame[name].cast(pl.Float64).to_numpy() for name in self.summed]
        return Columns(
            starts=np.append(changes, frame.height).astype(np.int64),
            value=frame["value"].to_numpy(),
            amounts=np.array(amounts).reshape(len(amounts), frame.height),
            kind=kinds.to_numpy(),
        )

    def _at(self, prices: Mapping[str, float]) -> Floats:
        names = [limit.name for limit in self.limits.limits]
        return np.clip(np.array([prices.get(name, 0.0) for name in names], np.float64), self.low, self.high)

    def _table(self, prices: Floats) -> Floats:
        """What a task pays for being there and for each unit of its amounts, [1 + K, tasks]."""
        table = np.zeros((1 + len(self.summed), len(self.tasks)))
        for row in range(table.shape[0]):
            here = self.row == row
            table[row] = self.member[:, here] @ prices[here]
        return table

    def _tolls(self) -> Floats:
        return np.array([self._table(each) for each in (self.low, (self.low + self.high) / 2, self.high)])

    def _pairs(self) -> tuple[Floats, Floats]:
        """Tables of the kernel by pairs of tasks: of counts, [tasks, tasks]; of each summed column what
        limits of both and of the first alone charge, lowest and highest, [K, 4, tasks, tasks]."""
        mine = self.member.astype(np.float64)
        other = 1.0 - mine

        def both(prices: Floats, here: Mask) -> Floats:
            return np.asarray((mine[:, here] * prices[here]) @ mine[:, here].T)

        def alone(prices: Floats, here: Mask) -> Floats:
            return np.asarray((mine[:, here] * prices[here]) @ other[:, here].T)

        counts = self.row == 0
        counted = alone(self.high, counts) - alone(self.low, counts).T
        rows = [
            [both(self.low, here), both(self.high, here), alone(self.low, here), alone(self.high, here)]
            for here in (self.row == 1 + row for row in range(len(self.summed)))
        ]
        size = (len(rows), 4, len(self.tasks), len(self.tasks))
        return counted, np.array(rows, np.float64).reshape(size)

    def _fits(self) -> Mask:
        """Whether a task may stand wherever another stands, as to the rules of a user, [tasks, tasks]."""
        a, b = self.slots[:, None, :], self.slots[None, :, :]
        return np.asarray(((a == 0) | (a == b)).all(axis=2))

    def _floors(self) -> Mask:
        names = [limit.name for limit in self.limits.limits]
        places = [names.index(each) for each in self.scarce]
        return np.ascontiguousarray(self.member[:, places].T)


def pruner(tasks: pl.DataFrame, limits: Limits, box: Mapping[str, tuple[float, float]], most: int) -> Pruner:
    """`tasks`: task and the labels that limits and rules select on, one row a task. Raises BadInput for a
    column that tasks do not have."""
    edges = np.array([box[limit.name] for limit in limits.limits], np.float64).reshape(-1, 2)
    sums = tuple(dict.fromkeys(limit.sum for limit in limits.limits if limit.sum is not None))
    members = [tasks.select(slice_of(limit, tasks.columns)).to_series() for limit in limits.limits]
    member = np.ones((tasks.height, len(members)), np.bool_)
    for place, inside in enumerate(members):
        member[:, place] = inside.to_numpy()
    slots, caps = _slots(tasks, limits)
    return Pruner(
        limits=limits,
        tasks=tuple(tasks["task"]),
        summed=sums,
        most=most,
        low=np.ascontiguousarray(edges[:, 0]),
        high=np.ascontiguousarray(edges[:, 1]),
        member=member,
        row=np.array([0 if e.sum is None else 1 + sums.index(e.sum) for e in limits.limits], np.int64),
        slots=slots,
        caps=caps,
    )


def by_task(limits: Limits, columns: Sequence[str]) -> bool:
    """Whether a candidate's task alone, with labels in `columns`, says which limits and rules it is in."""
    wanted = {column for limit in limits.limits for column in limit.where} | set(limits.per_user.max_by)
    return wanted <= set(columns)


def box_of(
    found: Sequence[Mapping[str, float]], typical: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Limit → where its price may lie, from prices that samples had; `typical`: value of a candidate by what
    it uses. No sample sees the day's own, so the box reaches beyond them all."""
    box = {}
    for name, usual in typical.items():
        seen = [each[name] for each in found]
        low, high = min(seen), max(seen)
        beyond = max(high - low, _REACH * max(abs(low), abs(high)), _REACH_FLOOR * usual)
        box[name] = (low - beyond, high + beyond)
    return box


def signed(box: Mapping[str, tuple[float, float]], limits: Limits) -> dict[str, tuple[float, float]]:
    """A ceiling never pays, a floor never charges."""
    told = {}
    for limit in limits.limits:
        low, high = box[limit.name]
        low = low if (limit.at_least or 0) > 0 else max(low, 0.0)
        high = high if limit.at_most is not None else min(high, 0.0)
        told[limit.name] = (min(low, high), high)
    return told


def typical_of(frame: pl.DataFrame, limits: Limits) -> dict[str, float]:
    """Limit → value of a usual candidate of its slice by what it uses."""
    told = {}
    for limit in limits.limits:
        inside = frame.filter(slice_of(limit, frame.columns) & (pl.col("value") > 0))
        used = pl.lit(1.0) if limit.sum is None else pl.col(limit.sum).abs()
        usual = inside.filter(used > 0).select((pl.col("value") / used).median()).item()
        told[limit.name] = float(usual or 0.0)
    return told


def scaled(limits: Limits, share: float) -> Limits:
    """For a part of the users. Counts need not be whole: that is a matter of the last unit."""

    def part(limit: Limit) -> Limit:
        bounds = {
            side: bound * share
            for side, bound in (("at_most", limit.at_most), ("at_least", limit.at_least))
            if bound is not None
        }
        return limit.model_copy(update=bounds)

    return limits.model_copy(update={"limits": tuple(part(limit) for limit in limits.limits)})


def scarce_floors(pruner: Pruner, columns: Columns, fates: Fates, share: float) -> tuple[str, ...]:
    """Floors of which the kept candidates of a sample, its part of the users given, leave little choice."""
    found = []
    kept = fates.kept
    for place, limit in enumerate(pruner.limits.limits):
        if (limit.at_least or 0) <= 0:
            continue
        inside = kept & pruner.member[:, place][columns.kind]
        row = int(pruner.row[place])
        used = columns.amounts[row - 1][inside].sum() if row else np.count_nonzero(inside)
        if used < _PLENTY * float(limit.at_least or 0) * share:
            found.append(limit.name)
    return tuple(found)


def _slots(tasks: pl.DataFrame, limits: Limits) -> tuple[Ints, Ints]:
    """As conflict has them: labels of `max_by`, and sets never together."""
    rules, caps = limits.per_user, [np.iinfo(np.int64).max]
    families: list[Ints] = []

    def family(chosen: Sequence[tuple[pl.Expr, int]]) -> None:
        slot = np.zeros(tasks.height, np.int64)
        for inside, most in chosen:
            slot[tasks.select(inside.fill_null(value=False)).to_series().to_numpy()] = len(caps)
            caps.append(most)
        families.append(slot)

    for column, labels in rules.max_by.items():
        text = pl.col(column).cast(pl.String)
        family([(text == label, most) for label, most in labels.items()])
    for group in rules.never_together:
        family([(pl.col("task").cast(pl.String).is_in([str(each) for each in group]), 1)])
    slots = np.array(families, np.int64).reshape(len(families), tasks.height).T
    return np.ascontiguousarray(slots), np.array(caps, np.int64)
