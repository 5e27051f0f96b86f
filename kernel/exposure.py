"""Reservations of touches, and when one more fits under a cap: what every ledger agrees on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kernel.clock import aware, instant, micros, parse_window
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput

#: the rule that refuses a touch which was confirmed at another time: nobody gets it again
ALREADY_SENT = "already_sent"


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The wish to touch a user at an instant; granted, it counts against caps as if it had happened."""

    #: the same touch has the same id, however often it is asked for
    touch_id: str
    #: the user's own id, as text
    user: str
    channel: str
    message_class: MessageClass = MessageClass.MARKETING
    #: when it is to be handed over; aware
    at: datetime
    #: who asks, for people
    run: str = ""
    #: the whole that it is part of, such as `plan/2017-10-16`; a later version of it replaces an earlier
    plan: str | None = None

    def __post_init__(self) -> None:
        aware(self.at, "at")
        for field in ("touch_id", "user", "channel"):
            if not getattr(self, field):
                raise BadInput("is empty", where="reservation", field=field)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a reservation was not granted."""

    touch_id: str
    #: name of the cap that binds longest, or `ALREADY_SENT`
    rule: str
    #: first instant after the one wished for at which it would fit, as things stand; None: never
    until: datetime | None


def window_micros(cap: Cap) -> int:
    return parse_window(cap.within) // timedelta(microseconds=1)


def counts(cap: Cap, channel: str, message_class: MessageClass) -> bool:
    """Whether a touch counts against `cap`. A transactional one never does."""
    if message_class is MessageClass.TRANSACTIONAL:
        return False
    return message_class in cap.classes and cap.channel in (None, channel)


def fits(at: int, held: Sequence[int], at_most: int, window: int) -> bool:
    """Whether no half-open window (t − window, t] would hold more than `at_most` if `at` joined `held`.

    `held` is sorted; all are microseconds. A set lies within one such window exactly when its last is
    less than `window` after its first, so only runs of `at_most + 1` neighbours around `at` matter;
    they may lie on either side, since a touch can be reserved before one that is already planned.
    """
    if at_most == 0:
        return False
    place = bisect_right(held, at)
    near = [*held[max(0, place - at_most) : place], at, *held[place : place + at_most]]
    return all(near[i + at_most] - near[i] >= window for i in range(len(near) - at_most))


class Exposures:
    """What is held per user, and the caps' answer to one more. Not safe for threads: a ledger's step."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        self._caps = [(cap, window_micros(cap)) for cap in caps]
        self._held: dict[tuple[str, int], list[int]] = {}

    def hold(self, user: str, channel: str, message_class: MessageClass, at: int) -> None:
        """Counts a touch, whether it fits or not."""
        for i, (cap, _) in enumerate(self._caps):
            if counts(cap, channel, message_class):
                insort(self._held.setdefault((user, i), []), at)

    def admit(self, wish: Reservation) -> Refusal | None:
        """Counts the wish if every cap allows it (None), else says which cap refuses longest."""
        at, blocked = micros(wish.at), dict[str, int | None]()
        for i, (cap, window) in enumerate(self._caps):
            held = self._held.get((wish.user, i), [])
            if counts(cap, wish.channel, wish.message_class) and not fits(at, held, cap.at_most, window):
                blocked[cap.name] = _first_fit(at, held, cap.at_most, window)
        if blocked:
            name, until = max(blocked.items(), key=lambda each: (each[1] is None, each[1] or 0))
            return Refusal(touch_id=wish.touch_id, rule=name, until=None if until is None else instant(until))
        self.hold(wish.user, wish.channel, wish.message_class, at)
        return None


def _first_fit(at: int, held: Sequence[int], at_most: int, window: int) -> int | None:
    """The first instant after `at` with room: it can only be one at which a held touch leaves a window."""
    if at_most == 0:
        return None
    leaving = (each + window for each in held[bisect_left(held, at - window) :])
    return next(then for then in leaving if then > at and fits(then, held, at_most, window))
