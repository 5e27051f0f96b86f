"""Coupons in SQL: issued once, redeemed as often as they say, whatever happens in between.

SQLite takes the write lock at the start of a step; PostgreSQL locks the rows of the codes, and of a pool
while it grows. Unique keys hold what is left: a redemption's id, and (pool, task, run, user).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from kernel.clock import instant, micros
from kernel.errors import BadInput, NotFound, Stale
from storage.coupon_issuing import Coupon, Wish, count_of, coupon_of, issue_codes, take_turns
from storage.coupon_rows import coupon_codes, coupon_uses
from storage.database import chunks, reading, writing

__all__ = ["Coupon", "Coupons", "Redemption"]
_WHAT = "the store of coupons"


@dataclass(frozen=True, kw_only=True)
class Redemption:
    """A use of a code."""

    redemption_id: str
    code: str
    pool: str
    user_mark: str | None
    order_id: str | None
    amount: float | None
    at: datetime
    reversed: datetime | None
    #: false when this very redemption had been made before
    new: bool


#: asked inside the step that redeems: raises what forbids it. Given the coupon, and the uses of all codes of
#: the pool by this user that stand
Judge = Callable[[Coupon, int], None]


class Coupons:
    """Every method raises Unavailable when the database does not answer: then nothing was done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, pool: str, codes: Sequence[str], *, at: datetime, most: int | None) -> int:
        """New codes of a pool; how many of them were new. Raises BadInput for one that another pool has, and
        when there would be more than `most`: then none is added."""
        wanted, added = dict.fromkeys(codes), 0
        with self._writing() as connection:
            take_turns(connection, "pool", pool)
            for some in chunks(list(wanted)):
                query = select(coupon_codes.c.code, coupon_codes.c.pool).where(coupon_codes.c.code.in_(some))
                known = {row.code: row.pool for row in connection.execute(query)}
                for code, owner in known.items():
                    if owner != pool:
                        problem = f"is of pool {owner!r} already"
                        raise BadInput(problem, where=f"pool {pool}", field="code", value=f"…{code[-4:]}")
                rows = [
                    {"code": code, "pool": pool, "added_us": micros(at), "uses": 0}
                    for code in some
                    if code not in known
                ]
                if rows:
                    connection.execute(insert(coupon_codes), rows)
                    added += len(rows)
            if most is not None and count_of(connection, pool) > most:
                raise BadInput(
                    f"would have more than its size of {most:,}", where=f"pool {pool}", field="codes"
                )
        return added

    def issue(
        self,
        pool: str,
        wishes: Sequence[Wish],
        *,
        at: datetime,
        begins: datetime | None = None,
        ends: datetime | None = None,
        make: Callable[[int], Sequence[str]] | None = None,
        most: int | None = None,
    ) -> dict[Wish, Coupon]:
        """A code for each (task, run, user's mark), the same one whenever it is asked for. Who is missing in
        the answer got none: the pool is at its end. `make`: new codes, while there are less than `most`."""
        found = dict[Wish, Coupon]()
        for some in chunks(list(dict.fromkeys(wishes))):
            with self._writing() as connection:
                found |= issue_codes(
                    connection, pool, some, at=at, begins=begins, ends=ends, make=make, most=most
                )
        return found

    def redeem(
        self,
        code: str,
        *,
        redemption_id: str,
        user_mark: str | None,
        order_id: str | None,
        amount: float | None,
        at: datetime,
        judge: Judge,
    ) -> Redemption:
        """Once for each id. Raises NotFound, what `judge` raises, and BadInput for an id that was used for
        another code or user."""
        try:
            with self._writing() as connection:
                coupon = self._locked(connection, code)
                known = self._use(connection, redemption_id)
                if known is not None:
                    return _same(known, code, user_mark)
                judge(coupon, self._by_user(connection, coupon.pool, user_mark))
                row = {
                    "redemption_id": redemption_id, "code": code, "pool": coupon.pool, "user_mark": user_mark,
                    "order_id": order_id, "amount": amount, "at_us": micros(at),
                }  # fmt: skip
                connection.execute(insert(coupon_uses), row)
                more = coupon_codes.c.uses + 1
                connection.execute(update(coupon_codes).where(coupon_codes.c.code == code).values(uses=more))
        except IntegrityError:  # the same redemption, at the same time, elsewhere
            with self._reading() as connection:
                known = self._use(connection, redemption_id)
            if known is None:
                raise
            return _same(known, code, user_mark)
        return Redemption(
            redemption_id=redemption_id, code=code, pool=coupon.pool, user_mark=user_mark, order_id=order_id,
            amount=amount, at=at, reversed=None, new=True,
        )  # fmt: skip

    def reverse(self, code: str, *, redemption_id: str | None, at: datetime, within: int) -> Redemption:
        """Takes a redemption back, once: its use is free again. Without an id, the only one that stands.
        Raises NotFound, Stale when it lies more than `within` microseconds back, or several stand."""
        with self._writing() as connection:
            self._locked(connection, code)
            mine = coupon_uses.c.code == code
            if redemption_id is None:
                mine = and_(mine, coupon_uses.c.reversed_us.is_(None))
            else:
                mine = and_(mine, coupon_uses.c.redemption_id == redemption_id)
            rows = connection.execute(select(coupon_uses).where(mine)).all()
            if not rows:
                raise NotFound("redemption", redemption_id or f"of …{code[-4:]}", (), field="redemption_id")
            if len(rows) > 1:
                raise Stale("several redemptions of this code stand; say which one by its redemption_id")
            row = rows[0]
            if row.reversed_us is not None:
                return _redemption(row, new=False)
            if micros(at) - row.at_us > within:
                raise Stale(f"the redemption of {instant(row.at_us)} is too long ago to be taken back")
            one = coupon_uses.c.redemption_id == row.redemption_id
            connection.execute(update(coupon_uses).where(one).values(reversed_us=micros(at)))
            less = coupon_codes.c.uses - 1
            connection.execute(update(coupon_codes).where(coupon_codes.c.code == code).values(uses=less))
        return replace(_redemption(row, new=True), reversed=at)

    def find(self, code: str) -> Coupon:
        """Raises NotFound."""
        with self._reading() as connection:
            row = connection.execute(select(coupon_codes).where(coupon_codes.c.code == code)).first()
        return coupon_of(row, code)

    def uses_of(self, code: str) -> list[Redemption]:
        """All of them, taken back or not, the oldest first."""
        query = select(coupon_uses).where(coupon_uses.c.code == code).order_by(coupon_uses.c.at_us)
        with self._reading() as connection:
            return [_redemption(row, new=False) for row in connection.execute(query)]

    def totals(self, now: datetime) -> list[dict[str, Any]]:
        """By pool and task: codes, free, issued, redeemed (redemptions that stand), reversed, expired
        (issued, over, never redeemed) and outstanding (issued, not over, never redeemed)."""
        codes, uses, at = coupon_codes.c, coupon_uses.c, micros(now)
        issued, unused = codes.issued_us.is_not(None), codes.uses == 0
        over = and_(codes.until_us.is_not(None), codes.until_us <= at)

        def count(condition: Any) -> Any:
            return func.sum(case((condition, 1), else_=0))

        counted = select(
            codes.pool,
            codes.task,
            func.count().label("codes"),
            count(~issued).label("free"),
            count(issued).label("issued"),
            count(and_(issued, unused, over)).label("expired"),
            count(and_(issued, unused, or_(codes.until_us.is_(None), codes.until_us > at))).label(
                "outstanding"
            ),
        ).group_by(codes.pool, codes.task)
        used = (
            select(
                codes.pool,
                codes.task,
                count(uses.reversed_us.is_(None)).label("redeemed"),
                count(uses.reversed_us.is_not(None)).label("reversed"),
            )
            .join_from(coupon_uses, coupon_codes)
            .group_by(codes.pool, codes.task)
        )
        with self._reading() as connection:
            times = {(row.pool, row.task): row for row in connection.execute(used)}
            rows = connection.execute(counted.order_by(codes.pool, codes.task)).all()
        return [
            {
                **{name: getattr(row, name) for name in ("pool", "task", "codes", "free", "issued")},
                "redeemed": int(times[row.pool, row.task].redeemed) if (row.pool, row.task) in times else 0,
                "reversed": int(times[row.pool, row.task].reversed) if (row.pool, row.task) in times else 0,
                "expired": int(row.expired),
                "outstanding": int(row.outstanding),
            }
            for row in rows
        ]

    def redeemed_codes(self, pool: str) -> dict[str, int]:
        """Code → redemptions that stand, of those with any."""
        query = select(coupon_codes.c.code, coupon_codes.c.uses).where(
            coupon_codes.c.pool == pool, coupon_codes.c.uses > 0
        )
        with self._reading() as connection:
            return {row.code: row.uses for row in connection.execute(query)}

    def codes_of(self, pool: str, codes: Sequence[str]) -> set[str]:
        """Those of them that are the pool's."""
        found = set[str]()
        with self._reading() as connection:
            for some in chunks(list(dict.fromkeys(codes))):
                mine = and_(coupon_codes.c.pool == pool, coupon_codes.c.code.in_(some))
                found |= set(connection.execute(select(coupon_codes.c.code).where(mine)).scalars())
        return found

    def _locked(self, connection: Connection, code: str) -> Coupon:
        """Nobody else can redeem it or take it back meanwhile."""
        query = select(coupon_codes).where(coupon_codes.c.code == code).with_for_update()
        return coupon_of(connection.execute(query).first(), code)

    def _by_user(self, connection: Connection, pool: str, user_mark: str | None) -> int:
        if user_mark is None:
            return 0
        take_turns(connection, "user", pool, user_mark)  # her other codes are not locked
        uses = coupon_uses.c
        mine = and_(uses.pool == pool, uses.user_mark == user_mark, uses.reversed_us.is_(None))
        query = select(func.count()).select_from(coupon_uses).where(mine)
        return int(connection.execute(query).scalar_one())

    def _use(self, connection: Connection, redemption_id: str) -> Redemption | None:
        query = select(coupon_uses).where(coupon_uses.c.redemption_id == redemption_id)
        row = connection.execute(query).first()
        return None if row is None else _redemption(row, new=False)

    def _writing(self) -> Any:
        return writing(self._engine, _WHAT)

    def _reading(self) -> Any:
        return reading(self._engine, _WHAT)


def _redemption(row: Any, *, new: bool) -> Redemption:
    return Redemption(
        redemption_id=row.redemption_id,
        code=row.code,
        pool=row.pool,
        user_mark=row.user_mark,
        order_id=row.order_id,
        amount=row.amount,
        at=instant(row.at_us),
        reversed=None if row.reversed_us is None else instant(row.reversed_us),
        new=new,
    )


def _same(known: Redemption, code: str, user_mark: str | None) -> Redemption:
    if (known.code, known.user_mark) != (code, user_mark):
        raise BadInput("was used for another code or user", field="redemption_id", value=known.redemption_id)
    return known
