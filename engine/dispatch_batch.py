"""From leased touches to messages: judged once more, then written in the user's own words."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from engine.channels import Channels
from engine.recipients import Recipients
from engine.wiring import Workspace
from kernel.clock import instant, micros, parse_window
from kernel.delivery import OutboxTask, OutboxTouch, Settled, TouchState
from kernel.errors import BadInput, Stale
from kernel.exposure import Reservation
from storage.suppress import Suppressions
from touchpoint.api import Message, NotForHer, Situation, Verdict, render

Pair = tuple[OutboxTask, OutboxTouch]
#: states of a reservation that still holds its place
_HELD = ("reserved", "confirmed")


@dataclass
class Prepared:
    """What became of a lease before anything was handed over."""

    #: the outbox's number of the touch, and what is to be handed over
    messages: list[tuple[int, Message]] = field(default_factory=list)
    #: number → keyed hash of its address
    marks: dict[int, str] = field(default_factory=dict)
    #: number → task
    tasks: dict[int, OutboxTask] = field(default_factory=dict)
    #: number → touch id
    ids: dict[int, str] = field(default_factory=dict)
    #: number → attempts that failed before
    attempts: dict[int, int] = field(default_factory=dict)
    #: those that do not go out now
    settled: list[Settled] = field(default_factory=list)


class Preparing:
    """Judges and writes. A store that does not answer raises Unavailable: then nothing goes out."""

    def __init__(self, space: Workspace, suppressions: Suppressions) -> None:
        self._space, self._suppressions = space, suppressions
        self.people = Recipients(space)
        self._key: bytes | None = None

    def prepare(self, pairs: Sequence[Pair], channels: Channels, now: datetime, *, whole: bool) -> Prepared:
        """`whole`: for files, which carry times and are judged as of each touch's own."""
        found = Prepared()
        if not pairs:
            return found
        self.people.refresh(channels.fields)
        persons = self.people.of([touch.user for _, touch in pairs])
        addresses = [
            _address(task, touch, person, channels)
            for (task, touch), person in zip(pairs, persons, strict=True)
        ]
        marks = [
            (
                self._suppressions.mark_of_user(touch.user),
                self._suppressions.mark_of_address(address) if address else "",
            )
            for (_, touch), address in zip(pairs, addresses, strict=True)
        ]
        suppressed = self._suppressions.binding({mark for both in marks for mark in both if mark})
        reserved = self._space.ledger.states([touch.touch_id for _, touch in pairs])
        forgotten = self._forgotten([touch.user for _, touch in pairs])
        for (task, touch), person, address, both in zip(pairs, persons, addresses, marks, strict=True):
            found.tasks[touch.number], found.attempts[touch.number] = task, touch.attempts
            found.marks[touch.number], found.ids[touch.number] = both[1], touch.touch_id
            at = max(now, instant(touch.send_us)) if whole else now
            try:
                zone = self.people.zone(person)
            except (KeyError, ValueError):
                found.settled.append(
                    _refused(touch, "timezone", "the user's time zone is none that is known")
                )
                continue
            channel = channels.channels[task.channel]
            send_at = instant(touch.send_us)
            verdict = channels.rules.judge(
                task.touchpoint,
                Situation(
                    channel=task.channel,
                    message_class=task.message_class,
                    send_at=send_at,
                    expires_at=send_at + parse_window(channel.expires),
                    zone=zone,
                    forgotten=touch.user in forgotten,
                    consent=self.people.consent(person),
                    suppressed=[each for mark in both for each in suppressed.get(mark, ())],
                    reserved=reserved.get(touch.touch_id) in _HELD,
                    reachable=bool(address),
                ),
                at,
            )
            if verdict.what == "wait" and whole:  # the file says when, and nobody moves it there
                found.settled.append(_refused(touch, verdict.rule, verdict.reason))
                continue
            if verdict.what != "go":
                found.settled.append(self._not_now(task, touch, verdict, channels, zone.key))
                continue
            try:
                said = self.message(task, touch, person, channels, send_at, zone)
            except NotForHer as error:
                found.settled.append(_refused(touch, "content", str(error)))
                continue
            found.messages.append((touch.number, said))
        return found

    def _forgotten(self, users: Sequence[str]) -> set[str]:
        series = pl.Series(users, dtype=pl.String)
        return set(series.filter(self._space.tombstones.refused(series)).to_list())

    def _not_now(
        self, task: OutboxTask, touch: OutboxTouch, verdict: Verdict, channels: Channels, zone: str
    ) -> Settled:
        """Refused, or waiting for a time at which the caps have room for it too."""
        if verdict.what == "refuse" or verdict.until is None:
            return _refused(touch, verdict.rule, verdict.reason)
        if not channels.own_caps:
            said = f"{verdict.reason}; caps by household hold its place at its own time only"
            return _refused(touch, verdict.rule, said)
        wish = Reservation(
            touch_id=touch.touch_id,
            user=touch.user,
            channel=task.channel,
            message_class=task.message_class,
            activity=task.goal,
            task=task.task,
            at=verdict.until,
            zone=zone,
            run=f"plan {task.run}",
            plan=f"plan/{task.run}",
        )
        try:
            refusal = self._space.ledger.reserve(wish, caps=channels.caps)
        except (BadInput, Stale) as error:
            return _refused(touch, "reservation", str(error))
        if refusal is not None:
            said = f"{verdict.reason}, and then {refusal.rule} has no room for it"
            return _refused(touch, refusal.rule, said)
        return Settled(
            number=touch.number,
            state=TouchState.QUEUED,
            rule=verdict.rule,
            reason=verdict.reason,
            due_us=micros(verdict.until),
        )

    def message(
        self,
        task: OutboxTask,
        touch: OutboxTouch,
        person: Mapping[str, Any],
        channels: Channels,
        send_at: datetime,
        zone: ZoneInfo,
    ) -> Message:
        """The touch in the user's own words. Raises NotForHer."""
        content = channels.contents.get(task.content)
        if content is None:
            raise NotForHer(f"content {task.content} is not defined any more")
        local, unsubscribe = send_at.astimezone(zone), self.unsubscribe_url(touch.touch_id)
        words = render(
            content,
            {
                "benefit": channels.benefits.get(task.benefit, task.benefit),
                "goal": channels.goals.get(task.goal, task.goal),
                "code": touch.code,
                "channel": task.channel,
                "task": task.task,
                "date": local.date().isoformat(),
                "workspace": self._space.settings.name,
                "unsubscribe": unsubscribe,
                "user": {name.removeprefix("user."): value for name, value in person.items()},
            },
        )
        return Message(
            touch_id=touch.touch_id,
            user=touch.user,
            address=_address(task, touch, person, channels),
            channel=task.channel,
            run=task.run,
            task=task.task,
            message_class=str(task.message_class),
            send_at=send_at,
            local_time=local.isoformat(),
            subject=words.subject,
            text=words.text,
            html=words.html,
            code=touch.code,
            unsubscribe=unsubscribe,
        )

    def unsubscribe_url(self, touch_id: str) -> str:
        """One click that ends such messages; empty without a `public_url`."""
        base = self._space.settings.public_url.rstrip("/")
        return f"{base}/v1/unsubscribe/{self.token(touch_id)}" if base else ""

    def token(self, touch_id: str) -> str:
        """Proves that whoever has it was written to."""
        if self._key is None:
            self._key = self._space.tombstones.secret()
        proof = hmac.new(self._key, f"unsubscribe {touch_id}".encode(), hashlib.sha256).hexdigest()[:32]
        return f"{touch_id}.{proof}"

    def touch_of(self, token: str) -> str | None:
        """The touch whose token this is; None for any other text."""
        touch_id = token.partition(".")[0]
        return touch_id if hmac.compare_digest(token.encode(), self.token(touch_id).encode()) else None


def _address(task: OutboxTask, touch: OutboxTouch, person: Mapping[str, Any], channels: Channels) -> str:
    channel = channels.channels.get(task.channel)
    field_ = None if channel is None else channel.address
    if field_ is None:
        return touch.user
    value = person.get(field_)
    return "" if value is None else str(value).strip()


def _refused(touch: OutboxTouch, rule: str, reason: str) -> Settled:
    return Settled(number=touch.number, state=TouchState.REFUSED, rule=rule[:100], reason=reason)
