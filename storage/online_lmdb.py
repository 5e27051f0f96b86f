"""What deciders share, on one machine: LMDB, from any number of its processes.

Nothing waits for the disk: what is granted is with the operating system, so it survives any process. After
the machine itself went down the files may be anything: they are thrown away, `anew` says so, and the journals
tell them again. Users, keys and sessions are there by their hashes only.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree
from struct import Struct
from threading import Lock
from typing import Any

import lmdb
from pydantic_core import from_json, to_json

from kernel.caps import LETTERS, Held, Room, Touches, full
from kernel.contact import MessageClass
from kernel.errors import Unavailable
from storage.exposure_records import CONFIRMED, RECORD, RUN, Labels, Record, drop_places, kept, pack, unpack
from storage.online_rules import recent_of

#: an entry's first bytes: microseconds since 1970 at which its time is over
UNTIL = Struct("<q")
_STEP = Struct("<q")
#: in the index of what ends when, so that the earliest is first
_ENDS = Struct(">q")
_HASH = 16
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: bytes that the files may hold; they grow as they are needed
_MAP = 1 << 36
#: of how entries are written; another one is not read
_FORMAT = "2"
#: touches of one holder that are kept before those whose time is over are looked for
_MANY = 32
_MARKETING = ord(LETTERS[MessageClass.MARKETING])
#: place → what is open in this process, and by how many
_OPEN: dict[str, tuple[Any, int]] = {}
_OPENING = Lock()


class LmdbOnlineStore:
    """Satisfies `realtime.ports.OnlineStore`.

    `keep`: how long answers under keys and ids of outcomes and events are remembered, microseconds; what is
    held of a user is kept for `hold` after its last change. Safe for threads.
    """

    def __init__(self, folder: Path, *, keep: int, hold: int, idle: int, boot: str | None = None) -> None:
        self._keep, self.hold, self._idle = keep, hold, idle
        boot = f"{_FORMAT} " + (boot or (_BOOT.read_text().strip() if _BOOT.exists() else ""))
        self._told, self._boot = folder / "boot", boot
        self._closed = False
        self.labels = Labels()
        self._place = str((folder / "store").resolve())
        folder.mkdir(parents=True, exist_ok=True)
        with _OPENING:
            if self._place in _OPEN:  # LMDB wants a file to be open once in a process
                self.env, others = _OPEN[self._place]
                self.anew = False
            else:
                self.env, others = self._opened(folder), 0
            _OPEN[self._place] = (self.env, others + 1)

    def _opened(self, folder: Path) -> Any:
        """Nobody else in this process has it open."""
        boot = self._boot
        self._lock = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            #: nothing is known: it was never there, or the machine went down since. Nobody else can open it
            #: until `ready` says that it was told again
            self.anew = not self._told.exists() or self._told.read_text() != boot
            if self.anew:
                rmtree(folder / "store", ignore_errors=True)
            # not mapped for writing: that would be a sparse file of the whole size, which every copy fills
            env = lmdb.open(self._place, map_size=_MAP, sync=False, metasync=False, max_readers=1024)
            env.reader_check()  # of processes that were killed
        except (lmdb.Error, OSError) as error:
            self._lock.close()
            raise Unavailable(f"the online store does not open: {error}") from error
        if not self.anew:
            self._lock.close()
        return env

    def ready(self) -> None:
        if self.anew:
            self._told.write_text(self._boot)
            self.anew = False
            self._lock.close()

    def look(
        self, user: str, at: int, *, key: str | None, session: str | None
    ) -> tuple[bytes | None, Touches, int, dict[str, list[int]]]:
        mine = _hash(user)
        with Step(self.env, write=False) as get:
            answer = None if key is None else _live(get(b"k" + _hash(user, key)), at)
            raw = _live(get(RUN + mine), at) or b""
            visit = None if session is None else _live(get(b"s" + _hash(user, session)), at)
            fresh = _live(get(b"e" + mine), at)
        step = _STEP.unpack(visit)[0] if visit else 0
        touches = Touches(len(raw) // RECORD, lambda: self._held(raw, at))
        return answer, touches, step, from_json(fresh) if fresh else {}

    def _held(self, raw: bytes, at: int) -> list[Held]:
        with Step(self.env, write=False) as get:
            return self.labels.held(get, unpack(raw), at)

    def admit(
        self,
        user: str,
        at: int,
        *,
        key: str | None,
        answer: bytes,
        session: str | None,
        channel: str | None,
        rooms: Sequence[Room],
        entities: Mapping[str, str] | None = None,
    ) -> tuple[bytes | None, str | None]:
        place = None if key is None else b"k" + _hash(user, key)
        new: list[tuple[int, str]] = []
        with Step(self.env, write=True) as tx:
            if place is not None and (standing := _live(tx.get(place), at)) is not None:
                return standing, None
            if channel is not None:
                no = self._touch(tx, user, at, channel, rooms, entities, new)
                if no is not None:
                    return None, no
            if session is not None:
                visit = b"s" + _hash(user, session)
                step = _live(tx.get(visit), at)
                self.put(tx, visit, at + self._idle, _STEP.pack(_STEP.unpack(step)[0] + 1 if step else 1))
            if place is not None:
                self.put(tx, place, at + self._keep, answer)
        if new:
            self.labels.learn(new)
        return None, None

    def _touch(
        self,
        tx: Any,
        user: str,
        at: int,
        channel: str,
        rooms: Sequence[Room],
        entities: Mapping[str, str] | None,
        new: list[tuple[int, str]],
    ) -> str | None:
        """Counted, or the name of the cap that has no room."""
        holders = {"user": _hash(user)}
        if entities:
            holders |= {entity: _hash(entity, one) for entity, one in entities.items()}
        runs = {entity: tx.get(RUN + holder) for entity, holder in holders.items()}
        lives = {entity: _live(raw, at) or b"" for entity, raw in runs.items()}
        # a cap that allows more than all that is held has room, whatever that is
        near = [
            room
            for room in (Room(*each) for each in rooms)
            if room.at_most <= len(lives[room.entity]) // RECORD
        ]
        if near:
            no = full(near, at, lambda entity: self.labels.held(tx.get, unpack(lives[entity]), at))
            if no is not None:
                return no.name
        longest = max([self.hold, *(room[2] for room in rooms)])
        touch = Record(at, 0, at // 1_000_000, 0, 0, 0, 0, self.labels.number(tx, "c", channel, new),
                       _MARKETING, CONFIRMED)  # fmt: skip
        one = pack([touch])
        for entity, holder in holders.items():
            packed, until = lives[entity] + one, at + longest
            if lives[entity]:
                until = max(until, UNTIL.unpack_from(runs[entity])[0])
            count = len(packed) // RECORD
            # of so many touches one looks for what is over: each costs the same however many there are
            if count >= _MANY and at % count == 0:
                stay, go, until = kept(unpack(packed), at, longest)
                drop_places(tx, holder, go)
                packed = pack(stay)
            self.put(tx, RUN + holder, until, packed)
        return None

    def reported(self, outcome_id: str) -> bool:
        with Step(self.env, write=False) as get:
            return get(b"o" + _hash(outcome_id)) is not None

    def report(self, outcome_id: str, at: int) -> bool:
        place = b"o" + _hash(outcome_id)
        with Step(self.env, write=True) as tx:
            if tx.get(place) is not None:
                return False
            self.put(tx, place, at + self._keep, b"")
        return True

    def note(self, user: str, event_id: str, name: str, at: int) -> bool:
        place, mine = b"v" + _hash(event_id), b"e" + _hash(user)
        with Step(self.env, write=True) as tx:
            if tx.get(place) is not None:
                return False
            self.put(tx, place, at + self._keep, b"")
            known = _live(tx.get(mine), at)
            recent = recent_of(from_json(known) if known else {}, name, at)
            self.put(tx, mine, at + self._keep, to_json(recent))
        return True

    def forget(self, user: str) -> None:
        """Answers under her keys and her sessions are told by no one whose they are, and hold nothing of her:
        they end by themselves."""
        with Step(self.env, write=True) as tx:
            for kind in (RUN, b"e"):
                tx.delete(kind + _hash(user))

    def sweep(self, at: int, most: int) -> int:
        gone = 0
        with Step(self.env, write=True) as tx:
            cursor = tx.cursor()
            while gone < most and cursor.set_range(b"t"):
                place = bytes(cursor.key())
                if place[:1] != b"t" or _ENDS.unpack_from(place, 1)[0] > at:
                    break
                cursor.delete()
                gone += 1
                entry = place[1 + _ENDS.size :]
                raw = tx.get(entry)
                if raw is None:
                    continue
                until = UNTIL.unpack_from(raw)[0]
                if until <= at:
                    tx.delete(entry)
                    if entry[:1] == RUN:
                        drop_places(tx, entry[1:], unpack(raw[UNTIL.size :]))
                else:  # it was changed since
                    tx.put(b"t" + _ENDS.pack(until) + entry, b"")
        return gone

    def close(self) -> None:
        with _OPENING:
            if self._closed:
                return
            self._closed = True
            users = _OPEN.pop(self._place)[1] - 1
            if users:
                _OPEN[self._place] = (self.env, users)
                return
            with suppress(lmdb.Error):
                self.env.sync(True)
            self.env.close()
            if self.anew:
                self._lock.close()

    def put(self, tx: Any, place: bytes, until: int, value: bytes) -> None:
        """An entry is in the index once; what is changed later is looked at when its first time is over."""
        old = tx.replace(place, UNTIL.pack(until) + value)
        if old is None:
            tx.put(b"t" + _ENDS.pack(until) + place, b"")


class Step:
    """One transaction: its `get` for reading, itself for writing. Too often to be a generator."""

    __slots__ = ("_env", "_tx", "_write")

    def __init__(self, env: Any, *, write: bool) -> None:
        self._env, self._write = env, write

    def __enter__(self) -> Any:
        try:
            self._tx = self._env.begin(write=self._write)
        except lmdb.Error as error:
            raise _down(error) from error
        return self._tx if self._write else self._tx.get

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        try:
            if error is None and self._write:
                self._tx.commit()
            else:
                self._tx.abort()
        except lmdb.Error as broken:
            raise _down(broken) from broken
        if isinstance(error, lmdb.Error):
            raise _down(error) from error


@contextmanager
def reading(env: Any) -> Iterator[Any]:
    """A transaction that reads, for those who need more of it than its `get`."""
    try:
        with env.begin() as tx:
            yield tx
    except lmdb.Error as error:
        raise _down(error) from error


def _down(error: lmdb.Error) -> Unavailable:
    return Unavailable(f"the online store does not answer: {error}")


def _hash(*parts: str) -> bytes:
    text = parts[0] if len(parts) == 1 else "\0".join(parts)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_HASH).digest()


def _live(raw: bytes | None, at: int) -> bytes | None:
    """What an entry holds, unless its time is over."""
    if raw is None or UNTIL.unpack_from(raw)[0] <= at:
        return None
    return raw[UNTIL.size :]
