"""A world of users who buy, answer touches, tire of them, come and go: one day at a time, all users at once.

Everything that chance decides on a day is drawn for every user before it is known who was touched, so two
policies in worlds of one seed meet the same users with the same moods, and differ only by what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.simulate.households import Households
from engine.simulate.nature import BENEFITS, TOUCHPOINTS, Floats, Nature, Truths
from kernel.events import INSTANT

Whole = NDArray[np.int64]
#: before any purchase
_NEVER = -10_000
_WEEK = 7
#: most that a basket holds
_BASKET = 400.0

TOUCHED = {"user": pl.Int64, "benefit": pl.String, "touchpoint": pl.String}
_ORDERS: dict[str, pl.DataType] = {
    "order_id": pl.Int64(),
    "user_id": pl.Int64(),
    "ordered_at": INSTANT,
    "total": pl.Float64(),
    "discount": pl.Float64(),
}
_OFFERS: dict[str, pl.DataType] = {
    "user_id": pl.Int64(),
    "at": INSTANT,
    "offer": pl.String(),
    "kind": pl.String(),
}


@dataclass(frozen=True, kw_only=True)
class Happened:
    """What became of one day; money in major units."""

    #: order_id, user_id, ordered_at, total, discount
    orders: pl.DataFrame
    #: user_id, at, offer, kind: touches that were seen, and coupons that were used
    seen: pl.DataFrame
    used: pl.DataFrame
    #: margin of everything bought, less the three below
    profit: float
    margin: float
    coupons: float
    touches: float
    opt_outs: float
    sent: int
    left: int


@dataclass(kw_only=True, eq=False)
class World:
    """State of all users, of those who are still to come too; user ids are 1, 2, … in order of arrival."""

    nature: Nature
    homes: Households
    #: day number on which each user comes, and leaves for ever
    comes: Whole
    goes: Whole
    seed: int
    #: the first day
    begin: date
    #: number of the day on which tastes turn
    turn: int
    day: int = 0
    deal: Floats = field(init=False)
    last: Whole = field(init=False)
    load: Floats = field(init=False)
    reachable: Truths = field(init=False)
    #: what was sent to each user on each of the last seven days
    recent: Whole = field(init=False)
    _coupon: Whole = field(init=False)
    _until: Whole = field(init=False)
    _weeks: Whole = field(init=False)
    _extra: Whole = field(init=False)
    _upset: Whole = field(init=False)
    _orders: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        count = len(self.homes)
        self.deal = np.argsort(np.argsort(self.homes.discount)) / max(count - 1, 1)
        self.last = np.full(count, _NEVER)
        self.load = np.zeros(count)
        self.reachable = np.ones(count, np.bool_)
        self.recent = np.zeros((count, _WEEK), np.int64)
        self._coupon, self._until = np.zeros(count, np.int64), np.full(count, -1)
        self._weeks = np.zeros(count, np.int64)
        self._extra, self._upset = np.full(count, -1), np.full(count, -1)

    @property
    def date(self) -> date:
        return self.begin + timedelta(days=self.day)

    @property
    def here(self) -> Truths:
        """Who has come by today; an operator cannot tell who has left."""
        return self.comes <= self.day

    @property
    def due(self) -> Floats:
        """Days since the last purchase in usual gaps."""
        return (self.day - self.last) * self.homes.rate

    def open(self, at_most: int) -> Truths:
        """Who may be touched today: here, not opted out, fewer than so many touches in seven days."""
        may: Truths = self.here & self.reachable & (self.recent.sum(axis=1) < at_most)
        return may

    def expected(self) -> tuple[Floats, Floats, Floats]:
        """Of every user, had they one touch today: users × benefits × touchpoints: what it adds to profit
        and what of that are costs; and P(buys anyway). Known to nobody inside."""
        nature, due = self.nature, self.due
        basket = np.minimum(np.exp(self.homes.log_mean + np.square(self.homes.log_deviation) / 2), _BASKET)
        anyway = 1 - (1 - self._daily()) ** nature.life
        wins = nature.wins(self.deal, due, self.day >= self.turn) * nature.tired(self.load)[:, None]
        touchy = nature.touchy(self.deal, due)
        face = np.array(nature.face)
        redeems = wins + (1 - wins) * (anyway * nature.taken_along)[:, None]
        seen = wins * (nature.margin * basket)[:, None] - redeems * face
        seen -= (touchy * nature.puts_off * anyway * nature.margin * basket)[:, None]
        seen -= (nature.leaves(touchy, self.load) * nature.opt_out_cost)[:, None]
        reach, price = np.array(nature.reach), np.array(nature.price)
        worth = seen[:, :, None] * reach - price
        cost = (redeems * face)[:, :, None] * reach + price
        return worth, cost, anyway

    def step(self, touched: pl.DataFrame) -> Happened:
        """Lives one day: `touched` are user, benefit, touchpoint of this morning, at most one a user.
        Touches of users who opted out or are not here come to nothing but their price."""
        nature, count, day = self.nature, len(self.homes), self.day
        rng = np.random.default_rng([self.seed, day, 7])
        u, z = rng.random((8, count)), rng.standard_normal((2, count))
        self.load *= np.exp(-1 / nature.forgets)
        self.recent[:, day % _WEEK] = 0
        alive = self.here & (self.goes > day)
        who = touched["user"].to_numpy() - 1
        benefit = _places(touched["benefit"], BENEFITS)
        touchpoint = _places(touched["touchpoint"], TOUCHPOINTS)
        self.recent[who, day % _WEEK] += 1
        reached = (u[0, who] < np.array(nature.reach)[touchpoint]) & alive[who] & self.reachable[who]
        left = self._answer(who[reached], benefit[reached], u, day)
        bought, extra = self._buy(alive, u, day)
        orders = self._baskets(bought, extra, u, z, day)
        coupons, used = self._redeem(bought, extra, u, day)
        margin = nature.margin * float(orders["total"].sum())
        sent = float(np.array(nature.price)[touchpoint].sum())
        lost = left * nature.opt_out_cost
        self.day += 1
        morning = self._instant(day, 8)
        return Happened(
            orders=orders,
            seen=self._offers(who[reached], benefit[reached], self._week(day), morning),
            used=used,
            profit=margin - coupons - sent - lost,
            margin=margin,
            coupons=coupons,
            touches=sent,
            opt_outs=lost,
            sent=len(who),
            left=left,
        )

    def _daily(self) -> Floats:
        return 1 - np.exp(-self.homes.rate)

    def _answer(self, who: Whole, benefit: Whole, u: Floats, day: int) -> int:
        """Who saw a touch: won over, put off, gone; how many opted out."""
        nature, due = self.nature, self.due[who]
        touchy = nature.touchy(self.deal[who], due)
        wins = nature.wins(self.deal[who], due, day >= self.turn)[np.arange(len(who)), benefit]
        won = u[1, who] < wins * nature.tired(self.load[who])
        self._extra[who[won]] = day + (u[2, who[won]] * nature.life).astype(np.int64)
        self._upset[who[u[3, who] < touchy]] = day + nature.life - 1
        self._coupon[who], self._until[who] = benefit, day + nature.life - 1
        self._weeks[who] = self._week(day)
        gone = who[u[4, who] < nature.leaves(touchy, self.load[who])]
        self.reachable[gone] = False
        self.load[who] += 1
        return len(gone)

    def _buy(self, alive: Truths, u: Floats, day: int) -> tuple[Truths, Truths]:
        """Who buys as ever, and who makes a purchase more."""
        put_off = (self._upset >= day) & (u[6] < self.nature.puts_off)
        usual = alive & ((u[5] < self._daily()) & ~put_off | (self.comes == day))
        return usual, alive & (self._extra == day)

    def _baskets(self, bought: Truths, extra: Truths, u: Floats, z: Floats, day: int) -> pl.DataFrame:
        parts = [np.flatnonzero(bought), np.flatnonzero(extra)]
        who = np.concatenate(parts)
        mood = np.concatenate([z[0, parts[0]], z[1, parts[1]]])
        total = np.minimum(np.exp(self.homes.log_mean[who] + self.homes.log_deviation[who] * mood), _BASKET)
        total = np.round(np.maximum(total, 0.5), 2)
        off = self.homes.discount[who]
        discount = np.round(total * off / (1 - np.minimum(off, 0.9)), 2)
        second = np.round((9 + 11 * u[7, who]) * 3600).astype(np.int64)
        at = self._instant(day, 0) + second * 1_000_000
        self.last[who] = day
        numbers = self._orders + 1 + np.arange(len(who))
        self._orders += len(who)
        columns = {
            "order_id": numbers,
            "user_id": who + 1,
            "ordered_at": at,
            "total": total,
            "discount": discount,
        }
        return _frame(columns, _ORDERS)

    def _redeem(self, bought: Truths, extra: Truths, u: Floats, day: int) -> tuple[float, pl.DataFrame]:
        """Coupons that purchases of the day take along, one a user."""
        along = bought & (np.modf(u[7] * 1e6)[0] < self.nature.taken_along)
        used = np.flatnonzero((self._until >= day) & (extra | along))
        benefit = self._coupon[used]
        self._until[used] = -1
        rows = self._offers(used, benefit, self._weeks[used], self._instant(day, 21))
        return float(np.array(self.nature.face)[benefit].sum()), rows

    def _offers(self, who: Whole, benefit: Whole, week: Whole | int, at: int) -> pl.DataFrame:
        """A coupon of one week is one offer, as a company's campaigns are."""
        kind = [BENEFITS[each] for each in benefit]
        weeks = np.zeros_like(who) + week
        named = [f"{name} {number}" for name, number in zip(kind, weeks, strict=True)]
        columns = {"user_id": who + 1, "at": np.full(len(who), at), "offer": named, "kind": kind}
        return _frame(columns, _OFFERS)

    def _week(self, day: int) -> int:
        return day // _WEEK

    def _instant(self, day: int, hour: int) -> int:
        """Microseconds since 1970, UTC."""
        return ((self.begin - date(1970, 1, 1)).days + day) * 86_400_000_000 + hour * 3_600_000_000


def _places(names: pl.Series, known: tuple[str, ...]) -> Whole:
    place = {name: at for at, name in enumerate(known)}
    return np.array([place[name] for name in names.to_list()], np.int64)


def _frame(columns: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Column by column: a query for so little waits longer for a thread than it works."""
    return pl.DataFrame([pl.Series(name, columns[name]).cast(kind) for name, kind in schema.items()])


def found_world(
    homes: Households,
    *,
    users: int,
    days: int,
    before: int,
    begin: date,
    seed: int,
    nature: Nature | None = None,
) -> World:
    """Users drawn from these households; `before` days of them are history, then `days` are played, and
    tastes turn in the middle of those."""
    nature = nature or Nature()
    rng = np.random.default_rng([seed, 3])
    arriving = rng.poisson(nature.arrive * users, before + days)
    # who has left during the history is not there any more
    comes = np.concatenate([np.zeros(users, np.int64), np.repeat(np.arange(before + days), arriving)])
    count = len(comes)
    comes[:users] = -rng.integers(0, 400, users)
    goes = np.maximum(comes, 0) + rng.geometric(nature.leave, count)
    return World(
        nature=nature,
        homes=homes.take(rng.integers(0, len(homes), count)),
        comes=comes,
        goes=goes,
        seed=seed,
        begin=begin - timedelta(days=before),
        turn=before + days // 2,
    )
