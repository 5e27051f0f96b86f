"""What this room needs of the outside: a ledger of exposures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from kernel.contact import Cap
from kernel.exposure import Refusal, Reservation


class Ledger(Protocol):
    """Reserved and confirmed touches per user. A cap holds under any number of threads and processes.

    A reservation counts from the moment it is granted until it is released or expires; a confirmed
    touch counts for ever. Every method is one atomic step. When the store does not answer, every
    method raises Unavailable and has done nothing: nobody may send on an answer that never came.
    """

    def reserve(
        self, wish: Reservation, *, caps: Sequence[Cap], expires_at: datetime | None = None
    ) -> Refusal | None:
        """Grants the wish (None) or says what refuses it. Granting twice counts once.

        Outage: Unavailable; the touch must not be sent (fails closed). Asking again with the same
        `touch_id` is safe, whether or not the first request had come through.
        """

    def reserve_many(
        self,
        wishes: Sequence[Reservation],
        *,
        caps: Sequence[Cap],
        expires_at: datetime | None = None,
        replaces: str | None = None,
    ) -> dict[str, Refusal]:
        """Admits wishes in order of (`at`, `touch_id`); answers touch_id → refusal for the others.

        A live reservation asked for again stands; one asked for at another time moves if that fits, and
        is released if not. A confirmed touch asked for at another time is refused as `ALREADY_SENT`.

        `replaces` names a plan whose unconfirmed reservations these wishes stand in for: they are
        released in the same step, so planning a day again is planning it once.
        Outage: Unavailable; none of the wishes is granted and nothing is released.
        """

    def confirm(self, touch_ids: Collection[str]) -> None:
        """The touches were handed over. Again: nothing changes. All or none.

        Raises BadInput for an unknown id, Stale for one that was released or has expired.
        Outage: Unavailable; the reservation stands and goes on counting until it expires.
        """

    def release(self, touch_ids: Collection[str]) -> None:
        """The touches will not be handed over; they count no more. Again: nothing changes. All or none.

        Raises BadInput for an unknown id, Stale for one that is confirmed: it cannot be unsent.
        Outage: Unavailable; the reservation goes on counting (fails closed).
        """

    def held(self, *, since: datetime, until: datetime, users: Iterable[str] | None = None) -> pl.DataFrame:
        """What counts, with `since` < at ≤ `until`: touch_id, user (text), channel, message_class, at, state.

        Outage: Unavailable; never an empty frame.
        """
