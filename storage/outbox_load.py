"""How a run's touches come into the outbox: in pieces, once each, and nothing goes out before all are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, func, select, update
from sqlalchemy.exc import IntegrityError

from kernel.delivery import OutboxTask, OutboxTouch, TaskState, TouchState
from kernel.errors import BadInput
from storage.database import writing
from storage.outbox_rows import NOTHING, QUEUED, RELEASE, REPLANNED, tasks, touches, upsert

#: touches in one transaction: a second at most, so that others can write between
PIECE = 20_000
WHAT = "the outbox"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load changed."""

    #: touches of this run that are in the outbox now, in whatever state
    touches: int
    #: of these, how many were not there before
    new: int
    #: touches of an earlier version that this one does without, called off before they went
    dropped: int


def load_run(
    engine: Engine,
    run: str,
    version: int,
    wanted: Iterable[tuple[OutboxTask, Sequence[OutboxTouch]]],
    now_us: int,
) -> Loaded:
    """The touches of a run, as its newest version has them. The same again changes nothing.

    What waits still takes over a changed time or code, or is called off when this version does without it;
    what is on its way or has ended stays. Killed in between, nothing of the run goes out until it is loaded
    again. Raises BadInput when a touch id belongs to another touch, Unavailable when the database is down.
    """
    pairs, new, seen = list(wanted), 0, 0
    with writing(engine, WHAT) as connection:
        before = _count(connection, run)
        connection.execute(update(tasks).where(tasks.c.run == run).values(loading=True))
        numbers = [_task(connection, task, version, now_us) for task, _ in pairs]
    for number, (task, rows) in zip(numbers, pairs, strict=True):
        for start in range(0, len(rows), PIECE):
            with writing(engine, WHAT) as connection:
                _touches(connection, task, number, rows[start : start + PIECE], version, now_us)
        seen += len(rows)
    with writing(engine, WHAT) as connection:
        dropped = _drop(connection, run, version, now_us)
        new = _count(connection, run) - before
        connection.execute(update(tasks).where(tasks.c.run == run).values(loading=False, done_us=None))
    return Loaded(touches=seen, new=new, dropped=dropped)


def _count(connection: Connection, run: str) -> int:
    mine = select(tasks.c.number).where(tasks.c.run == run)
    return connection.execute(
        select(func.count()).select_from(touches).where(touches.c.task_number.in_(mine))
    ).scalar_one()


def _task(connection: Connection, task: OutboxTask, version: int, now_us: int) -> int:
    labels = {
        "goal": task.goal,
        "benefit": task.benefit,
        "touchpoint": task.touchpoint,
        "channel": task.channel,
        "content": task.content,
        "message_class": str(task.message_class),
    }
    row = {
        "run": task.run,
        "task": task.task,
        **labels,
        "state": str(TaskState.RUNNING),
        "loading": True,
        "version": version,
        "parts": 0,
        "changed_us": now_us,
    }
    insert = upsert(connection, tasks).values(row)
    connection.execute(
        insert.on_conflict_do_update(index_elements=["run", "task"], set_={**labels, "version": version})
    )
    mine = and_(tasks.c.run == task.run, tasks.c.task == task.task)
    return int(connection.execute(select(tasks.c.number).where(mine)).scalar_one())


def _touches(
    connection: Connection,
    task: OutboxTask,
    number: int,
    rows: Sequence[OutboxTouch],
    version: int,
    now_us: int,
) -> None:
    insert = upsert(connection, touches)
    new = insert.excluded
    waits = touches.c.state == str(TouchState.QUEUED)
    revived = and_(touches.c.state == str(TouchState.CANCELLED), touches.c.rule == REPLANNED)
    open_ = waits | revived
    moved = open_ & ((touches.c.send_us != new.send_us) | revived)
    statement = insert.on_conflict_do_update(
        index_elements=["user_id", "task_number"],
        set_={
            "version": new.version,
            "send_us": case((open_, new.send_us), else_=touches.c.send_us),
            "due_us": case((moved, new.due_us), else_=touches.c.due_us),
            "code": case((open_, new.code), else_=touches.c.code),
            "rule": case((revived, ""), else_=touches.c.rule),
            "reason": case((revived, ""), else_=touches.c.reason),
            "state": case((revived, str(TouchState.QUEUED)), else_=touches.c.state),
        },
    )
    said = [
        {
            "touch_id": each.touch_id,
            "user_id": each.user,
            "task_number": number,
            "send_us": each.send_us,
            "due_us": each.send_us,
            "state": str(TouchState.QUEUED),
            "attempts": 0,
            "rule": "",
            "reason": "",
            "code": each.code,
            "address": "",
            "provider_id": "",
            "version": version,
            "owes": NOTHING,
            "changed_us": now_us,
        }
        for each in rows
    ]
    try:
        connection.execute(statement, said)
    except IntegrityError:
        raise BadInput(
            "has a touch id that belongs to another touch", where=f"run {task.run}", field="task",
            value=task.task,
        ) from None  # fmt: skip


def _drop(connection: Connection, run: str, version: int, now_us: int) -> int:
    """What no longer belongs, and what waits in a task that was cancelled."""
    mine = select(tasks.c.number).where(tasks.c.run == run)
    waits = and_(touches.c.task_number.in_(mine), touches.c.state == str(TouchState.QUEUED))
    # the ledger knows: the plan's newer version took the place of the older one there
    gone = connection.execute(
        update(touches)
        .where(waits, touches.c.version < version)
        .values(
            state=str(TouchState.CANCELLED),
            rule=REPLANNED,
            reason=f"version {version} of the plan does without it",
            changed_us=now_us,
        )
    ).rowcount
    call_off_cancelled(connection, touches.c.task_number.in_(mine), now_us)
    return int(gone)


def call_off_cancelled(connection: Connection, which: Any, now_us: int) -> None:
    """Of these touches, those that wait in a task that was cancelled meanwhile."""
    dead = select(tasks.c.number).where(tasks.c.state == str(TaskState.CANCELLED))
    connection.execute(
        update(touches)
        .where(which, QUEUED, touches.c.task_number.in_(dead))
        .values(
            state=str(TouchState.CANCELLED),
            rule="cancelled",
            reason="the task was cancelled",
            owes=RELEASE,
            changed_us=now_us,
        )
    )
