"""What this room needs from outside: a durable log of decisions, a journal, and snapshots of policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, Protocol

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
