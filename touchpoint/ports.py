"""What this room needs of the outside: a ledger of exposures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from kernel.caps import Caps
from kernel.contact import Cap
from kernel.exposure import Refusal, Reservation


class Ledger(Protocol):
    """Reserved and confirmed touches per user. A cap holds under any number of threads and processes,
    together with what is decided in real time.

    A reservation counts from the moment it is granted until it is released or expires; a confirmed touch
    counts for as long as any cap looks back. A user's part of a call is one atomic step. When the store does
    not answer, every method raises Unavailable: nobody may send on an answer that never came. What had been
    done by then goes on counting, and asking again with the same ids is safe.

    `caps` may be compiled (`kernel.caps.Caps`), which saves the time of doing so in each call.
    """

    def reserve(
        self, wish: Reservation, *, caps: Sequence[Cap] | Caps, expires_at: datetime | None = None
    ) -> Refusal | None:
        """Grants the wish (None) or says what refuses it. Granting twice counts once.

        Outage: Unavailable; the touch must not be sent (fails closed). Asking again with the same
        `touch_id` is safe, whether or not the first request had come through.
        """
        ...

    def reserve_many(
        self,
        wishes: Sequence[Reservation],
        *,
        caps: Sequence[Cap] | Caps,
        expires_at: datetime | None = None,
        replaces: str | None = None,
    ) -> dict[str, Refusal]:
        """Admits each user's wishes in order of (`at`, `touch_id`); touch_id → refusal for the others.

        A live reservation asked for again stands; one asked for at another time moves if that fits, and
        is released if not. A confirmed touch asked for at another time is refused as `ALREADY_SENT`.

        `replaces` names a plan whose unconfirmed reservations these wishes stand in for: a user's are
        released in the step that admits hers, so planning a day again is planning it once.
        Raises BadInput for an id that is given twice or belongs to another user: then nothing is granted.
        Outage: Unavailable; some of the wishes may be held, and none may be sent.
        """
        ...

    def confirm(self, touch_ids: Collection[str]) -> None:
        """The touches were handed over. Again: nothing changes. All are looked at before any is changed.

        Raises BadInput for an unknown id, Stale for one that was released or has expired.
        Outage: Unavailable; reservations stand and go on counting until they expire.
        """
        ...

    def release(self, touch_ids: Collection[str]) -> None:
        """The touches will not be handed over; they count no more. Again: nothing changes. All are looked at
        before any is changed.

        Raises BadInput for an unknown id, Stale for one that is confirmed: it cannot be unsent.
        Outage: Unavailable; reservations go on counting (fails closed).
        """
        ...

    def refusal(self, wish: Reservation, *, caps: Sequence[Cap] | Caps) -> Refusal | None:
        """What `reserve` would say now, without reserving."""
        ...

    def states(self, touch_ids: Collection[str]) -> Mapping[str, str]:
        """touch_id → `reserved`, `confirmed`, `released`, `expired` or `unknown`."""
        ...

    def held(self, *, users: Iterable[str], since: datetime, until: datetime) -> pl.DataFrame:
        """What counts of these users, with `since` < at ≤ `until`, in order of time: touch_id, user (text),
        channel, message_class, at, state, activity, task, plan. Touches of decisions in real time have no id,
        and an id that is not sixteen hexadecimal digits is told as its `kernel.ids.short_id`."""
        ...

    def expire(self) -> int:
        """Lets go of what is kept no more, in the store and in its log; how many."""
        ...

    def forget(self, user: str) -> None:
        """Everything that is held of a user; again, it finds nothing."""
        ...

    def close(self) -> None: ...
