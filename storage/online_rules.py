"""What every online store agrees on: which fresh events are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: instants that are kept of each event of a user, the newest; and names
NEWEST, NAMES = 50, 50


def recent_of(known: Mapping[str, Sequence[int]], name: str, at: int) -> dict[str, list[int]]:
    """The newest instants of each event with one more, in order; events without news for longest go first."""
    recent = {each: list(instants) for each, instants in known.items()}
    recent[name] = sorted([*recent.get(name, ()), at])[-NEWEST:]
    while len(recent) > NAMES:
        del recent[min(recent, key=lambda each: recent[each][-1])]
    return recent
