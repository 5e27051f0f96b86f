"""When one touch more fits under the caps: what every ledger and every online store agrees on.

A rolling cap allows no half-open window (t − window, t] with more than so many, wherever t lies: a touch may
be reserved before one that is already planned. A calendar cap counts the day, week or month on the wall of
the user who is to be touched.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kernel.clock import instant, micros, parse_window, start_of_day
from kernel.contact import Cap, MessageClass

_MICROSECOND = timedelta(microseconds=1)
#: one letter for each class, as stores keep it
LETTERS = {MessageClass.MARKETING: "m", MessageClass.SERVICE: "s", MessageClass.TRANSACTIONAL: "t"}
CLASSES = {letter: each for each, letter in LETTERS.items()}
_MARKETING = LETTERS[MessageClass.MARKETING]


class Held(NamedTuple):
    """A touch that counts."""

    #: microseconds since 1970
    at: int
    channel: str
    #: its class, as in `LETTERS`
    letter: str = _MARKETING
    #: labels; empty: none
    activity: str = ""
    task: str = ""


class Touches:
    """What a user holds, read when somebody needs to know more than how much it can be.

    `most`: no more than so many count. `read`: tells those that do.
    """

    __slots__ = ("_found", "_read", "most")

    def __init__(self, most: int = 0, read: Callable[[], Sequence[Held]] = tuple) -> None:
        self.most, self._read = most, read
        self._found: Sequence[Held] | None = None

    def held(self) -> Sequence[Held]:
        if self._found is None:
            self._found = self._read() if self.most else ()
        return self._found


class Room(NamedTuple):
    """A cap as it binds one wish."""

    #: of the cap
    name: str
    #: what it counts; None: all
    channel: str | None
    #: of a rolling cap, microseconds; 0: it counts what lies in [since, until)
    window: int
    at_most: int
    #: classes that it counts, as in `LETTERS`
    letters: str = _MARKETING
    activity: str | None = None
    task: str | None = None
    since: int = 0
    until: int = 0
    #: whose touches it counts: the user's own, or those of the user's household or other entity
    entity: str = "user"


class Caps:
    """The caps in force. Safe for threads."""

    def __init__(self, caps: Iterable[Cap]) -> None:
        self._caps = tuple(caps)
        self._windows = [window_micros(cap) for cap in self._caps]
        #: how far the longest looks back, microseconds
        self.longest = max((window or _LONGEST_MONTH for window in self._windows), default=0)
        #: entities, besides the user, by which some of them count
        self.entities = tuple(sorted({cap.by for cap in self._caps} - {"user"}))
        #: whether some count by the calendar, for which a user's zone must be known
        self.calendar = any(cap.per for cap in self._caps)
        self._per = {cap.name: cap.per for cap in self._caps if cap.per}
        self._known: dict[tuple[object, ...], tuple[Room, ...]] = {}

    def rooms(
        self,
        at: int,
        channel: str,
        message_class: MessageClass = MessageClass.MARKETING,
        *,
        activity: str | None = None,
        task: str | None = None,
        zone: str = "UTC",
        entities: Iterable[str] = (),
    ) -> tuple[Room, ...]:
        """Those that count such a touch, each as it binds one at that instant. A user of no such entity is
        counted alone."""
        entities = tuple(entities)
        key = (channel, message_class, activity, task, entities)
        found = self._known.get(key)
        if found is None:
            if len(self._known) > 10_000:
                self._known.clear()
            found = self._known[key] = tuple(self._binding(channel, message_class, activity, task, *entities))
        if not self.calendar:
            return found
        return tuple([self._on_the_day(room, at, zone) for room in found])

    def until(self, room: Room, at: int, held: Sequence[int], zone: str = "UTC") -> int | None:
        """The first instant after `at` with room beside these sorted instants; None: never."""
        if room.at_most == 0:
            return None
        if room.window:  # it can only be one at which a held touch leaves a window
            leaving = (each + room.window for each in held[bisect_left(held, at - room.window) :])
            return next(then for then in leaving if then > at and has_room(room, then, held))
        while True:
            since, until = calendar_span(self._per[room.name], room.until, zone)
            room = room._replace(since=since, until=until)
            if has_room(room, since, held):
                return since

    def _binding(
        self,
        channel: str,
        message_class: MessageClass,
        activity: str | None,
        task: str | None,
        *entities: str,
    ) -> Iterable[Room]:
        for cap, window in zip(self._caps, self._windows, strict=True):
            if counts(cap, channel, message_class, activity):
                yield Room(
                    name=cap.name,
                    channel=channel if cap.each == "channel" else cap.channel,
                    window=window,
                    at_most=cap.at_most,
                    letters="".join(
                        LETTERS[each] for each in cap.classes if each is not MessageClass.TRANSACTIONAL
                    ),
                    activity=(activity or "") if cap.each == "activity" else cap.activity,
                    task=(task or "") if cap.each == "task" else None,
                    entity=cap.by if cap.by in entities else "user",
                )

    def _on_the_day(self, room: Room, at: int, zone: str) -> Room:
        if room.window:
            return room
        since, until = calendar_span(self._per[room.name], at, zone)
        return room._replace(since=since, until=until)


def counts(cap: Cap, channel: str, message_class: MessageClass, activity: str | None = None) -> bool:
    """Whether a touch counts against `cap`. A transactional one never does."""
    return (
        message_class is not MessageClass.TRANSACTIONAL
        and message_class in cap.classes
        and cap.channel in (None, channel)
        and cap.activity in (None, activity)
    )


def window_micros(cap: Cap) -> int:
    """Of a rolling cap; 0 for one that counts by the calendar."""
    return parse_window(cap.within) // _MICROSECOND if cap.within else 0


def counted(room: Room, held: Iterable[Held]) -> list[int]:
    """The instants of what a room counts, in order."""
    _, channel, _, _, letters, activity, task, *_ = room
    return sorted(
        [
            each[0]
            for each in held
            if each[2] in letters
            and (channel is None or each[1] == channel)
            and (activity is None or each[3] == activity)
            and (task is None or each[4] == task)
        ]
    )


def has_room(room: Room, at: int, held: Sequence[int]) -> bool:
    """Whether one touch more at `at` fits beside these sorted instants."""
    if room.window:
        return fits(at, held, room.at_most, room.window)
    return bisect_left(held, room.until) - bisect_left(held, room.since) < room.at_most


def fits(at: int, held: Sequence[int], at_most: int, window: int) -> bool:
    """Whether no half-open window (t − window, t] would hold more than `at_most` if `at` joined `held`.

    `held` is sorted; all are microseconds. A set lies within one such window exactly when its last is
    less than `window` after its first, so only runs of `at_most + 1` neighbours around `at` matter;
    they may lie on either side, since a touch can be reserved before one that is already planned.
    """
    if at_most == 0:
        return False
    if len(held) < at_most:
        return True
    place = bisect_right(held, at)
    near = [*held[max(0, place - at_most) : place], at, *held[place : place + at_most]]
    return all(near[i + at_most] - near[i] >= window for i in range(len(near) - at_most))


def full(rooms: Iterable[Room], at: int, held: Callable[[str], Iterable[Held]]) -> Room | None:
    """The first room that has none left for a touch at `at`; `held`: entity → what counts of it."""
    known = dict[str, Iterable[Held]]()
    for room in rooms:
        if room.entity not in known:
            known[room.entity] = held(room.entity)
        if not has_room(room, at, counted(room, known[room.entity])):
            return room
    return None


#: what a calendar cap may look back over: the longest month, and clocks that are set
_LONGEST_MONTH = timedelta(days=32) // _MICROSECOND


def calendar_span(per: str, at: int, zone: str) -> tuple[int, int]:
    """[first, end) of the calendar day, week or month in `zone` that holds an instant, microseconds.

    A day begins when its date does, so one on which clocks are set has 23 or 25 hours.
    """
    return _span(per, instant(at).astimezone(_zone(zone)).date(), zone)


@lru_cache(maxsize=4096)
def _span(per: str, day: date, zone: str) -> tuple[int, int]:
    match per:
        case "day":
            first, last = day, day + timedelta(days=1)
        case "week":
            first = day - timedelta(days=day.weekday())
            last = first + timedelta(days=7)
        case _:
            first = day.replace(day=1)
            last = (first + timedelta(days=31)).replace(day=1)
    where = _zone(zone)
    return micros(start_of_day(first, where)), micros(start_of_day(last, where))


_zone = lru_cache(maxsize=1024)(ZoneInfo)
