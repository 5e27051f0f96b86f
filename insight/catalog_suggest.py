"""A first catalog for a database that nobody has described yet; each guess says why it was made.

Users are known by the column that most tables with a time share, helped by its name; a table that has each of
them once is the users' own, tables that have them and a time are events, tables that have them once are
fields, and tables with a unique column that an event names too are looked up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import yaml

from insight.catalog import parse_catalog
from insight.catalog_survey import Column, Survey, Table, draft_of, survey
from kernel.errors import BadInput
from kernel.events import EVENT_COLUMNS

#: different values up to which a field's values are written down
MOST_VALUES = 12
_PEOPLE = re.compile(
    r"user|customer|client|member|household|person|people|account|card|visitor|player|subscriber|guest"
    r"|patient|student|buyer|shopper|uid",
    re.IGNORECASE,
)
_WHEN = re.compile(r"(^|_)(at|on|time|timestamp|date|day|when|ts)$|ed$|bought|sent|time|date", re.IGNORECASE)
_SINCE = re.compile(r"since|join|register|regist|sign|creat|first|open", re.IGNORECASE)
_MONEY = re.compile(
    r"^(amount|total|revenue|paid|price|sales|value|spend)|(amount|total|price|value|revenue)$", re.IGNORECASE
)
_ITS_ID = re.compile(r"order|basket|ticket|receipt|invoice|session|transaction|booking|cart|event|visit",
                     re.IGNORECASE)  # fmt: skip


_ALL_SEEN = "  # all that were seen; take the list away if others may come"


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the draft is written from."""

    source: str
    url: str
    timezone: str
    #: the users' table and key, since when they exist there, and why
    table: str
    key: str
    since: str | None
    why: str
    #: table → why
    fields: dict[str, str]
    #: table → (its time column, why)
    events: dict[str, tuple[str, str]]
    #: tables that are neither → why
    others: dict[str, str]


def suggest_catalog(url: str, *, folder: Path, timezone: str = "UTC") -> str:
    """A catalog in YAML that loads and fits the source; relative addresses start from `folder`.

    Raises BadInput for an address that leads nowhere, or a source in which nobody can be found.
    """
    name = _named(re.sub(r"\..*$", "", url.partition("://")[2].rstrip("/").rpartition("/")[2]) or "source")
    if "@" in url or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        name = "source"
    draft = draft_of(url, name, folder, timezone)

    def write(found: Survey) -> str:
        return _written(found, guess(found, name, url, timezone))

    text: str = survey(draft, name, write, MOST_VALUES)
    parse_catalog(yaml.safe_load(text), folder=folder, where="draft")
    return text


def guess(found: Survey, source: str, url: str, timezone: str) -> Guess:
    tables = found.tables
    key = _users_key(found)
    having = {name: table for name, table in tables.items() if key in table.columns}
    events: dict[str, tuple[str, str]] = {}
    fields: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, table in tables.items():
        if name not in having:
            others[name] = f"has no {key}"
            continue
        if table.unique(key):
            fields[name] = f"each {key} once"
            continue
        at = _time_of(found, table)
        if at is None:
            others[name] = f"has {key} more than once and no time"
        else:
            events[name] = (at, f"{key} with {at}")
    home, why = _users_table(found, key, having, fields)
    since = None
    if home in events:
        since = events[home][0] if events[home][0] in tables[home].columns else None
    else:
        times = tables[home].of_type("datetime", "date")
        since = next((each.name for each in times if _SINCE.search(each.name)), None)
    return Guess(
        source=source, url=url, timezone=timezone, table=home, key=key, since=since, why=why,
        fields=fields, events=events, others=others,
    )  # fmt: skip


def _users_key(found: Survey) -> str:
    """The column of whole numbers or text that speaks for users. Raises BadInput when there is none."""
    scores: dict[str, float] = {}
    for table in found.tables.values():
        timed = bool(table.of_type("datetime", "date"))
        for column in table.of_type("integer", "string"):
            if column.distinct > 1:
                scores[column.name] = scores.get(column.name, 0.0) + (2 if timed else 1)
    for name in scores:
        repeats = [t for t in found.tables.values() if name in t.columns and not t.unique(name)]
        scores[name] += (3 if _PEOPLE.search(name) else 0) + (0.5 if name.lower().endswith("id") else 0)
        scores[name] -= 0 if repeats or _PEOPLE.search(name) else 3
    if not scores or max(scores.values()) < 2:
        raise BadInput(
            "has no column that could say who the users are", field="URL", value=sorted(found.tables)[0]
        )
    return max(sorted(scores), key=lambda name: scores[name])


def _users_table(
    found: Survey, key: str, having: dict[str, Table], fields: dict[str, str]
) -> tuple[str, str]:
    """The table that has every user once; where none has, the one with the most."""
    others = [name for name in having if name not in fields]
    for name in sorted(fields, key=lambda each: -having[each].rows):
        if all(found.share_known(other, name, key) >= 0.99 for other in others):
            told = f", and {', '.join(others)} refer to it" if others else ""
            return name, f"{key} is unique in it{told}"
    most = max(sorted(having), key=lambda name: having[name].columns[key].distinct)
    return most, f"no table has every {key} once; this one knows the most of them"


def _time_of(found: Survey, table: Table) -> str | None:
    """The column that says when, of its own or of a table that it can look it up in."""
    own = _best_time(table)
    if own is not None:
        return own
    for other in _lookups(found, table):
        if (at := _best_time(found.tables[other])) is not None:
            return at
    return None


def _best_time(table: Table) -> str | None:
    times = table.of_type("datetime") or table.of_type("date")
    ranked = sorted(times, key=lambda each: (not _WHEN.search(each.name), each.nulls))
    return ranked[0].name if ranked else None


def _lookups(found: Survey, table: Table) -> dict[str, str]:
    """Tables with a unique column of the same name and type as one here → that column."""
    lookups = {}
    for other in found.tables.values():
        if other.name == table.name:
            continue
        for column in other.of_type("integer", "string"):
            mine = table.columns.get(column.name)
            alike = mine is not None and mine.type == column.type and not table.unique(column.name)
            if alike and other.unique(column.name) and len(other.columns) > 1:
                lookups[other.name] = column.name
                break
    return lookups


def _written(found: Survey, made: Guess) -> str:
    zoned = any(column.naive for table in found.tables.values() for column in table.columns.values())
    note = "  # times without a zone are read as this zone's" if zoned else ""
    lines = [
        "# A draft, from the looks of the data: each guess says why. Correct it, then run: growth doctor",
        "sources:",
        f"  {made.source}: {_flow({'url': made.url, 'timezone': made.timezone})}{note}",
        "entities:",
        f"  # {made.why}",
        f"  user: {_flow(_some(source=made.source, table=made.table, key=made.key, since=made.since))}",
    ]
    fields: list[str] = []
    taken: set[str] = set()
    zone_known = False
    for name, why in made.fields.items():
        fields.append(f"  # {name}: {why}")
        for column in found.tables[name].columns.values():
            if column.name == made.key or column.type is None:
                continue
            short = _fresh(f"user.{_named(column.name)}", taken)
            role = "timezone" if not zone_known and _are_zones(column) else None
            zone_known |= role is not None
            said = _some(
                table=name, column=column.name, type=column.type, label=_label(column.name), role=role
            )
            listed = _listed(found, column)
            fields.append(f"  {short}: {_flow({**said, **listed})}{_ALL_SEEN if listed else ''}")
    if any(not line.startswith("  #") for line in fields):
        lines += ["fields:", *fields]
    purchase = _purchase(found, made)
    events = []
    for name in made.events:
        events += _event(found, made, name, purchase if purchase and purchase[0] == name else None)
    if events:
        lines += ["events:", *events]
    lines += [
        f"# not used: {name}, which {why}"
        for name, why in made.others.items()
        if not _joined(found, made, name)
    ]
    return "\n".join(lines) + "\n"


def _event(found: Survey, made: Guess, name: str, purchase: tuple[str, str] | None) -> list[str]:
    table, (at, why) = found.tables[name], made.events[name]
    lookups = {
        other: key for other, key in _lookups(found, table).items() if other != made.table and key != made.key
    }
    lines = [f"  # {why}{'' if at in table.columns else ', looked up'}", f"  {_named(name)}:"]
    said: dict[str, Any] = {"source": made.source, "table": name, "user": made.key, "time": at}
    if (own := _own_id(found, table, made.key, at)) is not None:
        said["id"] = own
    if purchase:
        said["role"] = "purchase"
    said["label"] = _label(name)
    why_not = {"id": "its rows are lines of one event: same user, same time",
               "role": f"{purchase[1]} looks like money" if purchase else ""}  # fmt: skip
    for key, value in said.items():
        note = f"  # {why_not[key]}" if key in why_not else ""
        lines.append(f"    {key}: {_scalar(value)}{note}")
    if lookups:
        lines.append(f"    join: {_flow({other: {'key': key} for other, key in lookups.items()})}"
                     "  # unique there")  # fmt: skip
    taken: set[str] = set()
    seen = {made.key, at, said.get("id")}
    shown: list[str] = []
    for home in (name, *lookups):
        for column in found.tables[home].columns.values():
            if column.type is None or column.name in seen:
                continue
            seen.add(column.name)
            money = purchase is not None and home == name and column.name == purchase[1]
            short = "amount" if money else _named(column.name)
            if short in EVENT_COLUMNS or (short == "amount" and purchase and not money):
                short = f"{short}_"
            short = _fresh(short, taken)
            role = "amount" if money else None
            kind = _some(column=column.name, table=None if home == name else home, type=column.type,
                         role=role, label=_label(column.name))  # fmt: skip
            listed = _listed(found, column)
            shown.append(f"      {short}: {_flow({**kind, **listed})}{_ALL_SEEN if listed else ''}")
    return [*lines, *(["    fields:", *shown] if shown else [])]


def _purchase(found: Survey, made: Guess) -> tuple[str, str] | None:
    """The event, and its column of money, that most looks like buying."""
    ranked = []
    for name in made.events:
        for place, column in enumerate(found.tables[name].of_type("decimal")):
            if _MONEY.search(column.name):
                ranked.append((-found.tables[name].rows, place, name, column.name))
    return min(ranked)[2:] if ranked else None


def _own_id(found: Survey, table: Table, user: str, at: str) -> str | None:
    """A column that several rows share, all of one user and one time."""
    for column in sorted(table.of_type("integer", "string"), key=lambda each: -each.distinct):
        likely = _ITS_ID.search(column.name) and column.name != user and column.nulls == 0
        several = 0 < column.distinct < table.rows and at in table.columns
        if likely and several and found.decides(table.name, column.name, [user, at]):
            return column.name
    return None


def _joined(found: Survey, made: Guess, name: str) -> bool:
    return any(name in _lookups(found, found.tables[event]) for event in made.events)


def _are_zones(column: Column) -> bool:
    return bool(column.values) and all("/" in str(each) for each in column.values) and set(
        map(str, column.values)
    ) <= available_timezones()  # fmt: skip


def _listed(found: Survey, column: Column) -> dict[str, Any]:
    """Its values, where they are few; of a name that other tables have too, others are to be expected."""
    homes = sum(column.name in table.columns for table in found.tables.values())
    few = column.type == "string" and len(column.values) > 1 and homes == 1
    return {"values": sorted(column.values)} if few else {}


def _fresh(name: str, taken: set[str]) -> str:
    """The name, or with a number where it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def _named(text: str) -> str:
    """A name that the catalog allows."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:90] or "x"
    return cleaned if cleaned[0].isalpha() else f"x_{cleaned}"


def _label(text: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", text).strip()
    return words[:1].upper() + words[1:].lower() if words else text


def _some(**said: Any) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _flow(value: Any) -> str:
    return yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    ).strip()


def _scalar(value: str) -> str:
    return _flow([value])[1:-1]
