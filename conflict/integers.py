"""Whole candidates: from prices, which leave fractions of a few users, to a choice that keeps all limits.

All users take their best reply at the prices but for some thousand who lose next to nothing by another one;
those are the columns of a core. Pairs of changes among them fill the limits to the brim, while branch and cut
(HiGHS) decides smaller cores beside it, and whatever one finds the other goes on from. Where the columns that
could still improve the best choice are few enough, branch and cut over all of them proves a tighter bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from conflict.apart import Apart
from conflict.core import Core, bound_of_core, columns_of, core_of, whole_program
from conflict.feasible import worth_of
from conflict.filling import Filling
from conflict.greedy import greedy
from conflict.grid import step_of
from conflict.improve import Improver
from conflict.packing import Packing
from conflict.prices import bound_of
from conflict.problem import Floats, Ints, Mask, Problem
from conflict.programs import Answer, Program, Solved
from conflict.reply import Box, rivals, worth
from conflict.rows import program_of

#: columns among which pairs are looked for, at first and at most
_COLUMNS, _MOST_COLUMNS = 3_000, 6_000
#: columns for each limit, where that is more
_EACH = 40
#: columns beyond which no more are gathered, however alike they are
_PLENTY = 1_000_000
#: candidates from which on columns are counted before they are written out
_COUNTED = 20_000
#: most columns for which a proof may take all the time there is
_SURE = 3_000
#: runs of branch and cut before a proof is tried
_BEFORE = 2
#: most candidates that branch and cut gets as they are
_WHOLE = 100_000
#: columns of the first core that goes to branch and cut; the next is twice as large
_CORE = 600
#: most columns that branch and cut is given to prove a bound
_PROVE = 20_000
#: part of a typical value that is rounding, and candidates that tell what is typical
_ROUNDING, _FEW = 1e-9, 5_000
#: fillings in vain after which others get more of the time
_VAIN = 6
#: seconds that a proof may come late
_LATE = 0.5
#: candidates a user of the first core by prices on users; the next is so much wider if that was decided, else
#: it gets so much longer; and candidates a user up to which all that may be better are looked at
_EACH_USER, _WIDER, _LONGER, _OPEN = 1.5, 1.3, 1.6, 2.5
#: seconds of the first run of branch and cut; the next gets twice as long
_FIRST = 2.0


def near(objective: float, bound: float, gap: float, dust: float) -> bool:
    """Whether a bound is within a part of the objective, or no further than rounding."""
    return (
        bool(np.isfinite(objective))
        and np.isfinite(bound)
        and bound - objective <= max(gap * abs(objective), dust)
    )


def dust_of(problem: Problem) -> float:
    """What is rounding in a sum of values: the middle one of a few thousand, whatever the largest."""
    some = problem.value[:: max(1, problem.size // _FEW)]
    return _ROUNDING * float(np.median(np.abs(some))) if some.size else 0.0


@dataclass(kw_only=True)
class Best:
    """The best choice so far and what nothing can exceed."""

    problem: Problem
    #: whether no choice outside the problem's candidates can be better
    complete: bool
    chosen: Mask | None = None
    objective: float = -np.inf
    bound: float = np.inf
    #: proven: no choice keeps all limits and rules
    infeasible: bool = False
    #: distance from the bound that is rounding
    dust: float = field(init=False)
    #: what the worth of every choice is a multiple of; 0: of nothing that is known
    grid: float = field(init=False)
    #: told of every change
    changed: Callable[[Best], None] = lambda _: None
    #: called all the while, so that somebody may say enough
    asked: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.dust = dust_of(self.problem)
        small = self.complete and self.problem.size <= _WHOLE and self.problem.elsewhere == 0
        hard = np.isinf(self.problem.rules.penalty).all()
        self.grid = step_of(self.problem.value) if small and hard else 0.0

    def offer(self, chosen: Mask | None) -> bool:
        """Take it if it is better and keeps everything."""
        if chosen is None:
            return False
        objective = worth_of(self.problem, chosen)
        if objective <= self.objective:
            return False
        self.chosen, self.objective = chosen, objective
        self.changed(self)
        return True

    def limit(self, bound: float) -> None:
        if self.grid > 0 and np.isfinite(bound):
            # a solver's own tolerance is granted
            steps = bound / self.grid
            bound = min(bound, float(np.floor(steps + 1e-6 + 1e-9 * abs(steps))) * self.grid)
            bound = max(bound, self.objective)
        if bound < self.bound:
            self.bound = bound
            self.changed(self)

    def within(self, gap: float) -> bool:
        return near(self.objective, self.bound, gap, self.dust)


def search(
    best: Best, prices: Floats, units: Floats, start: Mask | None = None, *,
    end: float, gap: float, seed: int, method: dict[str, object],
) -> None:  # fmt: skip
    """Better and better choices at prices [L], until the gap is met or time (monotonic) ends.

    `start` [n] is nearly right; by default everybody's best reply.
    """
    problem = best.problem
    point = Box(at=prices, low=prices, high=prices)
    filling = Filling.of(problem, prices, seed)
    if filling is not None and best.offer(filling.search(best.chosen, 0.0, end)):
        start = best.chosen
    if filling is not None and best.complete:
        best.limit(filling.bound(best.objective, end))
    core = _columns(problem, point, max(_COLUMNS, _EACH * problem.rules.limits), start)
    method["integers"] = "pairs of changes, neighbourhoods and branch and cut around the prices"
    method["core"] = core.value.size
    best.offer(core.base)
    if best.within(gap):
        return
    # the nearest first: most of what is to be had, for a fraction of the pairs
    improver, begun = Improver(core, prices, units, seed, end), np.zeros(0, np.int64)
    if improver.dense is not None:
        first = Improver(core.nearest(_CORE), prices, units, seed, end)
        first.start(begun)
        best.offer(first.choice())
        if best.within(gap):
            return
        begun = core.like(first.core, first.columns)
    improver.start(begun)
    best.offer(improver.choice())
    if best.within(gap):
        return
    if best.chosen is None:
        adjusted = problem.adjusted(prices)
        if not best.offer(greedy(problem, adjusted, core.base)):
            best.offer(greedy(problem, adjusted, np.zeros(problem.size, np.bool_)))
    priced = bound_of(problem.rules, prices, worth(problem, prices), problem.elsewhere)
    beside = _Beside(
        best=best,
        improver=improver,
        point=point,
        priced=priced,
        end=end,
        gap=gap,
        method=method,
        filling=filling,
        packing=Packing.of(problem, prices, priced, seed),
    )
    try:
        beside.go()
    finally:
        beside.apart.close()


@dataclass(kw_only=True)
class _Beside:
    """Branch and cut in a process of its own, improvements in this one."""

    best: Best
    improver: Improver
    point: Box
    #: bound at the prices, which losses are measured against
    priced: float
    end: float
    gap: float
    method: dict[str, object]
    #: None where limits cannot be filled one after the other
    filling: Filling | None
    #: None where candidates may not be taken or left each for itself
    packing: Packing | None
    #: columns of the next core, and seconds that it gets
    size: int = _CORE
    seconds: float = _FIRST
    #: distance from the bound at which the last proof was tried
    tried: float = np.inf
    #: runs of branch and cut so far
    runs: int = 0
    #: fillings without a better choice since the last one
    vain: int = 0
    #: candidates a user of the next core by prices on users
    each: float = _EACH_USER
    apart: Apart = field(default_factory=Apart)

    def go(self) -> None:
        while not self._done():
            job = self._next()
            enough = 0.5 * self.gap * abs(self.best.objective) if self.best.chosen is not None else 0.0
            enough = max(enough, 0.99 * self.best.grid)
            self.apart.ask(
                job.program, seconds=job.seconds, gap=0.0, absolute=enough, seed=self.improver.seed
            )
            turn = 0
            while self.apart.busy and not self._done():
                self._improve(turn)
                self.best.offer(self.improver.choice())
                turn += 1
            if job.proof and not self.best.within(self.gap):
                self.apart.wait(_LATE)
            if not self.apart.busy:
                self._take(job, self.apart.answer())

    def _improve(self, turn: int) -> None:
        if self.filling is not None:
            every = 2 if self.vain < _VAIN else 4
            if turn % every == every - 1:
                self._fill(self.filling)
                return
            turn -= turn // every
        if self.packing is not None:
            if turn % 2 == 0:
                self._went_on(self.packing.search(self.best.objective, self.end))
                return
            turn //= 2
        if turn % 2 == 0:
            self.improver.roam(self.priced - self.best.objective)
        elif turn % 4 == 1:
            self.improver.look_around()
        else:
            self.improver.kick()

    def _fill(self, filling: Filling) -> None:
        found = filling.search(self.best.chosen, 0.99 * self.best.grid, self.end)
        self.vain = 0 if self._went_on(found) else self.vain + 1

    def _went_on(self, found: Mask | None) -> bool:
        """Whether this is better than all before; if so, the others go on from it."""
        better = found is not None and self.best.offer(found)
        if better and found is not None:
            self.improver.start(_taken(self.improver.core, found))
        return better

    def _done(self) -> bool:
        self.best.asked()
        return self.best.infeasible or self.best.within(self.gap) or time.monotonic() >= self.end

    def _next(self) -> _Job:
        """What branch and cut does next: a wider core, or for a proof all that could be better."""
        self.runs += 1
        left = max(self.end - time.monotonic(), 0.05)
        open_ = self.best.bound - self.best.objective
        small = self.best.problem.size <= _WHOLE
        by_users = self._by_users(left)
        if by_users is not None:
            return by_users
        ready = self.best.complete and self.best.chosen is not None and open_ < 0.7 * self.tried
        columns = self._expected(open_)
        if ready and self.runs > (0 if columns <= _CORE else 1 if columns <= _SURE else _BEFORE):
            # what it has found by the end shall come in time
            left = max(left - _LATE, 0.5 * left)
            self.tried = open_
            # a bound tighter than that of the prices says nothing of what a single reply may lose
            core = self._all(self.priced - self.best.objective)
            if core is not None and self.best.problem.rules.max_tasks == 1:
                # a reply is a candidate: as such, branch and cut finds more cuts
                mask = core.base.copy()
                mask[core.rivals.members] = True
                return self._few(mask, left)
            if core is not None:
                return _Job.of(core, left if core.value.size <= _SURE else 0.5 * left, proof=True)
            if small:
                return _Job.whole(self.best.problem, 0.5 * left)
        if self.best.complete and self.best.chosen is None and self.runs > 1 and small:
            # perhaps there is none
            return _Job.whole(self.best.problem, left)
        core = self.improver.core
        size, seconds = self.size, min(self.seconds, left)
        self.size, self.seconds = 2 * self.size, 1.5 * self.seconds
        if size > core.value.size and core.value.size < _MOST_COLUMNS:
            wider = _columns(
                self.best.problem, self.point, min(2 * core.value.size, _MOST_COLUMNS), core.base
            )
            if wider.value.size > core.value.size:
                before = self.improver
                self.improver = Improver(wider, before.prices, before.units, before.seed + 1, self.end)
                self.improver.start(wider.like(core, before.columns))
        return _Job.of(self.improver.core.nearest(size), seconds, proof=False)

    def _by_users(self, left: float) -> _Job | None:
        """By prices on users: the candidates nearest to the best, or all that something better may hold."""
        best, filling = self.best, self.filling
        if filling is None or best.chosen is None or not best.complete:
            return None
        best.limit(filling.bound(best.objective, self.end))
        least = filling.least()
        if not least.size:
            return None
        open_ = filling.open_for(least, best.objective, best.grid)
        near = filling.nearest(least, round(self.each * best.problem.users), best.chosen)
        few, gap = int(open_.sum()), best.bound - best.objective
        often = self.runs > _BEFORE and few <= _PROVE and gap < 0.7 * self.tried
        if often or few <= max(_OPEN * best.problem.users, float(near.sum())):
            self.tried = gap
            return self._few(open_, max(left - _LATE, 0.5 * left))
        seconds = min(self.seconds, left)
        return _Job.whole(best.problem.keep(near), seconds, np.flatnonzero(near), proof=False)

    def _few(self, mask: Mask, left: float) -> _Job:
        """Candidates outside of which nothing can be better, as they are."""
        at = np.flatnonzero(mask)
        return _Job.whole(self.best.problem.keep(mask), left if at.size <= _SURE else 0.5 * left, at)

    def _expected(self, open_: float) -> float:
        """About how many columns lose no more than this: there are the more, the more they may lose."""
        core = self.improver.core
        return core.value.size * open_ / max(float(core.losses.max(initial=0.0)), 1e-300)

    def _all(self, open_: float) -> Core | None:
        """All columns that a better choice can hold; None where they are too many."""
        if self._expected(open_) > 2 * _PROVE:
            return None
        # from best replies, since a base that loses more than that would hide what its user may take
        core = core_of(self.best.problem, self.point, open_ * (1 + 1e-6) + 1e-12)
        return core if core.rivals.cut == 0 and core.value.size <= _PROVE else None

    def _take(self, job: _Job, solved: Solved) -> None:
        if job.core is None:
            if solved.x is not None:
                chosen = np.zeros(self.best.problem.size, np.bool_)
                chosen[job.at] = solved.x[: job.size] > 0.5
                if self.filling is not None or self.packing is not None:
                    self._went_on(chosen)
                else:
                    self.best.offer(chosen)
            if job.proof and self.best.chosen is None and solved.answer is Answer.INFEASIBLE:
                self.best.infeasible = True
                return
            none = solved.answer is Answer.INFEASIBLE
            bound = -np.inf if none else solved.bound + self.best.problem.elsewhere
        else:
            columns = columns_of(job.core, solved)
            bound = bound_of_core(job.core, solved)
            if columns is not None:
                self.best.offer(job.core.choice(columns))
                self.improver.start(self.improver.core.like(job.core, columns))
                self.best.offer(self.improver.choice())
        if job.core is None and not job.proof:
            # as many candidates as it takes the time for
            self.each *= _WIDER if solved.answer is Answer.OPTIMAL else 1.0
            self.seconds *= 1.0 if solved.answer is Answer.OPTIMAL else _LONGER
        if job.proof:
            self.method["proof"] = f"branch and cut over all {job.size} that could be better"
            self.best.limit(max(bound, self.best.objective))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run of branch and cut."""

    program: Program
    seconds: float
    #: whether no better choice lies outside
    proof: bool
    #: columns or candidates in it
    size: int
    #: whose columns they are; None: candidates as they are, [size] of these places
    core: Core | None = None
    at: Ints | None = None

    @staticmethod
    def whole(problem: Problem, seconds: float, at: Ints | None = None, *, proof: bool = True) -> _Job:
        """Candidates as they are: all, or those in these places of all."""
        return _Job(
            program=program_of(problem, whole=True), seconds=seconds, proof=proof, size=problem.size,
            at=np.arange(problem.size) if at is None else at,
        )  # fmt: skip

    @staticmethod
    def of(core: Core, seconds: float, *, proof: bool) -> _Job:
        return _Job(
            program=whole_program(core), seconds=seconds, proof=proof, size=int(core.value.size), core=core
        )


def _taken(core: Core, chosen: Mask) -> Ints:
    """The columns of a core that a choice [n] takes, where a reply is one candidate or none."""
    begin, end = core.rivals.starts[core.reply], core.rivals.starts[core.reply + 1]
    owner = np.searchsorted(core.problem.starts, np.flatnonzero(chosen), side="right") - 1
    idle = ~np.isin(core.owner, owner)
    one = np.r_[core.rivals.members, 0][begin]
    return np.flatnonzero(np.where(end > begin, chosen[one] & ~core.base[one], idle))


def _columns(problem: Problem, point: Box, many: int, start: Mask | None) -> Core:
    """The columns that lose least at the prices, about `many` of them."""
    within = 1e-4 * float(np.mean(np.abs(problem.value))) if problem.size else 0.0
    for _ in range(12):
        if problem.size < _COUNTED:
            break
        # counted first where columns take long to write out
        found = rivals(problem, point, within)
        if found.owner.size - np.unique(found.owner).size >= many:
            break
        within = 4 * within or 1.0
    core = core_of(problem, point, within, start)
    late = core.crowded()
    for _ in range(12):
        if np.count_nonzero(~late) >= many or core.value.size > _PLENTY:
            break
        within = 4 * within or 1.0
        core = core_of(problem, point, within, start)
        late = core.crowded()
    return core.nearest(many, late)
