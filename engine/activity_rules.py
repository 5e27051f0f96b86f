"""What an activity asks about a user that events do not say, and what it gives her."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from time import monotonic
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from engine.activity_counting import Rules
from engine.coupons import CouponDesk
from engine.holdout import held_out_now
from engine.people import People
from engine.wiring import Workspace
from insight.api import read_fields
from kernel.caps import Caps
from kernel.clock import micros
from kernel.errors import NotFound
from kernel.work import Benefit
from planner.api import Activity, Due, Reward, State
from storage.activities import ActivityStore
from storage.activity_step import ActivityStep

#: seconds between looks at who is held out
_LOOK = 10.0
#: characters of what a coupon is for
_LONGEST = 200
#: microseconds; later than anything
_NEVER = 2**62


class Asked:
    """Over one workspace; what seldom changes is looked at now and then."""

    def __init__(self, workspace: Workspace, store: ActivityStore) -> None:
        self._space, self._store, self._desk = workspace, store, CouponDesk(workspace)
        self._people = People(workspace)
        self._dates: dict[str, tuple[date, pl.DataFrame]] = {}
        self._holdout: Callable[[str], bool] = lambda _: False
        self._looked = float("-inf")

    def rules(self, member: Callable[[str, str], bool]) -> Rules:
        """`member`: name of a group, user → whether she is in it now."""
        return Rules(
            zone=self._space.settings.zone,
            member=member,
            held=self._held_out,
            own_date=self._own_date,
            own_zone=self._own_zone,
            paused=self._paused,
            coupon=self._coupon,
        )

    def _paused(self, name: str) -> list[tuple[int, int]]:
        """[from, to) in which it was paused, microseconds; the last may be open."""
        spans = list[tuple[int, int]]()
        since: int | None = None
        for each in self._store.moves(name):
            at = micros(datetime.fromisoformat(each["at"]))
            if each["state"] == State.PAUSED:
                since = at
            elif since is not None:
                spans.append((since, at))
                since = None
        return spans if since is None else [*spans, (since, _NEVER)]

    def _held_out(self, user: str) -> bool:
        """The definition is looked at now and then, not for each user."""
        if monotonic() - self._looked > _LOOK:
            self._holdout = held_out_now(self._space.definitions())
            self._looked = monotonic()
        return self._holdout(user)

    def _coupon(
        self, step: ActivityStep, activity: Activity, due: Due, reward: Reward
    ) -> tuple[str | None, str | None]:
        """Of the reward's pool, or its benefit's; why there is none."""
        pool = reward.pool
        if pool is None and reward.benefit is not None:
            benefits = {each.name: each for each in self._space.definitions().of(Benefit)}
            pool = benefits[reward.benefit].pool if reward.benefit in benefits else None
        if pool is None:
            return None, None
        task, run = f"activity.{activity.name}.{due.reward}", f"activity/{due.period}"
        try:
            code = self._desk.reward(step, pool, task[-_LONGEST:], run, due.user)
        except NotFound as error:
            return None, str(error)
        return code, None if code is not None else f"pool {pool} has no code left"

    def _own_date(self, field: str, user: str) -> date | None:
        """Read once a day."""
        today = self._space.clock.now().date()
        kept = self._dates.get(field)
        if kept is None or kept[0] != today:
            told = read_fields(self._space.catalog, [field])
            frame = told.select(pl.col("user").cast(pl.String), pl.col(field).cast(pl.Date, strict=False))
            kept = self._dates[field] = (today, frame)
        found = kept[1].filter(pl.col("user") == user)[field]
        return found.item() if len(found) == 1 else None

    def _own_zone(self, user: str) -> ZoneInfo:
        """On whose wall her days begin; the workspace's where hers is not known."""
        self._people.refresh(Caps(()), zones=True)
        try:
            return ZoneInfo(self._people.zone(user))
        except (ZoneInfoNotFoundError, ValueError):
            return self._space.settings.zone
