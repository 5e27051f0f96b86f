"""One touch of one user: the commonest call, in one transaction that changes her bytes and nothing else.

What is out of the ordinary (a household, a plan, an id that is known, a label without a number, a run that
may have something to forget) is left to `storage.exposures_lmdb`, which does everything, at twice the cost.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from kernel.caps import LETTERS, Caps
from kernel.clock import micros
from kernel.exposure import Refusal, Reservation, refusal
from storage.exposure_records import (
    CONFIRMED,
    HASH,
    RECORD,
    RESERVED,
    RUN,
    Record,
    hash_of,
    mark_of,
    pack,
    place_of,
    unpack,
)
from storage.exposure_rules import settling, state_of
from storage.online_lmdb import UNTIL, LmdbOnlineStore, Step
from storage.touch_log import TouchLog, touched

#: key and value that say which segment of the log is written to
SEGMENT, SEGMENT_NUMBER = b"J", Struct(">I")
_SECOND = 1_000_000
_MARK = Struct("<Q")
#: from a run's first byte to its first record's mark
_FIRST = UNTIL.size + 8
#: each so many touches of a user what is kept no more is looked for
_TIDY = 16


class SingleTouches:
    """Safe for threads and processes."""

    def __init__(self, store: LmdbOnlineStore, log: TouchLog) -> None:
        self._store, self._env, self._labels, self._log = store, store.env, store.labels, log
        #: segment of the log that has no room
        self._full = 0

    def reserve(self, wish: Reservation, caps: Caps, expires: int, now: int) -> tuple[bool, Refusal | None]:
        """Whether it was decided here, and if so the refusal, or None when it was granted."""
        labels, elsewhere = self._labels, (False, None)
        if wish.entities or wish.plan:
            return elsewhere
        run = labels.known("r", wish.run)
        task, activity = labels.known("t", wish.task), labels.known("a", wish.activity)
        channel = labels.known("c", wish.channel)
        if run is None or task is None or activity is None or channel is None:
            return elsewhere
        user, mark = hash_of(wish.user), mark_of(wish.touch_id)
        place, hold = RUN + user, max(self._store.hold, caps.longest)
        with Step(self._env, write=True) as tx:
            number = self._segment(tx)
            if not number or tx.get(place_of(mark)) is not None:
                return elsewhere
            raw = tx.get(place)
            records = [] if raw is None else unpack(raw[UNTIL.size :])
            if records and (len(records) % _TIDY == 0 or _end(records[0], hold) <= now):
                return elsewhere
            no = refusal(wish, caps, lambda _: labels.held(tx.get, records, now))
            if no is not None:
                return True, no
            record = Record(
                micros(wish.at), mark, now // _SECOND, expires, run, task, activity, channel,
                ord(LETTERS[wish.message_class]), RESERVED,
            )  # fmt: skip
            self._put(tx, number, place, raw, b"" if raw is None else raw[UNTIL.size :], record, hold)
            tx.put(place_of(mark), user)
        return True, None

    def settle(self, touch_id: str, to: int, now: int) -> bool:
        """Whether it was done here. Raises Stale when it cannot be."""
        mark = mark_of(touch_id)
        with Step(self._env, write=True) as tx:
            number, user = self._segment(tx), tx.get(place_of(mark))
            if not number or user is None or len(user) != HASH:
                return False
            raw = tx.get(RUN + user)
            at = -1 if raw is None else _find(raw, mark)
            if at < 0:
                return False
            (record,) = unpack(raw[at : at + RECORD])
            said = "confirmed" if to == CONFIRMED else "released"
            if settling(touch_id, state_of(record, now), said):
                others = raw[UNTIL.size : at] + raw[at + RECORD :]
                record = record._replace(state=to, stamp=now // _SECOND)
                self._put(tx, number, RUN + user, raw, others, record, self._store.hold)
        return True

    def _put(
        self, tx: Any, number: int, place: bytes, old: bytes | None, others: bytes, record: Record, hold: int
    ) -> None:
        """The record is the newest of its run; in the log before it is in the store."""
        packed = pack((record,))
        if not self._log.write(number, touched(place[1:], packed)):
            self._full = number  # the next one goes where a segment can be begun
        until = _end(record, hold)
        if old is not None:
            until = max(until, UNTIL.unpack_from(old)[0])
        self._store.put(tx, place, until, others + packed)

    def _segment(self, tx: Any) -> int:
        """0: there is none yet, or it is full."""
        raw = tx.get(SEGMENT)
        number = 0 if raw is None else int(SEGMENT_NUMBER.unpack(raw)[0])
        return 0 if number == self._full else number


def _end(record: Record, hold: int) -> int:
    """Until when it is kept, microseconds."""
    return max(record.at, record.stamp * _SECOND) + hold


def _find(raw: bytes, mark: int) -> int:
    """Where the touch of this mark begins in a run; −1: nowhere."""
    told, at = _MARK.pack(mark), _FIRST
    while (at := raw.find(told, at)) >= 0:
        if (at - _FIRST) % RECORD == 0:
            return at - 8
        at += 1
    return -1
