"""What every online store agrees on: whether one touch more fits, and which fresh events are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: name, channel or None for all, window in microseconds, most touches: as `realtime.ports.Room`
Room = tuple[str, str | None, int, int]
#: instants that are kept of each event of a user, the newest; and names
NEWEST, NAMES = 50, 50


def fits(held: Iterable[tuple[int, str]], at: int, room: Room) -> bool:
    """Whether one touch more at `at` leaves the window (at − window, at] within the cap. What is held for
    later counts as well: two clocks differ, and a cap must hold by both."""
    _, channel, window, at_most = room
    since = at - window
    return sum(then > since and channel in (None, where) for then, where in held) < at_most


def recent_of(known: Mapping[str, Sequence[int]], name: str, at: int) -> dict[str, list[int]]:
    """The newest instants of each event with one more, in order; events without news for longest go first."""
    recent = {each: list(instants) for each, instants in known.items()}
    recent[name] = sorted([*recent.get(name, ()), at])[-NEWEST:]
    while len(recent) > NAMES:
        del recent[min(recent, key=lambda each: recent[each][-1])]
    return recent
