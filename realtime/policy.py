"""What a policy is, the simple ones, and the check that every distribution must pass."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from kernel.randomness import derive_seed

Context = Mapping[str, Any]
#: how far a distribution's sum may be from one
TOLERANCE = 1e-9


class Policy(Protocol):
    """Two methods. Its laws are `tests/contract/test_policies.py`, run on every policy there is."""

    @property
    def name(self) -> str:
        """Name and version, such as `uniform` or `squarecb@1200`: what decisions are logged under."""
        ...

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """P(each action), in their order, summing to one; `()` for no action. Never learns.

        Raises Unavailable when it cannot answer.
        """
        ...

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        """Learns that `actions[chosen]`, taken with `propensity`, brought `reward` (major units)."""
        ...


class Learner(Policy, Protocol):
    """A policy whose whole state can be kept: restored, it decides and learns on bit for bit alike."""

    def save(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Raises Unavailable when `state` is not one that a policy of these parameters saved."""
        ...


class _Unlearning:
    """Nothing is learned, so nothing is kept."""

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        check_lesson(actions, chosen, propensity, reward)

    def save(self) -> bytes:
        return json.dumps(repr(self)).encode()

    def restore(self, state: bytes) -> None:
        if state != self.save():
            raise Unavailable(f"the saved state is not that of {self!r}")


@dataclass(frozen=True, kw_only=True)
class Uniform(_Unlearning):
    """Every action alike: the log that teaches most and earns least."""

    @property
    def name(self) -> str:
        return "uniform"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return (1 / len(actions),) * len(actions) if actions else ()


@dataclass(frozen=True, kw_only=True)
class Fixed(_Unlearning):
    """Always the same action; where it is not offered, the first."""

    #: id of the action
    action: str

    @property
    def name(self) -> str:
        return f"fixed@{self.action}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        always = next((place for place, each in enumerate(actions) if each.id == self.action), 0)
        return tuple(float(place == always) for place in range(len(actions)))


@dataclass(frozen=True, kw_only=True)
class Greedy(_Unlearning):
    """The action of the highest value − cost, the first among equals; the rest share `epsilon`."""

    #: probability that is spread over all actions alike, 0 … 1; 0: the rule is fixed
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise BadInput("is not within 0 and 1", where="policy", field="epsilon", value=self.epsilon)

    @property
    def name(self) -> str:
        return f"greedy@{self.epsilon:g}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        if not actions:
            return ()
        best = max(range(len(actions)), key=lambda each: actions[each].value - actions[each].cost)
        share = self.epsilon / len(actions)
        return tuple(1 - self.epsilon + share if each == best else share for each in range(len(actions)))


def inverse_gaps(costs: Sequence[float], gamma: float) -> list[float]:
    """Of k actions by what each costs: P = 1 / (k + gamma · gap) for each but the cheapest, which gets the
    rest. Abe and Long, Associative Reinforcement Learning using Linear Probabilistic Concepts, 1999."""
    best = min(range(len(costs)), key=costs.__getitem__)
    least, count = costs[best], len(costs)
    shares = [1 / (count + gamma * (cost - least)) for cost in costs]
    shares[best] = 0.0
    shares[best] = 1 - math.fsum(shares)
    return shares


def with_floor(distribution: Sequence[float], epsilon: float) -> tuple[float, ...]:
    """A share `epsilon` of it spread over all actions alike: none is below `epsilon` / their number."""
    share = epsilon / len(distribution)
    return tuple((1 - epsilon) * each + share for each in distribution)


def checked(distribution: Sequence[float], count: int, name: str) -> tuple[float, ...]:
    """The distribution itself. Raises Unavailable unless it has `count` numbers, each finite and ≥ 0,
    that sum to one: learners have been seen to answer NaN, negative numbers and one number for ten."""
    if len(distribution) != count:
        raise Unavailable(f"policy {name} gave {len(distribution)} probabilities for {count} actions")
    if not all(math.isfinite(each) and each >= 0 for each in distribution):
        raise Unavailable(f"policy {name} gave a probability that is negative or not a number")
    if count and abs(math.fsum(distribution) - 1) > TOLERANCE:
        raise Unavailable(f"policy {name} gave probabilities that sum to {math.fsum(distribution):g}")
    return tuple(distribution)


def draw(distribution: Sequence[float], seed: int, name: str) -> int:
    """The position drawn from a checked distribution: the same for one seed and one `name`, for ever."""
    point = (derive_seed(seed, "draw", name) + 0.5) / 2**32
    edge = 0.0
    for position, probability in enumerate(distribution):
        edge += probability
        if point < edge:
            return position
    return max(position for position, probability in enumerate(distribution) if probability > 0)


def check_lesson(actions: Sequence[Action], chosen: int, propensity: float, reward: float) -> None:
    """Raises BadInput for a lesson that would teach nonsense."""
    if not 0 <= chosen < len(actions):
        raise BadInput(f"is none of the {len(actions)} actions", where="lesson", field="chosen", value=chosen)
    if not 0 < propensity <= 1:
        raise BadInput("is not within 0 (excluded) and 1", field="propensity", value=propensity)
    if not math.isfinite(reward):
        raise BadInput("is not a finite number", where="lesson", field="reward", value=str(reward))
