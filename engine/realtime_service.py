"""Decisions and outcomes as a service of one process, and the thread that keeps it up to date."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import NamedTuple
from uuid import uuid4

from pydantic_core import from_json

from engine.audience_service import AudienceService
from engine.consent import Consent
from engine.day_pacing import DayPacing
from engine.holdout import held_out_now
from engine.live import LivePolicy
from engine.online import open_online
from engine.people import People
from engine.policies import reward_rules
from engine.prices import prices
from engine.wiring import Workspace
from insight.api import Reported
from kernel.caps import Caps
from kernel.clock import micros
from kernel.contact import Cap
from kernel.errors import BadInput, GrowthError, Unavailable
from realtime.api import (
    Answer,
    BudgetDefinition,
    Decider,
    DecisionIds,
    DecisionRequest,
    Moment,
    MomentDefinition,
    OutcomeReport,
    Outcomes,
    RewardRule,
    Rooms,
    Status,
    default_answer,
    moments,
    rooms_of,
)
from storage.group_commit import SharedFlush
from storage.journal import FileJournalWriter

#: seconds between looks at what learned and what was forgotten, and at definitions and prices
_ROUND, _LOOK = 0.5, 3.0
#: workers of one workspace
_WORKERS = 1000

_log = logging.getLogger(__name__)


class _Scene(NamedTuple):
    """What decisions are made by, besides the policy."""

    prices: Mapping[str, float]
    rooms: Rooms
    rules: Mapping[str, RewardRule]
    moments: Mapping[str, Moment]
    #: marks of those who were forgotten
    gone: frozenset[str]
    #: whether a user is in the global holdout
    held_out: Callable[[str], bool]


class RealTimeService:
    """Opens by itself when it is first asked; `close` writes what waits."""

    def __init__(self, workspace: Workspace, audiences: AudienceService | None = None) -> None:
        self._space, self._audiences = workspace, audiences
        url = workspace.settings.store
        #: what is shared lies elsewhere: asking takes time in which others can be served
        self.apart = "://" in url
        self._lock, self._ended = Lock(), Event()
        self._opened = False
        self._pacing: DayPacing | None = None
        self._keeper: Thread | None = None
        #: why what is decided by is not kept up to date; empty when it is
        self.trouble = ""

    def start(self) -> None:
        with self._lock:
            if not self._opened:
                self._open()
                self._opened = True
                self._keeper = Thread(target=self._keep, name="realtime", daemon=True)
                self._keeper.start()

    def close(self) -> None:
        with self._lock:
            if not self._opened:
                return
            self._ended.set()
            if self._keeper is not None:
                self._keeper.join(30)
            self._journal.close()
            self._store.close()

    def decide(self, request: DecisionRequest) -> Answer:
        if not self._opened:
            self.start()
        return self._decider.decide(request)

    def observe(self, report: OutcomeReport) -> Status:
        if not self._opened:
            self.start()
        return self._outcomes.observe(report)

    def instead(self, answer: Answer, why: str) -> Answer:
        """The default of its moment, degraded, for an answer that must not be given; it is logged nowhere."""
        moment = self._scene.moments[answer.moment]
        return default_answer(moment, answer.moment, answer.decided, uuid4().hex, why, True)

    def unready(self) -> dict[str, str]:
        """What a decision needs and has not, each with a sentence; empty when it has all."""
        if not self._opened:
            return {"decisions": "are not opened yet"}
        found = {"decisions": self.trouble, "consent": self._consent.trouble}
        return {name: said for name, said in found.items() if said}

    def window(self, moment: str) -> timedelta:
        """How long after a decision its outcomes count."""
        return self._outcomes.window(moment)

    def flushed(self) -> Awaitable[None] | None:
        """Over when all that was written is on the disk; None where answers need not wait for it."""
        return self._flush.done() if self._space.settings.durability == "disk" else None

    def note(self, events: Iterable[Reported]) -> None:
        """Fresh events, for the next decision. They are in their log already: what cannot be noted is told in
        ours, and nobody waits for it."""
        if not self._opened:
            self.start()
        try:
            for each in events:
                self._store.note(each.user_id, each.event_id, each.name, micros(each.occurred_at))
        except Unavailable as error:
            _log.warning("decisions do not know of fresh events: %s", error)

    def _open(self) -> None:
        space, settings = self._space, self._space.settings
        self._consent, self._people = Consent(space), People(space)
        self._live = LivePolicy(space.snapshots)
        self._live.refresh()
        self._look()
        self._store = open_online(space)
        pacing = self._pacing = DayPacing(space, self._store)
        self._look()
        ids = DecisionIds(bytes.fromhex(space.tombstones.mark("\0ids of decisions")))
        self._journal = _journal(space)
        self._flush = SharedFlush(self._journal.flush)
        self._decider = Decider(
            policy=self._live.current,
            store=self._store,
            journal=self._journal,
            ids=ids,
            clock=space.clock,
            seed=settings.seed,
            prices=lambda: pacing.prices(self._scene.prices),
            spend=pacing.spend,
            give_back=pacing.give_back,
            moments=lambda: self._scene.moments,
            rooms=lambda user, channel, at: self._scene.rooms(user, channel, at),
            entities=self._people.entities,
            member=self._is_member,
            allowed=self._consent.allowed,
            forgotten=self._forgotten,
            held_out=lambda user: self._scene.held_out(user),
        )
        self._outcomes = Outcomes(
            store=self._store,
            journal=self._journal,
            ids=ids,
            clock=space.clock,
            rules=lambda: self._scene.rules,
        )

    def _forgotten(self, user_id: str) -> bool:
        gone = self._scene.gone
        return bool(gone) and self._space.tombstones.mark(user_id) in gone

    def _is_member(self, group: str, user_id: str) -> bool:
        """Raises Unavailable for a group that is not served yet; `_keep` sees to that."""
        told = None if self._audiences is None else self._audiences.answer(group, user_id)
        if told is None:
            raise Unavailable(f"group {group} is not loaded yet")
        return from_json(told)["member"] is True

    def _look(self) -> None:
        space = self._space
        definitions = space.definitions()
        self._scene = _Scene(
            prices=self._prices(),
            rooms=self._rooms(definitions.of(Cap)),
            rules=reward_rules(space),
            moments=moments(definitions.of(MomentDefinition)),
            gone=space.tombstones.marks(),
            held_out=held_out_now(definitions),
        )
        if self._pacing is not None:
            self._pacing.look(definitions.of(BudgetDefinition), self._scene.prices)

    def _rooms(self, caps: Sequence[Cap]) -> Rooms:
        self._people.refresh(Caps(caps))
        return rooms_of(caps, self._people.zone, self._people.entities)

    def _serve_groups(self) -> None:
        """Those that moments are for can be asked from then on."""
        if self._audiences is not None:
            for group in {each for moment in self._scene.moments.values() for each in moment.groups}:
                if group not in self._audiences.membership.served:
                    self._audiences.prepare(group)

    def _prices(self) -> Mapping[str, float]:
        """Today's; none when they cannot be read, and then nothing that has a budget is shown."""
        try:
            return prices(self._space)
        except Unavailable as error:
            _log.warning("today's prices cannot be read: %s", error)
            return {}

    def _keep(self) -> None:
        looked = monotonic()
        self._consent.refresh()
        while not self._ended.wait(_ROUND):
            try:
                self._consent.refresh()
                asked = self._journal.asked_to_roll()
                if monotonic() - looked >= _LOOK or asked:
                    self._look()
                    looked = monotonic()
                if asked:
                    sleep(2 * self._space.settings.deadline)  # who was asked before we looked is done by then
                    self._journal.roll()
                self._live.refresh()
                self._journal.flush()
                self._serve_groups()
                now = micros(self._space.clock.now())
                while self._store.sweep(now, 100) == 100:
                    sleep(0.001)
                self.trouble = ""
            except GrowthError as error:
                if self.trouble != str(error):
                    _log.warning("what is decided by is not kept up to date: %s", error)
                self.trouble = str(error)
            except Exception:  # noqa: BLE001  the thread must live on; decisions go on with what they have
                _log.exception("what is decided by is not kept up to date")
                self.trouble = "something went wrong here; it is in the log"


def _journal(space: Workspace) -> FileJournalWriter:
    """Under the first name that no other process has."""
    for number in range(_WORKERS):
        try:
            return FileJournalWriter(space.journal, f"w{number}")
        except BadInput:
            continue
    raise Unavailable(f"{_WORKERS} processes write journals in this workspace")
