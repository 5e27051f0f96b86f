"""When a group or a tag may be worked out: its schedule, what it needs, and what is in the way. Pure.

What must be there is stated by version and completeness, never by "somebody ran before": a table has rows up
to an instant, or so many of them; another group was published for this very instant by this very definition;
a file is there, young, big enough, with this checksum. Needs combine by `all` and `any`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from insight.cron import fires, last_fire, parse_cron
from kernel.audiences import GroupVersion
from kernel.clock import parse_window, parse_zone, start_of_day
from kernel.definitions import Frozen
from kernel.errors import BadInput

_FORMS = ("table", "group", "tag", "file", "all", "any")
_OPTIONS = {
    "table": {"complete_through", "column", "rows", "within", "new"},
    "group": {"younger"},
    "tag": {"younger"},
    "file": {"younger", "at_least", "sha256"},
    "all": set[str](),
    "any": set[str](),
}
#: a firing younger than this was not missed
PROMPT = timedelta(minutes=15)
#: deepest nesting of all and any
_DEEPEST = 20


def _window(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_window(text)
        except BadInput as error:
            raise ValueError(error.problem) from None
    return text


class Schedule(Frozen):
    """When a new version is due."""

    #: minute hour day-of-month month day-of-week
    cron: str
    #: IANA zone of the wall clock; absent: the workspace's
    zone: str | None = None
    #: after a time in which nothing ran: the latest missed firing, each of them, or none
    catch_up: Literal["last", "all", "none"] = "last"
    #: what it is worked out as of: the beginning of the firing's day, or the firing itself
    as_of: Literal["day", "moment"] = "day"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        return {"cron": raw} if isinstance(raw, str) else raw

    @field_validator("cron")
    @classmethod
    def _fires(cls, text: str) -> str:
        try:
            parse_cron(text)
        except BadInput as error:
            raise ValueError(error.problem) from None
        return text

    @field_validator("zone")
    @classmethod
    def _a_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                parse_zone(name)
            except BadInput as error:
                raise ValueError(error.problem) from None
        return name


class Need(Frozen):
    """One thing that must be there first; exactly one of table, group, tag, file, all, any."""

    #: `source.table` of the catalog
    table: str | None = None
    #: its newest row is at or after as_of less this
    complete_through: str | None = None
    #: time column that says so; absent: that of the catalog's event in this table
    column: str | None = None
    #: it has at least so many rows; with `within`: in (as_of − within, as_of]
    rows: int | None = Field(default=None, ge=0)
    within: str | None = None
    #: its version differs from the one that the group in force was made from
    new: bool = False
    #: another group, or a tag, published for this instant; with `younger`: for one so much before at most
    group: str | None = None
    tag: str | None = None
    #: of a file: changed at most so long ago
    younger: str | None = None
    #: fsspec address; `{date}` in it is the day of as_of
    file: str | None = None
    #: bytes that it has at least
    at_least: int | None = Field(default=None, ge=0)
    #: 64 hex digits
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    all: tuple[Need, ...] | None = None
    any: tuple[Need, ...] | None = None

    _windows = field_validator("complete_through", "within", "younger")(_window)

    @model_validator(mode="after")
    def _one_form(self) -> Need:
        said = self.model_fields_set
        forms = [name for name in _FORMS if name in said and getattr(self, name) is not None]
        if len(forms) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_FORMS)}")
        for name in sorted(said - {forms[0]} - _OPTIONS[forms[0]]):
            raise ValueError(f"{name} is not for a need of a {forms[0]}")
        if forms[0] in ("all", "any") and not getattr(self, forms[0]):
            raise ValueError(f"{forms[0]} is empty")
        if self.table is not None and "." not in self.table:
            raise ValueError("table is not source.table")
        if self.within is not None and self.rows is None:
            raise ValueError("within is for rows")
        return self


Need.model_rebuild()


class Needs(Frozen):
    """All that must be there first; a list in YAML."""

    all: tuple[Need, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _a_list(cls, raw: Any) -> Any:
        if isinstance(raw, list | tuple):
            return {"all": tuple(raw)}
        if isinstance(raw, Mapping) and raw and set(raw) != {"all"}:
            return {"all": (raw,)}
        return raw

    @model_validator(mode="after")
    def _not_too_deep(self) -> Needs:
        for _, depth in _walk(self.all):
            if depth > _DEEPEST:
                raise ValueError(f"nests deeper than {_DEEPEST}")
        return self

    def each(self) -> Iterator[Need]:
        """Every need for one thing, however nested."""
        return (need for need, _ in _walk(self.all) if need.all is None and need.any is None)


def _walk(needs: Iterable[Need]) -> Iterator[tuple[Need, int]]:
    waiting = [(need, 0) for need in needs]
    while waiting:
        need, depth = waiting.pop()
        yield need, depth
        waiting.extend((below, depth + 1) for below in (*(need.all or ()), *(need.any or ())))


@dataclass(frozen=True, kw_only=True)
class TableFact:
    """A table as it was found."""

    version: str
    #: instant of the newest row; None: no rows, or no time column was asked about
    newest: datetime | None = None
    #: rows, in the window that was asked about
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class FileFact:
    """A file as it was found; `there` false: it is not."""

    there: bool
    modified: datetime | None = None
    #: bytes
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found of everything that is needed."""

    as_of: datetime
    now: datetime
    #: need → table, as found, or why it could not be looked at
    tables: Mapping[Need, TableFact | str] = field(default_factory=dict)
    files: Mapping[Need, FileFact | str] = field(default_factory=dict)
    #: name (tags as `tag:NAME`) → version in force, or the one of this very instant
    groups: Mapping[str, GroupVersion | None] = field(default_factory=dict)
    #: name → fingerprint of the definition that must have decided
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    #: `source.table` → version that the group in force was made from
    before: Mapping[str, str] = field(default_factory=dict)


def in_the_way(needs: Needs, facts: Facts) -> tuple[str, ...]:
    """What is not there yet, each as a phrase; empty when all is."""
    return tuple(reason for need in needs.all for reason in _missing(need, facts))


def _missing(need: Need, facts: Facts) -> list[str]:
    if need.all is not None:
        return [reason for below in need.all for reason in _missing(below, facts)]
    if need.any is not None:
        below = [_missing(each, facts) for each in need.any]
        if not all(below):
            return []
        return ["none of these holds: " + "; or ".join(" and ".join(each) for each in below)]
    if need.table is not None:
        return _of_table(need, facts)
    if need.file is not None:
        return _of_file(need, facts)
    return _of_group(need, facts)


def _of_table(need: Need, facts: Facts) -> list[str]:
    found, what = facts.tables[need], f"table {need.table}"
    if isinstance(found, str):
        return [f"{what}: {found}"]
    missing = []
    if need.complete_through is not None:
        wanted = facts.as_of - parse_window(need.complete_through)
        if found.newest is None:
            missing.append(f"{what} has no rows")
        elif found.newest < wanted:
            missing.append(f"{what} reaches {_at(found.newest)}, and is needed through {_at(wanted)}")
    if need.rows is not None and (found.rows or 0) < need.rows:
        within = f" within {need.within}" if need.within else ""
        missing.append(f"{what} has {found.rows or 0} rows{within}, and {need.rows} are needed")
    if need.new and facts.before.get(str(need.table)) == found.version:
        missing.append(f"{what} has not changed since the version in force")
    return missing


def _of_file(need: Need, facts: Facts) -> list[str]:
    found, what = facts.files[need], f"file {need.file}"
    if isinstance(found, str):
        return [f"{what}: {found}"]
    if not found.there:
        return [f"{what} is not there"]
    missing = []
    if need.younger is not None:
        if found.modified is None:
            missing.append(f"{what} does not say when it changed")
        elif facts.now - found.modified > parse_window(need.younger):
            missing.append(f"{what} changed {_at(found.modified)}, more than {need.younger} ago")
    if need.at_least is not None and (found.size or 0) < need.at_least:
        missing.append(f"{what} has {found.size or 0} bytes, and {need.at_least} are needed")
    if need.sha256 is not None and found.sha256 != need.sha256:
        missing.append(f"{what} has another checksum")
    return missing


def _of_group(need: Need, facts: Facts) -> list[str]:
    name = need.group if need.group is not None else f"tag:{need.tag}"
    what = f"group {name}" if need.group is not None else f"tag {need.tag}"
    found = facts.groups.get(name)
    if found is None:
        return [f"{what} was never published"]
    if found.fingerprint != facts.fingerprints.get(name, found.fingerprint):
        return [f"{what} was published by an older definition"]
    oldest = facts.as_of - (parse_window(need.younger) if need.younger is not None else timedelta(0))
    if not oldest <= found.as_of <= facts.as_of:
        return [f"{what} is as of {_at(found.as_of)}, and is needed as of {_at(facts.as_of)}"]
    return []


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def address(need: Need, as_of: datetime, zone: ZoneInfo) -> str:
    """The file's address on the day of `as_of`."""
    return str(need.file).replace("{date}", as_of.astimezone(zone).date().isoformat())


@dataclass(frozen=True, kw_only=True)
class Job:
    """One group or tag in a run."""

    #: group's name, or `tag:NAME`
    key: str
    #: keys of this run that must be done first
    after: tuple[str, ...] = ()


#: what a job can be; the last four are ends
WAITING, RUNNING, DONE, UNCHANGED, FAILED, BLOCKED = (
    "waiting", "running", "done", "unchanged", "failed", "blocked",
)  # fmt: skip
GOOD, BAD = (DONE, UNCHANGED), (FAILED, BLOCKED)


def line_up(jobs: Iterable[Job]) -> list[Job]:
    """Each after those that it needs; otherwise as they came. Raises BadInput for a circle."""
    known = {job.key: job for job in jobs}
    done: dict[str, Job] = {}
    opened: dict[str, Iterator[str]] = {}
    for root in known:
        stack = [root] if root not in done else []
        while stack:
            key = stack[-1]
            if key not in opened:
                opened[key] = iter(known[key].after)
            for below in opened[key]:
                if below in opened and below not in done:
                    circle = [*stack[stack.index(below) :], below]
                    raise BadInput(
                        f"refers to itself: {' → '.join(circle)}", where=below, field="needs", value=below
                    )
                if below in known and below not in done:
                    stack.append(below)
                    break
            else:
                done[key] = known[key]
                stack.pop()
    return list(done.values())


def free(jobs: Iterable[Job], states: Mapping[str, str]) -> list[Job]:
    """Those that wait for nothing of this run any more."""
    return [
        job
        for job in jobs
        if states[job.key] == WAITING and all(states.get(below, DONE) in GOOD for below in job.after)
    ]


def held_up(jobs: Iterable[Job], states: Mapping[str, str], why: Mapping[str, str]) -> dict[str, str]:
    """Waiting jobs that can never be done in this run → the reason, down to the first that failed."""
    found: dict[str, str] = {}
    bad = {key for key, state in states.items() if state in BAD}
    for job in line_up(jobs):
        if states[job.key] != WAITING:
            continue
        for below in job.after:
            if below in found:
                found[job.key] = found[below]
                break
            if below in bad:
                found[job.key] = f"{_named(below)} {states[below]}: {why[below]}"
                break
    return found


def _named(key: str) -> str:
    return f"tag {key.removeprefix('tag:')}" if key.startswith("tag:") else f"group {key}"


def pause(attempt: int, base: float = 2.0, most: float = 600.0) -> float:
    """Seconds to wait after the n-th failure, n from 1: doubled each time, up to `most`."""
    return float(min(most, base * 2.0 ** (attempt - 1)))


def firings(schedule: Schedule, zone: ZoneInfo, after: datetime, now: datetime) -> list[datetime]:
    """Instants in (after, now] at which it is due, by its rule for those that were missed, the earliest
    first. A firing less than `PROMPT` old is not missed."""
    cron, own = parse_cron(schedule.cron), ZoneInfo(schedule.zone) if schedule.zone else zone
    if schedule.catch_up == "all":
        return list(fires(cron, own, after, now))
    since = after if schedule.catch_up == "last" else max(after, now - PROMPT)
    latest = last_fire(cron, own, since, now)
    return [] if latest is None else [latest]


def instant_of(schedule: Schedule, zone: ZoneInfo, fired_at: datetime) -> datetime:
    """What a firing is worked out as of."""
    if schedule.as_of == "moment":
        return fired_at
    own = ZoneInfo(schedule.zone) if schedule.zone else zone
    return start_of_day(fired_at.astimezone(own).date(), own)
