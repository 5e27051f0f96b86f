"""What deciders share, on several machines: Redis or Valkey, one round trip a call.

All that is held of a user lies under one hash tag, so on one node of a cluster; there are hashes of users,
keys and sessions only. What was granted is as durable as the server is told to be (`appendonly yes`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from time import monotonic
from typing import Any

import redis
from pydantic_core import from_json
from redis.backoff import NoBackoff
from redis.retry import Retry

from kernel.caps import Held, Room, Touches, full
from kernel.errors import BadInput, Unavailable
from storage.exposure_lua import ADMIT, RESERVE, Stored, quoted, room_words
from storage.online_rules import NAMES, NEWEST

#: more touches than so many of a user are fetched only if a cap could be full of them
_FEW = 32
#: after a failure nobody waits for the server for so many seconds
_REST = 1.0
_CLUSTER = "redis+cluster://"
_LOOK = """
local step, events = redis.call('GET', KEYS[3]), redis.call('HGETALL', KEYS[4])
local many = redis.call('HLEN', KEYS[2])
local held = many <= tonumber(ARGV[1]) and redis.call('HVALS', KEYS[2]) or {}
return {redis.call('GET', KEYS[1]), held, step, events, many}
"""
_NOTE = """
if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[3]) then return 0 end
local instants = cjson.decode(redis.call('HGET', KEYS[2], ARGV[1]) or '[]')
table.insert(instants, ARGV[2])
table.sort(instants)
while #instants > tonumber(ARGV[4]) do table.remove(instants, 1) end
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(instants))
if redis.call('HLEN', KEYS[2]) > tonumber(ARGV[5]) then
  local all, oldest, least = redis.call('HGETALL', KEYS[2]), nil, nil
  for each = 1, #all, 2 do
    local list = cjson.decode(all[each + 1])
    if not least or list[#list] < least then oldest, least = all[each], list[#list] end
  end
  redis.call('HDEL', KEYS[2], oldest)
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""


class RedisOnlineStore:
    """Satisfies `realtime.ports.OnlineStore`; safe for threads and processes.

    `url`: as redis-py has it; `redis+cluster://` for a cluster. A call waits at most `patience` seconds, and
    after one that failed all others fail at once for a second: nobody queues for a server that is gone.
    `keep`, `hold`, `idle`: as in `LmdbOnlineStore`. Times to live run by the server's clock.
    """

    #: what it holds is its own to keep
    anew = False

    def __init__(
        self, url: str, *, keep: int, hold: int, idle: int, patience: float = 0.02, prefix: str = "growth"
    ) -> None:
        self._keep, self._hold, self._idle, self._prefix = keep, hold, idle, prefix
        self.client = connect(url, patience)
        self._look = self.client.register_script(_LOOK)
        self._admit = self.client.register_script(ADMIT)
        self._reserve = self.client.register_script(RESERVE)
        self._note = self.client.register_script(_NOTE)
        self._rest, self._lock = 0.0, Lock()

    def look(
        self, user: str, at: int, *, key: str | None, session: str | None
    ) -> tuple[bytes | None, Touches, int, dict[str, list[int]]]:
        keys = self._places(user, key, session)
        answer, held, step, events, many = self._asked(self._look, keys, [_FEW])

        def read() -> list[Held]:
            raw = held if many <= _FEW else self._asked(self.client.hvals, keys[1])
            return sorted(each.held() for each in map(Stored, raw) if each.alive(at))

        recent = {
            _text(name): sorted(map(int, from_json(instants)))
            for name, instants in zip(events[::2], events[1::2], strict=True)
        }
        return (
            answer if key is not None else None,
            Touches(many, read),
            int(step or 0) if session is not None else 0,
            recent,
        )

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
        rooms = [Room(*each) for each in rooms]
        hold = max([self._hold, *(room.window for room in rooms)])
        field = f"r{os.urandom(8).hex()}"
        shared = (
            {}
            if channel is None
            else {name: self._user(f"{name}\0{one}") for name, one in (entities or {}).items()}
        )
        refused = self._held_by(shared, field, at, hold, channel or "", rooms)
        if refused is not None:
            return None, refused
        told = [
            at,
            answer,
            max(1, self._keep // 1000),
            _marked(channel),
            field,
            hold,
            max(1, self._idle // 1000),
            int(key is not None),
            int(session is not None),
        ]
        told += room_words(room for room in rooms if room.entity not in shared)
        became, what = self._asked(self._admit, self._places(user, key, session)[:3], told)
        if became:
            for place in shared.values():
                self._asked(self.client.hdel, f"{place}:x", field)
        if became == 1:
            return what, None
        return None, _text(what) if became == 2 else None

    def _held_by(
        self, shared: Mapping[str, str], field: str, at: int, hold: int, channel: str, rooms: Sequence[Room]
    ) -> str | None:
        """Counted by the household and whoever else counts it, or the name of the cap that has no room. They
        lie on other nodes, so they are asked first: a crash between leaves them a touch too many, never one
        too few."""
        done = list[str]()
        for entity, place in shared.items():
            theirs = [room for room in rooms if room.entity == entity]
            wish = [field, at, 0, "m", quoted(channel), "", "", "", len(theirs), *room_words(theirs)]
            said = self._asked(self._reserve, [f"{place}:x"], [at, hold, at // 1_000_000, "", 1, *wish])
            if said[0] == [b"full"]:
                for each in done:
                    self._asked(self.client.hdel, f"{each}:x", field)
                no = _first_full(theirs, at, map(Stored, said[1][1::2]))
                return theirs[0].name if no is None else no.name
            done.append(place)
        return None

    def reported(self, outcome_id: str) -> bool:
        return bool(self._asked(self.client.exists, self._outcome(outcome_id)))

    def report(self, outcome_id: str, at: int) -> bool:
        kept = max(1, self._keep // 1000)
        return bool(self._asked(self.client.set, self._outcome(outcome_id), b"", nx=True, px=kept))

    def note(self, user: str, event_id: str, name: str, at: int) -> bool:
        mine = self._user(user)
        keys = [f"{mine}:v:{_hash(event_id)}", f"{mine}:e"]
        told = [name, at, max(1, self._keep // 1000), NEWEST, NAMES]
        return bool(self._asked(self._note, keys, told))

    def forget(self, user: str) -> None:
        mine = self._user(user)
        self._asked(self.client.delete, f"{mine}:x", f"{mine}:e")

    def sweep(self, at: int, most: int) -> int:
        """The server does so itself."""
        return 0

    def ready(self) -> None:
        """It is."""

    def close(self) -> None:
        self.client.close()

    def _asked(self, call: Any, *said: Any, **more: Any) -> Any:
        if monotonic() < self._rest:
            raise Unavailable("the online store does not answer; it is asked again in a moment")
        try:
            return call(*said, **more)
        except (redis.RedisError, OSError) as error:
            with self._lock:
                self._rest = monotonic() + _REST
            raise Unavailable(f"the online store does not answer: {error}") from error

    def _places(self, user: str, key: str | None, session: str | None) -> list[str]:
        mine = self._user(user)
        return [
            f"{mine}:k:{'' if key is None else _hash(key)}",
            f"{mine}:x",
            f"{mine}:s:{'' if session is None else _hash(session)}",
            f"{mine}:e",
        ]

    def _user(self, user: str) -> str:
        return f"{self._prefix}:{{{_hash(user)}}}"

    def _outcome(self, outcome_id: str) -> str:
        return f"{self._prefix}:o:{_hash(outcome_id)}"


def connect(url: str, patience: float) -> Any:
    """A client that waits at most `patience` seconds, and never tries twice. Raises BadInput for a URL that
    is none, Unavailable for a cluster that does not answer."""
    told = {"socket_timeout": patience, "socket_connect_timeout": patience, "retry": Retry(NoBackoff(), 0)}
    try:
        if url.startswith(_CLUSTER):
            plain = f"redis://{url.removeprefix(_CLUSTER)}"
            return redis.RedisCluster.from_url(plain, **told)
        return redis.Redis.from_url(url, **told)
    except ValueError as error:
        raise BadInput(f"is no address of a Redis: {error}", field="store", value=url) from None
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"the online store does not answer: {error}") from error


def _hash(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _first_full(rooms: Sequence[Room], at: int, stored: Iterable[Stored]) -> Room | None:
    held = [each.held() for each in stored if each.alive(at)]
    return full(rooms, at, lambda _: held)


def _marked(channel: str | None) -> str:
    return "" if channel is None else "c" + quoted(channel)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")
