"""The core: the replies that prices alone leave open, as one small program.

A variable says whether a user takes a reply other than the one that is best at the prices; all others stay.
Programs over whole replies know every rule of a user exactly, so their linear relaxation is as strong as the
Lagrangian bound (Dantzig and Wolfe, 1960; Geoffrion, 1974).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from conflict.problem import Floats, Ints, Mask, Problem
from conflict.programs import Answer, Program, Solved, Solver, solve
from conflict.reply import Box, Rivals, rivals, worth

#: differences of values and use below this part of the largest are rounding
_GRAIN = 2.0**-40
#: columns × limits that a core holds at most
_CELLS = 100_000_000
#: columns that add and use the very same of which the nearest are made
_SAME = 12


@dataclass(frozen=True, kw_only=True)
class Core:
    """Replies that compete, as columns of a program."""

    problem: Problem
    #: what every user takes as long as nothing else is decided, [n]
    base: Mask
    rivals: Rivals
    #: user of each column, [c]
    owner: Ints
    #: place of each column among the rivals, [c]
    reply: Ints
    #: value that a column adds to the base, [c]
    value: Floats
    #: what it adds to the use of each limit, [L, c]
    use: Floats
    #: what the base uses, [L]
    used: Floats
    #: what the column loses at the prices, [c]
    losses: Floats
    #: how many users the user of each column stands for, [c]; None: one
    times: Ints | None = None

    def nearest(self, many: int, late: Mask | None = None) -> Core:
        """With the `many` columns only that lose least; `late` ones [c] last: by default crowded."""
        if self.value.size <= many:
            return self
        # equals are drawn, so that nobody is favoured by place; of very many alike, few are enough
        late = self.crowded() if late is None else late
        lot = np.random.default_rng(0).random(self.losses.size)
        return self.only(np.sort(np.lexsort((lot, self.losses, late))[:many]))

    def crowded(self) -> Mask:
        """Columns of which enough others add and use the very same, [c]."""
        marks = self.marks()
        lot = np.random.default_rng(1).random(marks.size)
        order = np.lexsort((lot, marks))
        sorted_ = marks[order]
        first = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]][: marks.size])
        rank = np.empty(marks.size, np.int64)
        rank[order] = np.arange(marks.size) - np.repeat(first, np.diff(np.r_[first, marks.size]))
        return np.asarray(rank >= _SAME)

    def marks(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        """A number for what each column adds and uses, the same for the same, [c]."""
        rng = np.random.default_rng(0)
        # not 0 for a column that changes nothing: it counts among a user's columns like any other
        marks = np.full(self.value.size, 0x9E3779B97F4A7C15, np.uint64)
        for row in (self.value, *self.use):
            grain = float(np.max(np.abs(row), initial=0.0)) * _GRAIN
            odd = rng.integers(1, 2**63, dtype=np.uint64)
            if grain > 0:
                marks += np.rint(row / grain).astype(np.int64).view(np.uint64) * odd
        return marks

    def only(self, columns: Ints) -> Core:
        """With some columns only, ascending."""
        return replace(
            self,
            owner=self.owner[columns],
            reply=self.reply[columns],
            value=self.value[columns],
            use=self.use[:, columns],
            losses=self.losses[columns],
            times=None if self.times is None else self.times[columns],
        )

    def choice(self, columns: Ints) -> Mask:
        """The base with some columns taken, [n]."""
        chosen = self.base.copy()
        owner, reply = self.owner[columns], self.reply[columns]
        chosen[_ranges(self.problem.starts, owner)] = False
        chosen[self.rivals.members[_ranges(self.rivals.starts, reply)]] = True
        return chosen

    def like(self, other: Core, columns: Ints) -> Ints:
        """The columns here that are the same replies as some of another core at the same prices."""
        here = {key: place for place, key in enumerate(self._keys(np.arange(self.value.size)))}
        return np.array([here[key] for key in other._keys(columns) if key in here], np.int64)

    def _keys(self, columns: Ints) -> list[tuple[int, ...]]:
        held = self.rivals
        return [
            (
                int(self.owner[each]),
                *sorted(
                    held.members[held.starts[self.reply[each]] : held.starts[self.reply[each] + 1]].tolist()
                ),
            )
            for each in columns
        ]


def core_of(problem: Problem, box: Box, within: float = 0.0, base: Mask | None = None) -> Core:
    """Every reply that may be best in the box, or loses at most `within`.

    `base` [n] is what everybody takes otherwise; by default the best reply at the box's prices.
    """
    found = rivals(problem, box, within)
    lengths = np.diff(found.starts)
    reply = np.repeat(np.arange(lengths.size), lengths)
    first = np.r_[True, found.owner[1:] != found.owner[:-1]][: found.owner.size]
    group = np.cumsum(first) - 1
    head = np.flatnonzero(first)
    known = np.ones(head.size, np.bool_)
    if base is None:
        base = np.zeros(problem.size, np.bool_)
        worth(problem, box.at, base)
    else:
        head, known = _heads(problem, found, reply, lengths, group, base)
    value = np.bincount(reply, weights=problem.value[found.members], minlength=lengths.size)
    others = np.flatnonzero(known[group] & (head[group] != np.arange(lengths.size)))
    most = _CELLS // max(1, problem.rules.limits)
    if others.size > most:
        # under very many limits only the nearest have room
        others = np.sort(others[np.argpartition(found.losses[others], most)[:most]])
        found = replace(found, cut=found.cut + 1)
    mine = head[group[others]]
    total = _uses(problem, found.members, reply, lengths.size)
    use = (total[others] - total[mine]).toarray(order="F").T
    return Core(
        problem=problem,
        base=base,
        rivals=found,
        owner=found.owner[others],
        reply=others,
        value=value[others] - value[mine],
        use=use,
        used=problem.used(base),
        losses=found.losses[others],
    )


def changes(problem: Problem, at: Box, within: float) -> csr_matrix:
    """What replies that lose at most `within` use other than their user's best one, [c, L]."""
    found = rivals(problem, at, within)
    reply = np.repeat(np.arange(found.owner.size), np.diff(found.starts))
    first = np.r_[True, found.owner[1:] != found.owner[:-1]][: found.owner.size]
    total = _uses(problem, found.members, reply, found.owner.size)
    return total[np.flatnonzero(~first)] - total[np.flatnonzero(first)[np.cumsum(first) - 1][~first]]


def _ranges(starts: Ints, some: Ints) -> Ints:
    """All places from starts[i] to starts[i + 1], for each i of some."""
    lengths = starts[some + 1] - starts[some]
    ends = np.cumsum(lengths)
    return np.repeat(starts[some] - ends + lengths, lengths) + np.arange(int(ends[-1]) if ends.size else 0)


def _uses(problem: Problem, members: Ints, reply: Ints, replies: int) -> csr_matrix:
    """What replies use, each of the candidates that belong to it, [replies, L]."""
    rules, kind = problem.rules, problem.kind[members]
    total = csr_matrix((replies, rules.limits))
    for row in range(1 + problem.amounts.shape[0]):
        amounts = problem.amounts[row - 1, members].astype(np.float64) if row else np.ones(members.size)
        by_kind = csr_matrix((amounts, (reply, kind)), shape=(replies, rules.kinds))
        total = total + by_kind @ csr_matrix((rules.member & (rules.summed == row)).astype(np.float64))
    return total


def _heads(
    problem: Problem, found: Rivals, reply: Ints, lengths: Ints, group: Ints, base: Mask
) -> tuple[Ints, Mask]:
    """For each user among the rivals the reply that is its base, and whether it is there."""
    inside = np.bincount(reply, weights=base[found.members], minlength=lengths.size)
    taken = np.add.reduceat(np.r_[base, False], problem.starts[:-1])
    taken = np.where(np.diff(problem.starts) > 0, taken, 0)[found.owner]
    same = (inside == lengths) & (lengths == taken)
    head = np.zeros(int(group[-1]) + 1 if group.size else 0, np.int64)
    known = np.zeros(head.size, np.bool_)
    at = np.flatnonzero(same)
    head[group[at]] = at
    known[group[at]] = True
    return head, known


def relax(core: Core, box: Box, seconds: float = 60.0) -> tuple[Floats, Mask, Floats] | None:
    """Prices inside the box at which the relaxed core is worth least, which press against its edges, [L], and
    how often each column is taken, [c]; None where the solver failed.

    Past a bound the box's dearest price is paid, and what is left of one brings its cheapest, so there always
    is an answer.
    """
    rules = core.problem.rules
    low = np.where(box.low > 0, rules.at_most, rules.at_least)
    high = np.where(box.high < 0, rules.at_least, rules.at_most)
    program = program_of(core, low - core.used, high - core.used, box.high, -box.low, whole=False)
    solved = solve(program, Solver.GLOP, seconds=seconds)
    if solved.answer is not Answer.OPTIMAL or solved.prices is None or solved.x is None:
        return None
    count = core.value.size
    over, under = solved.x[count : count + rules.limits], solved.x[count + rules.limits :]
    prices = np.clip(solved.prices[: rules.limits], box.low, box.high)
    return prices, (over > 1e-9) | (under > 1e-9), solved.x[:count]


def whole_program(core: Core) -> Program:
    """Which columns to take, under the limits as they are."""
    rules = core.problem.rules
    low, high = rules.at_least - core.used, rules.at_most - core.used
    return program_of(core, low, high, rules.penalty, rules.penalty, whole=True)


def columns_of(core: Core, solved: Solved) -> Ints | None:
    """The columns that a solver took; None when it found nothing."""
    return None if solved.x is None else np.flatnonzero(solved.x[: core.value.size] > 0.5)


def bound_of_core(core: Core, solved: Solved) -> float:
    """No choice that differs from the base in these columns only is worth more; −inf where there is none."""
    if solved.answer is Answer.INFEASIBLE:
        return -np.inf
    return (
        float(np.sum(core.problem.value[core.base], dtype=np.float64)) + core.problem.elsewhere + solved.bound
    )


def program_of(core: Core, low: Floats, high: Floats, over: Floats, under: Floats, *, whole: bool) -> Program:
    """Columns, then for each limit what it is passed by, at `over` and `under` a unit; inf: never."""
    rules, count = core.problem.rules, core.value.size
    limits = rules.limits
    times = np.ones(count, np.int64) if core.times is None else core.times
    row, column = np.nonzero(core.use)
    _, first, counts = np.unique(core.owner, return_index=True, return_counts=True)
    many = counts > 1
    shared = np.repeat(many, counts)
    rows = np.r_[
        row, np.arange(limits), np.arange(limits), limits + np.repeat(np.arange(many.sum()), counts[many])
    ]
    columns = np.r_[column, count + np.arange(2 * limits), np.flatnonzero(shared)]
    coefficients = np.r_[core.use[row, column], -np.ones(limits), np.ones(limits), np.ones(int(shared.sum()))]
    order = np.lexsort((columns, rows))
    return Program(
        value=np.r_[core.value, -np.where(np.isinf(over), 0.0, over), -np.where(np.isinf(under), 0.0, under)],
        low=np.zeros(count + 2 * limits),
        high=np.r_[times, np.where(np.isinf(over), 0.0, np.inf), np.where(np.isinf(under), 0.0, np.inf)],
        whole=np.r_[np.full(count, whole), np.zeros(2 * limits, np.bool_)],
        starts=np.r_[0, np.cumsum(np.bincount(rows, minlength=limits + int(many.sum())))].astype(np.int64),
        columns=columns[order].astype(np.int64),
        coefficients=coefficients[order],
        row_low=np.r_[low, np.full(int(many.sum()), -np.inf)],
        row_high=np.r_[high, times[first[many]].astype(np.float64)],
    )
