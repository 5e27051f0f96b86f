"""Touches that others want to make: checked against every promise, reserved, confirmed, released; and
told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from engine.consent import Consent
from engine.people import People
from engine.wiring import Workspace
from kernel.caps import Caps
from kernel.clock import aware
from kernel.contact import Cap, MessageClass, QuietHours
from kernel.errors import BadInput
from kernel.exposure import Reservation
from kernel.learning import Action
from kernel.work import Touchpoint
from touchpoint.api import Rules, Situation, why_refused

#: seconds between looks at definitions
_LOOK = 3.0
#: how far from now a touch may lie, and how long after its time a reservation may hold
_FAR = timedelta(days=400)
#: how far back and ahead of now the touches of a user are told
_BEFORE, _AFTER = timedelta(days=32), timedelta(days=32)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A touch that somebody wants to make."""

    touch_id: str
    user: str
    channel: str
    message_class: MessageClass = MessageClass.MARKETING
    #: when; None: now
    at: datetime | None = None
    activity: str | None = None
    task: str | None = None
    #: her household, if the caller knows better than the ID map
    household: str | None = None
    #: how long after its time the reservation holds, seconds
    expires_in: float = 900.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """The answer: granted, or which rule refuses, why and until when (None: until somebody changes
    something)."""

    touch_id: str
    granted: bool
    rule: str | None = None
    #: one sentence, times on the user's own wall
    reason: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class _Scene:
    caps: Caps
    named: Mapping[str, Cap]
    rules: Rules
    channels: frozenset[str]
    gone: frozenset[str]


class TouchDesk:
    """Safe for threads. Whatever a promise depends on and cannot be asked raises Unavailable: nothing is
    granted."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._consent, self._people = Consent(workspace), People(workspace)
        self._lock, self._looked = Lock(), float("-inf")
        self._scene: _Scene | None = None

    def reserve(self, wish: Wish) -> Told:
        """Forgotten → consent → suppression → quiet hours → caps. Granted, it counts until it is confirmed,
        released or expires. The same id again is the same touch."""
        now, scene = self._space.clock.now(), self._look()
        at = now if wish.at is None else aware(wish.at, "at")
        if abs(at - now) > _FAR:
            raise BadInput("is more than 400 days away", field="at", value=at.isoformat())
        if not 1 <= wish.expires_in <= _FAR.total_seconds():
            raise BadInput("is not 1 second to 400 days", field="expires_in", value=wish.expires_in)
        no = self._forbidden(scene, wish, at)
        if no is not None:
            return no
        expires = max(at, now) + timedelta(seconds=wish.expires_in)
        found = self._space.ledger.reserve(self._reservation(wish, at), caps=scene.caps, expires_at=expires)
        if found is None:
            return Told(touch_id=wish.touch_id, granted=True)
        reason = why_refused(found, scene.named, self._zone(wish.user))
        return Told(touch_id=wish.touch_id, granted=False, rule=found.rule, reason=reason, until=found.until)

    def confirm(self, touch_id: str) -> None:
        self._space.ledger.confirm([touch_id])

    def release(self, touch_id: str) -> None:
        self._space.ledger.release([touch_id])

    def of(self, user: str) -> dict[str, Any]:
        """What is held of a user, what plans have refused her, and, channel by channel, whether one marketing
        touch more would be granted now, or why not and until when."""
        now, scene, zone = self._space.clock.now(), self._look(), self._zone(user)
        held = self._space.ledger.held(users=[user], since=now - _BEFORE, until=now + _AFTER)
        rows = held.drop("user").to_dicts()
        touches = [{**row, "at": row["at"].astimezone(zone).isoformat(timespec="seconds")} for row in rows]
        following = []
        for channel in sorted(scene.channels):
            told = self.would(Wish(touch_id="would", user=user, channel=channel))
            until = None if told.until is None else told.until.astimezone(zone).isoformat()
            following.append(
                {"channel": channel, "granted": told.granted, "rule": told.rule, "reason": told.reason,
                 "until": until}
            )  # fmt: skip
        return {
            "user_id": user,
            "timezone": zone.key,
            "held": touches,
            "refused": refused_by_plans(self._space, user),
            "next": following,
        }

    def would(self, wish: Wish) -> Told:
        """What `reserve` would say now, without reserving."""
        now, scene = self._space.clock.now(), self._look()
        at = now if wish.at is None else aware(wish.at, "at")
        no = self._forbidden(scene, wish, at)
        if no is not None:
            return no
        found = self._space.ledger.refusal(self._reservation(wish, at), caps=scene.caps)
        if found is None:
            return Told(touch_id=wish.touch_id, granted=True)
        reason = why_refused(found, scene.named, self._zone(wish.user))
        return Told(touch_id=wish.touch_id, granted=False, rule=found.rule, reason=reason, until=found.until)

    def _forbidden(self, scene: _Scene, wish: Wish, at: datetime) -> Told | None:
        """By anything but caps."""
        space, mark = self._space, self._space.suppressions.mark_of_user(wish.user)
        allowed = self._consent.allowed(wish.user, Action(id="touch", channel=wish.channel)) is None
        verdict = scene.rules.judge(
            "",
            Situation(
                channel=wish.channel,
                message_class=wish.message_class,
                send_at=at,
                expires_at=at + _FAR,
                zone=self._zone(wish.user),
                forgotten=bool(scene.gone) and space.tombstones.mark(wish.user) in scene.gone,
                consent=None if allowed else False,
                suppressed=space.suppressions.binding([mark]).get(mark, ()),
                reserved=True,
                reachable=True,
            ),
            at,
        )
        if verdict.what == "go":
            return None
        return Told(
            touch_id=wish.touch_id,
            granted=False,
            rule=verdict.rule,
            reason=verdict.reason,
            until=verdict.until,
        )

    def _reservation(self, wish: Wish, at: datetime) -> Reservation:
        entities = dict(self._people.entities(wish.user))
        if wish.household is not None:
            entities["household"] = wish.household
        return Reservation(
            touch_id=wish.touch_id,
            user=wish.user,
            channel=wish.channel,
            message_class=wish.message_class,
            activity=wish.activity,
            task=wish.task,
            at=at,
            zone=self._zone(wish.user).key,
            entities=entities,
            run="api",
        )

    def _zone(self, user: str) -> ZoneInfo:
        return ZoneInfo(self._people.zone(user))

    def _look(self) -> _Scene:
        with self._lock:
            if self._scene is not None and monotonic() - self._looked < _LOOK:
                return self._scene
            definitions, space = self._space.definitions(), self._space
            caps, quiet = definitions.of(Cap), definitions.of(QuietHours)
            points = definitions.of(Touchpoint)
            scene = _Scene(
                caps=Caps(caps),
                named={cap.name: cap for cap in caps},
                rules=Rules(quiet_hours=quiet, touchpoints=points, late={}),
                channels=frozenset(each.channel for each in points),
                gone=space.tombstones.marks(),
            )
            self._consent.refresh()
            self._people.refresh(scene.caps, zones=True)
            self._scene, self._looked = scene, monotonic()
            return scene


def refused_by_plans(workspace: Workspace, user: str) -> list[dict[str, Any]]:
    """What plans would have given a user and caps, hours or consent refused, the newest plan first."""
    found = []
    for folder in sorted((Path(each) for each in workspace.plans.folders()), reverse=True):
        path = folder / "refusals.parquet"
        if path.exists():
            rows = pl.scan_parquet(path).filter(pl.col("user").cast(pl.String) == user).collect()
            found += [{"plan": folder.name, **row} for row in rows.drop("user").to_dicts()]
    return found
