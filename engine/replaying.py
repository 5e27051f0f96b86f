"""A day that has passed, gone through again: its touches delivered at their own times, in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from engine.delivery_report import publish_delivery
from engine.dispatching import Dispatcher
from engine.receipts import ReceiptService
from engine.wiring import Workspace
from kernel.clock import instant, micros, start_of_day
from kernel.delivery import TouchState
from touchpoint.api import sandbox_receipts

#: what the replay's receipts are told by
SANDBOX = "sandbox"
#: touches that fall into the same quarter of an hour go out together, at its end
_STEP = 15 * 60 * 1_000_000
_MANY = 1000


class ReplayClock:
    """Stands still until it is told to go on."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def pass_time(self, next_us: int) -> None:
        """To the last second of the quarter of an hour in which the next touch is due; never back."""
        end = (next_us // _STEP + 1) * _STEP - 1_000_000
        self._at = max(self._at, instant(max(end, next_us)))


def replay(workspace: Workspace, day: date, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Delivers what waits of a day's plan as if it were that day, with a sandbox's receipts; how that went.

    Everything happens at the time of the replay: quiet hours, the ledger, receipts and their events. What it
    came to is in the plan's folder, in `delivery.json` and in the report. Again: changes nothing.
    """
    clock = ReplayClock(start_of_day(day, workspace.settings.zone))
    space = replace(workspace, clock=clock)
    try:
        dispatcher = Dispatcher(space, say=say, pass_time=clock.pass_time)
        asyncio.run(dispatcher.run(until_empty=True))
        _receipts(space, clock, day)
        found = publish_delivery(space, day.isoformat())
    finally:
        space.ledger.close()
        space.database.dispose()
    return found


def _receipts(space: Workspace, clock: ReplayClock, day: date) -> None:
    """What a sandbox tells of every touch that was accepted, in order of time, once each."""
    rows = space.outbox.outcomes(day.isoformat())
    told = [
        receipt
        for row in rows
        if row["state"] == TouchState.ACCEPTED
        for receipt in sandbox_receipts(row["touch_id"], instant(row["changed_us"]), space.settings.seed)
    ]
    if not told:
        return
    told.sort(key=lambda each: (each.occurred_at, each.receipt_id))
    clock.pass_time(micros(told[-1].occurred_at + timedelta(minutes=1)))
    service = ReceiptService(space)
    for start in range(0, len(told), _MANY):
        service.take(SANDBOX, told[start : start + _MANY])
