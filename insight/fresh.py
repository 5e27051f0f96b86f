"""The speed layer: fresh events change, for the users they touch, the answers of real-time groups at once.

A published group stands for all users as of its batch. A user with an event that the batch does not know is
*touched*: her real-time leaves are evaluated over everything that is known of her, from the sources and from
the log, **as of now**, and evaluated again at the instant at which a window or an age lets an answer change
by itself. All other users, and all leaves that are not real-time, stay **as of the batch** until the next.

A batch knows an event that happened at or before its `as_of` and was received more than `settles` before it
was calculated. Whoever loads the sources promises that; where it takes them longer, `settles` says so. An
event that is late, sent again or out of order is a line like any other: nothing is added up, everything is
evaluated anew, so the order of arrival cannot matter.

Memory: the log's open events, the touched users' lines (forgotten when they are too many, and read again),
and two bitmaps a group. When open events reach `most_events`, more are refused as Unavailable, none dropped.
After a restart the state is made again from the log.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from threading import RLock
from typing import Protocol

from insight.catalog import Catalog
from insight.fresh_events import EventDoor, Fresh, Logged
from insight.fresh_groups import FreshGroup, Overlay
from insight.fresh_history import Histories, History, User, merged
from insight.fresh_leaves import EventLeaf, depths, edges, holds
from kernel.clock import Clock
from kernel.errors import NotFound, Unavailable

SETTLES = timedelta(hours=1)
MOST_EVENTS, MOST_LINES = 1_000_000, 2_000_000
#: events read from the log, and users evaluated, in one go
_PAGE, _USERS = 10_000, 500
_TINY = timedelta(microseconds=1)


class Log(Protocol):
    """The durable log of events. Raises Unavailable."""

    def after(self, number: int, names: Iterable[str], limit: int = ...) -> Sequence[Logged]: ...
    def open(
        self,
        names: Iterable[str],
        *,
        occurred_after: datetime,
        received_after: datetime,
        until: int,
        limit: int,
    ) -> Sequence[Logged]: ...
    def last(self) -> int: ...


class SpeedLayer:
    """One thread calls `rebase`, `catch_up` and `expire`; any may read overlays, `room` and `explain`.

    `number`: a user's number in the dictionary, None for one that the batch does not know yet; her events
    wait for the batch that does.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: Log,
        *,
        real_time: Iterable[str],
        number: Callable[[User], int | None],
        clock: Clock,
        settles: timedelta = SETTLES,
        most_events: int = MOST_EVENTS,
        most_lines: int = MOST_LINES,
    ) -> None:
        self._catalog, self._log, self._clock = catalog, log, clock
        self._real_time, self._number, self._settles = frozenset(real_time), number, settles
        self._most_events, self._lock = most_events, RLock()
        self._door, self._histories = EventDoor(catalog), Histories(catalog, most_lines)
        self._groups: dict[str, FreshGroup] = {}
        self._open: dict[User, list[Fresh]] = {}
        self._count, self._promised, self._seen = 0, 0, 0
        self._floor: tuple[datetime, datetime] | None = None
        self._due: list[tuple[datetime, int, User]] = []
        self._until: dict[User, datetime] = {}
        self._turn = 0
        #: users to be evaluated, in order; what a failure leaves is done next time
        self._pending: dict[User, None] = {}
        self._leaves: dict[str, EventLeaf] = {}
        #: number → when she was last evaluated
        self.evaluated: dict[int, datetime] = {}
        self._edges: dict[str, tuple[timedelta, ...]] = {}
        self._depths: dict[str, timedelta | None] = {}

    @property
    def open_events(self) -> int:
        """Events that some published group does not know yet."""
        return self._count

    @property
    def groups(self) -> Mapping[str, FreshGroup]:
        return self._groups

    def room(self, names: Sequence[str]) -> int:
        """Promises room for these events until `kept` says what came of it; how many of them need it.

        Raises Unavailable when there is none, with nothing promised.
        """
        wanted = sum(name in self._real_time for name in names)
        with self._lock:
            if wanted and self._count + self._promised + wanted > self._most_events:
                waiting = f"{self._count:,} fresh events wait for the next batch"
                raise Unavailable(f"{waiting}, and there is no room for more; send it again later")
            self._promised += wanted
        return wanted

    def kept(self, promised: int) -> None:
        """The events for which room was promised are in the log, or were refused."""
        with self._lock:
            self._promised -= promised

    def rebase(self, groups: Iterable[FreshGroup]) -> dict[str, Overlay]:
        """From now on these published groups stand: their overlays, filled. Raises Unavailable.

        Events that all of them know are let go; an event that one of them does not know is read from the
        log again where it had been let go.
        """
        with self._lock:
            before = dict(vars(self))
            self._groups = {group.name: replace(group, overlay=Overlay()) for group in groups}
            self._histories.clear()
            self._due, self._until, self.evaluated, self._pending = [], {}, {}, {}
            try:
                self._measure()
                self._reopen()
                self._evaluate(self._open)
            except BaseException:
                vars(self).update(before)  # nothing above was changed in place
                raise
            return {name: group.overlay for name, group in self._groups.items()}

    def catch_up(self) -> int:
        """Takes in what the log has received since; how many events. Raises Unavailable."""
        with self._lock:
            taken = 0
            while self._groups:
                page = self._log.after(self._seen, self._real_time, _PAGE)
                if not page:
                    break
                touched: dict[User, None] = {}
                for event in map(self._door.typed, page):
                    if event is not None and not self._known_to_all(event):
                        self._open.setdefault(event.user, []).append(event)
                        self._count += 1
                        touched[event.user] = None
                self._seen = page[-1].number
                self._pending.update(touched)
                self._evaluate(())
                taken += len(page)
            self._evaluate(())
            return taken

    def expire(self) -> int:
        """Evaluates users of whom time has changed the answer; how many."""
        with self._lock:
            now, due = self._clock.now(), list[User]()
            while self._due and self._due[0][0] <= now:
                at, _, user = heapq.heappop(self._due)
                if self._until.get(user) == at:
                    due.append(user)
            self._evaluate(due)
            return len(due)

    def next_due(self) -> datetime | None:
        """When time will change an answer, if no event does before."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def explain(self, group: str, user: User) -> dict[str, bool]:
        """Id of a real-time leaf → whether it holds for a touched user now."""
        with self._lock:
            if group not in self._groups:
                raise NotFound("real-time group", group, self._groups)
            history, now = self._histories.of([user], self._since())[user], self._clock.now()
            lines = merged(history, self._open.get(user, []), self._catalog)
            return {name: holds(leaf, lines, now) for name, leaf in self._groups[group].leaves.items()}

    def _measure(self) -> None:
        """How far back lines matter, and when answers change by themselves, over all groups."""
        self._leaves = {name: leaf for group in self._groups.values() for name, leaf in group.leaves.items()}
        spans: dict[str, set[timedelta]] = {}
        self._depths = {}
        for leaf in self._leaves.values():
            for event, span in edges(leaf):
                spans.setdefault(event, set()).add(span)
            for event, depth in depths(leaf):
                known = self._depths.get(event, timedelta(0))
                self._depths[event] = None if depth is None or known is None else max(depth, known)
        self._edges = {event: tuple(sorted(each)) for event, each in spans.items()}

    def _since(self) -> dict[str, datetime | None]:
        now = self._clock.now()
        return {event: None if depth is None else now - depth for event, depth in self._depths.items()}

    def _reopen(self) -> None:
        if not self._groups:
            self._open, self._count, self._floor = {}, 0, None
            self._seen = self._log.last()
            return
        versions = [group.version for group in self._groups.values()]
        floor = min(each.as_of for each in versions), min(each.calculated_at for each in versions)
        if self._floor is not None and self._floor[0] <= floor[0] and self._floor[1] <= floor[1]:
            kept = {
                user: [event for event in events if not self._known_to_all(event)]
                for user, events in self._open.items()
            }
            self._open = {user: events for user, events in kept.items() if events}
        else:
            until = self._log.last()
            found = self._log.open(
                self._real_time,
                occurred_after=floor[0],
                received_after=floor[1] - self._settles - _TINY,
                until=until,
                limit=2**31 - 1,
            )
            self._open, self._seen = {}, until
            for logged in found:
                event = self._door.typed(logged)
                if event is not None and not self._known_to_all(event):
                    self._open.setdefault(event.user, []).append(event)
        self._floor = floor
        self._count = sum(len(events) for events in self._open.values())

    def _known_to_all(self, event: Fresh) -> bool:
        return all(group.knows(event, self._settles) for group in self._groups.values())

    def _evaluate(self, users: Iterable[User]) -> None:
        """Answers of these users, and of those that an earlier failure left behind, as of now."""
        self._pending.update(dict.fromkeys(users))
        while self._pending:
            some = list(self._pending)[:_USERS]
            histories = self._histories.of(some, self._since())
            for user in some:
                number = self._number(user)
                if number is not None:
                    self._answer(user, number, histories[user])
                del self._pending[user]

    def _answer(self, user: User, number: int, history: History) -> None:
        now, fresh = self._clock.now(), self._open.get(user, [])
        lines, truths = merged(history, fresh, self._catalog), dict[str, bool]()

        def truth(leaf: str) -> bool:
            if leaf not in truths:
                truths[leaf] = holds(self._leaves[leaf], lines, now)
            return truths[leaf]

        for group in self._groups.values():
            overlay = group.overlay
            if any(e.name in group.events and not group.knows(e, self._settles) for e in fresh):
                # first the answer, then that it is one: readers look at `touched` first
                if group.holds(number, truth):
                    overlay.inside.add(number)
                else:
                    overlay.inside.discard(number)
                overlay.touched.add(number)
            else:
                overlay.touched.discard(number)
                overlay.inside.discard(number)
        self.evaluated[number] = now
        times = [
            line.at + span
            for event, spans in self._edges.items()
            for line in lines.get(event, ())
            for span in spans
            if line.at + span > now
        ]
        if times:
            self._turn += 1
            self._until[user] = min(times)
            heapq.heappush(self._due, (self._until[user], self._turn, user))
        else:
            self._until.pop(user, None)
