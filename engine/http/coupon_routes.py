"""The routes of coupons. Codes are answered to whoever shows them, and never stand in messages or logs
whole."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from engine.coupons import CouponDesk, Redeeming, Refused
from engine.http.examples import example
from kernel.errors import Stale
from touchpoint.api import Basket

Code = Annotated[str, Path(min_length=1, max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
_REDEEMED = {
    "redeemed": True,
    "redemption_id": "order-1001",
    "pool": "spring",
    "at": "2026-01-15T08:00:00Z",
    "repeated": False,
    "rule": None,
    "reason": None,
}
_ISSUED = {"code": "S-7KQ2M9XW4TBC", "pool": "spring", "valid_from": None, "valid_until": None}


class CouponWish(BaseModel):
    """For whom a code is wanted."""

    model_config = ConfigDict(extra="forbid")

    pool: Text = Field(examples=["spring"])
    user_id: Text = Field(examples=["42"])
    #: for what, and of which run of it: one code for each (task, run, user)
    task: Text = Field(examples=["welcome"])
    run: Text = Field(default="api", examples=["2026-01"])


class CouponIssued(BaseModel):
    """A code that is hers, the same one whenever it is asked for."""

    code: str
    pool: str
    valid_from: datetime | None
    valid_until: datetime | None


class RedeemWish(BaseModel):
    """What a code is redeemed for."""

    model_config = ConfigDict(extra="forbid")

    #: the same redemption has the same id, however often it is asked for
    redemption_id: Text = Field(examples=["order-1001"])
    user_id: Text | None = None
    order_id: Text | None = None
    #: the basket: its amount in major units, its products, and labels of these
    amount: float | None = Field(default=None, ge=0, le=1e12, allow_inf_nan=False)
    products: list[Text] = Field(default=[], max_length=1000)
    labels: list[Text] = Field(default=[], max_length=1000)


class Redeemed(BaseModel):
    """Redeemed, or why not."""

    redeemed: bool
    redemption_id: str
    pool: str | None = None
    at: datetime | None = None
    #: this very redemption had been made before
    repeated: bool = False
    rule: str | None = None
    reason: str | None = None


class ReverseWish(BaseModel):
    """Which redemption is taken back; without an id, the only one that stands."""

    model_config = ConfigDict(extra="forbid")

    redemption_id: Text | None = None


class Reversed(BaseModel):
    """Taken back: the use is free again."""

    redemption_id: str
    at: datetime
    reversed: datetime
    repeated: bool


class CouponSeen(BaseModel):
    """How a code stands."""

    code: str
    pool: str
    label: str
    issued: datetime | None
    valid_from: datetime | None
    valid_until: datetime | None
    uses: int
    uses_left: int
    redeemable: bool
    rule: str | None
    reason: str | None
    redemptions: list[dict[str, Any]]


def coupon_routes(desk: CouponDesk) -> APIRouter:
    router = APIRouter(prefix="/v1/coupons", tags=["touchpoint"])

    @router.post("/issue", responses=example(_ISSUED))
    def issue_coupon(wish: CouponWish) -> CouponIssued:
        """A code of the pool for this user, once for each task and run; 409 when the pool is at its end."""
        key = (wish.task, wish.run, wish.user_id)
        coupon = desk.issue(wish.pool, [key]).get(key)
        if coupon is None:
            raise Stale(f"pool {wish.pool} has no code left")
        return CouponIssued(
            code=coupon.code, pool=coupon.pool, valid_from=coupon.begins, valid_until=coupon.ends
        )

    @router.post("/{code}/redeem", responses=example(_REDEEMED))
    def redeem_coupon(code: Code, wish: RedeemWish) -> Redeemed:
        """Redeems a code once for each redemption_id, or says which rule forbids it."""
        basket = Basket(amount=wish.amount, products=wish.products, labels=wish.labels)
        try:
            done, _ = desk.redeem(
                Redeeming(
                    code=code, redemption_id=wish.redemption_id, user=wish.user_id, order_id=wish.order_id,
                    basket=basket,
                )
            )  # fmt: skip
        except Refused as refused:
            no = refused.no
            return Redeemed(redeemed=False, redemption_id=wish.redemption_id, rule=no.rule, reason=no.reason)
        if done.reversed is not None:
            said = "this redemption was taken back"
            return Redeemed(
                redeemed=False, redemption_id=wish.redemption_id, pool=done.pool, rule="reversed", reason=said
            )
        return Redeemed(
            redeemed=True, redemption_id=done.redemption_id, pool=done.pool, at=done.at, repeated=not done.new
        )

    @router.post("/{code}/reverse")
    def reverse_coupon(code: Code, wish: ReverseWish) -> Reversed:
        """Takes a redemption back, once; 409 when it lies too far back."""
        done = desk.reverse(code, wish.redemption_id)
        when = done.reversed or done.at
        return Reversed(redemption_id=done.redemption_id, at=done.at, reversed=when, repeated=not done.new)

    @router.get("/{code}")
    def read_coupon(code: Code) -> CouponSeen:
        """Whether a code could be redeemed now, apart from what is bought."""
        return CouponSeen(**desk.look(code))

    return router
