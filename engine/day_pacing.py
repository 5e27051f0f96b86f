"""Today's budgets over what deciders share."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from engine.wiring import Workspace
from kernel.clock import micros, start_of_day
from kernel.errors import BadInput, NotFound, Unavailable
from realtime.api import Budget, BudgetDefinition, Budgets, OnlineStore, Pacing, budgets
from storage.budgets_lmdb import LmdbBudgets
from storage.online_lmdb import LmdbOnlineStore

_log = logging.getLogger(__name__)


class DayPacing:
    """`look` again now and then: each day, and each change of a definition, makes budgets anew; what is
    spent of them stays. From midnight until that look nothing that has a budget is shown."""

    def __init__(self, workspace: Workspace, store: OnlineStore) -> None:
        self._space, self._store = workspace, budgets_in(store)
        self._told: tuple[Budget, ...] = ()
        self._pacing = self._paced()
        self._names: frozenset[str] = frozenset()
        #: to be given back, each to the budgets of its day
        self._owed: deque[tuple[Pacing, str, float, str]] = deque()

    def look(self, definitions: Sequence[BudgetDefinition], prices: Mapping[str, float]) -> None:
        """`prices`: resource → price in today's plan."""
        zone = self._space.settings.zone
        day = self._space.clock.now().astimezone(zone).date()
        opens, closes = start_of_day(day, zone), start_of_day(day + timedelta(days=1), zone)
        told = budgets(definitions, prices, opens, closes)
        if told != self._told:
            self._told = told
            self._pacing, self._names = self._paced(), frozenset(each.name for each in told)
        self._settle()

    def prices(self, planned: Mapping[str, float]) -> Mapping[str, float]:
        """The plan's prices, and now's of what has a budget."""
        return {**planned, **self._pacing.prices()} if self._names else planned

    def spend(self, resource: str, amount: float, decision_id: str) -> bool:
        """What has no budget pays its price and is not counted."""
        return resource not in self._names or self._pacing.spend(resource, amount, decision_id)

    def give_back(self, resource: str, amount: float, decision_id: str) -> None:
        """What was spent for a decision that nobody was shown. When the store does not answer it is given
        back later, by `look`; until then, and when this process dies first, it counts as spent."""
        if resource in self._names:
            self._owed.append((self._pacing, resource, amount, decision_id))
            self._settle()

    def opened(self) -> int:
        """Since when what was spent counts, microseconds since 1970."""
        return min((micros(each.opens) for each in self._told), default=0)

    def _settle(self) -> None:
        while self._owed:
            try:
                pacing, resource, amount, decision_id = self._owed.popleft()
            except IndexError:  # another thread was first
                return
            try:
                pacing.give_back(resource, amount, decision_id)
            except NotFound:  # this budget has gone, and what was spent of it
                continue
            except Unavailable as error:
                _log.warning("a use is given back later: %s", error)
                self._owed.append((pacing, resource, amount, decision_id))
                return

    def _paced(self) -> Pacing:
        return Pacing(self._told, store=self._store, clock=self._space.clock)


def budgets_in(store: OnlineStore) -> Budgets:
    """What lies in, or beside, the online store."""
    if isinstance(store, LmdbOnlineStore):
        return LmdbBudgets(store)
    from storage.budgets_redis import RedisBudgets
    from storage.online_redis import RedisOnlineStore

    if not isinstance(store, RedisOnlineStore):
        raise BadInput("holds no budgets", field="store", value=type(store).__name__)
    return RedisBudgets(store.client)
