"""Audiences as a service: membership from memory, fresh events, and the one thread that keeps both fresh."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import polars as pl
from pyroaring import BitMap

from engine.identities import merges_of
from engine.population import population
from engine.usecases import latest_day
from engine.wiring import Workspace
from insight.api import (
    BAD,
    FAILED,
    Condition,
    EventDoor,
    Membership,
    People,
    Reported,
    SpeedLayer,
    User,
    real_time_events,
)
from kernel.audiences import GroupVersion
from kernel.clock import start_of_day
from kernel.errors import BadInput, GrowthError, NotFound, Unavailable
from storage.events import EventLog, NewEvent
from storage.group_commit import GroupCommit
from storage.group_stamp import Stamp, forgotten_stamp, published_stamp
from storage.selection_runs import JobRow

_log = logging.getLogger(__name__)
#: seconds between looks at what was published, and between looks at everything
_POLL, _WHOLE = 0.5, 10.0
#: seconds between looks for events that may go
_PRUNE = 3600.0
#: events in one request
MOST_EVENTS = 1000


class AudienceService:
    """Start it before use; `close` ends its threads and writes what waits."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._catalog = workspace.catalog
        self._log = EventLog(workspace.database, workspace.tombstones)
        self.door = EventDoor(self._catalog)
        self._people: People | None = None
        self._merged: frozenset[int | str] = frozenset()
        real_time = real_time_events(self._catalog)
        self.layer = SpeedLayer(
            self._catalog, self._log, real_time=real_time, numbers=self._numbers, clock=workspace.clock
        )
        self.membership = Membership(
            workspace.groups,
            door=self.door,
            groups=lambda: workspace.definitions().groups,
            people=self._who,
            members=self._members,
            layer=self.layer,
            real_time=real_time,
        )
        self._writer: GroupCommit[Sequence[NewEvent], list[datetime | None]] | None = None
        self._wake, self._ended, self._first, self._lock = Event(), Event(), Event(), Lock()
        self._keeper: Thread | None = None
        self._stamp: Stamp | None = None
        self._forgotten: object = None
        #: look again, though nothing has changed
        self._again = False
        #: when the groups were last refreshed and the log pruned, and how many seconds refreshing took
        self._published = self._pruned = self._cost = 0.0
        #: told of events that are in the log, before their sender is
        self.noted: Callable[[Sequence[Reported]], None] = lambda _: None
        #: why fresh events or new versions are not taken in just now; empty when they are
        self.trouble = ""

    def start(self) -> None:
        with self._lock:
            if self._keeper is None:
                self._writer = GroupCommit(self._append)
                self._keeper = Thread(target=self._keep, name="audiences", daemon=True)
                self._keeper.start()

    def close(self) -> None:
        with self._lock:
            if self._writer is not None:
                self._writer.close()
            self._ended.set()
            self._wake.set()
            if self._keeper is not None:
                self._keeper.join(30)

    def refresh(self) -> None:
        """Everything that is published and every event, now; for those who need no thread."""
        self.membership.refresh()
        self.layer.catch_up()
        self.layer.expire()
        self._first.set()

    def answer(self, name: str, user_id: str) -> bytes | None:
        """`{member, as_of, version}` as JSON; None: call `prepare` and ask again. Raises NotFound."""
        return self.membership.answer(name, user_id)

    def prepare(self, name: str) -> None:
        """Makes a group answerable: waits for the first load, and works out one that was never published.

        Raises NotFound for an unknown group, Unavailable while the store does not answer.
        """
        if not self._first.wait(60):
            raise Unavailable(f"groups are still being loaded{self.trouble and ': '}{self.trouble}")
        if name in self.membership.served:
            return
        groups = self._space.definitions().groups
        if name not in groups:
            raise NotFound("group", name, groups)
        begun, as_of = self._space.clock.now(), self._default_as_of()
        people = population(self._space, as_of)
        members = people.members(name)
        version = GroupVersion(
            name=name,
            version=0,
            fingerprint=groups[name].fingerprint,
            as_of=as_of,
            count=len(members),
            universe=len(people.universe),
            sources={},
            members="",
            calculated_at=begun,
        )
        self.membership.add(version, members)

    def many(self, name: str, user_ids: Sequence[str]) -> dict[str, Any]:
        """`{as_of, version, members: {user: true, false, or null for one that is not known}}`."""
        found = self.membership.many(name, user_ids)
        if found is None:
            self.prepare(name)
            found = self.membership.many(name, user_ids)
        if found is None:
            raise Unavailable(f"group {name} is being loaded; ask again")
        version = self.membership.served[name].version
        return {"as_of": version.as_of.isoformat(), "version": version.version, "members": found}

    def groups_of(self, user_id: str) -> dict[str, Any]:
        """`{user_id, groups: [{name, version, as_of}]}`."""
        if not self._first.wait(60):
            raise Unavailable("groups are still being loaded")
        found, served = self.membership.groups_of(user_id), self.membership.served
        groups = [
            {"name": name, "version": each.version.version, "as_of": each.version.as_of.isoformat()}
            for name in found
            if (each := served.get(name)) is not None
        ]
        return {"user_id": user_id, "groups": groups}

    def why(self, name: str, user_id: str) -> dict[str, Any]:
        """Leaf by leaf: `{member, as_of, version, because: [{depth, text, holds}]}`. Raises NotFound."""
        self.prepare(name)
        served = self.membership.served.get(name)
        if served is None:
            raise Unavailable(f"group {name} is being loaded; ask again")
        number = self.membership.number(user_id)
        version, user = served.version, self.door.user(user_id)
        said = {"group": name, "user_id": user_id, "version": version.version}
        if self.membership.touched(name, user_id):
            truths = self.layer.explain(name, user)
            lines = self.layer.groups[name].lines(number, truths.__getitem__)
            at, fresh = self.layer.evaluated.get(number, version.as_of), True
        else:
            because = population(self._space, version.as_of).explain(name, user)
            lines, at, fresh = [(each.depth, each.text, each.holds) for each in because], version.as_of, False
        return {
            **said,
            "member": number in served,
            "as_of": at.isoformat(),
            "fresh": fresh,
            "problem": self.membership.describe(name)["problem"],
            "because": [{"depth": depth, "text": text, "holds": holds} for depth, text, holds in lines],
        }

    def describe(self, name: str) -> dict[str, Any]:
        self._first.wait(60)
        return self._with_run(self.membership.describe(name), self._space.runs.newest_jobs())

    def describe_all(self) -> dict[str, Any]:
        self._first.wait(60)
        names = sorted({*self.membership.known, *self.membership.served})
        jobs = self._space.runs.newest_jobs()
        return {"groups": [self._with_run(self.membership.describe(name), jobs) for name in names]}

    def _with_run(self, said: dict[str, Any], jobs: Mapping[str, JobRow]) -> dict[str, Any]:
        """With the newest run of the group and, when that did not come to its end, with its reason."""
        job = jobs.get(said["name"])
        if job is None:
            return {**said, "run": None}
        run = {"run": job.run, "state": job.state, "why": job.why, "at": job.changed_at.isoformat()}
        made = said["calculated_at"]
        if job.state in BAD and (made is None or job.changed_at > datetime.fromisoformat(made)):
            problem = f"its newest run {'failed' if job.state == FAILED else 'is blocked'}: {job.why}"
            return {**said, "run": run, "problem": problem}
        return {**said, "run": run}

    def receive(self, raw: object) -> Future[list[datetime | None]]:
        """One event or a list of them, durable when done: when each was first received; None: its user was
        forgotten, and it is not kept.

        Raises BadEvents naming every bad one, Unavailable when there is no room; then nothing is kept.
        """
        requests = raw if isinstance(raw, list) else [raw]
        if not 0 < len(requests) <= MOST_EVENTS:
            raise BadInput(f"are not 1 to {MOST_EVENTS:,}", field="events", value=len(requests))
        if self._writer is None:
            raise Unavailable("the service has not been started")
        now, found = self._space.clock.now(), list[Reported]()
        bad: list[tuple[int, BadInput]] = []
        for i, each in enumerate(requests):
            try:
                found.append(self.door.read(each, now))
            except BadInput as error:
                bad.append((i, error))
        if bad:
            raise BadEvents(bad, single=not isinstance(raw, list), of=len(requests))
        promised = self.layer.room([each.name for each in found])
        try:
            future = self._writer.submit(
                [
                    NewEvent(
                        event_id=each.event_id,
                        user_id=each.user_id,
                        name=each.name,
                        occurred_at=each.occurred_at,
                        lines=each.lines,
                    )
                    for each in found
                ]
            )
        except Unavailable:
            self.layer.kept(promised)
            raise
        future.add_done_callback(lambda done: self._received(promised, found, done))
        return future

    def _received(
        self, promised: int, found: Sequence[Reported], done: Future[list[datetime | None]]
    ) -> None:
        self.layer.kept(promised)
        self._wake.set()
        if not done.cancelled() and done.exception() is None:
            self.noted([each for each, at in zip(found, done.result(), strict=True) if at is not None])

    def _append(self, requests: Sequence[Sequence[NewEvent]]) -> Sequence[list[datetime | None] | Exception]:
        return self._log.append(requests, self._space.clock.now())

    def _keep(self) -> None:
        looked = wait = 0.0
        while not self._ended.is_set():
            self._wake.wait(wait)
            self._wake.clear()
            try:
                if monotonic() - looked >= _POLL:
                    looked = monotonic()
                    self._look()
                self.layer.catch_up()
                self.layer.expire()
                self.trouble = ""
                self._first.set()
            except GrowthError as error:
                if self.trouble != str(error):
                    _log.warning("audiences are not refreshed: %s", error)
                self.trouble = str(error)
            except Exception:  # noqa: BLE001  the thread must live on; what is served stays
                _log.exception("audiences are not refreshed")
                self.trouble = "something went wrong here; it is in the log"
            wait = self._pause()

    def _look(self) -> None:
        """Takes in what was published, amended or forgotten; lets go of events that nobody needs."""
        begun, now = monotonic(), published_stamp(self._space.database)
        forgotten = self._forgotten_stamp()
        if forgotten != self._forgotten:
            users = pl.Series(self.layer.users, dtype=pl.Int64 if self.door.whole_users else pl.String)
            self.layer.forget(users.filter(self._space.tombstones.refused(users)).to_list())
        # Once more after each change: what follows it in the same breath may leave no other trace.
        changed = now != self._stamp or self._again
        waited = begun - self._published
        if forgotten != self._forgotten or waited >= _WHOLE or (changed and waited >= 2 * self._cost):
            self.membership.refresh()
            self._again, self._stamp, self._forgotten = now != self._stamp, now, forgotten
            self._published = monotonic()
            self._cost = self._published - begun
        if begun - self._pruned >= _PRUNE:
            self._prune()
            self._pruned = begun

    def _forgotten_stamp(self) -> object:
        dictionary = self._space.dictionary
        dictionary.refresh()
        return forgotten_stamp(self._space.database), len(dictionary.forgotten)

    def _prune(self) -> None:
        """Deletes events that every published real-time group knows, and that were kept long enough."""
        edge = self.layer.known_to_all()
        if edge is not None:
            occurred, received = edge
            kept = self._space.clock.now() - timedelta(days=self._space.settings.keep_events)
            self._log.prune(received_before=min(received, kept), occurred_before=occurred)

    def _pause(self) -> float:
        due = self.layer.next_due()
        if due is None:
            return _POLL
        return min(max((due - self._space.clock.now()).total_seconds(), 0.001), _POLL)

    def _default_as_of(self) -> datetime:
        return start_of_day(latest_day(self._space), self._space.settings.zone)

    def _who(self) -> People:
        versions = self._space.groups.current_many().values()
        as_of = max((each.as_of for each in versions), default=None) or self._default_as_of()
        merges = merges_of(self._space)
        merged: Mapping[int | str, int | str] = {}
        if merges.frame is not None:
            pairs = zip(merges.frame["user"].to_list(), merges.frame["survivor"].to_list(), strict=True)
            merged = dict(pairs)
        self._merged = frozenset((*merged, *merged.values()))
        dictionary = population(self._space, as_of).dictionary
        self._people = People(dictionary=dictionary, merged=merged, forgotten=dictionary.forgotten)
        return self._people

    def _numbers(self, users: Sequence[User]) -> Sequence[int | None]:
        """For the speed layer; merged people stay as of the batch, which alone knows all their lines."""
        if self._people is None:
            return [None] * len(users)
        kind = pl.Int64 if self.door.whole_users else pl.String
        found = self._people.dictionary.numbers(pl.Series(users, dtype=kind)).to_list()
        return [None if user in self._merged else n for user, n in zip(users, found, strict=True)]

    def _members(self, as_of: datetime, nodes: Sequence[Condition]) -> list[BitMap]:
        people = population(self._space, as_of)
        return [people.members(node) for node in nodes]


class BadEvents(BadInput):
    """Events of a request that are wrong, each with its reason; none of the request was kept."""

    def __init__(self, bad: Sequence[tuple[int, BadInput]], *, single: bool, of: int) -> None:
        first, error = bad[0]
        self.each = [{"index": i, "field": each.field, "detail": str(each)} for i, each in bad]
        if single:
            super().__init__(error.problem, where=error.where, field=error.field, value=error.value)
            return
        more = f" (the first of {len(bad)} that are wrong, of {of}; none was kept)"
        super().__init__(
            error.problem + more, where=error.where, field=f"events.{first}.{error.field}", value=error.value
        )
