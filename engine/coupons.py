"""Coupons of a workspace: pools as they are defined, codes as they are issued, redeemed and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from engine.wiring import Workspace
from kernel.clock import parse_window
from kernel.errors import BadInput, GrowthError, NotFound
from kernel.ids import short_id
from storage.activity_step import ActivityStep
from storage.coupons import Coupon, Coupons, Redemption
from touchpoint.api import (
    LONGEST_CODE,
    Basket,
    CouponPool,
    No,
    basket_refusal,
    mistyped,
    new_code,
    shown,
)

_MICROSECOND = timedelta(microseconds=1)


class Refused(GrowthError):
    """A coupon that is not redeemed."""

    def __init__(self, no: No) -> None:
        self.no = no
        super().__init__(no.reason)


@dataclass(frozen=True, kw_only=True)
class Redeeming:
    """The wish to redeem a code."""

    code: str
    #: the same redemption has the same id, however often it is asked for
    redemption_id: str
    #: who redeems; None: not told
    user: str | None = None
    order_id: str | None = None
    basket: Basket = field(default_factory=Basket)


class CouponDesk:
    """Every method raises Unavailable when the database does not answer: then nothing was done."""

    def __init__(self, workspace: Workspace) -> None:
        self._space, self._store = workspace, Coupons(workspace.database)

    def pool(self, name: str) -> CouponPool:
        """Raises NotFound."""
        pools = {each.name: each for each in self._space.definitions().of(CouponPool)}
        if name not in pools:
            raise NotFound("coupon pool", name, pools, field="pool")
        return pools[name]

    def bring(self, name: str, file: Path) -> int:
        """Codes of a file, one a line; how many were new. Raises BadInput naming the line; then none is."""
        pool = self.pool(name)
        if pool.codes != "file":
            raise BadInput("makes its own codes", where=f"pool {name}", field="codes", value=pool.codes)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot be read: {error}", field="FILE", value=str(file)) from None
        codes = list[str]()
        for number, line in enumerate(lines, 1):
            code = line.strip()
            if not code:
                continue
            if len(code) > LONGEST_CODE or not code.isascii() or any(c.isspace() or c == "/" for c in code):
                raise BadInput(
                    f"is no code (ASCII without blanks and '/', at most {LONGEST_CODE} characters)",
                    where=str(file), field="line", value=number,
                )  # fmt: skip
            codes.append(code)
        if not codes:
            raise BadInput("holds no codes", field="FILE", value=str(file))
        return self._store.add(name, codes, at=self._space.clock.now(), most=pool.size)

    def make(self, name: str, many: int) -> int:
        """New codes of a generated pool, before anybody needs them. Raises BadInput past its size."""
        pool = self.pool(name)
        if pool.codes != "generated":
            raise BadInput("has codes of a file", where=f"pool {name}", field="codes", value=pool.codes)
        if many < 1:
            raise BadInput("is less than 1", field="MANY", value=many)
        codes = [new_code(pool) for _ in range(many)]
        return self._store.add(name, codes, at=self._space.clock.now(), most=pool.size)

    def issue(self, name: str, wishes: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Coupon]:
        """A code for each (task, run, user), the same one whenever it is asked for; who is missing got none,
        for the pool is at its end. Raises NotFound for a pool that nobody defined."""
        pool, now, space = self.pool(name), self._space.clock.now(), self._space
        marks = {(task, run, space.tombstones.mark(user)): (task, run, user) for task, run, user in wishes}
        begins, ends = pool.span(now, space.settings.zone)
        made = partial(_some, pool) if pool.codes == "generated" else None
        got = self._store.issue(
            name, list(marks), at=now, begins=begins, ends=ends, make=made, most=pool.size
        )
        return {marks[wish]: coupon for wish, coupon in got.items()}

    def reward(self, step: ActivityStep, name: str, task: str, run: str, user: str) -> str | None:
        """A code for what a participant has earned, in the transaction that gives it: always the same one.
        None: the pool is at its end. Raises NotFound for a pool that nobody defined."""
        pool, now = self.pool(name), self._space.clock.now()
        begins, ends = pool.span(now, self._space.settings.zone)
        made = partial(_some, pool) if pool.codes == "generated" else None
        mark = self._space.tombstones.mark(user)
        return step.issue(name, task, run, mark, at=now, begins=begins, ends=ends, make=made, most=pool.size)

    def redeem(self, asked: Redeeming) -> tuple[Redemption, CouponPool]:
        """Once for each id. Raises Refused saying why not, NotFound for a code that nobody knows, BadInput
        for an id that was used for another code."""
        space, now = self._space, self._space.clock.now()
        coupon = self._find(asked.code)
        pool = self.pool(coupon.pool)
        mark = None if asked.user is None else space.tombstones.mark(asked.user)
        in_group = pool.group is None or (asked.user is not None and self._is_member(pool.group, asked.user))

        def judge(coupon: Coupon, used: int) -> None:
            no = _refusal(pool, coupon, mark, used, now, space) or basket_refusal(pool, asked.basket)
            if no is None and not in_group:
                no = No(
                    rule="group", reason=f"the coupon is for group {pool.group}, and the user is not in it"
                )
            if no is not None:
                raise Refused(no)

        done = self._store.redeem(
            asked.code, redemption_id=asked.redemption_id, user_mark=mark, order_id=asked.order_id,
            amount=asked.basket.amount, at=now, judge=judge,
        )  # fmt: skip
        return done, pool

    def reverse(self, code: str, redemption_id: str | None) -> Redemption:
        """Gives the use back, once. Raises NotFound, Stale when it is too late."""
        pool = self.pool(self._find(code).pool)
        within = parse_window(pool.reversible) // _MICROSECOND
        return self._store.reverse(
            code, redemption_id=redemption_id, at=self._space.clock.now(), within=within
        )

    def look(self, code: str) -> dict[str, Any]:
        """How a code stands, for whoever shows it at a till."""
        coupon, now = self._find(code), self._space.clock.now()
        pool = self.pool(coupon.pool)
        no = _refusal(pool, coupon, coupon.user_mark, 0, now, self._space)
        return {
            "code": code,
            "pool": coupon.pool,
            "label": pool.title,
            "issued": coupon.issued,
            "valid_from": coupon.begins,
            "valid_until": coupon.ends,
            "uses": coupon.uses,
            "uses_left": max(0, pool.uses - coupon.uses),
            "redeemable": no is None,
            "rule": None if no is None else no.rule,
            "reason": None if no is None else no.reason,
            "redemptions": [
                {"redemption_id": each.redemption_id, "at": each.at, "reversed": each.reversed}
                for each in self._store.uses_of(code)
            ],
        }

    def totals(self) -> list[dict[str, Any]]:
        return self._store.totals(self._space.clock.now())

    def redeemed(self, pool: str) -> dict[str, int]:
        return self._store.redeemed_codes(pool)

    def known(self, pool: str, codes: Sequence[str]) -> set[str]:
        return self._store.codes_of(pool, codes)

    def _find(self, code: str) -> Coupon:
        try:
            return self._store.find(code)
        except NotFound:
            pools = self._space.definitions().of(CouponPool)
            slip = any(
                pool.prefix and code.startswith(pool.prefix) and mistyped(pool, code) for pool in pools
            )
            if slip:
                raise NotFound("coupon, mistyped", shown(code), (), field="code") from None
            raise

    def _is_member(self, group: str, user: str) -> bool:
        """By the published version that is in force. Raises NotFound when there is none."""
        version = self._space.groups.current(group)
        if version is None:
            raise NotFound("published group", group, self._space.groups.names(), field="group")
        from pyroaring import BitMap

        try:
            number = self._space.dictionary.position(user)
        except NotFound:
            return False
        return number in BitMap.deserialize(self._space.groups.members(version))


def _some(pool: CouponPool, many: int) -> list[str]:
    return [new_code(pool) for _ in range(many)]


def _refusal(
    pool: CouponPool, coupon: Coupon, mark: str | None, used: int, now: datetime, space: Workspace
) -> No | None:
    """By the code's own state."""

    def wall(at: datetime) -> str:
        return at.astimezone(space.settings.zone).isoformat(sep=" ", timespec="minutes")

    if coupon.issued is None and pool.bound:
        return No(rule="issued", reason="the coupon was not issued to anybody yet")
    begins, ends = coupon.begins, coupon.ends
    if coupon.issued is None:  # it is nobody's in particular
        begins, ends = pool.span(now, space.settings.zone)
    if begins is not None and now < begins:
        return No(rule="from", reason=f"the coupon is valid from {wall(begins)}")
    if ends is not None and now >= ends:
        return No(rule="until", reason=f"the coupon was valid until {wall(ends)}")
    if pool.bound and mark != coupon.user_mark:
        return No(rule="bound", reason="the coupon is another user's, or it was not said whose it is")
    if coupon.uses >= pool.uses:
        times = "was redeemed already" if pool.uses == 1 else f"was redeemed {coupon.uses} times already"
        return No(rule="uses", reason=f"the coupon {times}")
    if pool.uses_per_user is not None and mark is None:
        return No(
            rule="uses_per_user", reason="it was not said who redeems, and uses by one user are bounded"
        )
    if pool.uses_per_user is not None and used >= pool.uses_per_user:
        return No(rule="uses_per_user", reason=f"the user has redeemed {used} of these coupons already")
    return None


def redemption_id_of(code: str, order_id: str | None) -> str:
    """Of a caller who gives none: one redemption for each code and order."""
    return f"order-{short_id(code, order_id)}"
