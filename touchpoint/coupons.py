"""Coupons: pools, codes that nobody guesses, and when one may be redeemed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from kernel.clock import parse_window, start_of_day
from kernel.definitions import Definition, Frozen, Name
from kernel.errors import NotFound
from kernel.work import Benefit, Money, Window

#: letters and digits that nobody takes for one another
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
#: codes that a guess may hit one of, at least, and for each code of the pool
_ALL, _EACH = 2**40, 10**6
#: characters that a code may have
LONGEST_CODE = 64


class Orders(Frozen):
    """The event that names codes, for the reconciliation."""

    #: event of the catalog, and the field of it that holds the code
    event: str
    field: str


class CouponPool(Definition):
    """Codes that are issued once each and redeemed as often as they say, and never past the pool."""

    kind: Literal["coupon_pool"] = "coupon_pool"
    #: `generated`: made when they are needed; `file`: brought by `growth coupons import`
    codes: Literal["generated", "file"] = "generated"
    #: most codes that there may ever be; generated pools need one
    size: int | None = Field(default=None, ge=0)
    #: of generated codes: what they begin with, their characters, how many of these, and whether a last one
    #: follows that a slip of the hand does not keep
    prefix: str = Field(default="", max_length=20, pattern=r"^[A-Za-z0-9_-]*$")
    alphabet: str = ALPHABET
    length: int = Field(default=12, ge=4, le=40)
    check: bool = True
    #: first and last day, on the workspace's wall, on which codes can be redeemed
    valid_from: date | None = None
    valid_to: date | None = None
    #: how long after it was issued a code can be redeemed
    valid_for: Window | None = None
    #: least basket, in major units
    minimum: Money | None = None
    #: the basket must hold one of these products, or one product with one of these labels; empty: any
    products: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    #: whether only the user to whom a code was issued may redeem it
    bound: bool = False
    #: only who is in this group may redeem
    group: Name | None = None
    #: uses of one code, and of all codes of the pool by one user; absent: as many as there are
    uses: int = Field(default=1, ge=1)
    uses_per_user: int | None = Field(default=None, ge=1)
    #: how long after it a redemption can be taken back
    reversible: Window = "14d"
    #: where orders say which code was used, for `growth coupons report`
    orders: Orders | None = None

    @model_validator(mode="after")
    def _sound(self) -> CouponPool:
        if self.valid_from and self.valid_to and self.valid_from > self.valid_to:
            raise ValueError("valid_from is after valid_to")
        if self.codes == "file":
            return self
        if self.size is None:
            raise ValueError("a generated pool needs size, the most codes that there may ever be")
        if len(set(self.alphabet)) < len(self.alphabet) or len(self.alphabet) < 2:
            raise ValueError("alphabet needs two characters or more, each once")
        if not (self.alphabet.isascii() and self.alphabet.isalnum()):
            raise ValueError("alphabet holds other characters than ASCII letters and digits")
        if len(self.alphabet) ** self.length < max(_ALL, _EACH * self.size):
            raise ValueError("length is too short: codes could be guessed")
        return self

    def span(self, issued: datetime, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
        """[from, until) in which a code that is issued then can be redeemed; None: without end."""
        begins = start_of_day(self.valid_from, zone) if self.valid_from else None
        ends = start_of_day(self.valid_to + timedelta(days=1), zone) if self.valid_to else None
        if self.valid_for is not None:
            over = issued + parse_window(self.valid_for)
            ends = over if ends is None else min(ends, over)
        return begins, ends


def check_pools(pools: Iterable[CouponPool], benefits: Iterable[Benefit], groups: Iterable[str]) -> None:
    """Raises NotFound for a benefit of a pool, or a pool for a group, that nobody defined."""
    known, members = {each.name: each for each in pools}, set(groups)
    for benefit in benefits:
        if benefit.pool is not None and benefit.pool not in known:
            raise NotFound("coupon pool", benefit.pool, known, where=f"benefit {benefit.name}", field="pool")
    for pool in known.values():
        if pool.group is not None and pool.group not in members:
            raise NotFound("group", pool.group, members, where=f"coupon pool {pool.name}", field="group")


@dataclass(frozen=True, kw_only=True)
class Basket:
    """What a code is to be redeemed for."""

    #: in major units; None: not told
    amount: float | None = None
    products: Sequence[str] = ()
    #: labels of the products, such as their categories
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class No:
    """Why a code is not redeemed."""

    #: `issued`, `from`, `until`, `uses`, `uses_per_user`, `bound`, `group`, `minimum`, `products`
    rule: str
    #: one sentence
    reason: str


def basket_refusal(pool: CouponPool, basket: Basket) -> No | None:
    """By what is bought."""
    if pool.minimum is not None and (basket.amount is None or basket.amount < pool.minimum):
        had = "no amount was told" if basket.amount is None else f"it is {basket.amount:.2f}"
        return No(rule="minimum", reason=f"the basket must come to {pool.minimum:.2f}; {had}")
    wanted = set(pool.products) | set(pool.labels)
    found = set(pool.products) & set(basket.products) or set(pool.labels) & set(basket.labels)
    if wanted and not found:
        return No(rule="products", reason="the basket holds nothing that the coupon is for")
    return None


def new_code(pool: CouponPool) -> str:
    """Drawn by the machine's own source of secrets."""
    drawn = "".join(secrets.choice(pool.alphabet) for _ in range(pool.length))
    return pool.prefix + drawn + (check_character(drawn, pool.alphabet) if pool.check else "")


def check_character(drawn: str, alphabet: str) -> str:
    """The Luhn algorithm modulo the alphabet's size (ISO/IEC 7812-1, annex B, for any number of characters):
    one changed character is found, and two neighbours exchanged nearly always."""
    size, total = len(alphabet), 0
    for place, character in enumerate(reversed(drawn)):
        number = alphabet.index(character) * (2 if place % 2 == 0 else 1)
        total += number // size + number % size
    return alphabet[-total % size]


def mistyped(pool: CouponPool, code: str) -> bool:
    """Whether a code cannot be one of a generated pool, by its form and check character."""
    body = code.removeprefix(pool.prefix)
    if pool.codes == "file" or not code.startswith(pool.prefix):
        return False
    if len(body) != pool.length + pool.check or not set(body) <= set(pool.alphabet):
        return True
    return pool.check and check_character(body[:-1], pool.alphabet) != body[-1]


def shown(code: str) -> str:
    """A code as it may stand in logs and messages: its last four characters, of at most half."""
    return "…" + code[-min(4, len(code) // 2) :] if len(code) > 1 else "…"
