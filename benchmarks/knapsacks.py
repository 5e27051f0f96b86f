"""The classical problems that an allocation contains, and a contest on one: ours against stock solvers.

Users choose at most or exactly one candidate each and share resources. The stock solvers get the whole
program, built here from the instance's own arrays, so that no line of the allocator stands between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl

from benchmarks.case import Line
from conflict.api import allocate, verify
from conflict.problem import Mask
from conflict.programs import Ints, Program, Solver, solve
from kernel.choices import Limits
from kernel.errors import BadInput

#: relative gap at which a contestant may stop; less than one unit of every instance here
_GAP = 1e-6
_PEERS = {"HiGHS, whole program": Solver.HIGHS, "CP-SAT, whole program": Solver.CP_SAT}


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance in whole numbers, as candidates and limits and as plain arrays."""

    #: class and size, such as "D 20×200"
    name: str
    #: what `allocate` gets; candidates of a user stand together
    frame: pl.DataFrame
    limits: Limits
    #: resource × candidate, and resource: what each uses, and how much there is
    usage: Ints
    capacity: Ints
    #: whether every user must choose
    must: bool
    #: whether `value` is a cost with its sign turned
    cost: bool
    #: what the literature reports for the class, by heading
    published: dict[str, object]


def rows_and_columns(size: int) -> tuple[int, int]:
    """40400 is 40 × 400. Raises BadInput where one of them would be none."""
    rows, columns = divmod(size, 1000)
    if rows < 1 or columns < 1:
        raise BadInput("must be rows × 1000 + columns, each at least 1", field="size", value=size)
    return rows, columns


def whole_program(instance: Instance, *, whole: bool = True) -> Program:
    """The instance as it stands in textbooks: a row a resource, a row a user with a choice to make."""
    user = instance.frame["user"].to_numpy()
    rows, columns = np.nonzero(instance.usage)
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    members = np.diff(np.r_[first, user.size])
    choosing = (members > 1) | instance.must
    in_rows = np.flatnonzero(np.repeat(choosing, members))
    lengths = np.r_[np.bincount(rows, minlength=instance.capacity.size), members[choosing]]
    users = int(choosing.sum())
    return Program(
        value=instance.frame["value"].to_numpy().astype(np.float64),
        low=np.zeros(user.size),
        high=np.ones(user.size),
        whole=np.full(user.size, whole),
        starts=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        columns=np.r_[columns, in_rows].astype(np.int64),
        coefficients=np.r_[instance.usage[rows, columns], np.ones(in_rows.size)].astype(np.float64),
        row_low=np.r_[
            np.full(instance.capacity.size, -np.inf), np.full(users, 1.0 if instance.must else -np.inf)
        ],
        row_high=np.r_[instance.capacity.astype(np.float64), np.ones(users)],
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one contestant made of one instance."""

    who: str
    #: value of what it chose; None where it chose nothing or broke something
    objective: float | None
    #: what it says that nothing can exceed, rounded to what whole numbers allow
    bound: float
    seconds: float
    #: limits and rules that its choice breaks, by the verifier; None without a choice
    broken: int | None
    #: its own word
    says: str

    @property
    def proven(self) -> bool:
        return self.objective is not None and self.objective >= self.bound


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One instance with everybody's entry, ours first."""

    instance: Instance
    entries: tuple[Entry, ...]
    #: value of the linear relaxation by GLOP; inf where GLOP failed
    linear: float

    @property
    def best_bound(self) -> float:
        return min(_floor(self.linear), *(entry.bound for entry in self.entries))

    def gap(self, entry: Entry) -> float | None:
        """Distance to the best bound that anybody proved, relative to it."""
        if entry.objective is None or not np.isfinite(self.best_bound):
            return None
        return (self.best_bound - entry.objective) / max(1.0, abs(self.best_bound))


#: (instance, seed, seconds) → what it chooses [n], and its own word
Peer = Callable[[Instance, int, float], tuple[Mask, str]]
_NOBODY: Mapping[str, Peer] = MappingProxyType({})


def contest(instance: Instance, seed: int, seconds: float, peers: Mapping[str, Peer] = _NOBODY) -> Contest:
    """Ours, then each stock solver and each of `peers` with the same time, then the linear relaxation."""
    entries = [_ours(instance, seed, seconds)]
    entries += [_stock(instance, who, solver, seed, seconds) for who, solver in _PEERS.items()]
    entries += [_peer(instance, who, peer, seed, seconds) for who, peer in peers.items()]
    linear = solve(whole_program(instance, whole=False), Solver.GLOP, seconds=seconds).bound
    return Contest(instance=instance, entries=tuple(entries), linear=linear)


def lines(contests: list[Contest], size: int) -> list[Line]:
    """A line for each entry, and, where there are several instances, one for each contestant over all."""
    table = [_line(each, entry, size) for each in contests for entry in each.entries]
    if len(contests) > 1:
        table += [_over_all(contests, at, size) for at in range(len(contests[0].entries))]
    return table


def _ours(instance: Instance, seed: int, seconds: float) -> Entry:
    start = time.perf_counter()
    reply = allocate(instance.frame, instance.limits, time_limit=seconds, gap=_GAP, seed=seed)
    took = time.perf_counter() - start
    chosen = None if reply.objective is None else reply.assignments
    return judge(instance, "ours", chosen, reply.bound, took, str(reply.status))


def _stock(instance: Instance, who: str, solver: Solver, seed: int, seconds: float) -> Entry:
    start = time.perf_counter()
    solved = solve(whole_program(instance), solver, seconds=seconds, gap=_GAP, seed=seed)
    took = time.perf_counter() - start
    chosen = None if solved.x is None else instance.frame.filter(pl.Series(solved.x > 0.5))
    return judge(instance, who, chosen, solved.bound, took, str(solved.answer))


def _peer(instance: Instance, who: str, peer: Peer, seed: int, seconds: float) -> Entry:
    start = time.perf_counter()
    chosen, says = peer(instance, seed, seconds)
    took = time.perf_counter() - start
    return judge(instance, who, instance.frame.filter(pl.Series(chosen)), None, took, says)


def judge(
    instance: Instance, who: str, chosen: pl.DataFrame | None, bound: float | None, took: float, says: str
) -> Entry:
    """The entry of someone who chose these rows: what breaks a limit or a rule counts for nothing."""
    broken = None if chosen is None else len(verify(instance.frame, instance.limits, chosen))
    return Entry(
        who=who,
        objective=None if chosen is None or broken else float(chosen["value"].sum()),
        bound=_floor(np.inf if bound is None else bound),
        seconds=took,
        broken=broken,
        says=says,
    )


def _floor(bound: float) -> float:
    """Whole values add up to whole values; a solver's own tolerance is granted. No bound at all is inf."""
    return float(np.floor(bound + _GAP * max(1.0, abs(bound)))) if np.isfinite(bound) else np.inf


def _line(each: Contest, entry: Entry, size: int) -> Line:
    sign = -1.0 if each.instance.cost else 1.0
    gap = each.gap(entry)
    below = None
    if entry.objective is not None and np.isfinite(each.linear):
        below = (each.linear - entry.objective) / max(1.0, abs(each.linear))
    return Line(
        size=size,
        who=entry.who,
        ratio=_ratio(entry, each.entries[0]),
        times=entry.seconds / each.entries[0].seconds,
        seconds=entry.seconds,
        notes={
            "instance": each.instance.name,
            "objective": "–" if entry.objective is None else f"{sign * entry.objective:.0f}",
            "its bound": f"{sign * entry.bound:.0f}" if np.isfinite(entry.bound) else "–",
            "best bound": f"{sign * each.best_bound:.0f}" if np.isfinite(each.best_bound) else "–",
            "gap to the best bound, %": _percent(gap),
            "proven": "yes" if entry.proven else "no",
            "from the linear bound, %": _percent(below),
            **each.instance.published,
            "broken": "–" if entry.broken is None else entry.broken,
            "says": entry.says,
        },
    )


def _over_all(contests: list[Contest], at: int, size: int) -> Line:
    """Means where every instance has a figure; a contestant without one has none."""
    entries = [each.entries[at] for each in contests]
    ratios = [_ratio(each.entries[at], each.entries[0]) for each in contests]
    gaps = [each.gap(each.entries[at]) for each in contests]
    seconds = sum(entry.seconds for entry in entries)
    return Line(
        size=size,
        who=entries[0].who,
        ratio=_mean(ratios),
        times=seconds / sum(each.entries[0].seconds for each in contests),
        seconds=seconds,
        notes={
            "instance": f"all {len(contests)}",
            "gap to the best bound, %": _percent(_mean(gaps)),
            "proven": f"{sum(entry.proven for entry in entries)} of {len(entries)}",
            "broken": sum(entry.broken or 0 for entry in entries),
            "says": f"{sum(entry.objective is not None for entry in entries)} of {len(entries)} feasible",
        },
    )


def _ratio(entry: Entry, ours: Entry) -> float | None:
    """Above 1 is better than ours, for costs too."""
    if entry is ours:
        return 1.0
    if not entry.objective or not ours.objective:
        return None
    return entry.objective / ours.objective if ours.objective > 0 else ours.objective / entry.objective


def _mean(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if len(known) == len(figures) else None


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.4f}"
