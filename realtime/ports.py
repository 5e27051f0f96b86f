"""What this room needs from outside: a durable log of decisions. `storage` keeps it in SQL."""

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
