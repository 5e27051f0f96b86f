"""The events that the sources know of some users: read by key, kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import ibis
import polars as pl

from insight.catalog import Catalog
from insight.fresh_events import Fresh
from insight.fresh_leaves import Line
from insight.sources.opening import open_source
from insight.tables import event_lines
from kernel.events import INSTANT

#: users asked for in one query
_TOGETHER = 500
User = int | str
History = dict[str, list[Line]]


def read_histories(
    catalog: Catalog, events: Mapping[str, datetime | None], asked: Sequence[User]
) -> dict[User, History]:
    """User → event → lines after the event's instant (None: all). Raises Unavailable, BadInput."""
    found: dict[User, History] = {user: {} for user in asked}
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for name, since in events.items():
            event = catalog.event(name)
            if event.source not in opened:
                opened[event.source] = stack.enter_context(open_source(catalog, event.source))
            lines = event_lines(catalog, name, event.fields)
            if since is not None:
                lines = lines.filter(lines["at"] > ibis.literal(since))
            for start in range(0, len(asked), _TOGETHER):
                mine = lines.filter(lines["user"].isin(list(asked[start : start + _TOGETHER])))
                frame = opened[event.source].frame(mine).with_columns(pl.col("at").cast(INSTANT))
                for place, row in enumerate(frame.iter_rows(named=True)):
                    values = {short: row[short] for short in event.fields if row[short] is not None}
                    event_id = row["event_id"] if "event_id" in row else (-1 - start, place)
                    found[row["user"]].setdefault(name, []).append(Line(row["at"], event_id, values))
    return found


class Histories:
    """What was read, the least recently used forgotten above `most` lines: it can be read again."""

    def __init__(self, catalog: Catalog, most: int) -> None:
        self._catalog, self._most = catalog, most
        self._known: OrderedDict[User, History] = OrderedDict()
        self._lines = 0

    def clear(self) -> None:
        self._known.clear()
        self._lines = 0

    def of(self, asked: Iterable[User], events: Mapping[str, datetime | None]) -> dict[User, History]:
        """Those of these users; what is not known is read."""
        asked = list(dict.fromkeys(asked))
        found = {user: self._known[user] for user in asked if user in self._known}
        for user in found:
            self._known.move_to_end(user)
        missing = [user for user in asked if user not in found]
        if missing:
            read = read_histories(self._catalog, events, missing)
            found |= read
            for user, history in read.items():
                self._known[user] = history
                self._lines += _size(history)
            while self._lines > self._most and self._known:
                self._lines -= _size(self._known.popitem(last=False)[1])
        return found


def _size(history: History) -> int:
    return 1 + sum(len(lines) for lines in history.values())


def merged(history: History, fresh: Sequence[Fresh], catalog: Catalog) -> History:
    """What the sources and the log know together, nothing twice.

    An event with an id in the catalog is known by it, and the source's lines stand; one without is known by
    its instant and the properties that it was sent with, as often as it was sent.
    """
    both: History = {name: list(lines) for name, lines in history.items()}
    spare: dict[str, list[Line]] = {name: list(lines) for name, lines in history.items()}
    for event in fresh:
        lines = both.setdefault(event.name, [])
        if catalog.events[event.name].id is not None:
            if event.lines[0].event_id not in {line.event_id for line in history.get(event.name, ())}:
                lines.extend(event.lines)
            continue
        left = spare.get(event.name, [])
        for line in event.lines:
            same = next((each for each in left if _same(each, line)), None)
            if same is None:
                lines.append(line)
            else:
                left.remove(same)
    return both


def _same(known: Line, sent: Line) -> bool:
    return known.at == sent.at and all(
        known.values.get(short) == value for short, value in sent.values.items()
    )
