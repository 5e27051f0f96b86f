"""Leaves about events, answered for thousands of users at once from their own lines: the speed layer's
evaluator. It means what `insight.conditions` says, at any instant, without a query.

Lines lie in NumPy columns, sorted by user; a leaf is a mask over them and one reduction a user. Filters and
windows that several leaves share are worked out once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from insight.comparing import DIGITS, rounded
from insight.conditions import Condition, EventAge, EventTest, FieldTest, InOrder, NotFollowed, Step, Test
from insight.conditions import evaluate as over_tree
from insight.fresh_leaves import EventLeaf

Truths = NDArray[np.bool_]
Whole = NDArray[np.int64]
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_NEVER, _LONG_AGO = np.int64(2**63 - 1), np.int64(-(2**63))
#: above this, whole numbers are not all doubles
_EXACT = 2**53


def micros(at: datetime | timedelta) -> int:
    """An instant since 1970, or a span, in whole microseconds."""
    return (at - _EPOCH if isinstance(at, datetime) else at) // _MICROSECOND


class Lines:
    """Lines of one event, sorted by user."""

    def __init__(self, frame: pl.DataFrame) -> None:
        """`frame`: [place (of the user, from 0), at (microseconds), id where the event has one, fields]."""
        has_id = "id" in frame.columns
        self.frame = frame.sort("place", "id") if has_id else frame.sort("place")
        self.user: Whole = self.frame["place"].to_numpy().astype(np.int64)
        self.at: Whole = self.frame["at"].to_numpy()
        #: rises; the same for lines of one event
        self.event: Whole = np.arange(len(self.user), dtype=np.int64)
        if has_id and self.frame.height:
            ids = self.frame["id"]
            fresh = (ids != ids.shift(1)).fill_null(True).to_numpy()
            self.event = np.cumsum(fresh | _starts(self.user), dtype=np.int64)
        self._masks: dict[str, Truths] = {}
        self._values: dict[str, tuple[Any, Truths]] = {}

    def passes(self, where: Condition) -> Truths:
        """Which lines fulfil a filter."""
        said = repr(where)
        if said not in self._masks:
            self._masks[said] = over_tree(
                where,
                end=self._of_field,
                every=lambda parts: np.logical_and.reduce(parts),
                some=lambda parts: np.logical_or.reduce(parts),
                opposite=np.logical_not,
            )
        return self._masks[said]

    def values(self, field: str) -> tuple[Any, Truths]:
        """(a field's values as numbers, which of them are known). Text and booleans: a number each; days
        since 1970; microseconds since 1970."""
        if field not in self._values:
            column = self.frame[field]
            known = column.is_not_null().to_numpy()
            if column.dtype in (pl.String, pl.Boolean):
                different = column.drop_nulls().unique()
                places = pl.Series(range(len(different)), dtype=pl.Int64)
                column = column.replace_strict(different, places, default=None, return_dtype=pl.Int64)
            column = column.to_physical()
            wide = pl.Float64 if column.dtype == pl.Float64 else pl.Int64
            self._values[field] = column.cast(wide).fill_null(0).to_numpy(), known
        return self._values[field]

    def _of_field(self, end: Any) -> Truths:
        assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else into a filter
        test, column = end.test, self.frame[end.field]
        if test.op in ("is_null", "not_null"):
            found = column.is_null() if test.op == "is_null" else column.is_not_null()
            return found.to_numpy()
        if column.dtype in (pl.Int64, pl.Float64):
            values, known = self.values(end.field)
            return np.where(known, passing(test, values), test.op in ("ne", "not_in"))
        different = column.drop_nulls().unique()
        answers = pl.Series([_one(test, value) for value in different.to_list()], dtype=pl.Boolean)
        found = column.replace_strict(different, answers, default=None, return_dtype=pl.Boolean)
        return found.fill_null(test.op in ("ne", "not_in")).to_numpy()


class Batch:
    """Some users with all lines that are known of them, as of one instant."""

    def __init__(self, lines: Mapping[str, Lines], users: int, now: datetime) -> None:
        self._lines, self._users, self._now = lines, users, micros(now)

    def holds(self, leaf: EventLeaf) -> Truths:
        """Of whom a checked leaf (typed values, short field names) holds."""
        if isinstance(leaf, EventTest):
            return self._number(leaf)
        if isinstance(leaf, EventAge):
            return self._age(leaf)
        return self._in_order(leaf) if isinstance(leaf, InOrder) else self._not_followed(leaf)

    def next_change(self, edges: Mapping[str, Sequence[timedelta]]) -> Whole:
        """When time changes an answer of each user, microseconds; `edges`: how long after a line of an event
        that may be, rising."""
        found = np.full(self._users, _NEVER)
        for name, spans in edges.items():
            lines = self._lines.get(name)
            if lines is None or not len(lines.at):
                continue
            steps = np.array([micros(span) for span in spans], np.int64)
            place = np.searchsorted(steps, self._now - lines.at, "right")
            will = place < len(steps)
            at = lines.at[will] + steps[place[will]]
            soonest = _of_users(np.minimum, lines.user[will], at, self._users, _NEVER)
            found = np.minimum(found, soonest)
        return found

    def _kept(self, step: Step, within: timedelta | None) -> tuple[Lines | None, Truths]:
        lines = self._lines.get(step.event)
        if lines is None:
            return None, np.zeros(0, bool)
        mask = lines.at <= self._now
        if within is not None:
            mask &= lines.at > self._now - micros(within)
        if step.where is not None:
            mask &= lines.passes(step.where)
        return lines, mask

    def _number(self, leaf: EventTest) -> Truths:
        lines, mask = self._kept(leaf.step, leaf.within)
        if lines is None:
            nothing = leaf.of is None or leaf.agg in ("sum", "distinct")
            return np.full(self._users, nothing and bool(passing(leaf.test, np.zeros(1))[0]))
        if leaf.of is None:
            users = lines.user[mask]
            return passing(leaf.test, np.bincount(users[_starts(lines.event[mask])], minlength=self._users))
        values, known = lines.values(leaf.of)
        mask = mask & known
        values, users = values[mask], lines.user[mask]
        if leaf.agg == "distinct":
            _, codes = np.unique(values, return_inverse=True)
            pairs = np.unique(users * (len(values) + 1) + codes)
            return passing(leaf.test, np.bincount(pairs // (len(values) + 1), minlength=self._users))
        if leaf.agg in ("sum", "avg"):
            return self._sum(leaf, values.astype(np.float64), users)
        kind = np.maximum if leaf.agg == "max" else np.minimum
        ends = _of_users(kind, users, values, self._users, values.dtype.type(0))
        there: Truths = np.bincount(users, minlength=self._users) > 0
        return there & passing(_physical(leaf.test), ends)

    def _sum(self, leaf: EventTest, values: NDArray[np.float64], users: Whole) -> Truths:
        """Sums that rounding could turn either way are added again exactly."""
        counts: Whole = np.bincount(users, minlength=self._users)
        sums = np.bincount(users, values, self._users).astype(np.float64)
        size = np.bincount(users, np.abs(values), self._users).astype(np.float64)
        wrong = 2 * np.finfo(np.float64).eps * (counts + 1) * size
        if leaf.agg == "avg":
            sums, wrong = sums / np.maximum(counts, 1), wrong / np.maximum(counts, 1)
        low, high = _rounded(sums - wrong), _rounded(sums + wrong)
        for user in np.flatnonzero(low != high):
            mine = slice(*np.searchsorted(users, (user, user + 1)))
            exact = _sum(values[mine].tolist())
            low[user] = rounded(exact / counts[user] if leaf.agg == "avg" else exact)
        found = passing(Test(op=leaf.test.op, value=rounded(leaf.test.value)), low)
        return found & (counts > 0) if leaf.agg == "avg" else found

    def _age(self, leaf: EventAge) -> Truths:
        lines, mask = self._kept(leaf.step, None)
        if lines is None:
            return np.zeros(self._users, bool)
        kind = np.maximum if leaf.which == "last" else np.minimum
        edge = _of_users(kind, lines.user[mask], lines.at[mask], self._users, _NEVER)
        found: Truths = edge != _NEVER
        if leaf.older_than is not None:
            found &= edge <= self._now - micros(leaf.older_than)
        if leaf.newer_than is not None:
            found &= edge > self._now - micros(leaf.newer_than)
        return found

    def _in_order(self, leaf: InOrder) -> Truths:
        reached = np.full(self._users, _LONG_AGO)
        for step in leaf.steps:
            lines, mask = self._kept(step, leaf.within)
            if lines is None:
                return np.zeros(self._users, bool)
            mask &= lines.at > reached[lines.user]
            reached = _of_users(np.minimum, lines.user[mask], lines.at[mask], self._users, _NEVER)
        done: Truths = reached != _NEVER
        return done

    def _not_followed(self, leaf: NotFollowed) -> Truths:
        begun, mask = self._kept(leaf.step, leaf.during)
        if begun is None:
            return np.zeros(self._users, bool)
        mask &= begun.at <= self._now - micros(leaf.within)
        users, times = begun.user[mask], begun.at[mask]
        followed = np.zeros(len(users), bool)
        by, after = self._kept(leaf.by, None)
        if by is not None and after.any():
            instants, ranks = np.unique(by.at[after], return_inverse=True)
            wide = len(instants) + 1
            keys = np.sort(by.user[after] * wide + ranks)
            asked = users * wide + np.searchsorted(instants, times, "right")
            place = np.searchsorted(keys, asked)
            found = place < len(keys)
            key = keys[np.minimum(place, len(keys) - 1)]
            found &= key // wide == users
            followed = found & (instants[np.where(found, key % wide, 0)] <= times + micros(leaf.within))
        answer = np.zeros(self._users, bool)
        answer[users[~followed]] = True
        return answer


def passing(test: Test, numbers: NDArray[Any]) -> Truths:
    """The test of numbers that are known."""
    value: Any = test.value
    if numbers.dtype.kind == "i" and _is_wide(numbers, value):
        return np.array([_one(test, each) for each in numbers.tolist()], bool)
    answers: dict[str, Callable[[], Any]] = {
        "eq": lambda: numbers == value,
        "ne": lambda: numbers != value,
        "in": lambda: np.isin(numbers, value),
        "not_in": lambda: np.isin(numbers, value, invert=True),
        "lt": lambda: numbers < value,
        "le": lambda: numbers <= value,
        "gt": lambda: numbers > value,
        "ge": lambda: numbers >= value,
        "between": lambda: (numbers >= value[0]) & (numbers <= value[1]),
    }
    return np.asarray(answers[test.op](), bool)


def _is_wide(numbers: NDArray[Any], value: Any) -> bool:
    """Whole numbers beyond the doubles' own, compared with something else than a whole number."""
    values = value if isinstance(value, tuple) else (value,)
    if all(isinstance(each, int) for each in values):
        return False
    return bool(len(numbers)) and bool(max(-int(numbers.min()), int(numbers.max())) > _EXACT)


def _one(test: Test, found: Any) -> bool:
    """The test of a known value of any type."""
    op, value = test.op, test.value
    if op in ("in", "not_in"):
        assert isinstance(value, tuple)  # noqa: S101  the parser sees to it
        return (found in value) == (op == "in")
    if op == "contains":
        return str(value) in found
    answers: dict[str, Callable[[Any], bool]] = {
        "eq": lambda end: found == end,
        "ne": lambda end: found != end,
        "lt": lambda end: found < end,
        "le": lambda end: found <= end,
        "gt": lambda end: found > end,
        "ge": lambda end: found >= end,
        "between": lambda ends: ends[0] <= found <= ends[1],
    }
    return bool(answers[op](value))


def _physical(test: Test) -> Test:
    """With days and instants as the numbers that `Lines.values` has."""

    def number(value: Any) -> Any:
        if isinstance(value, datetime):
            return micros(value)
        return (value - _EPOCH.date()).days if isinstance(value, date) else value

    value: Any = test.value
    return Test(op=test.op, value=tuple(map(number, value)) if isinstance(value, tuple) else number(value))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each as `insight.comparing.rounded` has it."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * 10.0**DIGITS + 0.5
        return np.where(np.isfinite(scaled), np.floor(scaled) / 10.0**DIGITS, values)


def _sum(values: list[float]) -> float:
    """Rounded once; beyond the doubles, infinite."""
    try:
        return math.fsum(values)
    except OverflowError:
        return sum(values)


def _starts(rising: Whole) -> Truths:
    """Where another number begins."""
    found = np.ones(len(rising), bool)
    np.not_equal(rising[1:], rising[:-1], out=found[1:])
    return found


def _of_users(kind: Any, users: Whole, values: NDArray[Any], count: int, none: Any) -> NDArray[Any]:
    """The least or greatest value of each user; `none` for who has none. `users` rising."""
    found = np.full(count, none, values.dtype)
    if len(users):
        begins = np.flatnonzero(_starts(users))
        found[users[begins]] = kind.reduceat(values, begins)
    return found
