"""Who works on what: leases of touches, the buckets that hold the rate, and what the dead leave behind."""

from __future__ import annotations

import fcntl
import socket
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, and_, case, delete, func, select, update

from kernel.delivery import OutboxTask, OutboxTouch, Rate, TaskState, TouchState
from kernel.errors import Stale
from storage.database import chunks, reading, writing
from storage.outbox_load import call_off_cancelled
from storage.outbox_rows import LEASED, QUEUED, dispatchers, rates, task_of, tasks, touch_of, touches, upsert

_WHAT = "the outbox"
#: a dispatcher that has not said for so long that it lives is dead, microseconds
DEAD = 30_000_000
_BURIED = "this dispatcher was silent for too long, and its touches went to others"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What a dispatcher may work on."""

    touches: tuple[tuple[OutboxTask, OutboxTouch], ...] = ()
    #: when there will be more: the next touch's time, or when the rate allows it; None: nothing waits
    next_us: int | None = None
    #: files that were written of the task, where it was leased whole
    parts: int = 0


class Dispatchers:
    """One dispatcher's name among others, and the leases of those that died.

    A file that is locked as long as its process lives tells at once who died on this machine; elsewhere a
    dispatcher is dead when it was silent for 30 s.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._host = socket.gethostname()
        self.owner = f"{self._host[:60]}/{uuid.uuid4().hex}"
        self._lock: IO[str] | None = None

    def join(self, now_us: int) -> None:
        """Raises Unavailable when the database does not answer."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._file(self.owner).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with writing(self._engine, _WHAT, lock=dispatchers.name) as connection:
            row = {"owner": self.owner, "host": self._host, "beat_us": now_us}
            connection.execute(dispatchers.insert().values(row))
        self.beat(now_us)

    def beat(self, now_us: int) -> None:
        """It lives; and those that do not are buried. Raises Stale when it was buried itself."""
        with writing(self._engine, _WHAT, lock=dispatchers.name) as connection:
            mine = dispatchers.c.owner == self.owner
            if not connection.execute(update(dispatchers).where(mine).values(beat_us=now_us)).rowcount:
                raise Stale(_BURIED)
            for row in connection.execute(select(dispatchers)).all():
                if row.owner != self.owner and self._is_dead(row.owner, row.host, row.beat_us, now_us):
                    self._bury(connection, row.owner, now_us)

    def leave(self, now_us: int) -> None:
        """Gives back what it has not handed over."""
        try:
            with writing(self._engine, _WHAT, lock=dispatchers.name) as connection:
                self._bury(connection, self.owner, now_us)
        finally:
            if self._lock is not None:  # whoever sees that nobody holds it buries what is left
                self._lock.close()
                self._lock = None

    def _is_dead(self, owner: str, host: str, beat_us: int, now_us: int) -> bool:
        if now_us - beat_us > DEAD:
            return True
        if host != self._host:
            return False
        try:
            handle = self._file(owner).open("a")
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            handle.close()
        return True

    def _bury(self, connection: Connection, owner: str, now_us: int) -> None:
        held = select(touches.c.number).where(LEASED, touches.c.owner == owner)
        mine = connection.execute(held).scalars().all()
        handing = touches.c.state == str(TouchState.HANDING)
        doubt = "the dispatcher ended while it handed this over; it may have arrived"
        connection.execute(
            update(touches)
            .where(LEASED, touches.c.owner == owner)
            .values(
                state=case((handing, str(TouchState.IN_DOUBT)), else_=str(TouchState.QUEUED)),
                rule=case((handing, "in_doubt"), else_=touches.c.rule),
                reason=case((handing, doubt), else_=touches.c.reason),
                # it may have arrived, so it counts
                owes=case((handing, "confirm"), else_=touches.c.owes),
                owner=None,
                changed_us=now_us,
            )
        )
        for some in chunks(mine):
            call_off_cancelled(connection, touches.c.number.in_(some), now_us)
        connection.execute(delete(dispatchers).where(dispatchers.c.owner == owner))
        self._file(owner).unlink(missing_ok=True)

    def _file(self, owner: str) -> Path:
        return self._folder / f"{owner.rpartition('/')[2]}.lock"


def lease(
    engine: Engine,
    owner: str,
    channels: Collection[str],
    *,
    limit: int,
    now_us: int,
    limits: Mapping[str, Sequence[Rate]],
    whole: bool = False,
) -> Lease:
    """Touches of these channels that are due, earliest task first, as many as their rates allow.

    `limits`: channel → the buckets that its touches draw from. `whole`: everything that waits of one task,
    due or not, once the first is due; for files, which carry the times. Raises Stale when the dispatcher was
    taken for dead: it must join again.
    """
    with reading(engine, _WHAT) as connection:  # most looks find nothing, and need no lock
        open_, empty = _open_tasks(connection, channels)
    if not empty and all(due > now_us for _, due, _ in open_):
        return Lease(next_us=min((due for _, due, _ in open_), default=None))
    with writing(engine, _WHAT, lock=touches.name) as connection:
        alive = select(dispatchers.c.owner).where(dispatchers.c.owner == owner)
        if connection.execute(alive).first() is None:
            raise Stale(_BURIED)
        open_, empty = _open_tasks(connection, channels)
        _close(connection, empty, now_us)
        next_us = min((due for _, due, _ in open_ if due > now_us), default=None)
        names = {rate.name: rate for channel in channels for rate in limits.get(channel, ())}
        tokens = _tokens(connection, names, now_us)
        taken: list[tuple[OutboxTask, OutboxTouch]] = []
        parts = 0
        for task, due, files in open_:
            if due > now_us or len(taken) >= limit:
                continue
            mine = list(limits.get(task.channel, ()))
            room = min([limit - len(taken), *(int(tokens[rate.name]) for rate in mine)])
            if room < 1:
                waits = [(1 - tokens[rate.name]) / rate.per_second for rate in mine if tokens[rate.name] < 1]
                then = now_us + int(max(waits, default=0.0) * 1e6) + 1
                next_us = then if next_us is None else min(next_us, then)
                continue
            query = select(touches).where(touches.c.task_number == task.number, QUEUED)
            if not whole:
                query = query.where(touches.c.due_us <= now_us).limit(room)
            rows = connection.execute(query.order_by(touches.c.due_us)).all()
            for rate in mine:
                tokens[rate.name] -= len(rows)
            taken += [(task, touch_of(row)) for row in rows]
            parts = files
            if whole:
                break
        if taken:
            _take(connection, owner, [touch.number for _, touch in taken], now_us)
            _keep_tokens(connection, tokens, now_us)
    return Lease(touches=tuple(taken), next_us=next_us, parts=parts)


def give_tokens_back(engine: Engine, names: Mapping[str, int]) -> None:
    """For touches that were leased and not handed over: name of the bucket → how many."""
    back = {name: count for name, count in names.items() if count}
    if back:
        with writing(engine, _WHAT) as connection:
            for name, count in back.items():
                mine = rates.c.name == name
                connection.execute(update(rates).where(mine).values(tokens=rates.c.tokens + count))


def _open_tasks(
    connection: Connection, channels: Collection[str]
) -> tuple[list[tuple[OutboxTask, int, int]], list[int]]:
    """Running tasks with something to do: (task, when its next touch is due, files of it), in the order in
    which they are served; and numbers of those of which nothing waits."""
    waits = (
        select(func.min(touches.c.due_us)).where(touches.c.task_number == tasks.c.number, QUEUED)
    ).scalar_subquery()
    query = select(tasks, waits.label("due")).where(
        tasks.c.channel.in_(sorted(channels)),
        tasks.c.state == str(TaskState.RUNNING),
        tasks.c.loading.is_(False),
        tasks.c.done_us.is_(None),
    )
    rows = connection.execute(query).all()
    open_ = [(task_of(row), int(row.due), int(row.parts)) for row in rows if row.due is not None]
    open_.sort(key=lambda each: (each[0].message_class != "transactional", each[1], each[0].number))
    return open_, [row.number for row in rows if row.due is None]


def _close(connection: Connection, empty: Sequence[int], now_us: int) -> None:
    """Nothing of them waits, so nobody need look at them any more; what is leased may come back yet."""
    if empty:
        busy = select(touches.c.task_number).where(LEASED)
        done = and_(tasks.c.number.in_(empty), tasks.c.number.not_in(busy))
        connection.execute(update(tasks).where(done).values(done_us=now_us))


def _take(connection: Connection, owner: str, numbers: Sequence[int], now_us: int) -> None:
    taken = {"state": str(TouchState.LEASED), "owner": owner, "changed_us": now_us}
    for some in chunks(numbers):
        connection.execute(update(touches).where(touches.c.number.in_(some)).values(taken))


def _tokens(connection: Connection, limits: Mapping[str, Rate], now_us: int) -> dict[str, float]:
    """What is in each bucket now; a new one is full."""
    if not limits:
        return {}
    query = select(rates).where(rates.c.name.in_(sorted(limits))).with_for_update()
    known = {row.name: row for row in connection.execute(query)}
    found = {}
    for name, rate in limits.items():
        row = known.get(name)
        passed = 0.0 if row is None else max(0, now_us - row.at_us) / 1e6
        held = rate.burst if row is None else row.tokens
        found[name] = min(rate.burst, held + passed * rate.per_second)
    return found


def _keep_tokens(connection: Connection, tokens: Mapping[str, float], now_us: int) -> None:
    for name, held in tokens.items():
        insert = upsert(connection, rates).values(name=name, tokens=held, at_us=now_us)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["name"], set_={"tokens": held, "at_us": now_us})
        )
