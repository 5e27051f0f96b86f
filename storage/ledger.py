"""The exposure ledger in SQL: reserve, then confirm or release. Caps hold because each step is atomic.

SQLite takes the write lock at the start of a step. PostgreSQL takes advisory locks on the users'
stripes (`STRIPES` of them, in ascending order, so that steps cannot wait for each other in a ring, and a
batch of any size fits in the lock table), then reads what is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import polars as pl
from sqlalchemy import Connection, Engine, and_, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kernel.clock import Clock, SystemClock, aware, micros
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, Stale, Unavailable
from kernel.events import INSTANT
from kernel.exposure import ALREADY_SENT, Exposures, Refusal, Reservation
from kernel.ids import stable_hash
from storage.database import transaction
from storage.ledger_rows import (
    CONFIRMED,
    RELEASED,
    RESERVED,
    counting,
    live,
    release_plan,
    rows_around,
    rows_of,
    set_state,
    touches,
    write,
)

#: users share this many locks on PostgreSQL
STRIPES = 64
#: names our advisory locks among those of others in the same database
_LOCK_CLASS = 0x67726F77


class SqlLedger:
    """The ledger on SQLite or PostgreSQL. `clock` says which reservations have expired."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock or SystemClock()

    def reserve(
        self, wish: Reservation, *, caps: Sequence[Cap], expires_at: datetime | None = None
    ) -> Refusal | None:
        """Grants the wish (None) or says which cap refuses it. Raises Unavailable: then not granted."""
        return self.reserve_many([wish], caps=caps, expires_at=expires_at).get(wish.touch_id)

    def reserve_many(
        self,
        wishes: Sequence[Reservation],
        *,
        caps: Sequence[Cap],
        expires_at: datetime | None = None,
        replaces: str | None = None,
    ) -> dict[str, Refusal]:
        """Admits in order of (`at`, `touch_id`), all in one step; touch_id → refusal for the others.

        A live reservation asked for again stands as it is; one asked for at another time moves, if the
        new time fits, and is released if not. A confirmed one asked for at another time is refused as
        `ALREADY_SENT`.
        Raises BadInput for an id that is given twice or belongs to another user, Unavailable when the
        database does not answer: then nothing changed.
        """
        ordered = sorted(wishes, key=lambda wish: (wish.at, wish.touch_id))
        by_id = {wish.touch_id: wish for wish in ordered}
        if len(by_id) < len(ordered):
            raise BadInput("is given twice", where="ledger", field="touch_id")
        now = micros(self._clock.now())
        expires = None if expires_at is None else micros(aware(expires_at, "expires_at"))
        if expires is not None and expires <= now:
            raise BadInput("has passed", where="ledger", field="expires_at", value=str(expires_at))
        with self._step({wish.user for wish in ordered}, everyone=replaces is not None) as connection:
            if replaces is not None:
                release_plan(connection, replaces, now)
            known = rows_of(connection, by_id)
            standing = _standing(by_id, known, now)
            exposures = Exposures(caps)
            for row in rows_around(connection, ordered, caps, now):
                if row.touch_id not in by_id or row.touch_id in standing or row.state == CONFIRMED:
                    exposures.hold(row.user_id, row.channel, MessageClass(row.message_class), row.at_us)
            refusals, granted = dict[str, Refusal](), list[Reservation]()
            for key, wish in by_id.items():
                if key in standing:
                    continue
                if key in known and known[key].state == CONFIRMED:
                    refusals[key] = Refusal(touch_id=key, rule=ALREADY_SENT, until=None)
                elif refusal := exposures.admit(wish):
                    refusals[key] = refusal
                else:
                    granted.append(wish)
            write(connection, granted, known, now, expires)
            stuck = [key for key in refusals if key in known and known[key].state == RESERVED]
            set_state(connection, stuck, RELEASED, now)  # held at another time, and may not move
        return refusals

    def confirm(self, touch_ids: Collection[str]) -> None:
        """All or none; again changes nothing. Raises BadInput, Stale, Unavailable (nothing changed)."""
        self._settle(touch_ids, CONFIRMED)

    def release(self, touch_ids: Collection[str]) -> None:
        """All or none; again changes nothing. Raises BadInput, Stale, Unavailable (it goes on counting)."""
        self._settle(touch_ids, RELEASED)

    def held(self, *, since: datetime, until: datetime, users: Iterable[str] | None = None) -> pl.DataFrame:
        """Touches that count, `since` < at ≤ `until`, in order of time. Raises Unavailable, never empty."""
        now = micros(self._clock.now())
        span = and_(
            touches.c.at_us > micros(aware(since, "since")), touches.c.at_us <= micros(aware(until, "until"))
        )
        with self._reading() as connection:
            rows = list(counting(connection, span, None if users is None else sorted(set(users)), now))
        return (
            pl.DataFrame(
                [(r.touch_id, r.user_id, r.channel, r.message_class, r.at_us, r.state) for r in rows],
                schema={
                    "touch_id": pl.String,
                    "user": pl.String,
                    "channel": pl.String,
                    "message_class": pl.String,
                    "at": pl.Int64,
                    "state": pl.String,
                },
                orient="row",
            )
            .with_columns(pl.col("at").cast(INSTANT))
            .sort("at", "touch_id")
        )

    def _settle(self, touch_ids: Collection[str], state: str) -> None:
        if isinstance(touch_ids, str):
            raise BadInput(
                "is one id where a list of ids is due", where="ledger", field="touch_ids", value=touch_ids
            )
        now = micros(self._clock.now())
        with self._reading() as connection:
            users = {row.user_id for row in rows_of(connection, touch_ids).values()}
        with self._step(users) as connection:
            known = rows_of(connection, touch_ids)
            changing = []
            for touch_id in touch_ids:
                if touch_id not in known:
                    raise BadInput("was never reserved", where="ledger", field="touch_id", value=touch_id)
                row = known[touch_id]
                if row.state == state:
                    continue
                if row.state != RESERVED:
                    raise Stale(f"touch {touch_id} is {row.state}; it cannot be {state} any more")
                if state == CONFIRMED and not live(row, now):
                    raise Stale(f"the reservation of touch {touch_id} has expired; reserve it again")
                changing.append(touch_id)
            set_state(connection, changing, state, now)

    @contextmanager
    def _step(self, users: Collection[str], everyone: bool = False) -> Iterator[Connection]:
        """A transaction in which nobody else can change what counts for `users`, or for everyone."""
        with _translated(), transaction(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                mine = range(STRIPES) if everyone else sorted({stable_hash(user) % STRIPES for user in users})
                for stripe in mine:
                    connection.execute(select(func.pg_advisory_xact_lock(_LOCK_CLASS, stripe)))
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _translated(), self._engine.connect() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        raise Unavailable(
            f"the exposure ledger does not answer: {getattr(error, 'orig', None) or error}"
        ) from error


def _standing(wishes: dict[str, Reservation], known: dict[str, Any], now: int) -> set[str]:
    """Ids that need no admission: held exactly as wished."""
    standing = set()
    for key, row in known.items():
        wish = wishes[key]
        if row.user_id != wish.user:
            raise BadInput("belongs to another user", where="ledger", field="touch_id", value=key)
        asked = (wish.channel, str(wish.message_class), micros(wish.at))
        same = asked == (row.channel, row.message_class, row.at_us)
        if same and (row.state == CONFIRMED or live(row, now)):
            standing.add(key)
    return standing
