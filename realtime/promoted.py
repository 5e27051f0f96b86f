"""A promoted policy under a name of its own, so that what it learns is never taken for another's."""

from __future__ import annotations

from collections.abc import Sequence

from kernel.learning import Action
from realtime.policy import Context, Learner


class Promoted:
    """`policy`, named `v7-squarecb@1200`: its snapshots and states are kept apart from those of other
    versions, and a rollback finds the former version as it last was."""

    def __init__(self, policy: Learner, version: int) -> None:
        self._policy, self._version = policy, version

    @property
    def policy(self) -> Learner:
        """What was promoted."""
        return self._policy

    @property
    def name(self) -> str:
        return f"v{self._version}-{self._policy.name}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return self._policy.distribution(context, actions)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        self._policy.learn(context, actions, chosen, propensity, reward)

    def save(self) -> bytes:
        return self._policy.save()

    def restore(self, state: bytes) -> None:
        self._policy.restore(state)
