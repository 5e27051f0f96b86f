"""The selection's work: what a run consists of, and one round of it after another.

A round does everything that is ready, in order: what a job needs is looked at, its key is leased, chunks of
jobs are worked out by a pool, and each chunk ends in one transaction with what it published. What is not
ready waits with its reason; what failed is tried again later; what can never be done is blocked and says why.
Where a process was killed, the next round begins with what has not ended.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from threading import Lock

from pyroaring import BitMap

from engine.definitions import KINDS, body
from engine.population import population
from engine.selection_pool import Pool
from engine.selection_published import sources_of
from engine.wiring import Workspace
from insight.api import (
    BAD,
    BLOCKED,
    FAILED,
    TAG,
    WAITING,
    Facts,
    Group,
    Job,
    Need,
    Needs,
    Population,
    Tag,
    free,
    held_up,
    in_the_way,
    jobs,
    leaves_in,
    look_at_files,
    look_at_tables,
    members_over,
    pause,
    resolve,
    tag_groups,
    with_upstream,
)
from kernel.audiences import GroupVersion
from kernel.definitions import parse
from kernel.errors import BadInput, GrowthError
from kernel.ids import fingerprint
from storage.groups import Publication
from storage.selection_runs import Finished, JobRow, Run

#: tries of a job that fails for a reason that may pass
MOST_TRIES = 4
#: jobs that end together at most
CHUNK = 128
#: published parents kept in memory by a chunk
_PARENTS = 16
#: seconds between two looks at what is not there yet
_LOOKS = (5.0, 300.0)
_log = logging.getLogger(__name__)


def submit(
    workspace: Workspace,
    as_of: datetime,
    keys: Iterable[str] | None = None,
    *,
    reason: str,
    patience: timedelta = timedelta(0),
) -> str:
    """The run of these groups and tags (`tag:NAME`; all of them by default) and of what they wait for.

    An unfinished run of the same instant and definitions is that run. Raises NotFound, BadInput.
    """
    definitions, now = workspace.definitions(), workspace.clock.now()
    groups = {each.name: each for each in definitions.of(Group)}
    tags = definitions.tags
    known = jobs(groups, tags)
    wanted = with_upstream([job.key for job in known] if keys is None else list(keys), known)
    if not wanted:
        raise BadInput("no groups or tags are defined; run: growth apply", field="groups")
    frozen: dict[str, dict[str, object]] = {"group": {}, "tag": {}}
    for job in wanted:
        definition = tags[job.key.removeprefix(TAG)] if job.key.startswith(TAG) else groups[job.key]
        frozen[definition.kind][definition.name] = body(definition)
    prefix = f"{as_of:%Y%m%dT%H%M%SZ}-{fingerprint(frozen)[:8]}"
    alike = workspace.runs.alike(prefix)
    unfinished = [name for name, finished in alike if not finished]
    if unfinished:
        return unfinished[-1]
    number = int(alike[-1][0].rpartition("-")[2]) + 1 if alike else 1
    run = Run(
        run=f"{prefix}-{number}",
        as_of=as_of,
        reason=reason,
        made_at=now,
        patience_until=now + patience,
        finished_at=None,
        definitions=frozen,
    )
    return workspace.runs.make(run, [job.key for job in wanted]).run


@dataclass(frozen=True, kw_only=True)
class _Frozen:
    """A run's own definitions."""

    groups: Mapping[str, Group]
    tags: Mapping[str, Tag]
    #: name as published → group with tags written out
    published: Mapping[str, Group]
    #: key of a job → names that it publishes, the main one first
    parts: Mapping[str, tuple[str, ...]]
    jobs: Sequence[Job]

    @classmethod
    def of(cls, run: Run) -> _Frozen:
        found = {
            kind: {
                name: parse(KINDS[kind], raw, f"{kind} {name}")
                for name, raw in run.definitions.get(kind, {}).items()
            }
            for kind in ("group", "tag")
        }
        groups = {name: each for name, each in found["group"].items() if isinstance(each, Group)}
        tags = {name: each for name, each in found["tag"].items() if isinstance(each, Tag)}
        published = {name: resolve(group, tags) for name, group in groups.items()}
        parts: dict[str, tuple[str, ...]] = {name: (name,) for name in groups}
        for name, tag in tags.items():
            of_tag = tag_groups(tag, tags)
            published |= of_tag
            parts[f"{TAG}{name}"] = tuple(of_tag)
        return cls(groups=groups, tags=tags, published=published, parts=parts, jobs=jobs(groups, tags))

    def needs(self, key: str) -> Needs:
        return self.tags[key.removeprefix(TAG)].needs if key.startswith(TAG) else self.groups[key].needs


def work(workspace: Workspace, name: str, pool: Pool) -> float | None:
    """Everything of the run that is ready now. Returns None when the run is finished, else the seconds until
    there may be more to do. Raises NotFound for an unknown run."""
    run = workspace.runs.find(name)
    if run.finished_at is not None:
        return None
    frozen = _Frozen.of(run)
    people: Population | None = None
    while True:
        rows = {row.key: row for row in workspace.runs.jobs(name)}
        now = workspace.clock.now()
        stuck = held_up(frozen.jobs, _states(rows), {key: row.why for key, row in rows.items()})
        workspace.runs.set_back(name, BLOCKED, stuck, now)
        states = _states(rows) | dict.fromkeys(stuck, BLOCKED)
        if WAITING not in states.values():
            workspace.runs.close(name, now)
            return None
        due = [
            job.key
            for job in free(frozen.jobs, states)
            if (until := rows[job.key].not_before) is None or until <= now
        ]
        if not due:
            return _until_next(rows.values(), states, now)
        if people is None:
            try:
                people = population(workspace, run.as_of, frozen.published)
            except GrowthError as error:
                _failed(workspace, name, {key: rows[key] for key in due}, error)
                continue
        ready = _ready(workspace, run, frozen, people, rows, due)
        if ready and not _do(workspace, run, frozen, people, {key: rows[key] for key in ready}, pool):
            people = None  # something failed: the sources may have changed, so they are read again


def _states(rows: Mapping[str, JobRow]) -> dict[str, str]:
    return {key: row.state for key, row in rows.items()}


def _until_next(rows: Iterable[JobRow], states: Mapping[str, str], now: datetime) -> float:
    times = [row.not_before for row in rows if states[row.key] == WAITING and row.not_before is not None]
    return max(0.05, (min(times) - now).total_seconds()) if times else 1.0


def _ready(
    workspace: Workspace,
    run: Run,
    frozen: _Frozen,
    people: Population,
    rows: Mapping[str, JobRow],
    due: Sequence[str],
) -> list[str]:
    """Those that have what they need and are nobody else's; the others are told why they wait."""
    now, name = workspace.clock.now(), run.run
    needs = {key: frozen.needs(key) for key in due}
    each = [need for needed in needs.values() for need in needed.each()]
    tables = look_at_tables(workspace.catalog, each, run.as_of)
    files = look_at_files(each, run.as_of, workspace.settings.zone)
    published = _published(workspace, each, run.as_of)
    wanted = {key: frozen.published[key].fingerprint for key in published if key in frozen.published}
    waiting: dict[str, str] = {}
    for key, needed in needs.items():
        if not needed.all:
            continue
        standing = workspace.groups.current(frozen.parts[key][0])
        facts = Facts(
            as_of=run.as_of,
            now=now,
            tables=tables,
            files=files,
            groups=published,
            fingerprints=wanted,
            before=standing.sources if standing else {},
        )
        missing = in_the_way(needed, facts)
        if missing:
            waiting[key] = "; ".join(missing)
    if now >= run.patience_until:
        workspace.runs.set_back(name, BLOCKED, waiting, now)
    else:
        waited = (now - run.made_at).total_seconds()
        later = now + timedelta(seconds=min(max(waited / 4, _LOOKS[0]), _LOOKS[1]))
        until = min(later, run.patience_until)
        workspace.runs.set_back(name, WAITING, waiting, now, until=until)
    there = [key for key in due if key not in waiting]
    held = workspace.runs.lease(name, there, now)
    busy = {key: f"run {holder} is working on it" for key, holder in held.items()}
    workspace.runs.set_back(name, WAITING, busy, now, until=now + timedelta(seconds=1))
    return [key for key in there if key not in held]


def _published(workspace: Workspace, needs: Iterable[Need], as_of: datetime) -> dict[str, GroupVersion]:
    """Name → version of this instant, else the one in force."""
    names = [need.group or f"{TAG}{need.tag}" for need in needs if need.group or need.tag]
    if not names:
        return {}
    return {**workspace.groups.current_many(names), **workspace.groups.at_many(names, as_of)}


def _do(
    workspace: Workspace,
    run: Run,
    frozen: _Frozen,
    people: Population,
    rows: Mapping[str, JobRow],
    pool: Pool,
) -> bool:
    """Works these jobs out and ends them. Returns whether none failed."""
    sources = {key: sources_of(workspace, people, frozen.parts[key]) for key in rows}
    names = [name for key in rows for name in frozen.parts[key]]
    standing = workspace.groups.at_many(names, run.as_of)
    finished: list[Finished] = []
    new: list[str] = []
    for key in rows:
        group = frozen.published[frozen.parts[key][0]]
        pin = workspace.groups.pinned(key, group.fingerprint) if group.mode == "static" else None
        same = all(
            (version := standing.get(part)) is not None
            and version.fingerprint == frozen.published[part].fingerprint
            and version.sources == sources[key]
            for part in frozen.parts[key]
        )
        answer = pin or (standing[frozen.parts[key][0]] if same else None)
        if answer is not None:
            finished.append(Finished(key=key, standing=answer))
        else:
            new.append(key)
    workspace.runs.finish_jobs(run.run, finished, workspace.clock.now())
    chunks = list(_chunks(new, frozen, len(people.universe), pool.share))
    act = partial(_chunk, workspace, run, frozen, people, rows, sources, Lock())
    return all(pool.each([(size, partial(act, keys)) for size, keys in chunks]))


def _chunks(
    keys: Sequence[str], frozen: _Frozen, universe: int, most_bytes: int
) -> Iterator[tuple[int, list[str]]]:
    """(bytes, keys): as many jobs as fit together, by the bytes of a dense bitmap a leaf and a result."""
    dense = universe // 8 + 4096
    chunk: list[str] = []
    size = 0
    for key in keys:
        mine = dense * sum(1 + leaves_in(frozen.published[part]) for part in frozen.parts[key])
        if chunk and (size + mine > most_bytes or len(chunk) >= CHUNK):
            yield size, chunk
            chunk, size = [], 0
        chunk.append(key)
        size += mine
    if chunk:
        yield size, chunk


def _chunk(
    workspace: Workspace,
    run: Run,
    frozen: _Frozen,
    people: Population,
    rows: Mapping[str, JobRow],
    sources: Mapping[str, Mapping[str, str]],
    lock: Lock,
    keys: Sequence[str],
) -> bool:
    """Ends the chunk's jobs, each well or not. Returns whether none failed."""
    done: list[Finished] = []
    well = True
    parents = _Parents(workspace, run, frozen, people)
    begun = time.perf_counter()
    try:
        with lock:
            people.prepare([part for key in keys for part in frozen.parts[key]])
    except Exception as error:  # noqa: BLE001  whose fault it is, each job finds out by itself
        _log.info("run %s: a chunk of %d is worked out one by one: %s", run.run, len(keys), error)
    shared = (time.perf_counter() - begun) / max(1, len(keys))
    for key in keys:
        begun = time.perf_counter()
        try:
            publications = _publications(workspace, run, frozen, people, key, sources[key], parents, lock)
        except Exception as error:  # noqa: BLE001  one group's fault does not stop the others
            well = False
            _failed(workspace, run.run, {key: rows[key]}, error)
            continue
        seconds = round(time.perf_counter() - begun + shared, 6)
        done.append(Finished(key=key, publications=publications, seconds=seconds))
    workspace.runs.finish_jobs(run.run, done, workspace.clock.now())
    return well


class _Parents:
    """Members of groups as this run published them, the last few of them in memory."""

    def __init__(self, workspace: Workspace, run: Run, frozen: _Frozen, people: Population) -> None:
        self._workspace, self._run, self._frozen, self._people = workspace, run, frozen, people
        self._known: OrderedDict[str, BitMap] = OrderedDict()

    def members(self, name: str) -> BitMap | None:
        """None when no version of this instant, definition and sources is published."""
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        group, groups = self._frozen.published[name], self._workspace.groups
        if group.mode == "static":
            version = groups.pinned(name, group.fingerprint)
        else:
            version = groups.at(name, self._run.as_of)
            sources = sources_of(self._workspace, self._people, self._frozen.parts[name])
            if version is None or (version.fingerprint, version.sources) != (group.fingerprint, sources):
                return None
        if version is None:
            return None
        self._known[name] = BitMap.deserialize(groups.members(version))
        if len(self._known) > _PARENTS:
            self._known.popitem(last=False)
        return self._known[name]


def _publications(
    workspace: Workspace,
    run: Run,
    frozen: _Frozen,
    people: Population,
    key: str,
    sources: Mapping[str, str],
    parents: _Parents,
    lock: Lock,
) -> tuple[Publication, ...]:
    found = []
    for part in frozen.parts[key]:
        group = frozen.published[part]
        with lock:  # one population is for one thread at a time; what it finds is packed and written beside
            members = members_over(people, part, parents.members)
        found.append(
            Publication(
                name=part,
                fingerprint=group.fingerprint,
                as_of=run.as_of,
                members=members.serialize(),
                count=len(members),
                universe=len(people.universe),
                sources=sources,
                calculated_at=workspace.clock.now(),
                pinned=group.mode == "static",
            )
        )
    return tuple(found)


def _failed(workspace: Workspace, run: str, rows: Mapping[str, JobRow], error: Exception) -> None:
    """Tried again later, unless it is the definition's own fault or was tried often enough."""
    now = workspace.clock.now()
    if not isinstance(error, GrowthError):
        _log.error("run %s: %s", run, ", ".join(rows), exc_info=error)
    why = str(error) or type(error).__name__
    for key, row in rows.items():
        if isinstance(error, BadInput) or row.attempts + 1 >= MOST_TRIES:
            workspace.runs.set_back(run, FAILED, {key: why}, now, failed=True)
        else:
            until = now + timedelta(seconds=pause(row.attempts + 1))
            workspace.runs.set_back(run, WAITING, {key: why}, now, until=until, failed=True)


def bad(rows: Iterable[JobRow]) -> list[JobRow]:
    """Jobs that were not done."""
    return [row for row in rows if row.state in BAD]
