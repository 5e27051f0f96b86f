"""What this room needs from outside: a journal, snapshots of policies, and what all deciders share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kernel.caps import Room, Touches

#: in a writer's journal: segment, and byte behind a record in it; (0, 0) is the beginning
Position = tuple[int, int]


class JournalWriter(Protocol):
    """One process's own append-only journal of records."""

    def append(self, record: bytes) -> None:
        """With the operating system when it returns: it survives this process. Raises Unavailable."""
        ...

    def flush(self) -> None:
        """On the disk, with all before it, when it returns: it survives the machine."""
        ...


class JournalReader(Protocol):
    """All writers' journals, readable while they are written."""

    def writers(self) -> Sequence[str]:
        """Names of those that ever wrote, in order."""
        ...

    def read(self, writer: str, after: Position, most: int = 1 << 20) -> Sequence[tuple[Position, bytes]]:
        """The next whole records behind `after`, each with the position behind it: at least one if there
        is any, else about `most` bytes. What a crash tore is passed over; what is not yet whole, waits.
        Raises Unavailable."""
        ...


class Snapshots(Protocol):
    """States that one process publishes and others take over."""

    def put(self, name: str, state: bytes) -> int:
        """Durable, and the newest, as a whole or not at all. Its number, rising from 1."""
        ...

    def newest(self, name: str, than: int = 0) -> tuple[int, bytes] | None:
        """The newest with a number above `than`, and its number."""
        ...


#: what is known of a user: the answer under the key; held touches; decisions so far in the session; fresh
#: events, name → instants of the newest, oldest first
Seen = tuple[bytes | None, Touches, int, Mapping[str, Sequence[int]]]
#: of a wish: the answer that stands under its key already; the cap that has no room. Granted: both None
Admitted = tuple[bytes | None, str | None]


class OnlineStore(Protocol):
    """What deciders share of users. Every method raises Unavailable when it does not answer: nobody is shown
    anything but the default then, so caps hold. What was granted survives `kill -9`.

    Instants `at` are microseconds since 1970, UTC.
    """

    #: it lost everything: it is to be told again (`realtime.retelling`), and then that it is `ready`
    anew: bool

    def ready(self) -> None: ...

    def look(self, user: str, at: int, *, key: str | None, session: str | None) -> Seen:
        """Everything that a decision needs to know, in one round."""
        ...

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
    ) -> Admitted:
        """All of it or nothing, atomically: the user is touched through `channel` (None: it is no touch),
        and so are her `entities`, such as `{"household": "7"}`, every cap of `rooms` permitting; the answer
        stands under this user's `key` until its time is over; the session is one step further. Of any wishes
        in any interleaving, those granted fit every cap, together with what the ledger holds."""
        ...

    def reported(self, outcome_id: str) -> bool:
        """Whether `report` was told of this outcome."""
        ...

    def report(self, outcome_id: str, at: int) -> bool:
        """Remembers an outcome's id; False when it was remembered already."""
        ...

    def note(self, user: str, event_id: str, name: str, at: int) -> bool:
        """A fresh event, which the next `look` sees; False, and nothing changes, for a known id."""
        ...

    def forget(self, user: str) -> None:
        """Everything that is held of a user."""
        ...

    def sweep(self, at: int, most: int) -> int:
        """Lets go of at most so many entries whose time is over; how many."""
        ...

    def close(self) -> None: ...
