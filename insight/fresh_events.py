"""Fresh events as they are sent: checked against the catalog, and read back as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Protocol

from insight.catalog import Catalog, EventFieldRoute
from insight.elastic import is_elastic
from insight.fresh_leaves import Line
from insight.tables import event_lines, users
from kernel.clock import aware
from kernel.errors import BadInput, GrowthError, NotFound

_KNOWN = ("event_id", "user_id", "name", "occurred_at", "properties")
#: clocks of senders may be ahead of ours by so much
AHEAD = timedelta(minutes=5)
#: characters in an id or a text; lines in an event
MOST_TEXT, MOST_LINES = 200, 1000
_LONGEST_TEXT = 10_000


class Logged(Protocol):
    """A line of the log of events."""

    @property
    def number(self) -> int: ...
    @property
    def event_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def received_at(self) -> datetime: ...
    @property
    def lines(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """An event as it was sent, checked; values as JSON has them."""

    event_id: str
    user_id: str
    name: str
    occurred_at: datetime
    #: property → value, one each line
    lines: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fresh:
    """An event of the log, typed."""

    #: in the log
    number: int
    #: as it was sent
    event_id: str
    user: int | str
    name: str
    occurred_at: datetime
    received_at: datetime
    lines: tuple[Line, ...]


class EventDoor:
    """What may come in, by the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._whole_ids = lru_cache(maxsize=None)(self._has_whole_ids)

    @cached_property
    def whole_users(self) -> bool:
        """Whether users are whole numbers; else text."""
        if is_elastic(self.catalog, self.catalog.entity.source):
            return False
        ids = users(self.catalog, datetime(2000, 1, 1, tzinfo=UTC)).schema()["user"]
        return bool(ids.is_integer())

    def user(self, user_id: object, field: str = "user_id") -> int | str:
        """An id from outside as the catalog has it. Raises BadInput."""
        if isinstance(user_id, bool) or not isinstance(user_id, int | str) or user_id == "":
            raise BadInput("is not the id of a user", field=field, value=_short(user_id))
        if not self.whole_users:
            return _text(user_id, field) if isinstance(user_id, str) else str(user_id)
        text = str(user_id)
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or str(int(text)) != text:
            raise BadInput("is not a whole number, as users are", field=field, value=_short(user_id))
        return int(text)

    def read(self, raw: object, now: datetime) -> Reported:
        """One event of the contract. Raises BadInput, NotFound: the first thing wrong."""
        if not isinstance(raw, Mapping):
            raise BadInput("is not an event", field="event", value=_short(raw))
        for name in raw:
            if name not in _KNOWN:
                raise BadInput("is not a known field here", field=str(name)[:80], value=_short(raw[name]))
        for name in _KNOWN[:4]:
            if raw.get(name) is None:
                raise BadInput("is required and missing", field=name)
        name = raw["name"]
        route = self.catalog.event(name if isinstance(name, str) else str(name)[:80], at="name")
        event_id = raw["event_id"]
        event_id = str(event_id) if isinstance(event_id, int) and not isinstance(event_id, bool) else event_id
        event_id = _text(event_id, "event_id")
        self.source_id(name, event_id)
        given = {} if raw.get("properties") is None else raw["properties"]
        lines = given if isinstance(given, list) else [given]
        if not lines or len(lines) > MOST_LINES:
            raise BadInput(f"has not 1 to {MOST_LINES} lines", field="properties", value=len(lines))
        checked = []
        for i, line in enumerate(lines):
            at = f"properties.{i}" if isinstance(given, list) else "properties"
            if not isinstance(line, Mapping):
                raise BadInput("is not property → value", field=at, value=_short(line))
            for short, value in line.items():
                if short not in route.fields:
                    raise NotFound(
                        f"property of {name}", str(short)[:80], route.fields, field=f"{at}.{str(short)[:80]}"
                    )
                _typed(value, route.fields[short], f"{at}.{short}")
            checked.append({short: value for short, value in line.items() if value is not None})
        return Reported(
            event_id=event_id,
            user_id=str(self.user(raw["user_id"])),
            name=name,
            occurred_at=_occurred(raw["occurred_at"], now),
            lines=tuple(checked),
        )

    def source_id(self, name: str, event_id: str) -> object:
        """The id that the event has in its source; `NAME:` before it keeps ids of several events apart."""
        own = event_id.removeprefix(f"{name}:")
        if not self._whole_ids(name):
            return own
        digits = own.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            problem = f"is not a whole number, as ids of {name} are in their source"
            raise BadInput(problem, field="event_id", value=_short(event_id))
        return int(own)

    def typed(self, logged: Logged) -> Fresh | None:
        """What the log holds, with values as the catalog types them; None when the catalog has changed so
        that it has no place any more."""
        if logged.name not in self.catalog.events:
            return None
        fields = self.catalog.events[logged.name].fields
        try:
            event_id = self.source_id(logged.name, logged.event_id)
            lines = [
                {
                    short: _typed(value, fields[short], short)
                    for short, value in line.items()
                    if short in fields
                }
                for line in logged.lines
            ]
            user = self.user(logged.user_id)
        except GrowthError:
            return None
        if self.catalog.events[logged.name].id is None:
            ids: list[object] = [(logged.number, i) for i in range(len(lines))]  # each line an event
        else:
            ids = [event_id] * len(lines)
        return Fresh(
            number=logged.number,
            event_id=logged.event_id,
            user=user,
            name=logged.name,
            occurred_at=logged.occurred_at,
            received_at=logged.received_at,
            lines=tuple(Line(logged.occurred_at, each, line) for each, line in zip(ids, lines, strict=True)),
        )

    def _has_whole_ids(self, name: str) -> bool:
        event = self.catalog.events[name]
        if event.id is None or is_elastic(self.catalog, event.source):
            return False
        return bool(event_lines(self.catalog, name, []).schema()["event_id"].is_integer())


def _occurred(raw: object, now: datetime) -> datetime:
    if not isinstance(raw, str):
        raise BadInput("is not a time such as 2017-10-16T08:00:00Z", field="occurred_at", value=_short(raw))
    try:
        at = datetime.fromisoformat(raw)
    except ValueError:
        problem = "is not a time such as 2017-10-16T08:00:00Z"
        raise BadInput(problem, field="occurred_at", value=_short(raw)) from None
    at = aware(at, "occurred_at")
    if at > now + AHEAD:
        raise BadInput("has not happened yet", field="occurred_at", value=raw)
    if at.year < 1900:
        raise BadInput("is before 1900", field="occurred_at", value=raw)
    return at


def _typed(value: object, route: EventFieldRoute, field: str) -> Any:
    """A JSON value as the catalog's type; None is NULL. Raises BadInput, NotFound."""
    if value is None:
        return None
    found = _of_type(value, route.type, field)
    if route.values is not None and found not in route.values:
        raise NotFound(f"value of {field}", _short(value), route.values, field=field)
    return found


def _of_type(value: object, kind: str, field: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string" and isinstance(value, str):
        return _text(value, field, _LONGEST_TEXT)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "integer" and number and isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if kind == "decimal" and number and isinstance(value, int | float) and abs(value) < 1e300:
        return float(value)
    if kind in ("date", "datetime") and isinstance(value, str):
        try:
            at = date.fromisoformat(value) if kind == "date" else aware(datetime.fromisoformat(value), field)
        except ValueError:
            pass
        else:
            return at
    shown = value if isinstance(value, float) and math.isfinite(value) else _short(value)
    raise BadInput(f"is not of type {kind}", field=field, value=shown)


def _text(value: object, field: str, most: int = MOST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most or (value == "" and most == MOST_TEXT):
        raise BadInput(f"is not text of at most {most} characters", field=field, value=_short(value))
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise BadInput("holds characters that text cannot", field=field, value=ascii(value)[:80])
    return value


def _short(value: object) -> object:
    return value if isinstance(value, int | bool) and abs(value) < 10**20 else ascii(value)[:80].strip("'")
