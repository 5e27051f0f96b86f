"""Crediting an early action with what it will be worth later in its session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kernel.errors import Unavailable
from kernel.learning import Action
from realtime.policy import Context, Learner

#: the feature of an action that tells a learner its future worth, in major units
WORTH = "session.worth"
_MAGIC = b"growth-sequential-1\n"


class FutureWorth(Protocol):
    """What the rest of the session will be worth: learned from logged sessions (`models`), or known."""

    def __call__(self, context: Mapping[str, Any], actions: Sequence[Action], /) -> Sequence[float]:
        """For each action the expected reward of all later decisions of the session, in major units,
        beyond what the action brings at once. Raises Unavailable when it cannot tell."""
        ...


class Sequential:
    """A learner that sees, and learns, immediate reward + future worth; otherwise it is that learner.

    What it decides by: each action's value has its future worth added, and a feature tells it, so that
    a linear learner can follow a worth that is not linear in the context. What it learns: the reward that
    came, plus the future worth of what was chosen. Worth counts from the average of the actions that
    are offered together: what they share decides nothing, and would drown what they differ in. (One
    step of approximate policy iteration whose critic is `worth`: Sutton and others, Policy Gradient
    Methods for Reinforcement Learning with Function Approximation, 2000.) The rewards that it is taught
    must be those of each decision alone, not of its session.
    """

    def __init__(self, policy: Learner, worth: FutureWorth) -> None:
        self._policy, self._worth = policy, worth

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
        return _MAGIC + self._policy.save()

    def restore(self, state: bytes) -> None:
        if not state.startswith(_MAGIC):
            raise Unavailable(f"the saved state is not that of {self.name}")
        self._policy.restore(state[len(_MAGIC) :])

    def _later(self, context: Context, actions: Sequence[Action]) -> Sequence[float]:
        later = self._worth(context, actions) if actions else ()
        if len(later) != len(actions) or not all(math.isfinite(each) for each in later):
            raise Unavailable(f"the future worth of {len(actions)} actions is not {len(actions)} numbers")
        average = math.fsum(later) / len(later) if later else 0.0
        return [each - average for each in later]


def _added(actions: Sequence[Action], later: Sequence[float]) -> list[Action]:
    return [
        each.model_copy(
            update={"value": each.value + more, "features": {**each.features, WORTH: more}},
        )
        for each, more in zip(actions, later, strict=True)
    ]
