"""The speed layer: fresh events change, for the users they touch, the answers of real-time groups at once.

A published group stands for all users as of its batch. A user with an event that the batch does not know is
*touched*: her real-time leaves are evaluated over everything that is known of her, from the sources and from
the log, **as of now**, and evaluated again at the instant at which a window or an age lets an answer change
by itself. All other users, and all leaves that are not real-time, stay **as of the batch** until the next.

A batch knows an event that happened at or before its `as_of` and was received more than `settles` before it
was calculated. Whoever loads the sources promises that; where it takes them longer, `settles` says so. An
event that is late, sent again or out of order is a line like any other: nothing is added up, everything is
evaluated anew, so the order of arrival cannot matter.

Users are evaluated thousands at a time: their lines in columns, each leaf once for all groups that it is in.

Memory: the log's open events, the touched users' lines (forgotten when they are too many, and read again),
and two bitmaps a group. When open events reach `most_events`, more are refused as Unavailable, none dropped.
After a restart the state is made again from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from threading import Lock, RLock
from typing import Protocol

import numpy as np
import polars as pl
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.fresh_batch import Batch, Lines, Truths, Whole, micros
from insight.fresh_events import EventDoor, Fresh, Logged
from insight.fresh_groups import FreshGroup, Overlay
from insight.fresh_history import User, versions_of
from insight.fresh_leaves import EventLeaf, depths, edges
from insight.fresh_lines import Known, Sent, merged, moved
from kernel.clock import Clock
from kernel.errors import NotFound, Unavailable

SETTLES = timedelta(hours=1)
MOST_EVENTS, MOST_LINES = 1_000_000, 2_000_000
#: events read from the log in one go
_PAGE = 32_768
_TINY = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = 2**63 - 1
#: instants as microseconds: (as_of, calculated_at less the time in which events settle)
Cut = tuple[int, int]


class Log(Protocol):
    """The durable log of events. Raises Unavailable."""

    def after(self, number: int, names: Iterable[str], limit: int = ...) -> Sequence[Logged]: ...
    def open(
        self,
        names: Iterable[str],
        *,
        occurred_after: datetime,
        received_after: datetime,
        after: int,
        until: int,
        limit: int,
    ) -> Sequence[Logged]: ...
    def last(self) -> int: ...


@dataclass(kw_only=True)
class _State:
    """What is known between one publication and the next."""

    sent: Sent
    known: Known
    #: as they were given → as they stand, with their overlays
    given: dict[str, FreshGroup] = field(default_factory=dict)
    groups: dict[str, FreshGroup] = field(default_factory=dict)
    leaves: dict[str, EventLeaf] = field(default_factory=dict)
    #: event → how long after one an answer may change by itself, rising
    edges: dict[str, tuple[timedelta, ...]] = field(default_factory=dict)
    #: event → how far back from now a line of it can matter; None: for ever
    depths: dict[str, timedelta | None] = field(default_factory=dict)
    #: event → what the versions know whose groups look at it
    cuts: dict[str, frozenset[Cut]] = field(default_factory=dict)
    #: `source.table` → version that `known` was read from
    tables: dict[str, str] = field(default_factory=dict)
    #: users with open events, by place
    users: list[User] = field(default_factory=list)
    places: dict[User, int] = field(default_factory=dict)
    #: when time changes an answer, by place; microseconds
    due: Whole = field(default_factory=lambda: np.full(1024, _NEVER))
    #: by place, as of the last evaluation; −1: none
    numbers: Whole = field(default_factory=lambda: np.full(1024, -1))
    #: events of the log that are open, and the last one that was read
    count: int = 0
    seen: int = 0
    #: places to be evaluated; what a failure leaves is done next time
    pending: dict[int, None] = field(default_factory=dict)
    #: number → when she was last evaluated
    evaluated: dict[int, datetime] = field(default_factory=dict)

    def place(self, user: User) -> int:
        found = self.places.get(user)
        if found is None:
            found = self.places[user] = len(self.users)
            self.users.append(user)
            if found >= len(self.due):
                self.due = np.concatenate([self.due, np.full(len(self.due), _NEVER)])
                self.numbers = np.concatenate([self.numbers, np.full(len(self.numbers), -1)])
        return found


class SpeedLayer:
    """One thread calls `rebase`, `catch_up`, `expire` and `forget`; any may read overlays, `room`, `explain`.

    `numbers`: users' numbers in the dictionary, None for those that the batch does not know yet; their
    events wait for the batch that does.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: Log,
        *,
        real_time: Iterable[str],
        numbers: Callable[[Sequence[User]], Sequence[int | None]],
        clock: Clock,
        settles: timedelta = SETTLES,
        most_events: int = MOST_EVENTS,
        most_lines: int = MOST_LINES,
    ) -> None:
        self._catalog, self._log, self._clock = catalog, log, clock
        self._real_time, self._numbers, self._settles = frozenset(real_time), numbers, settles
        self._most_events, self._most_lines = most_events, most_lines
        self._lock, self._counting, self._promised = RLock(), Lock(), 0
        self._door = EventDoor(catalog)
        self._now = _State(sent=Sent(catalog), known=Known(catalog, most_lines, {}))

    @property
    def open_events(self) -> int:
        """Events that some published group does not know yet."""
        return self._now.count

    @property
    def groups(self) -> Mapping[str, FreshGroup]:
        return self._now.groups

    @property
    def evaluated(self) -> Mapping[int, datetime]:
        """Number → when she was last evaluated."""
        return self._now.evaluated

    @property
    def users(self) -> Sequence[User]:
        """Users with open events."""
        return self._now.users

    @property
    def waiting(self) -> int:
        """Users whose events are taken in and not yet in the answers."""
        return len(self._now.pending)

    def room(self, names: Sequence[str]) -> int:
        """Promises room for these events until `kept` says what came of it; how many of them need it.

        Raises Unavailable when there is none, with nothing promised.
        """
        wanted = sum(name in self._real_time for name in names)
        with self._counting:
            if wanted and self._now.count + self._promised + wanted > self._most_events:
                waiting = f"{self._now.count:,} fresh events wait for the next batch"
                raise Unavailable(f"{waiting}, and there is no room for more; send it again later")
            self._promised += wanted
        return wanted

    def kept(self, promised: int) -> None:
        """The events for which room was promised are in the log, or were refused."""
        with self._counting:
            self._promised -= promised

    def rebase(self, groups: Iterable[FreshGroup]) -> dict[str, Overlay]:
        """From now on these published groups stand: their overlays, filled. Raises Unavailable, with all as
        it was.

        Events that all of them know are let go; an event that one of them does not know is read from the
        log again where it had been let go. While no table of theirs has changed, lines of the sources are
        kept, and a group that is given again keeps its overlay.
        """
        with self._lock:
            before, given = self._now, {group.name: group for group in groups}
            state = _State(sent=Sent(self._catalog), known=before.known, given=given, seen=before.seen)
            self._measure(state)
            carried = _are_later(before.cuts, state.cuts)
            same = carried and before.tables == state.tables and _reach(before.known.depths, state.depths)
            if carried:
                sent = before.sent.kept(lambda name, frame: _unknown(frame, state.cuts.get(name, ())))
                self._carry(before, state, sent)
            else:
                self._reopen(state)
            if not same:
                state.known = Known(self._catalog, self._most_lines, state.depths)
            state.evaluated = dict(before.evaluated) if same else {}
            stands = {name for name, group in given.items() if same and before.given.get(name) is group}
            state.groups = {
                name: before.groups[name] if name in stands else replace(group, overlay=Overlay())
                for name, group in given.items()
            }
            asked = set(range(len(state.users)))
            if same:
                changed = [group for name, group in given.items() if name not in stands]
                asked = self._touched_by(state, changed)  # what is due or pending stays so
            self._evaluate(state, sorted(asked))
            self._now = state
            return {name: group.overlay for name, group in state.groups.items()}

    def catch_up(self) -> int:
        """Takes in what the log has received since; how many events. Raises Unavailable."""
        with self._lock:
            state, taken = self._now, 0
            while state.groups:
                page = self._log.after(state.seen, self._real_time, _PAGE)
                if not page:
                    break
                state.pending.update(dict.fromkeys(self._take(state, page)))
                state.seen = page[-1].number
                self._evaluate(state, ())
                taken += len(page)
            self._evaluate(state, ())
            return taken

    def expire(self) -> int:
        """Evaluates users of whom time has changed the answer; how many."""
        with self._lock:
            due = self._overdue(self._now)
            self._evaluate(self._now, due)
            return len(due)

    def next_due(self) -> datetime | None:
        """When time will change an answer, if no event does before."""
        with self._lock:
            due = self._now.due[: len(self._now.users)]
            at = int(due.min()) if len(due) else _NEVER
            return None if at == _NEVER else _EPOCH + at * _TINY

    def forget(self, users: Iterable[User]) -> None:
        """Lets go of everything that is known of these users."""
        with self._lock:
            state = self._now
            gone = {state.places[user]: user for user in users if user in state.places}
            if not gone:
                return
            numbers = BitMap(number for number in state.numbers[list(gone)].tolist() if number >= 0)
            for group in state.groups.values():
                group.overlay.touched = group.overlay.touched - numbers
                group.overlay.inside = group.overlay.inside - numbers
            after = replace(state, users=[], places={}, pending={}, count=0)
            without = np.array([place not in gone for place in range(len(state.users))], bool)
            sent = state.sent.kept(lambda _, frame: frame.filter(without[frame["place"].to_numpy()]))
            self._carry(state, after, sent)
            for number in numbers:
                after.evaluated.pop(number, None)
            self._now = after

    def known_to_all(self) -> tuple[datetime, datetime] | None:
        """Events that happened before the first and were received before the second instant are known to
        every group; None without groups."""
        every = [group.cut(self._settles) for group in self._now.groups.values()]
        if not every:
            return None
        occurred, received = min(as_of for as_of, _ in every), min(at for _, at in every)
        return _EPOCH + occurred * _TINY, _EPOCH + received * _TINY

    def explain(self, group: str, user: User) -> dict[str, bool]:
        """Id of a real-time leaf → whether it holds for a touched user now."""
        with self._lock:
            state = self._now
            if group not in state.groups:
                raise NotFound("real-time group", group, state.groups)
            batch = self._batch(state, [state.place(user)])[0]
            return {name: bool(batch.holds(leaf)[0]) for name, leaf in state.groups[group].leaves.items()}

    def _measure(self, state: _State) -> None:
        """Leaves, what of events is known, and when answers change by themselves, over all groups."""
        cuts: dict[str, set[Cut]] = {}
        for group in state.given.values():
            state.leaves |= group.leaves
            for event in group.events:
                cuts.setdefault(event, set()).add(group.cut(self._settles))
        state.cuts = {event: frozenset(each) for event, each in cuts.items()}
        spans: dict[str, set[timedelta]] = {}
        for leaf in state.leaves.values():
            for event, span in edges(leaf):
                spans.setdefault(event, set()).add(span)
            for event, depth in depths(leaf):
                known = state.depths.get(event, timedelta(0))
                state.depths[event] = None if depth is None or known is None else max(depth, known)
        state.edges = {event: tuple(sorted(each)) for event, each in spans.items()}
        state.tables = versions_of(self._catalog, sorted(state.depths))

    def _carry(self, before: _State, after: _State, sent: Sent) -> None:
        """What stays of `before` when only these lines are open: its users, each at a new place."""
        to = np.full(len(before.users), -1, np.int64)
        kept = sent.places(len(before.users))
        to[kept] = np.arange(len(kept))
        after.sent = sent.kept(lambda _, frame: moved(frame, to))
        after.count = after.sent.events
        after.known = before.known.moved(to)
        for place in kept.tolist():
            after.place(before.users[place])
        after.due = np.full(len(before.due), _NEVER)
        after.due[: len(kept)] = before.due[kept]
        after.numbers = np.full(len(before.due), -1)
        after.numbers[: len(kept)] = before.numbers[kept]
        after.pending = {int(to[place]): None for place in before.pending if to[place] >= 0}

    def _reopen(self, state: _State) -> None:
        """Reads what is open from the log."""
        if not state.cuts:
            state.seen = self._log.last()
            return
        until, after = self._log.last(), 0
        every = [cut for cuts in state.cuts.values() for cut in cuts]
        occurred, received = min(as_of for as_of, _ in every), min(at for _, at in every)
        while True:
            page = self._log.open(
                self._real_time,
                occurred_after=_EPOCH + occurred * _TINY,
                received_after=_EPOCH + (received - 1) * _TINY,
                after=after,
                until=until,
                limit=_PAGE,
            )
            if not page:
                break
            self._take(state, page)
            after = page[-1].number
        state.seen = until

    def _take(self, state: _State, page: Sequence[Logged]) -> list[int]:
        """Keeps the events of a page that are open; places of whom they are of."""
        found: list[tuple[int, Fresh]] = []
        for event in map(self._door.typed, page):
            if event is not None and event.name in state.cuts:
                at, received = micros(event.occurred_at), micros(event.received_at)
                if any(at > as_of or received >= edge for as_of, edge in state.cuts[event.name]):
                    found.append((state.place(event.user), event))
        state.sent.add(found)
        state.count += len(found)
        return [place for place, _ in found]

    def _touched_by(self, state: _State, groups: Iterable[FreshGroup]) -> set[int]:
        """Places of users with an event that one of these groups does not know."""
        cuts: dict[str, set[Cut]] = {}
        for group in groups:
            for event in group.events:
                cuts.setdefault(event, set()).add(group.cut(self._settles))
        some = state.sent.kept(lambda name, frame: _unknown(frame, cuts.get(name, ())))
        return set(some.places(len(state.users)).tolist())

    def _overdue(self, state: _State) -> list[int]:
        found: list[int] = np.flatnonzero(state.due[: len(state.users)] <= micros(self._clock.now())).tolist()
        return found

    def _evaluate(self, state: _State, places: Iterable[int]) -> None:
        """Answers of these users, and of those that an earlier failure left behind, as of now."""
        state.pending.update(dict.fromkeys(places))
        while state.pending:
            some = list(islice(state.pending, state.known.together))
            numbers = self._numbers([state.users[place] for place in some])
            found = sorted((place, n) for place, n in zip(some, numbers, strict=True) if n is not None)
            if found:
                self._answer(state, [place for place, _ in found], np.array([n for _, n in found], np.int64))
            for place in some:
                del state.pending[place]

    def _batch(self, state: _State, places: Sequence[int]) -> tuple[Batch, dict[str, pl.DataFrame], datetime]:
        """Users (places rising) with all their lines; with lines of the log, as they are; the instant."""
        now, wanted = self._clock.now(), np.zeros(len(state.users), bool)
        wanted[places] = True
        to = np.full(len(state.users), -1, np.int64)
        to[places] = np.arange(len(places))
        since = {event: None if depth is None else now - depth for event, depth in state.depths.items()}
        users = [state.users[place] for place in places]
        known, lines = state.known.of(users, np.array(places, np.int64), since), dict[str, Lines]()
        sent = {name: each for name in state.cuts if (each := state.sent.of(name, wanted)) is not None}
        for name in state.depths:
            both = merged(self._catalog, name, known.get(name), sent.get(name))
            if both is not None and both.height:
                lines[name] = Lines(moved(both, to))
        fresh = {name: moved(frame, to) for name, frame in sent.items()}
        return Batch(lines, len(places), now), fresh, now

    def _answer(self, state: _State, places: Sequence[int], numbers: Whole) -> None:
        batch, fresh, now = self._batch(state, places)
        page, order = BitMap(numbers), np.argsort(numbers)
        rising, count = numbers[order], len(places)
        truths, sets = dict[str, Truths](), dict[int, Truths]()
        unknown: dict[tuple[str, Cut], Truths] = {}

        def truth(leaf: str) -> Truths:
            if leaf not in truths:
                truths[leaf] = batch.holds(state.leaves[leaf])
            return truths[leaf]

        def among(members: BitMap) -> Truths:
            if id(members) not in sets:
                both = np.asarray((members & page).to_array(), np.int64)
                found = sets[id(members)] = np.zeros(count, bool)
                found[order[np.searchsorted(rising, both)]] = True
            return sets[id(members)]

        def is_new(event: str, cut: Cut) -> Truths:
            if (event, cut) not in unknown:
                found = unknown[event, cut] = np.zeros(count, bool)
                if event in fresh:
                    found[_unknown(fresh[event], (cut,))["place"].to_numpy()] = True
            return unknown[event, cut]

        for group in state.groups.values():
            cut, overlay = group.cut(self._settles), group.overlay
            touched = np.logical_or.reduce([is_new(event, cut) for event in group.events])
            if not touched.any() and not overlay.touched.intersect(page):
                continue
            inside = group.inside(truth, among) & touched
            # first the answer, then that it is one: readers look at `touched` first
            overlay.inside = (overlay.inside - page) | BitMap(numbers[inside])
            overlay.touched = (overlay.touched - page) | BitMap(numbers[touched])
        state.evaluated.update(dict.fromkeys(numbers.tolist(), now))
        state.numbers[places] = numbers
        state.due[places] = batch.next_change(state.edges)


def _unknown(frame: pl.DataFrame, cuts: Iterable[Cut]) -> pl.DataFrame:
    """Lines of the log that one of these does not know."""
    cuts = list(cuts)
    if not cuts:
        return frame.clear()
    tests = [(pl.col("at") > as_of) | (pl.col("received") >= edge) for as_of, edge in cuts]
    return frame.filter(pl.any_horizontal(tests))


def _are_later(before: Mapping[str, frozenset[Cut]], now: Mapping[str, frozenset[Cut]]) -> bool:
    """Whether whatever is open now was open before."""

    def floor(cuts: frozenset[Cut]) -> Cut:
        return min(as_of for as_of, _ in cuts), min(at for _, at in cuts)

    return all(
        name in before and all(old <= new for old, new in zip(floor(before[name]), floor(cuts), strict=True))
        for name, cuts in now.items()
    )


def _reach(before: Mapping[str, timedelta | None], now: Mapping[str, timedelta | None]) -> bool:
    """Whether lines that were read so far back are enough."""

    def enough(old: timedelta | None, new: timedelta | None) -> bool:
        return old is None or (new is not None and new <= old)

    return all(name in before and enough(before[name], new) for name, new in now.items())
