"""The outbox in SQL: every touch that is to go out, once each, and what became of it.

Outcomes are committed as they become known; whoever is killed leaves leases that others bury. Every method
raises Unavailable when the database does not answer, and has then changed nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, case, func, literal, select, update

from kernel.clock import instant
from kernel.delivery import OutboxTask, OutboxTouch, Rate, Settled, TaskState, TouchState
from kernel.errors import NotFound, Stale
from storage.database import chunks, reading, writing
from storage.outbox_leases import Dispatchers, Lease, give_tokens_back, lease
from storage.outbox_load import WHAT, Loaded, call_off_cancelled, load_run
from storage.outbox_rows import CONFIRM, NOTHING, OWED, QUEUED, RELEASE, task_of, tasks, touches

#: rows that one statement calls off, so that others can write between
_PIECE = 20_000
#: state in which a touch ends → what the ledger is told
_OWES = {
    TouchState.ACCEPTED: CONFIRM,
    TouchState.IN_DOUBT: CONFIRM,  # it may have arrived, so it counts
    TouchState.REFUSED: RELEASE,
    TouchState.FAILED: RELEASE,
    TouchState.CANCELLED: RELEASE,
}


class SqlOutbox:
    """On SQLite or PostgreSQL. `folder`: where dispatchers of this machine keep their locks."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder

    def load(
        self,
        run: str,
        version: int,
        wanted: Iterable[tuple[OutboxTask, Sequence[OutboxTouch]]],
        now_us: int,
    ) -> Loaded:
        """See `storage.outbox_load.load_run`."""
        return load_run(self._engine, run, version, wanted, now_us)

    def loaded(self, run: str) -> int | None:
        """The version of a run that is in, whole; None when none is, or its loading was interrupted."""
        query = select(func.max(tasks.c.version), func.max(case((tasks.c.loading, 1), else_=0)))
        with self._reading() as connection:
            version, loading = connection.execute(query.where(tasks.c.run == run)).one()
        return None if version is None or loading else int(version)

    def interrupted(self) -> list[str]:
        """Runs whose loading did not come to its end."""
        query = select(tasks.c.run).where(tasks.c.loading).distinct().order_by(tasks.c.run)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def dispatcher(self) -> Dispatchers:
        return Dispatchers(self._engine, self._folder)

    def lease(
        self,
        owner: str,
        channels: Collection[str],
        *,
        limit: int,
        now_us: int,
        limits: Mapping[str, Sequence[Rate]],
        whole: bool = False,
    ) -> Lease:
        """See `storage.outbox_leases.lease`."""
        return lease(self._engine, owner, channels, limit=limit, now_us=now_us, limits=limits, whole=whole)

    def give_tokens_back(self, names: Mapping[str, int]) -> None:
        """For touches that were leased and not handed over."""
        give_tokens_back(self._engine, names)

    def hand(self, owner: str, numbers: Sequence[int], now_us: int) -> set[int]:
        """From now on a kill leaves these in doubt. Those that are still this dispatcher's to hand over."""
        with self._writing() as connection:
            mine: set[int] = set()
            for some in chunks(numbers):
                held = and_(
                    touches.c.number.in_(some),
                    touches.c.owner == owner,
                    touches.c.state == str(TouchState.LEASED),
                )
                mine.update(connection.execute(select(touches.c.number).where(held)).scalars())
                handing = {"state": str(TouchState.HANDING), "changed_us": now_us}
                connection.execute(update(touches).where(held).values(handing))
        return mine

    def settle(
        self,
        owner: str,
        results: Sequence[Settled],
        now_us: int,
        *,
        parts: int | None = None,
        told: bool = False,
    ) -> None:
        """What became of touches. One whose lease went to somebody else meanwhile is left to them.

        `parts`: files of the task now, where they were written whole; in the same transaction. `told`: the
        ledger knows already.
        """
        if not results:
            return
        statement = (
            update(touches)
            .where(touches.c.number == bindparam("key"), touches.c.owner == owner)
            .values(
                state=bindparam("state"),
                rule=bindparam("rule"),
                reason=bindparam("reason"),
                due_us=func.coalesce(bindparam("due"), touches.c.due_us),
                attempts=touches.c.attempts + bindparam("more"),
                address=bindparam("address"),
                provider_id=bindparam("provider_id"),
                owes=bindparam("owes"),
                owner=None,
                changed_us=now_us,
            )
        )
        rows = [
            {
                "key": each.number,
                "state": str(each.state),
                "rule": each.rule,
                "reason": each.reason[:2000],
                "due": each.due_us,
                "more": int(each.attempted),
                "address": each.address,
                "provider_id": each.provider_id[:200],
                "owes": NOTHING if told else _OWES.get(each.state, NOTHING),
            }
            for each in results
        ]
        with self._writing() as connection:
            connection.execute(statement, rows)
            back = [each.number for each in results if each.state is TouchState.QUEUED]
            for some in chunks(back):
                call_off_cancelled(connection, touches.c.number.in_(some), now_us)
            if parts is not None:
                mine = select(touches.c.task_number).where(touches.c.number == results[0].number)
                connection.execute(
                    update(tasks).where(tasks.c.number == mine.scalar_subquery()).values(parts=parts)
                )

    def owed(self, limit: int = 1000) -> list[tuple[int, str, str]]:
        """(number, touch id, `confirm` or `release`) of which the ledger is still to be told."""
        query = select(touches.c.number, touches.c.touch_id, touches.c.owes).where(OWED)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(touches.c.number).limit(limit)).all()
        return [(row.number, row.touch_id, row.owes) for row in rows]

    def told(self, numbers: Sequence[int]) -> None:
        """The ledger knows of these."""
        with self._writing() as connection:
            for some in chunks(numbers):
                mine = touches.c.number.in_(some)
                connection.execute(update(touches).where(mine).values(owes=NOTHING))

    def halted(self) -> frozenset[int]:
        """Tasks of which nothing may be handed over now."""
        query = select(tasks.c.number).where(
            tasks.c.done_us.is_(None), (tasks.c.state != str(TaskState.RUNNING)) | tasks.c.loading
        )
        with self._reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def tasks(self, run: str | None = None) -> list[dict[str, Any]]:
        """Every task with its state, its touches by state and its times, the newest run first."""
        counts = select(
            touches.c.task_number,
            touches.c.state,
            func.count().label("size"),
            func.min(touches.c.due_us).label("first"),
            func.max(touches.c.changed_us).label("last"),
        ).group_by(touches.c.task_number, touches.c.state)
        query = select(tasks).order_by(tasks.c.run.desc(), tasks.c.task)
        if run is not None:
            query = query.where(tasks.c.run == run)
            mine = select(tasks.c.number).where(tasks.c.run == run)
            counts = counts.where(touches.c.task_number.in_(mine))
        with self._reading() as connection:
            rows = connection.execute(query).all()
            found: dict[int, dict[str, Any]] = {}
            for each in connection.execute(counts):
                entry = found.setdefault(each.task_number, {"states": {}, "next": None, "last": 0})
                entry["states"][each.state] = each.size
                entry["last"] = max(entry["last"], each.last)
                if each.state == TouchState.QUEUED:
                    entry["next"] = each.first
        return [self._told(row, found.get(row.number, {})) for row in rows]

    def _told(self, row: Any, found: Mapping[str, Any]) -> dict[str, Any]:
        states, next_us = found.get("states", {}), found.get("next")
        return {
            "number": row.number,
            "run": row.run,
            "task": row.task,
            "channel": row.channel,
            "touchpoint": row.touchpoint,
            "content": row.content,
            "state": str(TaskState.LOADING) if row.loading else row.state,
            "touches": {str(each): states[each] for each in TouchState if each in states},
            "next": None if next_us is None else instant(next_us).isoformat(),
            "last": instant(found["last"]).isoformat() if found else None,
        }

    def reasons(self, run: str | None = None, number: int | None = None) -> list[dict[str, Any]]:
        """[{task, state, rule, reason, count}] of what was not accepted, most first; one reason a rule."""
        query = (
            select(
                tasks.c.task, touches.c.state, touches.c.rule, func.max(touches.c.reason).label("reason"),
                func.count().label("count"),
            )
            .join(tasks, tasks.c.number == touches.c.task_number)
            .where(touches.c.rule != "")
            .group_by(tasks.c.task, touches.c.state, touches.c.rule)
        )  # fmt: skip
        if run is not None:
            query = query.where(tasks.c.run == run)
        if number is not None:
            query = query.where(tasks.c.number == number)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(func.count().desc(), tasks.c.task)).all()
        return [dict(row._mapping) for row in rows]

    def of_user(self, user: str) -> list[dict[str, Any]]:
        """Every touch that the outbox holds of a user, the newest first."""
        query = (
            select(touches, tasks.c.run, tasks.c.task, tasks.c.channel)
            .join(tasks, tasks.c.number == touches.c.task_number)
            .where(touches.c.user_id == user)
            .order_by(touches.c.send_us.desc())
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        keep = ("touch_id", "run", "task", "channel", "state", "attempts", "rule", "reason")
        return [
            {
                **{name: row._mapping[name] for name in keep},
                "send_at": instant(row.send_us).isoformat(),
                "due": instant(row.due_us).isoformat() if row.state == TouchState.QUEUED else None,
                "changed_at": instant(row.changed_us).isoformat(),
            }
            for row in rows
        ]

    def outcomes(self, run: str) -> list[dict[str, Any]]:
        """Every touch of a run: touch_id, user_id, task, channel, state, rule, reason, changed_us."""
        query = (
            select(
                touches.c.touch_id, touches.c.user_id, tasks.c.task, tasks.c.channel, touches.c.state,
                touches.c.rule, touches.c.reason, touches.c.changed_us,
            )
            .join(tasks, tasks.c.number == touches.c.task_number)
            .where(tasks.c.run == run)
            .order_by(touches.c.touch_id)
        )  # fmt: skip
        with self._reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def find(self, task: str, run: str | None = None) -> list[int]:
        """Numbers of the tasks of that name (or number), in one run or in all. Raises NotFound."""
        query = select(tasks.c.number).where(
            (tasks.c.task == task) | (tasks.c.number == int(task) if task.isdecimal() else literal(False))
        )
        if run is not None:
            query = query.where(tasks.c.run == run)
        with self._reading() as connection:
            found = list(connection.execute(query).scalars())
            if not found:
                known = connection.execute(select(tasks.c.task).distinct()).scalars().all()
                raise NotFound("task in the outbox", task, known, field="TASK")
        return found

    def pause(self, number: int, now_us: int) -> None:
        """Nothing more of it is handed over. Raises Stale when it is cancelled."""
        self._change(number, TaskState.PAUSED, now_us)

    def resume(self, number: int, now_us: int) -> None:
        """It goes on. Raises Stale when it is cancelled."""
        self._change(number, TaskState.RUNNING, now_us)

    def cancel(self, number: int, now_us: int) -> int:
        """Nothing more of it is handed over, ever; how many touches that calls off."""
        self._change(number, TaskState.CANCELLED, now_us)
        total = 0
        while some := self._call_off(
            touches.c.task_number == number, "cancelled", "the task was cancelled", now_us
        ):
            total += some
        return total

    def cancel_user(
        self, connection: Connection, user: str, channel: str | None, reason: str, now_us: int
    ) -> int:
        """Calls off what waits for a user, in the caller's transaction; how many touches."""
        mine = touches.c.user_id == user
        if channel is not None:
            there = select(tasks.c.number).where(tasks.c.channel == channel)
            mine = and_(mine, touches.c.task_number.in_(there))
        exempt = select(tasks.c.number).where(tasks.c.message_class == "transactional")
        return self._called_off(
            connection, and_(mine, touches.c.task_number.not_in(exempt)), "suppressed", reason, now_us
        )

    def send_again(self, number: int, now_us: int) -> int:
        """A person's word: what is in doubt goes out again, and may arrive twice; how many touches."""
        fresh = {
            "state": str(TouchState.QUEUED), "rule": "", "reason": "", "attempts": 0, "due_us": now_us,
            "changed_us": now_us,
        }  # fmt: skip
        doubted = and_(touches.c.task_number == number, touches.c.state == str(TouchState.IN_DOUBT))
        with self._writing() as connection:
            again = connection.execute(update(touches).where(doubted).values(fresh)).rowcount
            connection.execute(update(tasks).where(tasks.c.number == number).values(done_us=None))
        return int(again)

    def task(self, number: int) -> OutboxTask:
        with self._reading() as connection:
            row = connection.execute(select(tasks).where(tasks.c.number == number)).first()
        if row is None:
            raise NotFound("task in the outbox", number, (), field="task")
        return task_of(row)

    def _change(self, number: int, state: TaskState, now_us: int) -> None:
        with self._writing() as connection:
            mine = tasks.c.number == number
            row = connection.execute(select(tasks.c.state, tasks.c.task).where(mine)).first()
            if row is None:
                raise NotFound("task in the outbox", number, (), field="task")
            if row.state == TaskState.CANCELLED and state is not TaskState.CANCELLED:
                raise Stale(f"task {row.task} is cancelled; it cannot be {state} any more")
            connection.execute(
                update(tasks).where(mine).values(state=str(state), changed_us=now_us, done_us=None)
            )

    def _call_off(self, which: Any, rule: str, reason: str, now_us: int) -> int:
        with self._writing() as connection:
            some = select(touches.c.number).where(which, QUEUED).limit(_PIECE)
            return self._called_off(connection, touches.c.number.in_(some), rule, reason, now_us)

    def _called_off(self, connection: Connection, which: Any, rule: str, reason: str, now_us: int) -> int:
        off = {
            "state": str(TouchState.CANCELLED), "rule": rule, "reason": reason, "owes": RELEASE,
            "changed_us": now_us,
        }  # fmt: skip
        return int(connection.execute(update(touches).where(which, QUEUED).values(off)).rowcount)

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, WHAT)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, WHAT)
