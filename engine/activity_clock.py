"""What time does to activities: they begin, count, reward and end by themselves."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from engine.activities import Activities, pinned
from engine.activity_counting import follow, give, react, recount
from kernel.clock import Clock
from kernel.errors import GrowthError, NotFound, Stale
from planner.api import Activity, Period, Reward, State, check_move, due, period_end, period_key
from storage.activities import ActivityRow
from storage.lake import write_text

#: who moves an activity when the clock does
CLOCK = "clock"
_INSTANT = timedelta(microseconds=1)


class ActivityClock:
    """Killed at any instant, the next tick goes on: nothing is counted or given twice."""

    def __init__(self, activities: Activities, clock: Clock) -> None:
        self._on, self._store, self._clock = activities, activities.store, clock

    def tick(self) -> int:
        """What is due now, of all activities; how many events were counted. Raises Unavailable."""
        counted, now = 0, self._clock.now()
        for row in self._store.all():
            try:
                counted += self._tick(row, now)
            except Stale:
                continue  # somebody moved it meanwhile; the next tick sees how it stands
        return counted

    def move(self, name: str, to: str, *, who: str, why: str = "") -> dict[str, Any]:
        """To another state, as a person wants it; how it stands then. Raises NotFound for an unknown state,
        BadInput for a move that there is not, Stale when somebody was quicker."""
        if to not in set(State):
            raise NotFound("state", to, State, where=f"activity {name}", field="to")
        if to == State.COMPLETED:
            check_move(name, State(self._on.running(name)[0].state), State.COMPLETED)
            self.complete(name, who=who, why=why)
        else:
            self._on.move(name, State(to), who=who, why=why)
        return self._on.show(name)

    def recount(self, name: str) -> dict[str, int]:
        """Counts everything anew from sources and log; event → how many. Raises Stale for a draft."""
        row, activity = self._on.running(name)
        return self._recount(row, activity, self._clock.now())

    def complete(self, name: str, *, who: str, why: str) -> None:
        """Counts to the end, rewards ranks, writes the post-mortem, then moves. Killed, it is done again."""
        row, activity = self._on.running(name)
        now, note = self._clock.now(), ""
        try:
            self._recount(row, activity, now)
        except (Stale, NotFound):
            raise
        except GrowthError as error:
            note = f"counted from fresh events alone: {error}"
        last = min(now, row.end) - _INSTANT
        for reward in activity.rewards:
            if reward.rank is not None:
                self._reward_days(row, activity, reward, last + _INSTANT)
                self._reward_ranks(row, activity, reward, period_key(reward.period, last, self._zone), now)
        with self._store.step(row.name, row.state) as step:
            react(step, activity, now)
        written = self._on.post_mortem(name, until=now)
        if note:
            written["note"] = note
        place = self._on.folder(name) / "post_mortem.json"
        write_text(place, json.dumps(written, indent=2, allow_nan=False))
        self._store.move(name, row.state, State.COMPLETED, at=now, who=who, why=why)

    @property
    def _zone(self) -> ZoneInfo:
        return self._on.rules.zone

    def _tick(self, row: ActivityRow, now: datetime) -> int:
        counted, activity = 0, pinned(row)
        if row.state == State.RUNNING:
            counted = follow(self._store, self._on.log, self._on.door, row, activity, self._on.rules, now)
            for reward in activity.rewards:
                if reward.rank is not None and reward.period is not Period.ALL:
                    self._reward_days(row, activity, reward, min(now, row.end))
            self._obey(self._store.one(row.name), activity, now)
            row = self._store.one(row.name)
        wanted = due(State(row.state), row.start, row.end, now)
        if wanted is State.COMPLETED:
            self.complete(row.name, who=CLOCK, why="its end has come")
        elif wanted is not None:
            self._store.move(row.name, row.state, wanted, at=now, who=CLOCK, why="its start has come")
        return counted

    def _recount(self, row: ActivityRow, activity: Activity, now: datetime) -> dict[str, int]:
        return recount(self._store, self._on.log, self._on.catalog, row, activity, self._on.rules, now)

    def _reward_days(self, row: ActivityRow, activity: Activity, reward: Reward, until: datetime) -> None:
        """Rewards the ranks of days, weeks or months that are over, once each."""
        at = row.start
        while at < until:
            key = period_key(reward.period, at, self._zone)
            over = period_end(reward.period, key, self._zone)
            if over is None or over > until:
                return
            self._reward_ranks(row, activity, reward, key, self._clock.now())
            at = over

    def _reward_ranks(
        self, row: ActivityRow, activity: Activity, reward: Reward, key: str, now: datetime
    ) -> None:
        mark = f"{reward.name}:{key}"
        if mark in self._store.one(row.name).settled:
            return
        found = self._on.boards.due(row.name, activity, key, reward.name)
        with self._store.step(row.name, row.state) as step:
            if mark in step.settled:
                return
            for each in found:
                give(step, activity, each, now, self._on.rules)
            step.settled.append(mark)

    def _obey(self, row: ActivityRow, activity: Activity, now: datetime) -> None:
        """Pauses or completes, where a contingency that has fired says so, and nobody did it yet."""
        done = {each["who"] for each in self._store.moves(row.name)}
        for each in activity.contingency:
            who = f"contingency {each.name}"
            if each.name not in row.fired or each.then not in ("pause", "complete") or who in done:
                continue
            why = f"{each.when} {each.of or ''}".strip()
            if each.then == "pause":
                self._store.move(row.name, row.state, State.PAUSED, at=now, who=who, why=why)
            else:
                self.complete(row.name, who=who, why=why)
            return
