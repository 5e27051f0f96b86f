"""Codes of a pool as they are given out: one for each wish, for ever the same, inside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from kernel.clock import instant, micros
from kernel.errors import NotFound
from kernel.ids import stable_hash
from storage.coupon_rows import coupon_codes

#: (task, run, the user's mark)
Wish = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Coupon:
    """A code as it stands."""

    code: str
    pool: str
    issued: datetime | None
    task: str | None
    run: str | None
    #: of the user to whom it was issued; None: free, or to nobody in particular
    user_mark: str | None
    begins: datetime | None
    ends: datetime | None
    #: redemptions that stand
    uses: int


def issue_codes(
    connection: Connection,
    pool: str,
    wishes: Sequence[Wish],
    *,
    at: datetime,
    begins: datetime | None = None,
    ends: datetime | None = None,
    make: Callable[[int], Sequence[str]] | None = None,
    most: int | None = None,
) -> dict[Wish, Coupon]:
    """A code for each wish, the same one whenever it is asked for. Who is missing in the answer got none: the
    pool is at its end. `make`: new codes, while there are less than `most`. At most 500 wishes."""
    take_turns(connection, "pool", pool)
    known = _issued(connection, pool, wishes)
    todo = [wish for wish in wishes if wish not in known]
    free = _free(connection, pool, len(todo))
    if len(free) < len(todo) and make is not None:
        free += _made(connection, pool, len(todo) - len(free), at, make, most)
    for wish, code in zip(todo, free, strict=False):
        known[wish] = _issue(connection, pool, code, wish, at, begins=begins, ends=ends)
    return known


def count_of(connection: Connection, pool: str) -> int:
    query = select(func.count()).select_from(coupon_codes).where(coupon_codes.c.pool == pool)
    return int(connection.execute(query).scalar_one())


def _issued(connection: Connection, pool: str, wishes: Sequence[Wish]) -> dict[Wish, Coupon]:
    codes, found = coupon_codes.c, dict[Wish, Coupon]()
    by_task = dict[tuple[str, str], list[str]]()
    for task, run, user in wishes:
        by_task.setdefault((task, run), []).append(user)
    for (task, run), users in by_task.items():
        mine = and_(codes.pool == pool, codes.task == task, codes.run == run, codes.user_mark.in_(users))
        for row in connection.execute(select(coupon_codes).where(mine)):
            found[task, run, row.user_mark] = coupon_of(row, row.code)
    return found


def _free(connection: Connection, pool: str, many: int) -> list[str]:
    if not many:
        return []
    codes = coupon_codes.c
    free = and_(codes.pool == pool, codes.issued_us.is_(None), codes.uses == 0)
    return list(connection.execute(select(coupon_codes.c.code).where(free).limit(many)).scalars())


def _made(
    connection: Connection,
    pool: str,
    many: int,
    at: datetime,
    make: Callable[[int], Sequence[str]],
    most: int | None,
) -> list[str]:
    if most is not None:
        many = min(many, max(0, most - count_of(connection, pool)))
    made: list[str] = []
    while len(made) < many:
        drawn = list(dict.fromkeys(make(many - len(made))))
        known = set(
            connection.execute(select(coupon_codes.c.code).where(coupon_codes.c.code.in_(drawn))).scalars()
        )
        fresh = [code for code in drawn if code not in known]
        rows = [{"code": code, "pool": pool, "added_us": micros(at), "uses": 0} for code in fresh]
        if rows:
            connection.execute(insert(coupon_codes), rows)
        made += fresh
    return made


def take_turns(connection: Connection, *names: str) -> None:
    """Until the transaction ends; on SQLite everybody takes turns as it is."""
    if connection.dialect.name == "postgresql":
        key = stable_hash("coupons", *names) - 2**63
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def _issue(
    connection: Connection,
    pool: str,
    code: str,
    wish: Wish,
    at: datetime,
    *,
    begins: datetime | None,
    ends: datetime | None,
) -> Coupon:
    task, run, user = wish
    row = {
        "issued_us": micros(at), "task": task, "run": run, "user_mark": user,
        "from_us": None if begins is None else micros(begins),
        "until_us": None if ends is None else micros(ends),
    }  # fmt: skip
    connection.execute(update(coupon_codes).where(coupon_codes.c.code == code).values(row))
    return Coupon(
        code=code, pool=pool, issued=at, task=task, run=run, user_mark=user, begins=begins, ends=ends, uses=0
    )


def coupon_of(row: Any, code: str) -> Coupon:
    if row is None:
        raise NotFound("coupon", f"…{code[-4:]}", (), field="code")
    return Coupon(
        code=row.code,
        pool=row.pool,
        issued=_instant(row.issued_us),
        task=row.task,
        run=row.run,
        user_mark=row.user_mark,
        begins=_instant(row.from_us),
        ends=_instant(row.until_us),
        uses=row.uses,
    )


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)
