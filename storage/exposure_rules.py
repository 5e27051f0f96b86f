"""What every ledger agrees on besides caps: what may be asked, what may become of a touch, how it is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from kernel.caps import CLASSES, Caps
from kernel.clock import Clock, aware, micros
from kernel.contact import Cap
from kernel.errors import BadInput, Stale
from kernel.events import INSTANT
from kernel.exposure import Reservation
from storage.exposure_records import STATES, Record

_SECOND = 1_000_000


def in_order(wishes: Sequence[Reservation]) -> dict[str, list[Reservation]]:
    """User → wishes in order of (at, id), users in order of their first. Raises BadInput for an id that is
    given twice."""
    groups, seen = dict[str, list[Reservation]](), set[str]()
    for wish in sorted(wishes, key=lambda wish: (wish.at, wish.touch_id)) if len(wishes) > 1 else wishes:
        if wish.touch_id in seen:
            raise BadInput("is given twice", where="ledger", field="touch_id", value=wish.touch_id)
        seen.add(wish.touch_id)
        groups.setdefault(wish.user, []).append(wish)
    return groups


def terms(clock: Clock, caps: Sequence[Cap] | Caps, expires_at: datetime | None) -> tuple[int, Caps, int]:
    """Now in microseconds, caps, and expiry in whole seconds since 1970, rounded up (0: never). Raises
    BadInput when that has passed."""
    now, rules = micros(clock.now()), caps if isinstance(caps, Caps) else Caps(caps)
    if expires_at is None:
        return now, rules, 0
    expires = micros(aware(expires_at, "expires_at"))
    if expires <= now:
        raise BadInput("has passed", where="ledger", field="expires_at", value=str(expires_at))
    return now, rules, -(-expires // _SECOND)


def cannot_settle(touch_ids: Collection[str]) -> list[str]:
    """The ids, each once, when they are a list of ids. Raises BadInput."""
    if isinstance(touch_ids, str):
        raise BadInput(
            "is one id where a list of ids is due", where="ledger", field="touch_ids", value=touch_ids
        )
    return list(dict.fromkeys(touch_ids))


def of_another_user(touch_id: str) -> BadInput:
    return BadInput("belongs to another user", where="ledger", field="touch_id", value=touch_id)


def state_of(record: Record | None, now: int) -> str:
    """`reserved`, `confirmed`, `released`, `expired` or `unknown`."""
    if record is None:
        return "unknown"
    state = STATES[record.state]
    return "expired" if state == "reserved" and not record.alive(now) else state


def settling(touch_id: str, state: str, to: str) -> bool:
    """Whether a touch in this state has to be changed; False when it is so already. Raises BadInput for one
    that nobody reserved, Stale for one that can be that no more."""
    if state == "unknown":
        raise BadInput("was never reserved", where="ledger", field="touch_id", value=touch_id)
    if state == to:
        return False
    if state == "expired" and to == "confirmed":
        raise Stale(f"the reservation of touch {touch_id} has expired; reserve it again")
    if state not in ("reserved", "expired"):
        raise Stale(f"touch {touch_id} is {state}; it cannot be {to} any more")
    return True


def held_frame(rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    """(touch_id, user, channel, letter, at, state, activity, task, plan) as a ledger's `held` has it."""
    return (
        pl.DataFrame(
            [
                (touch_id, user, channel, str(CLASSES[letter]), at, STATES[state], *labels)
                for touch_id, user, channel, letter, at, state, *labels in rows
            ],
            schema={
                "touch_id": pl.String,
                "user": pl.String,
                "channel": pl.String,
                "message_class": pl.String,
                "at": pl.Int64,
                "state": pl.String,
                "activity": pl.String,
                "task": pl.String,
                "plan": pl.String,
            },
            orient="row",
        )
        .with_columns(pl.col("at").cast(INSTANT))
        .sort("at", "touch_id")
    )
