"""What deciders and the ledger share, opened; where it lost everything, it is told again first."""

from __future__ import annotations

import logging
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING

from engine.day_pacing import DayPacing
from engine.journal_keeping import KEEP, keep_for
from engine.policies import reward_rules
from engine.prices import prices
from kernel.clock import micros
from kernel.contact import HOLD, Cap, hold_for
from kernel.errors import BadInput, Unavailable
from realtime.api import BudgetDefinition, DecisionIds, OnlineStore, retell
from storage.exposures_lmdb import LmdbLedger
from storage.journal import FileJournalReader
from storage.ledger_import import import_touches
from storage.online_lmdb import LmdbOnlineStore

if TYPE_CHECKING:
    from engine.wiring import Workspace
    from touchpoint.api import Ledger

#: one at a time in a process, so that nobody asks a store that is only half told
_OPENING = Lock()
#: sessions are held until they are idle
IDLE = timedelta(minutes=30)
#: what a remote store may use of a decision's deadline, in each of its two rounds
_PATIENCE = 0.4
#: a call of the ledger over the network waits so long at most, seconds
_LEDGER_PATIENCE = 5.0
_MICROSECOND = timedelta(microseconds=1)

_log = logging.getLogger(__name__)


def open_online(space: Workspace) -> OnlineStore:
    """Raises BadInput for an address that is none, Unavailable."""
    with _OPENING:
        keep, hold = keep_for(reward_rules(space)), hold_for(space.definitions().of(Cap))
        store = open_store(space, keep, hold)
        if store.anew:
            _tell_again(space, store, max(keep, hold))
            store.ready()
        return store


def open_store(space: Workspace, keep: timedelta = KEEP, hold: timedelta = HOLD) -> OnlineStore:
    """As the settings say, and as it is: it may have lost everything. Raises BadInput for an address that is
    none, Unavailable."""
    url = space.settings.store
    kept, held, idle = keep // _MICROSECOND, hold // _MICROSECOND, IDLE // _MICROSECOND
    if "://" not in url:
        return LmdbOnlineStore(space.root / url, keep=kept, hold=held, idle=idle)
    try:
        from storage.online_redis import RedisOnlineStore
    except ImportError:
        raise BadInput(
            "needs redis-py: pip install 'growth-decision-engine[redis]'", field="store", value=url
        ) from None
    patience = _PATIENCE * space.settings.deadline
    return RedisOnlineStore(url, keep=kept, hold=held, idle=idle, patience=patience)


def open_ledger(space: Workspace) -> Ledger:
    """The exposure ledger where the setting `store` says. Raises BadInput, Unavailable."""
    ledger: Ledger
    store = open_online(space)
    if isinstance(store, LmdbOnlineStore):
        ledger = _embedded(space, store)
    else:
        from storage.exposures_redis import RedisLedger

        store.close()
        hold = hold_for(space.definitions().of(Cap)) // _MICROSECOND
        ledger = RedisLedger(space.settings.store, hold=hold, patience=_LEDGER_PATIENCE, clock=space.clock)
    told = import_touches(space.database, ledger)
    if told:
        _log.info("%d touches of the ledger that was in SQL are taken over", told)
    return ledger


def _embedded(space: Workspace, store: LmdbOnlineStore) -> LmdbLedger:
    folder = space.root / "var" / "ledger"
    return LmdbLedger(store, folder, clock=space.clock, durability=space.settings.durability)


def _tell_again(space: Workspace, store: OnlineStore, known: timedelta) -> None:
    """Touches by the ledger's log, then decisions by their journals, and what they spent of budgets."""
    if isinstance(store, LmdbOnlineStore):
        ledger = _embedded(space, store)
        touches = ledger.tell_again()
        ledger.close()
        _log.info("the ledger was told again of %d touches by its log", touches)
    definitions, pacing = space.definitions(), DayPacing(space, store)
    try:
        planned = prices(space)
    except Unavailable:
        planned = {}
    pacing.look(definitions.of(BudgetDefinition), planned)
    ids = DecisionIds(bytes.fromhex(space.tombstones.mark("\0ids of decisions")))

    def spent_again(resource: str, amount: float, decision_id: str) -> bool:
        decided = ids.opened(decision_id)
        return decided is None or decided[0] < pacing.opened() or pacing.spend(resource, amount, decision_id)

    since = micros(space.clock.now()) - known // _MICROSECOND
    told = retell(FileJournalReader(space.journal), store, since, spent_again)
    _log.info("what is shared was told again by %d records of the journals", told)
