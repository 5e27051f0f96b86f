"""The exposure ledger on one machine: in the files that deciders share, so that one promise covers both.

A user's part of a call is one transaction, and many users' parts go together into one while that takes no
more than some milliseconds: deciders wait for nobody longer. LMDB lets one write at a time, over all
processes. What changes is in the log before it is in the store; see `storage.touch_log`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from kernel.caps import LETTERS, Caps
from kernel.clock import Clock, SystemClock, micros
from kernel.contact import Cap
from kernel.exposure import ALREADY_SENT, Refusal, Reservation, refusal
from storage.exposure_records import (
    CONFIRMED,
    HASH,
    RELEASED,
    RESERVED,
    RUN,
    Record,
    drop_places,
    hash_of,
    kept,
    labels_in,
    mark_of,
    pack,
    place_of,
    put_label,
    unpack,
)
from storage.exposure_rules import (
    cannot_settle,
    held_frame,
    in_order,
    of_another_user,
    settling,
    state_of,
    terms,
)
from storage.exposure_single import SEGMENT, SEGMENT_NUMBER, SingleTouches
from storage.group_commit import GroupCommit
from storage.online_lmdb import UNTIL, LmdbOnlineStore, Step, reading
from storage.touch_log import Item, Label, Touched, TouchLog

#: touches in one transaction: some milliseconds
_TOGETHER = 256
_SECOND = 1_000_000
#: users of a plan, in parts
_PLAN = b"p"


class LmdbLedger:
    """Satisfies `touchpoint.ports.Ledger`; safe for threads and processes.

    `durability`: what an answer survives: the `process`, or with `disk` the machine; those who wait for the
    disk at the same time wait together.
    """

    def __init__(
        self,
        store: LmdbOnlineStore,
        log: Path,
        *,
        clock: Clock | None = None,
        durability: Literal["process", "disk"] = "process",
    ) -> None:
        self._store, self._env, self._labels = store, store.env, store.labels
        self._clock = clock or SystemClock()
        self._log = TouchLog(log)
        self._single = SingleTouches(store, self._log)
        self._flusher: GroupCommit[None, None] | None = None
        if durability == "disk":
            self._flusher = GroupCommit(self._flush)

    def close(self) -> None:
        if self._flusher is not None:
            self._flusher.close()
        self._log.close()

    def reserve(
        self, wish: Reservation, *, caps: Sequence[Cap] | Caps, expires_at: datetime | None = None
    ) -> Refusal | None:
        now, rules, expires = terms(self._clock, caps, expires_at)
        decided, no = self._single.reserve(wish, rules, expires, now)
        if not decided:
            return self.reserve_many([wish], caps=rules, expires_at=expires_at).get(wish.touch_id)
        self._durable()
        return no

    def reserve_many(
        self,
        wishes: Sequence[Reservation],
        *,
        caps: Sequence[Cap] | Caps,
        expires_at: datetime | None = None,
        replaces: str | None = None,
    ) -> dict[str, Refusal]:
        now, rules, expires = terms(self._clock, caps, expires_at)
        groups = in_order(wishes)
        if len(groups) > 1:  # a bad one is found before anything is granted
            with Step(self._env, write=False) as get:
                for each in groups.values():
                    _check_owner(get, each)
        refused = dict[str, Refusal]()
        for part in _parts(groups.items()):
            with self._writing(now, rules.longest) as step:
                for _, theirs in part:
                    step.reserve(theirs, rules, expires, replaces, refused)
                for plan in {wish.plan for _, theirs in part for wish in theirs if wish.plan}:
                    step.note_plan(plan, [hash_of(user) for user, _ in part])
        if replaces is not None:
            self._release_others(replaces, {hash_of(user) for user in groups}, now)
        self._durable()
        return refused

    def confirm(self, touch_ids: Collection[str]) -> None:
        self._settle(touch_ids, CONFIRMED)

    def release(self, touch_ids: Collection[str]) -> None:
        self._settle(touch_ids, RELEASED)

    def refusal(self, wish: Reservation, *, caps: Sequence[Cap] | Caps) -> Refusal | None:
        now, rules, _ = terms(self._clock, caps, None)
        with Step(self._env, write=False) as get:
            holders = {"user": hash_of(wish.user), **{e: hash_of(e, i) for e, i in wish.entities.items()}}
            mark = mark_of(wish.touch_id)

            def held(entity: str) -> list[Any]:
                return self._labels.held(get, _run(get, holders[entity]), now, mark)

            return refusal(wish, rules, held)

    def states(self, touch_ids: Collection[str]) -> dict[str, str]:
        now = micros(self._clock.now())
        with Step(self._env, write=False) as get:
            return {each: state_of(self._find(get, each)[1], now) for each in touch_ids}

    def held(self, *, users: Iterable[str], since: datetime, until: datetime) -> pl.DataFrame:
        now, first, last = micros(self._clock.now()), micros(since), micros(until)
        rows = []
        with Step(self._env, write=False) as get:
            name = self._labels.name
            for user in sorted(set(users)):
                for each in _run(get, hash_of(user)):
                    if first < each.at <= last and each.alive(now):
                        channel, *labels = (
                            name(get, n) for n in (each.channel, each.activity, each.task, each.plan)
                        )
                        touch_id = f"{each.mark:016x}" if each.mark else ""
                        rows.append((touch_id, user, channel, chr(each.letter), each.at, each.state, *labels))
        return held_frame(rows)

    def expire(self) -> int:
        now, gone = micros(self._clock.now()), 0
        while (some := self._store.sweep(now, 100)) > 0:
            gone += some
        return gone + self._prune(now)

    def forget(self, user: str) -> None:
        with self._writing(micros(self._clock.now()), 0) as step:
            step.forget(hash_of(user))
            number = step.next_segment()
        mine = hash_of(user)
        self._log.amend(
            number,
            lambda item: not (isinstance(item, Touched) and mine in _split(item.holders)),
        )

    def tell_again(self) -> int:
        """An empty store is told what the log knows; how many touches."""
        told, now = 0, micros(self._clock.now())
        items = (item for number in self._log.numbers() for item in self._log.read(number))
        while some := list(islice(items, _TOGETHER * 8)):
            with self._writing(now, 0, logged=False) as step:
                for item in some:
                    match item:
                        case Label():
                            put_label(step.tx, item.number, item.label)
                            step.new.append((item.number, item.label))
                        case Touched():
                            step.put(item.record, _split(item.holders))
                            told += 1
        with self._writing(now, 0) as step:
            step.next_segment(max(self._log.numbers(), default=0))
        return told

    def _prune(self, now: int) -> int:
        """Takes out of the log what the store keeps no more; how many records. The segment that is written to
        stays: a log that is hardly written to is no longer than that."""
        hold = self._store.hold
        with Step(self._env, write=False) as get:
            raw = get(SEGMENT)
        if raw is None:
            return 0
        return self._log.amend(
            SEGMENT_NUMBER.unpack(raw)[0],
            lambda item: (
                not isinstance(item, Touched) or max(item.record.at, item.record.stamp * _SECOND) + hold > now
            ),
        )

    def _settle(self, touch_ids: Collection[str], to: int) -> None:
        ids = cannot_settle(touch_ids)
        now = micros(self._clock.now())
        if len(ids) == 1 and self._single.settle(ids[0], to, now):
            self._durable()
            return
        with Step(self._env, write=False) as get:
            for touch_id in ids:
                _to_settle(touch_id, self._find(get, touch_id)[1], to, now)
        todo = iter(ids)
        while some := list(islice(todo, _TOGETHER)):
            with self._writing(now, 0) as step:
                for touch_id in some:
                    holders, record = self._find(step.tx.get, touch_id)
                    if record is not None and _to_settle(touch_id, record, to, now):
                        step.put(record._replace(state=to, stamp=now // _SECOND), holders)
        self._durable()

    def _find(self, get: Any, touch_id: str) -> tuple[list[bytes], Record | None]:
        mark = mark_of(touch_id)
        raw = get(place_of(mark))
        if raw is None:
            return [], None
        holders = _split(bytes(raw))
        return holders, next((each for each in _run(get, holders[0]) if each.mark == mark), None)

    def _release_others(self, plan: str, but: set[bytes], now: int) -> None:
        """What the plan had reserved for users whom it names no more."""
        prefix = _PLAN + hash_of(plan)
        users = set[bytes]()
        with reading(self._env) as tx:
            parts = tx.cursor()
            if parts.set_range(prefix):
                for key, value in parts:
                    if bytes(key[: len(prefix)]) != prefix:
                        break
                    users.update(_split(bytes(value)[UNTIL.size :]))
        todo = iter(sorted(users - but))
        while some := list(islice(todo, _TOGETHER)):
            with self._writing(now, 0) as step:
                code = step.number("p", plan)
                for user in some:
                    step.release_plan(user, code, frozenset())

    @contextmanager
    def _writing(self, now: int, longest: int, *, logged: bool = True) -> Iterator[_Writing]:
        with Step(self._env, write=True) as tx:
            step = _Writing(self._store, tx, now, max(self._store.hold, longest))
            yield step
            step.save()
            if logged:
                self._write_log(step)
        self._labels.learn(step.new)

    def _write_log(self, step: _Writing) -> None:
        number = step.segment()
        if not number or step.rolled:
            number = number or step.next_segment()
            self._log.append(number, [Label(*each) for each in labels_in(step.tx)])
        if not step.items:
            return
        labels = [Label(*each) for each in step.new]
        if not self._log.append(number, [*labels, *step.items]):
            self._log.append(step.next_segment(), [Label(*each) for each in labels_in(step.tx)])

    def _durable(self) -> None:
        if self._flusher is not None:
            self._flusher.submit(None).result()

    def _flush(self, waiting: Sequence[None]) -> list[None]:
        self._log.flush()
        return [None] * len(waiting)


class _Writing:
    """What one transaction changes: runs are read once and written once."""

    def __init__(self, store: LmdbOnlineStore, tx: Any, now: int, hold: int) -> None:
        self.tx, self._store, self._labels = tx, store, store.labels
        self._now, self._hold = now, hold
        self._runs: dict[bytes, list[Record]] = {}
        self._changed: set[bytes] = set()
        self.items: list[Item] = []
        #: a segment of the log was begun
        self.rolled = False
        #: labels that got a number
        self.new: list[tuple[int, str]] = []

    def reserve(
        self,
        wishes: Sequence[Reservation],
        caps: Caps,
        expires: int,
        replaces: str | None,
        refused: dict[str, Refusal],
    ) -> None:
        """All wishes of one user, in order."""
        _check_owner(self.tx.get, wishes)
        now, number, mine = self._now, self.number, hash_of(wishes[0].user)
        marks = {mark_of(wish.touch_id): wish for wish in wishes}
        if replaces is not None:
            self.release_plan(mine, number("p", replaces), marks.keys())
        known = {each.mark: each for each in self.run(mine) if each.mark in marks}
        again = {number("p", replaces)} if replaces is not None else set()
        moving = {
            mark
            for mark, record in known.items()
            if record.state == RESERVED
            and record.alive(now)
            and (record.plan in again or not self._stands(record, marks[mark]))
        }
        for mark, wish in marks.items():
            old = known.get(mark)
            if old is not None and mark not in moving and self._stands(old, wish):
                continue
            if old is not None and old.state == CONFIRMED:
                refused[wish.touch_id] = Refusal(touch_id=wish.touch_id, rule=ALREADY_SENT, until=None)
                continue
            holders = {"user": mine}
            if wish.entities:
                holders |= {entity: hash_of(entity, one) for entity, one in wish.entities.items()}

            def held(entity: str, holders: Mapping[str, bytes] = holders) -> list[Any]:
                records = self.run(holders[entity])
                if moving:
                    records = [each for each in records if each.mark not in moving]
                return self._labels.held(self.tx.get, records, now)

            no = refusal(wish, caps, held)
            if no is not None:
                refused[wish.touch_id] = no
                if old is not None and mark in moving:
                    self.put(old._replace(state=RELEASED, stamp=now // _SECOND), self._holders_of(mark, mine))
                continue
            moving.discard(mark)
            record = Record(
                at=micros(wish.at), mark=mark, stamp=now // _SECOND, expires=expires,
                plan=number("p", wish.plan) or number("r", wish.run), task=number("t", wish.task),
                activity=number("a", wish.activity), channel=number("c", wish.channel),
                letter=ord(LETTERS[wish.message_class]), state=RESERVED,
            )  # fmt: skip
            for other in set(self._holders_of(mark, mine)) - set(holders.values()):
                self._replace(other, mark, None)
            self.put(record, list(holders.values()))

    def put(self, record: Record, holders: Sequence[bytes]) -> None:
        """The touch is in this state, for its user and whoever else holds it."""
        for holder in holders:
            self._replace(holder, record.mark, record)
        told = b"".join(holders)
        place = place_of(record.mark)
        if record.mark and self.tx.get(place) != told:
            self.tx.put(place, told)
        self.items.append(Touched(told, record))

    def release_plan(self, user: bytes, plan: int, but: Collection[int]) -> None:
        for each in list(self.run(user)):
            if each.plan == plan and each.state == RESERVED and each.mark not in but:
                released = each._replace(state=RELEASED, stamp=self._now // _SECOND)
                self.put(released, self._holders_of(each.mark, user))

    def forget(self, user: bytes) -> None:
        for each in self.run(user):
            for holder in self._holders_of(each.mark, user)[1:] if each.mark else ():
                self._replace(holder, each.mark, None)
        drop_places(self.tx, user, self.run(user))
        self.tx.delete(RUN + user)
        self._runs.pop(user, None)
        self._changed.discard(user)

    def run(self, holder: bytes) -> list[Record]:
        found = self._runs.get(holder)
        if found is None:
            found = self._runs[holder] = _run(self.tx.get, holder)
        return found

    def number(self, kind: str, name: str | None) -> int:
        return self._labels.number(self.tx, kind, name, self.new)

    def note_plan(self, plan: str, users: Sequence[bytes]) -> None:
        """So that a later version of the plan finds them."""
        told = b"".join(users)
        place = _PLAN + hash_of(plan) + hash_of(told.hex())[:8]
        self._store.put(self.tx, place, self._now + self._hold, told)

    def save(self) -> None:
        for holder in self._changed:
            stay, go, until = kept(self._runs[holder], self._now, self._hold)
            drop_places(self.tx, holder, go)
            if stay:
                self._store.put(self.tx, RUN + holder, until, pack(stay))
            else:
                self.tx.delete(RUN + holder)

    def segment(self) -> int:
        raw = self.tx.get(SEGMENT)
        return 0 if raw is None else int(SEGMENT_NUMBER.unpack(raw)[0])

    def next_segment(self, after: int = 0) -> int:
        number, self.rolled = max(self.segment(), after) + 1, True
        self.tx.put(SEGMENT, SEGMENT_NUMBER.pack(number))
        return number

    def _replace(self, holder: bytes, mark: int, record: Record | None) -> None:
        run = self.run(holder)
        place = next((i for i, each in enumerate(run) if each.mark == mark), None) if mark else None
        if place is not None:
            del run[place]
        if record is not None:
            run.append(record)
        self._changed.add(holder)

    def _holders_of(self, mark: int, user: bytes) -> list[bytes]:
        raw = self.tx.get(place_of(mark))
        return [user] if raw is None else _split(bytes(raw))

    def _stands(self, record: Record, wish: Reservation) -> bool:
        """Held exactly as wished."""
        return (
            record.alive(self._now)
            and record.at == micros(wish.at)
            and chr(record.letter) == LETTERS[wish.message_class]
            and self._labels.name(self.tx.get, record.channel) == wish.channel
        )


def _to_settle(touch_id: str, record: Record | None, to: int, now: int) -> bool:
    """Whether there is something to do. Raises BadInput, Stale when it cannot be done."""
    return settling(touch_id, state_of(record, now), "confirmed" if to == CONFIRMED else "released")


def _run(get: Callable[[bytes], bytes | None], holder: bytes) -> list[Record]:
    raw = get(RUN + holder)
    return [] if raw is None else unpack(raw[UNTIL.size :])


def _check_owner(get: Callable[[bytes], bytes | None], wishes: Sequence[Reservation]) -> None:
    """Raises BadInput for the id of another user's touch."""
    for wish in wishes:
        raw = get(place_of(mark_of(wish.touch_id)))
        if raw is not None and raw[:HASH] != hash_of(wish.user):
            raise of_another_user(wish.touch_id)


def _split(holders: bytes) -> list[bytes]:
    return [holders[i : i + HASH] for i in range(0, len(holders), HASH)]


def _parts(
    groups: Iterable[tuple[str, Sequence[Reservation]]],
) -> Iterator[list[tuple[str, Sequence[Reservation]]]]:
    """So many users as go together into one transaction."""
    part, size = list[tuple[str, Sequence[Reservation]]](), 0
    for group in groups:
        part.append(group)
        size += len(group[1])
        if size >= _TOGETHER:
            yield part
            part, size = [], 0
    if part:
        yield part
