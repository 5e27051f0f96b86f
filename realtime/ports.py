"""What this room needs from outside: a durable log of decisions, a journal, snapshots of policies, and what
all deciders share at this second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from kernel.learning import Action, Decision


class DecisionLog(Protocol):
    """Every method raises Unavailable when the store does not answer, with nothing half done."""

    def append(
        self, decision: Decision, offered: Sequence[Action], *, key: str | None, session_id: str | None
    ) -> Decision:
        """Keeps the decision durably before it returns. Returns the one that stands: an earlier one
        when `key` was used before, in which case nothing is written."""
        ...

    def by_key(self, key: str) -> Decision | None:
        """The decision that was made under an idempotency key."""
        ...

    def find(self, decision_id: str) -> tuple[Decision, tuple[Action, ...]] | None:
        """The decision and the actions that it chose among, in full."""
        ...

    def add_outcome(
        self,
        *,
        outcome_id: str,
        decision_id: str,
        name: str,
        value: float,
        occurred_at: datetime,
        received_at: datetime,
        in_window: bool,
    ) -> Literal["counted", "late", "repeated"]:
        """`counted`, `late` (kept, and no reward counts it: after the window, or after the decision was
        learned from) or `repeated` (the id is known, and nothing changes).
        Raises NotFound when the decision is unknown."""
        ...

    def due(
        self, before: datetime, limit: int
    ) -> list[tuple[Decision, tuple[Action, ...], list[tuple[str, float]]]]:
        """Decisions made at or before an instant and not learned from yet, oldest first, each with its
        actions and the (name, value) of its counted outcomes."""
        ...

    def commit_learning(
        self,
        lessons: Iterable[tuple[str, float, int]],
        *,
        policy: str,
        version: str,
        state: bytes,
        at: datetime,
    ) -> None:
        """Marks decisions as learned from, and keeps the policy's state, both or neither.

        `lessons`: decision id, reward, number of outcomes counted in it. `policy` is the name without,
        `version` with its version. Raises Stale when another learner was first, or when an outcome has
        joined since the reward was made.
        """
        ...

    def snapshot(self, policy: str) -> bytes | None:
        """The newest state kept of a policy, by its name without version; None when there is none."""
        ...


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


class Room(NamedTuple):
    """A cap as it stands before one more touch."""

    #: of the cap, for whoever is refused
    name: str
    #: that it counts; None: all together
    channel: str | None
    #: microseconds: what is held counts within the half-open (at − window, at], and after
    window: int
    #: touches that may be held, the new one among them
    at_most: int


class Charge(NamedTuple):
    """What a decision uses of a budget."""

    #: account, such as `coupons/2017-10-16`
    budget: str
    #: in the budget's own unit
    amount: float
    #: the account may not pass it
    ceiling: float


class Wish(NamedTuple):
    """What a decision takes of what is shared: all of it or nothing."""

    user: str
    #: microseconds since 1970, UTC
    at: int
    #: idempotency key of this user, and the answer that is to stand under it
    key: str | None
    answer: bytes
    session: str | None
    #: channel that the user is touched through; None: it is no touch
    channel: str | None
    #: caps that count this channel
    rooms: Sequence[Room]
    charges: Sequence[Charge]


class Admitted(NamedTuple):
    """What became of a wish: granted when both are None."""

    #: the answer that stands under its key already
    standing: bytes | None = None
    #: name of the cap or budget that has no room
    refused: str | None = None


class Seen(NamedTuple):
    """What is known of a user at this second."""

    #: that stands under the key
    answer: bytes | None
    #: held touches: instant in microseconds since 1970, channel
    touches: Sequence[tuple[int, str]]
    #: account → used of it, of those asked for
    spent: Mapping[str, float]
    #: decisions so far in the session
    step: int
    #: fresh events: name → instants of the newest, oldest first, microseconds since 1970
    recent: Mapping[str, Sequence[int]]


class OnlineStore(Protocol):
    """What deciders share. Every method raises Unavailable when it does not answer: nobody is shown
    anything but the default then, so caps and budgets hold. What was granted survives `kill -9`."""

    def look(
        self, user: str, at: int, *, key: str | None, session: str | None, budgets: Sequence[str]
    ) -> Seen:
        """Everything that a decision needs to know, in one round."""
        ...

    def admit(self, wish: Wish) -> Admitted:
        """Atomic: of any wishes in any interleaving, those that are granted fit every cap and ceiling
        together, and one stands under a key until its time to live is over."""
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
