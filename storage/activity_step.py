"""What is done to an activity within one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection, Table, and_, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from kernel.ids import fingerprint
from storage.coupon_issuing import issue_codes


class Standing(Protocol):
    """The row of the activity, as the transaction found it."""

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> int: ...
    @property
    def anew(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def fired(self) -> dict[str, str]: ...
    @property
    def switched(self) -> dict[str, str]: ...
    @property
    def settled(self) -> tuple[str, ...]: ...


class ActivityStep:
    """Counts, gives and notes; all of it stands when the transaction does."""

    def __init__(
        self, connection: Connection, row: Standing, *, tables: Mapping[str, Table], given: dict[str, int]
    ) -> None:
        self._connection, self._tables, self._name = connection, tables, row.name
        #: read to here in the log of events
        self.place = row.place
        #: how often everything was counted anew
        self.anew = row.anew
        self.closed = row.closed
        self.fired, self.switched = dict(row.fired), dict(row.switched)
        self.settled = list(row.settled)
        #: reward → how often it was given
        self.given = given
        #: rewards whose coupon pool was found at its end
        self.ended = set[str]()

    def span(self, user_id: str) -> tuple[int, int] | None:
        """From when to when what a participant does counts, microseconds; None: she does not take part."""
        c = self._tables["participants"].c
        mine = and_(c.name == self._name, c.user_id == user_id)
        row = self._connection.execute(select(c.start, c.end).where(mine)).first()
        return None if row is None else (row.start, row.end)

    def join(self, user_id: str, at: int, span: tuple[int, int]) -> None:
        """Somebody takes part without having registered."""
        self._connection.execute(
            insert(self._tables["participants"]).values(
                name=self._name, user_id=user_id, at=at, start=span[0], end=span[1], answers={}
            )
        )

    def count(self) -> int:
        """Participants."""
        c = self._tables["participants"].c
        return int(self._connection.execute(select(func.count()).where(c.name == self._name)).scalar_one())

    def add(self, rows: Iterable[tuple[str, str, str, float, int]]) -> None:
        """(metric, period, user, how much more, number of the event that did it last)."""
        scores = self._tables["scores"]
        values = [
            {
                "name": self._name,
                "metric": metric,
                "period": period,
                "user_id": user,
                "value": by,
                "changed": number,
            }
            for metric, period, user, by, number in rows
            if by != 0.0
        ]
        if not values:
            return
        statement = self._insert(scores)
        statement = statement.on_conflict_do_update(
            index_elements=["name", "metric", "period", "user_id"],
            set_={
                "value": scores.c.value + statement.excluded.value,
                "changed": statement.excluded.changed,
            },
        )
        self._connection.execute(statement, values)

    def fresh(self, metric: str, period: str, user_id: str, seen: Iterable[str]) -> int:
        """How many of these were not seen before; from now on they were."""
        table, fresh = self._tables["seen"], 0
        for each in sorted(seen):
            row = {
                "name": self._name,
                "metric": metric,
                "period": period,
                "user_id": user_id,
                "what": fingerprint([each]),
            }
            statement = self._insert(table).values(row).on_conflict_do_nothing()
            fresh += self._connection.execute(statement).rowcount
        return fresh

    def clear(self) -> None:
        """All scores are taken back: they are to be counted anew. Rewards stay."""
        self.anew += 1
        for name in ("scores", "seen"):
            table = self._tables[name]
            self._connection.execute(delete(table).where(table.c.name == self._name))

    def _insert(self, table: Table) -> Any:
        """Both know what to do on a conflict."""
        make = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        return make(table)

    def values(self, user_id: str) -> dict[str, float]:
        """metric → value over the whole activity."""
        c = self._tables["scores"].c
        mine = and_(c.name == self._name, c.user_id == user_id, c.period == "all")
        rows = self._connection.execute(select(c.metric, c.value).where(mine))
        return dict(tuple(row) for row in rows)

    def decided(self, reward: str, user_id: str, period: str) -> bool:
        """Whether it was given, or refused, before."""
        c = self._tables["rewards"].c
        mine = and_(c.name == self._name, c.reward == reward, c.user_id == user_id, c.period == period)
        return self._connection.execute(select(c.number).where(mine)).first() is not None

    def reward(
        self, reward: str, user_id: str, period: str, *, given: str | None, why: str, at: int,
        code: str | None = None,
    ) -> None:  # fmt: skip
        """Notes what was earned and what was given for it, with its coupon."""
        self._connection.execute(
            insert(self._tables["rewards"]).values(
                name=self._name,
                reward=reward,
                user_id=user_id,
                period=period,
                given=given,
                code=code,
                why=why,
                at=at,
            )
        )
        if given is not None:
            self.given[given] = self.given.get(given, 0) + 1

    def issue(self, pool: str, task: str, run: str, user_mark: str, **how: Any) -> str | None:
        """A code of the pool, always the same one, in this transaction; `how` as for `issue_codes`.
        None: the pool is at its end."""
        wish = (task, run, user_mark)
        coupon = issue_codes(self._connection, pool, [wish], **how).get(wish)
        return None if coupon is None else coupon.code

    def changed(self) -> dict[str, Any]:
        """The columns of the activity that may have."""
        return {
            "place": self.place,
            "anew": self.anew,
            "closed": self.closed,
            "fired": self.fired,
            "switched": self.switched,
            "settled": self.settled,
        }
