"""Budgets through the day: prices that rise when too much is spent too early, and a ceiling that holds.

Dual mirror descent: Balseiro, Lu, Mirrokni, The Best of Many Worlds: Dual Mirror Descent for Online
Allocation Problems, Operations Research, 2023, in its lazy form (follow the regularised leader) and along a
path that need not be even: Balseiro, Kumar, Mirrokni, Sivan, Wang, Robust Budget Pacing with a Single
Sample, ICML 2023. With the square as regulariser around the plan's price p the price at an instant is

    max(0, p + step · (spent − due)),    step = stiffness · worth / √(budget · usual spend)

so it depends on sums alone: spends commute, and workers in any interleaving come to the same price. The
step is of the order 1/√(number of uses), which makes regret grow with the root of the traffic.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Literal, Protocol

from kernel.clock import Clock, aware, micros
from kernel.errors import BadInput, NotFound, Unavailable

#: sums are kept in whole millionths of a unit: exact, in any order
_MILLION = 1_000_000
#: a double, as stores compare with, holds every whole number of millionths up to here
_MOST = 9e9

_log = logging.getLogger(__name__)

Spending = Literal["spent", "repeated", "refused"]


class Budgets(Protocol):
    """What workers share of budgets, each named NAME@(seconds since 1970 at which it opens); amounts in whole
    millionths. Every method raises Unavailable when the store does not answer."""

    def spend(self, budget: str, amount: int, spend_id: str, at_most: int) -> tuple[Spending, int]:
        """One atomic step: spends once an id, and nothing when the sum would pass `at_most`; and what is
        spent now. In an outage it may have been spent: asking again with the same id is safe."""
        ...

    def give_back(self, budget: str, amount: int, spend_id: str) -> int:
        """Undoes a spend of that amount, once; an id that is not spent changes nothing. Tells what is
        spent then."""
        ...

    def totals(self, budgets: Sequence[str], arrived: int) -> Sequence[tuple[int, int]]:
        """Counts `arrived` decisions more in each budget; of each, what is spent and how many came."""
        ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent of a resource between two instants. Raises BadInput for a bad value."""

    #: the resource, as actions name it
    name: str
    #: most that may be spent, in units such as uses
    at_most: float
    #: the plan's price of a unit, in major units of money
    price: float
    #: what the gain of a unit differs by from use to use, in major units: the size of the price's moves
    worth: float
    #: it can be spent in [opens, closes); aware
    opens: datetime
    closes: datetime
    #: shares that are due in parts of equal length of that time, such as 24 hours; they need not sum to one
    path: tuple[float, ...] = (1.0,)
    #: decisions expected in that time; given, the path is followed by their number and not by the clock
    expected: int | None = None
    #: what is usually spent at once, in units
    usual: float = 1.0
    #: what shall be spent at least, in units
    at_least: float = 0.0
    #: how far below zero the price may fall for that, in major units
    subsidy: float = 0.0
    _edges: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least, most in (
            ("at_most", 0.0, _MOST),
            ("price", 0.0, _MOST),
            ("worth", 1e-9, _MOST),
            ("usual", 1e-6, _MOST),
            ("at_least", 0.0, self.at_most),
            ("subsidy", 0.0 if self.at_least == 0 else 1e-9, _MOST),
            ("expected", 1, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BadInput(
                    f"is not within {least:g} and {most:g}", where=self._where, field=name, value=value
                )
        if aware(self.opens, "opens") >= aware(self.closes, "closes"):
            raise BadInput(
                "is not after opens", where=self._where, field="closes", value=self.closes.isoformat()
            )
        total = math.fsum(self.path)
        if not (all(0 <= each < math.inf for each in self.path) and 0 < total < math.inf):
            raise BadInput("is not shares of a budget", where=self._where, field="path", value=self.path)
        edges = [math.fsum(self.path[:end]) / total for end in range(len(self.path) + 1)]
        object.__setattr__(self, "_edges", (*edges[:-1], 1.0))

    @property
    def _where(self) -> str:
        return f"budget {self.name}"

    @property
    def key(self) -> str:
        """What the store knows it by: another day is another budget."""
        return f"{self.name}@{micros(self.opens) // _MILLION}"

    def share(self, passed: float) -> float:
        """Of the budget, due when `passed` of the time or of the traffic is over; 0 … 1, never falling."""
        parts = len(self._edges) - 1
        place = max(0.0, min(1.0, passed)) * parts
        part = min(int(place), parts - 1)
        low, high = self._edges[part], self._edges[part + 1]
        return low + (high - low) * (place - part)

    def price_at(self, spent: float, share: float, stiffness: float) -> float:
        """Of one unit, in major units, when `spent` units are spent and `share` of the budget is due."""
        step = stiffness * self.worth / math.sqrt(max(self.at_most, self.usual) * self.usual)
        price = max(0.0, self.price + step * (spent - share * self.at_most))
        if self.at_least:
            step = stiffness * self.worth / math.sqrt(max(self.at_least, self.usual) * self.usual)
            price -= min(self.subsidy, max(0.0, step * (share * self.at_least - spent)))
        return price


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a budget stands, for people."""

    #: in units
    spent: float
    due: float
    at_most: float
    #: of one unit now, major units; infinite when there is none to be had
    price: float


class Pacing:
    """Prices for each decision, and spending that never passes a ceiling. Safe for threads.

    What is spent is read anew from the store after `refresh`; what this one spends it knows at once. Prices
    are advice, `spend` is the promise: what it refuses must not be shown.
    """

    def __init__(
        self,
        budgets: Iterable[Budget],
        *,
        store: Budgets,
        clock: Clock,
        refresh: timedelta = timedelta(milliseconds=50),
        stiffness: float = 1.0,
    ) -> None:
        self._budgets: dict[str, Budget] = {}
        for each in budgets:
            if each.name in self._budgets:
                raise BadInput("is there twice", where="budgets", field="name", value=each.name)
            self._budgets[each.name] = each
        if not 0 < stiffness < math.inf:
            raise BadInput("is not above 0", where="pacing", field="stiffness", value=stiffness)
        self._store, self._clock, self._stiffness = store, clock, stiffness
        self._refresh = refresh // timedelta(microseconds=1)
        self._keys = [each.key for each in self._budgets.values()]
        self._whole = {name: math.floor(each.at_most * _MILLION) for name, each in self._budgets.items()}
        self._times = {
            name: (micros(each.opens), micros(each.closes)) for name, each in self._budgets.items()
        }
        self._spent = dict.fromkeys(self._budgets, 0)
        self._came = dict.fromkeys(self._budgets, 0)
        self._counting, self._reading = Lock(), Lock()
        self._arrived, self._read_at, self._down = 0, -math.inf, False

    def prices(self) -> dict[str, float]:
        """Resource → price of a unit for the decision that asks, which counts as one that came.

        Infinite, so that nobody takes it, for what is spent, closed, or in a store that does not answer:
        then only actions that use none of it go on.
        """
        with self._counting:
            self._arrived += 1
        now = micros(self._clock.now())
        self._read(now)
        return {name: self._price(name, now) for name in self._budgets}

    def spend(self, budget: str, amount: float, spend_id: str) -> bool:
        """False, and nothing is spent, when the rest is less than `amount` units or the time is not now.
        An id is spent once: again, it is True and nothing changes. Raises NotFound, BadInput, Unavailable."""
        found = self._budgets.get(budget)
        if found is None:
            raise NotFound("budget", budget, self._budgets)
        if not 0 < amount <= _MOST or not (whole := round(amount * _MILLION)):
            raise BadInput("is not above 0", where=f"budget {budget}", field="amount", value=amount)
        opens, closes = self._times[budget]
        if not opens <= micros(self._clock.now()) < closes:
            return False
        done, total = self._store.spend(found.key, whole, spend_id, self._whole[budget])
        with self._counting:  # answers may come out of order
            self._spent[budget] = max(self._spent[budget], total)
        return done != "refused"

    def give_back(self, budget: str, amount: float, spend_id: str) -> None:
        """What `spend` took under an id and nobody was shown; what it did not take changes nothing. Raises
        NotFound, Unavailable."""
        found = self._budgets.get(budget)
        if found is None:
            raise NotFound("budget", budget, self._budgets)
        total = self._store.give_back(found.key, round(amount * _MILLION), spend_id)
        with self._counting:
            self._spent[budget] = min(self._spent[budget], total)

    def standing(self) -> Mapping[str, Standing]:
        """Of every budget, read now. Raises Unavailable."""
        now = micros(self._clock.now())
        self._take(self._store.totals(self._keys, 0))
        return {
            name: Standing(
                spent=self._spent[name] / _MILLION,
                due=each.at_most * each.share(self._passed(name, now)),
                at_most=each.at_most,
                price=self._price(name, now),
            )
            for name, each in self._budgets.items()
        }

    def _price(self, name: str, now: int) -> float:
        opens, closes = self._times[name]
        spent = self._spent[name]
        if self._down or spent >= self._whole[name] or not opens <= now < closes:
            return math.inf
        each = self._budgets[name]
        return each.price_at(spent / _MILLION, each.share(self._passed(name, now)), self._stiffness)

    def _passed(self, name: str, now: int) -> float:
        expected = self._budgets[name].expected
        if expected is not None:
            return (self._came[name] + self._arrived) / expected
        opens, closes = self._times[name]
        return (now - opens) / (closes - opens)

    def _read(self, now: int) -> None:
        """One thread reads; the others go on with what is known. In an outage it is tried again after
        `refresh`, and by nobody before."""
        if now - self._read_at < self._refresh or not self._reading.acquire(blocking=self._read_at < 0):
            return
        try:
            if now - self._read_at < self._refresh:
                return
            with self._counting:
                arrived, self._arrived = self._arrived, 0
            try:
                self._take(self._store.totals(self._keys, arrived))
                self._down = False
            except Unavailable as error:
                with self._counting:
                    self._arrived += arrived
                if not self._down:
                    _log.warning("budgets count as spent: %s", error)
                self._down = True
            self._read_at = now
        finally:
            self._reading.release()

    def _take(self, totals: Sequence[tuple[int, int]]) -> None:
        with self._counting:
            for name, (spent, came) in zip(self._budgets, totals, strict=True):
                self._spent[name], self._came[name] = spent, came


def by_hour(spent: Iterable[tuple[datetime, float]], budget: Budget, *, parts: int = 24) -> tuple[float, ...]:
    """A path from history: what was spent, or would have been at the day's best price, at instants of an
    earlier day (shifted by whole days into the budget's time). Each part gets a hundredth of an even share
    beside, so that no hour that was idle once is shut for ever."""
    opens, closes = micros(budget.opens), micros(budget.closes)
    amounts = [0.0] * parts
    for at, amount in spent:
        if not 0 <= amount < math.inf:
            raise BadInput("is not an amount", where=budget.name, field="amount", value=amount)
        passed = (micros(at) - opens) % (86_400 * _MILLION) / (closes - opens)
        if passed < 1:
            amounts[int(passed * parts)] += amount
    total = math.fsum(amounts)
    even = 0.01 / parts
    return tuple(even + 0.99 * (each / total if total else 1 / parts) for each in amounts)
