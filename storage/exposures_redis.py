"""The exposure ledger on several machines: in the Redis or Valkey that deciders share.

All that is held of a user lies on one node and changes in one step. What her household, or another entity,
counts together lies on another: it is asked first and told of a refusal afterwards, so a crash between the
two leaves a touch too many there until it is asked for again or is no more kept, and never one too few. As
durable as the server is told to be (`appendonly yes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import polars as pl
import redis

from kernel.caps import LETTERS, Caps, Room
from kernel.clock import Clock, SystemClock, micros
from kernel.contact import Cap
from kernel.errors import Unavailable
from kernel.exposure import ALREADY_SENT, Refusal, Reservation, refusal
from storage.exposure_lua import REPLACE, RESERVE, ROOM_WORDS, SETTLE, Stored, quoted, room_words
from storage.exposure_records import CONFIRMED, RELEASED, hash_of, mark_of
from storage.exposure_rules import cannot_settle, held_frame, in_order, of_another_user, settling, terms
from storage.online_redis import connect
from storage.redis_wire import Wire, words

#: commands that go to the server together
_TOGETHER = 256
_SECOND = 1_000_000
#: users of touches that are remembered
_REMEMBERED = 10_000
_SAID = {b"R": "reserved", b"C": "confirmed", b"X": "released", b"E": "expired", b"-": "unknown"}
#: an option of redis-py's `SET`: the answer is what was there before
_GET = {"get": True}
#: mark, its user and who else holds it, and the wish
_Asked = tuple[str, tuple[str, ...], Reservation]


class RedisLedger:
    """Satisfies `touchpoint.ports.Ledger`; safe for threads and processes.

    `url`: as `storage.online_redis` has it. `hold`: how long a touch is kept after it was, or last changed,
    microseconds. A call waits `patience` seconds for the server at most.
    """

    def __init__(
        self,
        url: str,
        *,
        hold: int,
        patience: float = 5.0,
        clock: Clock | None = None,
        prefix: str = "growth",
    ) -> None:
        self._hold, self._prefix, self._clock = hold, prefix, clock or SystemClock()
        self.url, self.client = url, connect(url, patience)
        self._plain = {} if isinstance(self.client, redis.RedisCluster) else {"transaction": False}
        self._wire = None if isinstance(self.client, redis.RedisCluster) else Wire(self.client)
        #: mark → user, of touches that were reserved one by one and are likely to be settled next
        self._users = dict[str, str]()
        self._scripts = {text: self.client.register_script(text).sha for text in (RESERVE, SETTLE, REPLACE)}

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self.client.close()

    def reserve(
        self, wish: Reservation, *, caps: Sequence[Cap] | Caps, expires_at: datetime | None = None
    ) -> Refusal | None:
        if self._wire is None or wish.entities or wish.plan:
            return self.reserve_many([wish], caps=caps, expires_at=expires_at).get(wish.touch_id)
        now, rules, expires = terms(self._clock, caps, expires_at)
        return self._reserve_one(self._wire, wish, rules, expires, now)

    def reserve_many(
        self,
        wishes: Sequence[Reservation],
        *,
        caps: Sequence[Cap] | Caps,
        expires_at: datetime | None = None,
        replaces: str | None = None,
    ) -> dict[str, Refusal]:
        now, rules, expires = terms(self._clock, caps, expires_at)
        groups, refused = in_order(wishes), dict[str, Refusal]()
        if len(groups) > 1:  # a bad one is found before anything is granted
            self._check_owners(wish for theirs in groups.values() for wish in theirs)
        if replaces is not None:
            self._replace(replaces, groups, now)
        self._note_plans(groups)
        todo = iter(groups.values())
        while some := list(islice(todo, _TOGETHER)):
            self._reserve(some, rules, expires, now, refused, quoted(f"p{replaces}") if replaces else "")
        return refused

    def confirm(self, touch_ids: Collection[str]) -> None:
        self._settle(touch_ids, CONFIRMED)

    def release(self, touch_ids: Collection[str]) -> None:
        self._settle(touch_ids, RELEASED)

    def refusal(self, wish: Reservation, *, caps: Sequence[Cap] | Caps) -> Refusal | None:
        now, rules, _ = terms(self._clock, caps, None)
        places = {"user": _hex(wish.user), **{e: _hex(e, one) for e, one in wish.entities.items()}}
        told = self._asked([("HGETALL", self._touches(place)) for place in places.values()])
        mine, held = _mark(wish.touch_id).encode(), {}
        for entity, raw in zip(places, told, strict=True):
            stored = {mark: Stored(value) for mark, value in _pairs(raw) if mark != mine}
            held[entity] = [each.held() for each in stored.values() if each.alive(now)]
        return refusal(wish, rules, lambda entity: held[entity])

    def states(self, touch_ids: Collection[str]) -> dict[str, str]:
        now, ids = micros(self._clock.now()), list(touch_ids)
        known = {touch_id: _split(raw) for touch_id, raw in self._places(ids) if raw}
        told = self._asked(
            [("HGET", self._touches(places[0]), _mark(touch_id)) for touch_id, places in known.items()]
        )
        found = dict.fromkeys(ids, "unknown")
        for touch_id, raw in zip(known, told, strict=True):
            found[touch_id] = _state(raw, now)
        return found

    def held(self, *, users: Iterable[str], since: datetime, until: datetime) -> pl.DataFrame:
        now, first, last, rows = micros(self._clock.now()), micros(since), micros(until), []
        todo = iter(sorted(set(users)))
        while some := list(islice(todo, _TOGETHER)):
            told = self._asked([("HGETALL", self._touches(_hex(user))) for user in some])
            for user, raw in zip(some, told, strict=True):
                for mark, value in _pairs(raw):
                    each = Stored(value)
                    if first < each.at <= last and each.alive(now):
                        touch_id = "" if mark[:1] == b"r" else mark.decode()
                        labels = (each.activity, each.task, each.plan[1:])
                        rows.append((touch_id, user, each.channel, each.letter, each.at, each.state, *labels))
        return held_frame(rows)

    def expire(self) -> int:
        """The server does so itself."""
        return 0

    def forget(self, user: str) -> None:
        mine = _hex(user)
        (raw,) = self._asked([("HGETALL", self._touches(mine))])
        marks = [mark.decode() for mark, _ in _pairs(raw)]
        told = self._asked([("GET", self._place(mark)) for mark in marks])
        gone: list[tuple[Any, ...]] = [("DEL", self._touches(mine))]
        for mark, places in zip(marks, told, strict=True):
            gone += [("HDEL", self._touches(each), mark) for each in _split(places)[1:]]
            gone.append(("DEL", self._place(mark)))
        self._asked(gone)

    def _reserve(
        self,
        groups: Sequence[Sequence[Reservation]],
        caps: Caps,
        expires: int,
        now: int,
        refused: dict[str, Refusal],
        replaces: str,
    ) -> None:
        """Some users' wishes: their entities first, where they have any, then they themselves."""
        asked = [[_whose(wish) for wish in theirs] for theirs in groups]
        for name in sorted({entity for theirs in groups for wish in theirs for entity in wish.entities}):
            for theirs in asked:  # in order: users of one household take turns
                some = [
                    each for each in theirs if name in each[2].entities and each[2].touch_id not in refused
                ]
                if some:
                    place = _hex(name, some[0][2].entities[name])
                    (said,) = self._asked([self._call(place, some, name, caps, expires, now, replaces)])
                    self._judge(said, some, name, caps, now, refused)
        left = [[each for each in theirs if each[2].touch_id not in refused] for theirs in asked]
        calls, mine = list[tuple[Any, ...]](), [theirs for theirs in left if theirs]
        for theirs in mine:
            for mark, places, wish in theirs:
                kept = (self._hold + max(0, micros(wish.at) - now)) // 1000 + 1
                calls.append(("SET", self._place(mark), " ".join(places), "NX", "GET", "PX", kept))
            calls.append(self._call(theirs[0][1][0], theirs, "user", caps, expires, now, replaces))
        said = iter(self._asked(calls))
        for theirs in mine:
            owners = [next(said) for _ in theirs]
            answer = next(said)
            for one, owner in zip(theirs, owners, strict=True):
                self._owned(one, _split(owner), now)
            self._judge(answer, theirs, "user", caps, now, refused)
        self._take_back(
            [each for theirs in asked for each in theirs if each[2].touch_id in refused], refused, now
        )

    def _reserve_one(
        self, wire: Wire, wish: Reservation, caps: Caps, expires: int, now: int
    ) -> Refusal | None:
        """Of a user alone: her part of `_reserve`, in two commands and one round trip."""
        mark, user, refused = _mark(wish.touch_id), _hex(wish.user), dict[str, Refusal]()
        at = micros(wish.at)
        kept = (self._hold + max(0, at - now)) // 1000 + 1
        labels = map(quoted, (wish.channel, wish.activity or "", wish.task or "", f"r{wish.run}"))
        rooms = wish.rooms(caps)
        told = [
            "EVALSHA", self._scripts[RESERVE], 1, self._touches(user), now, max(self._hold, caps.longest),
            now // _SECOND, "", 1, mark, at, expires, LETTERS[wish.message_class], *labels,
        ]  # fmt: skip
        owner, answer = self._sent(
            wire,
            (7, words(["SET", self._place(mark), user, "NX", "GET", "PX", kept])),
            (len(told) + 1 + len(rooms) * ROOM_WORDS, words(told) + _packed(rooms)),
        )
        one = (mark, (user,), wish)
        self._owned(one, _split(owner), now)
        self._judge(answer, [one], "user", caps, now, refused)
        if len(self._users) > _REMEMBERED:
            self._users.clear()
        self._users[mark] = user
        return refused.get(wish.touch_id)

    def _owned(self, one: _Asked, owner: Sequence[str], now: int) -> None:
        """Judges who held the touch before. Raises BadInput when that is another user."""
        mark, places, wish = one
        if owner and owner[0] != places[0]:
            self._asked([("HDEL", self._touches(places[0]), mark)])
            raise of_another_user(wish.touch_id)
        if owner and owner != list(places):
            self._moved(mark, owner, places, now)

    def _judge(
        self,
        said: Sequence[Any],
        asked: Sequence[_Asked],
        entity: str,
        caps: Caps,
        now: int,
        refused: dict[str, Refusal],
    ) -> None:
        """Notes which wishes the holder has refused, and until when."""
        for (_, _, wish), became in zip(asked, said[0], strict=True):
            if became == b"sent":
                refused[wish.touch_id] = Refusal(touch_id=wish.touch_id, rule=ALREADY_SENT, until=None)
            elif became == b"full":
                others = {_mark(wish.touch_id).encode()}
                held = [
                    each.held()
                    for each in (Stored(value) for mark, value in _pairs(said[1]) if mark not in others)
                    if each.alive(now)
                ]
                rooms = [room for room in wish.rooms(caps) if room.entity == entity]
                no = refusal(wish, caps, lambda _, held=held: held, rooms)  # type: ignore[misc]  # mypy on defaults
                told = Refusal(touch_id=wish.touch_id, rule=rooms[0].name, until=None)
                refused[wish.touch_id] = told if no is None else no

    def _take_back(self, asked: Sequence[_Asked], refused: Mapping[str, Refusal], now: int) -> None:
        """Whoever had granted what another refused lets go of it; what was sent stays."""
        calls = [
            self._script(SETTLE, self._touches(place), now, now // _SECOND, "X", mark)
            for mark, places, wish in asked
            if refused[wish.touch_id].rule != ALREADY_SENT and len(places) > 1
            for place in places
        ]
        self._asked(calls)

    def _moved(self, mark: str, old: Sequence[str], new: Sequence[str], now: int) -> None:
        """The user's household is another one now."""
        kept = (self._hold * 2) // 1000
        gone = [("HDEL", self._touches(place), mark) for place in old if place not in new]
        self._asked([("SET", self._place(mark), " ".join(new), "PX", kept), *gone])

    def _call(
        self,
        place: str,
        asked: Sequence[_Asked],
        entity: str,
        caps: Caps,
        expires: int,
        now: int,
        replaces: str,
    ) -> tuple[Any, ...]:
        said: list[Any] = [now, max(self._hold, caps.longest), now // _SECOND, replaces, len(asked)]
        for mark, _, wish in asked:
            rooms = [room for room in wish.rooms(caps) if room.entity == entity]
            plan = f"p{wish.plan}" if wish.plan else f"r{wish.run}"
            labels = (wish.channel, wish.activity or "", wish.task or "", plan)
            said += [mark, micros(wish.at), expires, LETTERS[wish.message_class], *map(quoted, labels)]
            said += [len(rooms), *room_words(rooms)]
        return self._script(RESERVE, self._touches(place), *said)

    def _replace(self, plan: str, groups: Mapping[str, Sequence[Reservation]], now: int) -> None:
        """Releases what the plan had reserved and does not ask for again."""
        known = self._plan(plan)
        stay = {_hex(user): [_mark(wish.touch_id) for wish in theirs] for user, theirs in groups.items()}
        (raw,) = self._asked([("SMEMBERS", known)])
        todo = iter(sorted({each.decode() for each in raw}))
        while some := list(islice(todo, _TOGETHER)):
            said = (now // _SECOND, quoted(f"p{plan}"))
            told = self._asked(
                [self._script(REPLACE, self._touches(each), *said, *stay.get(each, ())) for each in some]
            )
            marks = [mark.decode() for each in told for mark in each]
            places = self._asked([("GET", self._place(mark)) for mark in marks])
            calls = [
                self._script(SETTLE, self._touches(place), now, now // _SECOND, "X", mark)
                for mark, raw in zip(marks, places, strict=True)
                for place in _split(raw)[1:]
            ]
            self._asked(calls)

    def _note_plans(self, groups: Mapping[str, Sequence[Reservation]]) -> None:
        """So that a later version of a plan finds its users."""
        users = dict[str, set[str]]()
        for user, theirs in groups.items():
            for plan in {wish.plan for wish in theirs if wish.plan}:
                users.setdefault(plan, set()).add(_hex(user))
        for plan, whose in users.items():
            known, todo = self._plan(plan), iter(sorted(whose))
            while some := list(islice(todo, _TOGETHER)):
                self._asked([("SADD", known, *some), ("PEXPIRE", known, self._hold // 1000 + 1)])

    def _plan(self, plan: str) -> str:
        return f"{self._prefix}:plan:{_hex(plan)}"

    def _settle(self, touch_ids: Collection[str], to: int) -> None:
        ids, now = cannot_settle(touch_ids), micros(self._clock.now())
        name, letter = ("confirmed", "C") if to == CONFIRMED else ("released", "X")
        if len(ids) == 1 and self._settle_one(ids[0], name, letter, now):
            return
        known = {touch_id: _split(raw) for touch_id, raw in self._places(ids)}
        if len(ids) > 1 or any(len(places) > 1 for places in known.values()):
            for touch_id, state in self.states(ids).items():
                settling(touch_id, state, name)
        todo = iter(known.items())
        while some := list(islice(todo, _TOGETHER)):
            calls, whose = [], []
            for touch_id, places in some:
                if not places:
                    settling(touch_id, "unknown", name)
                # who counts together is told first of what is confirmed, and last of what is released
                for place in (*places[1:], places[0]) if letter == "C" else places:
                    said = (now, now // _SECOND, letter, _mark(touch_id))
                    calls.append(self._script(SETTLE, self._touches(place), *said))
                    whose.append((touch_id, place == places[0]))
            for (touch_id, own), (state,) in zip(whose, self._asked(calls), strict=True):
                if own:
                    settling(touch_id, _SAID[state], name)

    def _settle_one(self, touch_id: str, name: str, letter: str, now: int) -> bool:
        """Whether it could be done in one step: of a touch that this process reserved, for its user alone."""
        mark = _mark(touch_id)
        user = self._users.pop(mark, None)
        if self._wire is None or user is None:
            return False
        keys = (self._touches(user), self._place(mark))
        told = ["EVALSHA", self._scripts[SETTLE], 2, *keys, now, now // _SECOND, letter, mark]
        ((state,),) = self._sent(self._wire, (len(told), words(told)))
        if state == b"M":
            return False
        settling(touch_id, _SAID[state], name)
        return True

    def _check_owners(self, wishes: Iterable[Reservation]) -> None:
        todo = iter(wishes)
        while some := list(islice(todo, _TOGETHER)):
            told = self._places([wish.touch_id for wish in some])
            for wish, (_, raw) in zip(some, told, strict=True):
                if raw and _split(raw)[0] != _hex(wish.user):
                    raise of_another_user(wish.touch_id)

    def _places(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        todo = iter(ids)
        while some := list(islice(todo, _TOGETHER)):
            told = self._asked([("GET", self._place(_mark(each))) for each in some])
            yield from zip(some, told, strict=True)

    def _script(self, text: str, *said: Any) -> tuple[Any, ...]:
        """On one key, the first of what is said."""
        return ("EVALSHA", self._scripts[text], 1, *said)

    def _sent(self, wire: Wire, *commands: tuple[int, str]) -> list[Any]:
        try:
            try:
                return wire.asked(*commands)
            except redis.exceptions.NoScriptError:  # the server is a new one; all of it may be repeated
                self._load()
                return wire.asked(*commands)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"the exposure ledger does not answer: {error}") from error

    def _asked(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answers of some commands that go to the server together."""
        if not calls:
            return []
        try:
            try:
                return self._tried(calls)
            except redis.exceptions.NoScriptError:  # the server is a new one; all of it may be repeated
                self._load()
                return self._tried(calls)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"the exposure ledger does not answer: {error}") from error

    def _load(self) -> None:
        for text in self._scripts:
            self.client.script_load(text)

    def _tried(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        if len(calls) == 1:
            return [self.client.execute_command(*calls[0])]
        pipe: Any = self.client.pipeline(**self._plain)
        for call in calls:
            pipe.execute_command(*call, **(_GET if call[0] == "SET" else {}))
        found: list[Any] = pipe.execute()
        return found

    def _touches(self, holder: str) -> str:
        return f"{self._prefix}:{{{holder}}}:x"

    def _place(self, mark: str) -> str:
        return f"{self._prefix}:i:{mark}"


def _whose(wish: Reservation) -> _Asked:
    places = (_hex(wish.user), *(_hex(entity, one) for entity, one in sorted(wish.entities.items())))
    return _mark(wish.touch_id), places, wish


@lru_cache(maxsize=10_000)
def _packed(rooms: tuple[Room, ...]) -> str:
    """How many, and each; a script that refuses needs no names."""
    return words([len(rooms), *("" if isinstance(each, bytes) else each for each in room_words(rooms))])


def _hex(*parts: str) -> str:
    return hash_of(*parts).hex()


def _mark(touch_id: str) -> str:
    return f"{mark_of(touch_id):016x}"


def _split(raw: bytes | None) -> list[str]:
    return [] if not raw else raw.decode().split(" ")


def _pairs(raw: Any) -> Iterator[tuple[bytes, bytes]]:
    """Of a hash, however the protocol tells it."""
    if isinstance(raw, dict):
        yield from raw.items()
    else:
        yield from zip(raw[::2], raw[1::2], strict=True)


def _state(raw: bytes | None, now: int) -> str:
    if raw is None:
        return "unknown"
    stored = Stored(raw)
    state = _SAID[bytes([stored.state])]
    return "expired" if state == "reserved" and not stored.alive(now) else state
