"""A rule that changes itself: shares of its variants by what each has brought, within its owner's bounds.

Shares follow the probability that a variant is the best (Thompson 1933), over normal posteriors of the mean
profit a user, with a prior centred on what all variants bring together. Each keeps its least share, and none
moves by more than a step a day: no day's luck decides, and every variant goes on being measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.rules import Tuning

#: draws by which the probability of being best is found
_DRAWS = 20_000
#: users that the prior weighs as much as
_PRIOR = 50.0


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a variant brought so far."""

    variant: str
    users: int
    #: mean profit a user, and its standard deviation between users; major units
    mean: float
    deviation: float


def shares_by_worth(
    brought: Sequence[Brought], now: Mapping[str, float], tuning: Tuning, seed: int
) -> dict[str, float]:
    """Variant → share of users from now on; they sum to one. Nothing measured, nothing changes."""
    names = list(now)
    known = {each.variant: each for each in brought if each.users > 1}
    if len(known) < 2:
        return dict(now)
    users = sum(each.users for each in known.values())
    centre = sum(each.mean * each.users for each in known.values()) / users
    spread = max(max(each.deviation for each in known.values()), 1e-9)
    chance = np.random.default_rng(seed)
    draws = np.empty((_DRAWS, len(names)))
    for i, name in enumerate(names):
        each = known.get(name)
        weight = 0.0 if each is None else each.users
        mean = centre if each is None else (centre * _PRIOR + each.mean * weight) / (_PRIOR + weight)
        error = (spread if each is None else max(each.deviation, 1e-9)) / np.sqrt(_PRIOR + weight)
        draws[:, i] = chance.normal(mean, error, _DRAWS)
    best = np.bincount(draws.argmax(axis=1), minlength=len(names)) / _DRAWS
    wished = dict(zip(names, best.tolist(), strict=True))
    return _within(wished, now, tuning)


def _within(wished: Mapping[str, float], now: Mapping[str, float], tuning: Tuning) -> dict[str, float]:
    """The nearest shares to the wished ones that move by a step at most, and leave each its least."""
    low = {name: max(tuning.least, share - tuning.step) for name, share in now.items()}
    high = {name: max(low[name], min(1.0, share + tuning.step)) for name, share in now.items()}
    found = {name: min(max(wished[name], low[name]), high[name]) for name in now}
    for _ in range(100):
        missing = 1.0 - sum(found.values())
        if abs(missing) < 1e-12:
            break
        room = {
            name: (high[name] - found[name]) if missing > 0 else (found[name] - low[name]) for name in now
        }
        whole = sum(room.values())
        if whole <= 0:
            break
        part = min(1.0, abs(missing) / whole)
        for name in now:
            found[name] += (1 if missing > 0 else -1) * room[name] * part
    total = sum(found.values())
    return {name: share / total for name, share in found.items()}
