"""Logged decisions as the arrays from which another policy is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from kernel.errors import BadInput
from kernel.ids import stable_hash
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY, priced
from realtime.offpolicy import LoggedChoices
from realtime.policy import Context, Policy, checked

#: decisions, each with its actions in full and its reward
Log = Iterable[tuple[Decision, Sequence[Action], float]]


def replay(log: Log, policy: Policy, *, dimensions: int = 16) -> LoggedChoices:
    """The log under `policy`, which does not learn: n decisions, k = the action ids that occur.
    Decisions that no policy made are left out.

    Contexts become `dimensions` columns by hashing (Weinberger and others, Feature Hashing for Large
    Scale Multitask Learning, 2009). Raises BadInput when fewer than two decisions are left.
    """

    def asked(decision: Decision, actions: Sequence[Action]) -> Sequence[float]:
        seen = [priced(action, decision.prices) for action in actions]
        return checked(policy.distribution(decision.context, seen), len(actions), policy.name)

    return _laid_out(log, asked, dimensions)


def as_logged(log: Log, *, dimensions: int = 16) -> LoggedChoices:
    """The log under what made it, whichever policies and versions those were: row by row comparable
    with `replay` of the same log. Raises BadInput as that does."""
    return _laid_out(log, lambda decision, _actions: decision.propensities, dimensions)


def _laid_out(
    log: Log, distribution: Callable[[Decision, Sequence[Action]], Sequence[float]], dimensions: int
) -> LoggedChoices:
    kept = [row for row in log if row[0].policy != NO_POLICY]
    if len(kept) < 2:
        raise BadInput("is too few to judge from; needs 2", where="log", field="decisions", value=len(kept))
    ids = sorted({each for decision, _actions, _reward in kept for each in decision.actions})
    column = {action_id: position for position, action_id in enumerate(ids)}
    target = np.zeros((len(kept), len(ids)))
    for row, (decision, actions, _reward) in enumerate(kept):
        target[row, [column[each] for each in decision.actions]] = distribution(decision, actions)
    return LoggedChoices(
        rewards=np.array([reward for _decision, _actions, reward in kept], dtype=np.float64),
        chosen=np.array([column[decision.action] for decision, *_ in kept], dtype=np.int64),
        propensities=np.array([decision.propensity for decision, *_ in kept], dtype=np.float64),
        target=target,
        contexts=np.array([_hashed(decision.context, dimensions) for decision, *_ in kept]),
    )


def _hashed(context: Context, dimensions: int) -> list[float]:
    row = [0.0] * dimensions
    for name, value in context.items():
        number, label = _term(name, value)
        place = stable_hash("context", label)
        row[place % dimensions] += number if place >> 63 else -number
    return row


def _term(name: str, value: Any) -> tuple[float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(-1e6, min(1e6, value))), name
    return 1.0, f"{name}={value}"
