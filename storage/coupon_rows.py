"""Tables of coupons. Users are in them by keyed marks only, so that nobody has to be taken out of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from storage.tables import metadata

coupon_codes = Table(
    "coupon_codes",
    metadata,
    Column("code", String(64), primary_key=True),
    Column("pool", String(100), nullable=False),
    #: instants are microseconds since 1970 UTC
    Column("added_us", BigInteger, nullable=False),
    #: to whom, for what; null while it is free
    Column("issued_us", BigInteger),
    Column("task", String(200)),
    Column("run", String(200)),
    Column("user_mark", String(64)),
    #: [from, until) in which it can be redeemed; null: without end
    Column("from_us", BigInteger),
    Column("until_us", BigInteger),
    #: redemptions that stand
    Column("uses", Integer, nullable=False),
    UniqueConstraint("pool", "task", "run", "user_mark"),
)
Index(None, coupon_codes.c.pool, coupon_codes.c.issued_us)

coupon_uses = Table(
    "coupon_uses",
    metadata,
    #: the caller's id of the redemption: the same one again is the same redemption
    Column("redemption_id", String(200), primary_key=True),
    Column("code", String(64), ForeignKey("coupon_codes.code"), nullable=False, index=True),
    Column("pool", String(100), nullable=False),
    Column("user_mark", String(64)),
    Column("order_id", String(200)),
    Column("amount", Float),
    Column("at_us", BigInteger, nullable=False),
    #: taken back; null: it stands
    Column("reversed_us", BigInteger),
)
Index(None, coupon_uses.c.pool, coupon_uses.c.user_mark)
