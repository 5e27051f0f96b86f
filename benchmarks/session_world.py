"""A shop's visits with planted structure: what is done early pays, or costs, only at the checkout.

Six steps: three of browsing, two in the basket, one at the checkout. Three actions, at every step:

- `nothing` is free;
- `guidance` costs 0.05 and brings nothing at once. Shown while browsing to a visitor who needs help,
  it raises the chance to buy by 0.35, three steps later and more;
- `coupon` brings a small gain at once (it is clicked: 0.30), and is redeemed at the checkout, where it
  takes 6 of the 10 that an order earns. At the checkout itself it persuades who is sensitive to prices;
  given earlier it persuades nobody any more, it only spoils the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from kernel.learning import Action
from kernel.randomness import derive_seed
from realtime.policy import Policy, draw
from realtime.sessions import Session, SessionStep, placed

STAGES = ("browsing", "browsing", "browsing", "basket", "basket", "checkout")
ACTIONS = (Action(id="nothing"), Action(id="guidance", cost=0.05), Action(id="coupon"))
MARGIN, REDEEMED = 10.0, 6.0
#: P(the visitor needs help), P(is sensitive to prices), independent
_NEEDS, _SENSITIVE = 0.5, 0.4
_CLICK, _LEAVES = 0.30, 0.05


@dataclass(frozen=True)
class State:
    step: int
    needs_help: bool
    sensitive: bool
    guided: bool = False
    coupon: bool = False

    @property
    def context(self) -> dict[str, object]:
        known = {"needs_help": self.needs_help, "sensitive": self.sensitive}
        return placed(
            {**known, "guided": self.guided, "coupon": self.coupon},
            stage=STAGES[self.step],
            step=self.step,
        )


def chance(state: State, action: str) -> float:
    """P(buys at the checkout)."""
    bought = 0.15 + 0.35 * (state.guided and state.needs_help)
    return bought + 0.30 * (action == "coupon" and state.sensitive and not state.coupon)


def at_once(state: State, action: str) -> float:
    """Expected reward of the step itself, in major units."""
    cost = 0.05 if action == "guidance" else 0.0
    if STAGES[state.step] != "checkout":
        return (_CLICK if action == "coupon" and not state.coupon else 0.0) - cost
    return chance(state, action) * (MARGIN - REDEEMED * (state.coupon or action == "coupon")) - cost


def after(state: State, action: str) -> State:
    """The next step's state; guidance helps while browsing only."""
    helps = action == "guidance" and STAGES[state.step] == "browsing"
    return State(
        state.step + 1,
        state.needs_help,
        state.sensitive,
        state.guided or helps,
        state.coupon or action == "coupon",
    )


@cache
def worth(state: State, floor: float) -> float:
    """Expected reward of the rest of the session when the best action is taken but for a share `floor`
    of steps, taken alike among all actions: backward induction, exact."""
    values = [best_value(state, action.id, floor) for action in ACTIONS]
    return (1 - floor) * max(values) + floor * sum(values) / len(values)


def best_value(state: State, action: str, floor: float) -> float:
    last = state.step == len(STAGES) - 1
    return at_once(state, action) + (0.0 if last else (1 - _LEAVES) * worth(after(state, action), floor))


def oracle(floor: float = 0.0) -> float:
    """Mean worth of a session under the best policy that explores so much."""
    return _over_visitors(lambda state: worth(state, floor))


def exact_value(policy: Policy) -> float:
    """Mean worth of a session under a policy that does not learn meanwhile: over all states, no draw."""

    @cache
    def value(state: State) -> float:
        last = state.step == len(STAGES) - 1
        return sum(
            probability
            * (at_once(state, action.id) + (0.0 if last else (1 - _LEAVES) * value(after(state, action.id))))
            for probability, action in zip(policy.distribution(state.context, ACTIONS), ACTIONS, strict=True)
        )

    return _over_visitors(value)


def _over_visitors(value: Callable[[State], float]) -> float:
    total = 0.0
    for needs in (False, True):
        for sensitive in (False, True):
            share = (_NEEDS if needs else 1 - _NEEDS) * (_SENSITIVE if sensitive else 1 - _SENSITIVE)
            total += share * value(State(0, needs, sensitive))
    return total


@dataclass
class Visits:
    """Visits drawn under one seed."""

    seed: int
    rewards: list[float] = field(default_factory=list)

    @cached_property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.seed, "visits"))

    def visit(self, policy: Policy, *, learn: bool) -> Session:
        """One session, learned from step by step if asked; its reward is kept in `rewards`."""
        rng, steps = self._rng, []
        state = State(0, bool(rng.random() < _NEEDS), bool(rng.random() < _SENSITIVE))
        while True:
            distribution = policy.distribution(state.context, ACTIONS)
            chosen = draw(distribution, self.seed, f"{len(self.rewards)} {state.step}")
            action = ACTIONS[chosen].id
            # drawn alike whatever is chosen, so that policies meet the same visitors
            bought, stays, clicked = rng.random(3)
            reward = self._reward(state, action, bought, clicked)
            if learn:
                policy.learn(state.context, ACTIONS, chosen, distribution[chosen], reward)
            steps.append(SessionStep(context=state.context, actions=ACTIONS, chosen=chosen, reward=reward))
            if state.step == len(STAGES) - 1 or stays < _LEAVES:
                break
            state = after(state, action)
        rng.random(3 * (len(STAGES) - len(steps)))
        self.rewards.append(sum(step.reward for step in steps))
        return tuple(steps)

    @staticmethod
    def _reward(state: State, action: str, bought: float, clicked: float) -> float:
        cost = 0.05 if action == "guidance" else 0.0
        if STAGES[state.step] != "checkout":
            fresh = action == "coupon" and not state.coupon
            return 2 * _CLICK * (fresh and clicked < 0.5) - cost
        kept = MARGIN - REDEEMED * (state.coupon or action == "coupon")
        return kept * (bought < chance(state, action)) - cost
