"""Events that a plan expects and that are not there yet: waited for, then done without, and said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from time import sleep

from engine.plan_models import rhythm_of
from engine.wiring import Workspace
from insight.api import event_range
from kernel.clock import parse_window, start_of_day
from kernel.errors import BadInput

#: seconds between two looks at what is late
_LOOK = 30.0
_USUAL = "1d"


def late_events(workspace: Workspace, day: date) -> tuple[str, ...]:
    """A sentence for each event whose newest line lies longer before the day than `planning` expects."""
    catalog, fresh = workspace.catalog, rhythm_of(workspace).fresh
    purchase = catalog.event_of_role("purchase")
    expected = dict(fresh) or ({} if purchase is None else {purchase: _USUAL})
    begin, zone, late = start_of_day(day, workspace.settings.zone), workspace.settings.zone, []
    for event, window in sorted(expected.items()):
        if event not in catalog.events:
            raise BadInput("is no event of the catalog", where="planning", field="fresh", value=event)
        newest = event_range(catalog, event)[1]
        if newest <= begin - parse_window(window):
            seen = newest.astimezone(zone)
            late.append(f"event {event} is late: its newest line is of {seen:%Y-%m-%d %H:%M}, "
                        f"more than {window} before the day begins")  # fmt: skip
    return tuple(late)


def wait_for_events(
    workspace: Workspace,
    day: date,
    told: Callable[[str], None],
    *,
    patient: bool,
    pause: Callable[[float], None] = sleep,
) -> tuple[str, ...]:
    """What is late when the plan is to begin. A patient one waits for it, as long as `planning` says."""
    wait = rhythm_of(workspace).wait if patient else None
    until = workspace.clock.now() + (timedelta() if wait is None else parse_window(wait))
    while (late := late_events(workspace, day)) and (left := until - workspace.clock.now()) > timedelta():
        told(f"waiting: {late[0]}")
        pause(min(_LOOK, left.total_seconds()))
    return late
