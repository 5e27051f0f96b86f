"""Reservations of touches, and why one is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kernel.caps import Caps, Held, Room, counted, has_room
from kernel.clock import aware, instant, micros
from kernel.contact import MessageClass
from kernel.errors import BadInput

#: the rule that refuses a touch which was confirmed at another time: nobody gets it again
ALREADY_SENT = "already_sent"
#: longest id, name or label, characters
LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The wish to touch a user at an instant; granted, it counts against caps as if it had happened."""

    #: the same touch has the same id, however often it is asked for
    touch_id: str
    #: the user's own id, as text
    user: str
    channel: str
    message_class: MessageClass = MessageClass.MARKETING
    #: labels that caps may count by
    activity: str | None = None
    task: str | None = None
    #: when it is to be handed over; aware
    at: datetime
    #: the user's own, for caps by the calendar
    zone: str = "UTC"
    #: what else it counts for: `{"household": "7"}`
    entities: Mapping[str, str] = field(default_factory=dict)
    #: who asks, for people
    run: str = ""
    #: the whole that it is part of, such as `plan/2017-10-16`; a later version of it replaces an earlier
    plan: str | None = None

    def __post_init__(self) -> None:
        aware(self.at, "at")
        for name in ("touch_id", "user", "channel"):
            if not getattr(self, name):
                raise BadInput("is empty", where="reservation", field=name)
        for name in ("touch_id", "user", "channel", "activity", "task", "run", "plan"):
            said = getattr(self, name)
            if said is not None and len(said) > LONGEST:
                raise BadInput(
                    f"is longer than {LONGEST} characters", where="reservation", field=name, value=said[:40]
                )

    def rooms(self, caps: Caps) -> tuple[Room, ...]:
        """The caps that count it, as they bind it."""
        return caps.rooms(
            micros(self.at), self.channel, self.message_class, activity=self.activity, task=self.task,
            zone=self.zone, entities=sorted(self.entities) if self.entities else (),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a reservation was not granted."""

    touch_id: str
    #: name of the cap that binds longest, or `ALREADY_SENT`
    rule: str
    #: first instant after the one wished for at which it would fit, as things stand; None: never
    until: datetime | None


def refusal(
    wish: Reservation, caps: Caps, held: Callable[[str], Iterable[Held]], rooms: Iterable[Room] | None = None
) -> Refusal | None:
    """None when every cap has room beside what is `held` (entity → what counts of it), else the cap that
    refuses longest."""
    at, blocked = micros(wish.at), dict[str, int | None]()
    known = dict[str, Iterable[Held]]()
    for room in wish.rooms(caps) if rooms is None else rooms:
        if room.entity not in known:
            known[room.entity] = held(room.entity)
        instants = counted(room, known[room.entity])
        if not has_room(room, at, instants):
            blocked[room.name] = caps.until(room, at, instants, wish.zone)
    if not blocked:
        return None
    name, until = max(blocked.items(), key=lambda each: (each[1] is None, each[1] or 0))
    return Refusal(touch_id=wish.touch_id, rule=name, until=None if until is None else instant(until))
