"""Runs of the selection: which groups and tags, how far each is, and who works on what.

A run's jobs are frozen when it is made. A job ends in one transaction with the versions that it published, so
that a process killed at any instant has either done a job or not, and the next one knows which. A lease on a
key is what lets a run work on it: no two runs at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    String,
    Table,
    Text,
    and_,
    bindparam,
    func,
    select,
)

from kernel.audiences import GroupVersion
from kernel.clock import instant, micros
from kernel.errors import NotFound
from storage.database import chunks, reading, writing
from storage.groups import GroupStore, Publication
from storage.tables import metadata

selection_runs = Table(
    "selection_runs",
    metadata,
    Column("run", String(100), primary_key=True),
    # instants are whole microseconds since 1970 in UTC
    Column("as_of", BigInteger, nullable=False),
    # command, schedule or backfill
    Column("reason", String(40), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    # after this, what is still waited for is given up
    Column("patience_until", BigInteger, nullable=False),
    # null: not finished
    Column("finished_at", BigInteger, nullable=True),
    # definitions of groups and tags, as they were when it was made
    Column("definitions", JSON, nullable=False),
)
selection_jobs = Table(
    "selection_jobs",
    metadata,
    Column("run", String(100), primary_key=True),
    # name of a group, or tag:NAME
    Column("key", String(110), primary_key=True, index=True),
    # place in the order of work
    Column("place", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    # not before this instant; null: now
    Column("not_before", BigInteger, nullable=True),
    # error, or what is waited for
    Column("why", Text, nullable=False),
    Column("version", Integer, nullable=True),
    Column("count", BigInteger, nullable=True),
    Column("seconds", Float(53), nullable=True),
    Column("changed_at", BigInteger, nullable=False),
)
selection_leases = Table(
    "selection_leases",
    metadata,
    Column("key", String(110), primary_key=True),
    Column("run", String(100), nullable=False, index=True),
    Column("taken_at", BigInteger, nullable=False),
)
#: schedules by what they say → the last firing that was seen to
schedule_marks = Table(
    "schedule_marks",
    metadata,
    Column("schedule", String(300), primary_key=True),
    Column("fired_at", BigInteger, nullable=False),
)
#: states that a job does not leave
ENDS = ("done", "unchanged", "failed", "blocked")


@dataclass(frozen=True, kw_only=True)
class Run:
    run: str
    as_of: datetime
    #: command, schedule or backfill
    reason: str
    made_at: datetime
    #: when what is still waited for is given up
    patience_until: datetime
    #: None: not finished
    finished_at: datetime | None
    #: kind → name → body, as it was when the run was made
    definitions: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """How far a group or tag is in a run."""

    run: str
    key: str
    state: str
    #: tries that failed
    attempts: int
    #: not tried again before
    not_before: datetime | None
    #: error, or what is waited for; empty when there is none
    why: str
    #: version that was published, or that stood already
    version: int | None
    count: int | None
    seconds: float | None
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job done: what it publishes (a tag: several), or what stood already."""

    key: str
    publications: tuple[Publication, ...] = ()
    #: instead of publications: the version that is the answer already
    standing: GroupVersion | None = None
    seconds: float = 0.0


class SelectionRuns:
    """Runs in SQL. Every method raises Unavailable when the database does not answer, nothing half done."""

    def __init__(self, engine: Engine, groups: GroupStore) -> None:
        self._engine, self._groups = engine, groups

    def make(self, run: Run, keys: Sequence[str]) -> Run:
        """The run with its jobs, all waiting; one of this name that is there already stands."""
        with self._writing() as connection:
            found = connection.execute(_one(run.run)).first()
            if found is not None:
                return _run(found)
            at = micros(run.made_at)
            connection.execute(
                selection_runs.insert().values(
                    run=run.run,
                    as_of=micros(run.as_of),
                    reason=run.reason,
                    made_at=at,
                    patience_until=micros(run.patience_until),
                    finished_at=None,
                    definitions=run.definitions,
                )
            )
            rows = [
                {"run": run.run, "key": key, "place": place, "state": "waiting", "attempts": 0,
                 "not_before": None, "why": "", "version": None, "count": None, "seconds": None,
                 "changed_at": at}
                for place, key in enumerate(keys)
            ]  # fmt: skip
            if rows:
                connection.execute(selection_jobs.insert(), rows)
        return run

    def find(self, run: str) -> Run:
        """Raises NotFound."""
        with self._reading() as connection:
            row = connection.execute(_one(run)).first()
            if row is None:
                known = connection.execute(select(selection_runs.c.run).limit(100)).scalars().all()
                raise NotFound("run", run, known)
        return _run(row)

    def unfinished(self) -> list[str]:
        """Runs in the order in which they were made."""
        query = select(selection_runs.c.run).where(selection_runs.c.finished_at.is_(None))
        with self._reading() as connection:
            ordered = query.order_by(selection_runs.c.made_at, selection_runs.c.as_of, selection_runs.c.run)
            return list(connection.execute(ordered).scalars())

    def alike(self, prefix: str) -> list[tuple[str, bool]]:
        """(run, whether finished) of all whose name is `prefix-NUMBER`, by number."""
        query = select(selection_runs.c.run, selection_runs.c.finished_at).where(
            selection_runs.c.run.startswith(f"{prefix}-", autoescape=True)
        )
        with self._reading() as connection:
            found = [(row.run, row.finished_at is not None) for row in connection.execute(query)]
        return sorted(found, key=lambda each: int(each[0].rpartition("-")[2]))

    def latest(self, most: int = 10) -> list[Run]:
        """The newest runs first."""
        query = select(selection_runs).order_by(selection_runs.c.made_at.desc(), selection_runs.c.run.desc())
        with self._reading() as connection:
            return [_run(row) for row in connection.execute(query.limit(most))]

    def jobs(self, run: str) -> list[JobRow]:
        """In the order of work."""
        query = select(selection_jobs).where(selection_jobs.c.run == run).order_by(selection_jobs.c.place)
        with self._reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def newest_jobs(self) -> dict[str, JobRow]:
        """Key → its job in the newest run that had it."""
        newest = select(
            selection_jobs,
            func.row_number()
            .over(
                partition_by=selection_jobs.c.key,
                order_by=(selection_runs.c.made_at.desc(), selection_runs.c.run.desc()),
            )
            .label("rank"),
        ).join(selection_runs, selection_runs.c.run == selection_jobs.c.run)
        ranked = newest.subquery()
        with self._reading() as connection:
            rows = connection.execute(select(ranked).where(ranked.c.rank == 1))
            return {row.key: _job(row) for row in rows}

    def lease(self, run: str, keys: Iterable[str], at: datetime) -> dict[str, str]:
        """Takes what is free of these keys. Returns those that another run holds → that run."""
        wanted = list(dict.fromkeys(keys))
        held: dict[str, str] = {}
        with self._writing() as connection:
            for some in chunks(wanted):
                query = select(selection_leases).where(selection_leases.c.key.in_(some))
                held |= {row.key: row.run for row in connection.execute(query)}
            new = [key for key in wanted if key not in held]
            if new:
                rows = [{"key": key, "run": run, "taken_at": micros(at)} for key in new]
                connection.execute(selection_leases.insert(), rows)
        return {key: holder for key, holder in held.items() if holder != run}

    def finish_jobs(self, run: str, finished: Sequence[Finished], at: datetime) -> None:
        """Publishes, marks done (or unchanged) and gives the leases back, all in one transaction."""
        publications = [each for job in finished for each in job.publications]
        keys = [job.key for job in finished]

        def mark(connection: Connection, versions: Sequence[tuple[GroupVersion, bool]]) -> None:
            left, rows = list(versions), []
            for job in finished:
                mine, left = left[: len(job.publications)], left[len(job.publications) :]
                main = mine[0][0] if mine else job.standing
                new = any(fresh for _, fresh in mine)
                rows.append(
                    {
                        "of_run": run,
                        "of_key": job.key,
                        "state": "done" if new else "unchanged",
                        "why": "",
                        "version": main.version if main else None,
                        "count": main.count if main else None,
                        "seconds": job.seconds,
                        "not_before": None,
                        "changed_at": micros(at),
                    }
                )
            connection.execute(_change(rows[0]), rows)
            _give_back(connection, run, keys)

        if finished:
            self._groups.publish_many(publications, then=mark)

    def set_back(
        self, run: str, state: str, whys: Mapping[str, str], at: datetime, *, until: datetime | None = None,
        failed: bool = False,
    ) -> None:  # fmt: skip
        """Jobs → `state`, each with its reason; `failed` counts a try; leases are given back."""
        if not whys:
            return
        with self._writing() as connection:
            rows = [
                {
                    "of_run": run,
                    "of_key": key,
                    "state": state,
                    "why": why[:2000],
                    "not_before": None if until is None else micros(until),
                    "changed_at": micros(at),
                }
                for key, why in whys.items()
            ]
            more = {"attempts": selection_jobs.c.attempts + 1} if failed else {}
            connection.execute(_change(rows[0], more), rows)
            _give_back(connection, run, list(whys))

    def close(self, run: str, at: datetime) -> None:
        """The run is finished; nothing is held by it any more."""
        with self._writing() as connection:
            mine = selection_runs.c.run == run
            connection.execute(selection_runs.update().where(mine).values(finished_at=micros(at)))
            connection.execute(selection_leases.delete().where(selection_leases.c.run == run))

    def leases(self) -> dict[str, str]:
        """Key → run that works on it."""
        with self._reading() as connection:
            return {row.key: row.run for row in connection.execute(select(selection_leases))}

    def fired(self, schedule: str) -> datetime | None:
        """The last firing of this schedule that was seen to."""
        query = select(schedule_marks.c.fired_at).where(schedule_marks.c.schedule == schedule)
        with self._reading() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else instant(found)

    def mark_fired(self, schedule: str, at: datetime) -> None:
        mine = schedule_marks.c.schedule == schedule
        with self._writing() as connection:
            changed = connection.execute(schedule_marks.update().where(mine).values(fired_at=micros(at)))
            if not changed.rowcount:
                connection.execute(schedule_marks.insert().values(schedule=schedule, fired_at=micros(at)))

    def old(self, before: datetime) -> list[str]:
        """Finished runs made before that, but for those that have the newest job of a group or tag."""
        columns = selection_runs.c
        finished = and_(columns.made_at < micros(before), columns.finished_at.is_not(None))
        newest = {job.run for job in self.newest_jobs().values()}
        with self._reading() as connection:
            found = connection.execute(
                select(columns.run).where(finished).order_by(columns.made_at)
            ).scalars()
            return [run for run in found if run not in newest]

    def prune(self, runs: Sequence[str]) -> None:
        """Takes these runs away, with their jobs; one that is not finished stays."""
        with self._writing() as connection:
            for some in chunks(runs):
                done = and_(selection_runs.c.run.in_(some), selection_runs.c.finished_at.is_not(None))
                gone = list(connection.execute(select(selection_runs.c.run).where(done)).scalars())
                connection.execute(selection_jobs.delete().where(selection_jobs.c.run.in_(gone)))
                connection.execute(selection_runs.delete().where(selection_runs.c.run.in_(gone)))

    def _writing(self) -> AbstractContextManager[Connection]:
        """One writer at a time; readers go on."""
        return writing(self._engine, "the store of runs", lock="selection_leases")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the store of runs")


def _change(row: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Any:
    """An update of jobs by run and key, for rows like this one."""
    mine = and_(selection_jobs.c.run == bindparam("of_run"), selection_jobs.c.key == bindparam("of_key"))
    columns: dict[str, Any] = {name: bindparam(name) for name in row if not name.startswith("of_")}
    return selection_jobs.update().where(mine).values({**columns, **(more or {})})


def _give_back(connection: Connection, run: str, keys: Sequence[str]) -> None:
    for some in chunks(keys):
        mine = and_(selection_leases.c.run == run, selection_leases.c.key.in_(some))
        connection.execute(selection_leases.delete().where(mine))


def _one(run: str) -> Any:
    return select(selection_runs).where(selection_runs.c.run == run)


def _run(row: Any) -> Run:
    return Run(
        run=row.run,
        as_of=instant(row.as_of),
        reason=row.reason,
        made_at=instant(row.made_at),
        patience_until=instant(row.patience_until),
        finished_at=None if row.finished_at is None else instant(row.finished_at),
        definitions=row.definitions,
    )


def _job(row: Any) -> JobRow:
    return JobRow(
        run=row.run,
        key=row.key,
        state=row.state,
        attempts=row.attempts,
        not_before=None if row.not_before is None else instant(row.not_before),
        why=row.why,
        version=row.version,
        count=row._mapping["count"],
        seconds=row.seconds,
        changed_at=instant(row.changed_at),
    )
