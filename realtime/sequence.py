"""Crediting an early action with what it will be worth later in its session."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, Protocol

from kernel.errors import Unavailable
from kernel.learning import Action
from realtime.policy import Context, Learner
from realtime.sessions import STEP

#: the feature of an action that tells a learner its future worth, in major units
WORTH = "session.worth"
_MAGIC = b"growth-sequential-2\n"
_DIGEST = 16
#: bytes of the worth
_LENGTH = Struct("<Q")


class FutureWorth(Protocol):
    """What the rest of the session will be worth: learned from logged sessions (`models`), or known."""

    def __call__(self, context: Mapping[str, Any], actions: Sequence[Action], /) -> Sequence[float]:
        """For each action the expected reward of all later decisions of the session, in major units,
        beyond what the action brings at once. Raises Unavailable when it cannot tell."""
        ...


def no_worth(_context: Mapping[str, Any], actions: Sequence[Action], /) -> Sequence[float]:
    """A `FutureWorth` that foresees nothing."""
    return [0.0] * len(actions)


class Sequential:
    """A learner that sees, and learns, immediate reward + future worth; otherwise it is that learner.

    What it decides by: each action's value has its future worth added, and a feature tells it, so that
    a linear learner can follow a worth that is not linear in the context. What it learns: the reward that
    came, plus the future worth of what was chosen. Worth counts from the average of the actions that
    are offered together: what they share decides nothing, and would drown what they differ in. (One
    step of approximate policy iteration whose critic is `worth`: Sutton and others, Policy Gradient
    Methods for Reinforcement Learning with Function Approximation, 2000.) The rewards that it is taught
    must be those of each decision alone, not of its session. A decision whose context names no step of
    a session has no future.
    """

    def __init__(
        self,
        policy: Learner,
        worth: FutureWorth,
        *,
        kept: bytes = b"",
        load: Callable[[bytes], FutureWorth] | None = None,
    ) -> None:
        """`kept`: the worth as bytes, which the policy's state then holds, and `load` opens; it raises
        Unavailable. Without them the worth is the caller's to keep."""
        self._policy, self._worth, self._kept, self._load = policy, worth, kept, load

    @property
    def name(self) -> str:
        return f"sequential-{self._policy.name}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return self._policy.distribution(context, self.credited(context, actions))

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        later = self._later(context, actions)
        if 0 <= chosen < len(later):
            reward += later[chosen]
        self._policy.learn(context, _added(actions, later), chosen, propensity, reward)

    def credited(self, context: Context, actions: Sequence[Action]) -> list[Action]:
        """The actions with their future worth in their value: what they compete, and pay prices, with."""
        return _added(actions, self._later(context, actions))

    def save(self) -> bytes:
        body = _LENGTH.pack(len(self._kept)) + self._kept
        return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body + self._policy.save()

    def restore(self, state: bytes) -> None:
        kept, rest = self._parts(state)
        worth = self._loaded(kept)
        self._policy.restore(rest)
        self._worth, self._kept = worth, kept

    def foresee(self, state: bytes) -> None:
        """Takes over the future worth of a saved state, and nothing that was learned. Raises Unavailable."""
        kept, _ = self._parts(state)
        self._worth, self._kept = self._loaded(kept), kept

    def _loaded(self, kept: bytes) -> FutureWorth:
        if kept == self._kept:
            return self._worth
        if self._load is None:
            raise Unavailable(
                f"the saved state of {self.name} holds a future worth, and nothing opens it here"
            )
        return self._load(kept) if kept else no_worth

    def _parts(self, state: bytes) -> tuple[bytes, bytes]:
        """What stands for the worth, and the policy's own state."""
        start = len(_MAGIC) + _DIGEST
        length = _LENGTH.unpack_from(state, start)[0] if len(state) >= start + _LENGTH.size else -1
        end = start + _LENGTH.size + length
        body = state[start:end]
        if (
            length < 0
            or end > len(state)
            or state[:start] != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest()
        ):
            raise Unavailable(f"the saved state is damaged, or not that of {self.name}")
        return body[_LENGTH.size :], state[end:]

    def _later(self, context: Context, actions: Sequence[Action]) -> Sequence[float]:
        if not actions or STEP not in context:  # outside a session nothing comes later
            return [0.0] * len(actions)
        later = self._worth(context, actions)
        if len(later) != len(actions) or not all(math.isfinite(each) for each in later):
            raise Unavailable(f"the future worth of {len(actions)} actions is not {len(actions)} numbers")
        average = math.fsum(later) / len(later)
        return [each - average for each in later]


def _added(actions: Sequence[Action], later: Sequence[float]) -> list[Action]:
    return [
        each.model_copy(
            update={"value": each.value + more, "features": {**each.features, WORTH: more}},
        )
        for each, more in zip(actions, later, strict=True)
    ]
