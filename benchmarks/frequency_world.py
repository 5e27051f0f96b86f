"""A made-up market of users whose response to exposures is planted, by segment.

Half of the segments are immune, some of them buy anyway; of the others some answer to the first touches
(concave), some only to the fifth to eighth and to no more (inverted U), some at once but leave when
touched often (annoyed). What a touch adds to the log hazard halves in about three days. Whoever buys or
leaves is gone for good. Users look in at one moment of most days, in an order that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from touchpoint.exposure_states import RECENCY
from touchpoint.frequency_value import Worth, tiring_states

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Truths = NDArray[np.bool_]

DAYS, SLOTS, SEGMENTS = 60, 8, 16
#: touches that there are for a user
EACH = 3.0
WORTH = Worth(value=10.0, kept=10.0, at_most=15, window=30, tires=7, rest=DAYS, horizon=30)
_PRESENT = 0.7
_KINDS = ("immune", "concave", "immune", "inverted U", "immune", "annoyed", "immune", "sure")


@dataclass(frozen=True, kw_only=True, eq=False)
class Market:
    """Planted: [SEGMENTS, 1 + at_most, RECENCY] outcomes, [SEGMENTS, 1 + n] opt-outs."""

    kinds: tuple[str, ...]
    hazards: Floats
    leaves: Floats


def market(seed: int) -> Market:
    rng = np.random.default_rng([seed, 1])
    ks, days = np.arange(WORTH.at_most + 1), np.arange(RECENCY)
    kinds = tuple(_KINDS[place % len(_KINDS)] for place in range(SEGMENTS))
    hazards, leaves = [], []
    counts = np.arange(tiring_states(WORTH) + 1)
    for kind in kinds:
        level = np.log({"sure": 0.001, "immune": 0.00006}.get(kind, 0.0003)) + rng.normal(0, 0.25)
        size = rng.uniform(0.85, 1.15)
        rise = {
            "immune": 0.0 * ks,
            "sure": 0.0 * ks,
            "concave": 3.7 * size * (1 - np.exp(-ks / 2.0)),
            "annoyed": 3.6 * size * (1 - np.exp(-ks / 1.5)),
            "inverted U": 4.9 * size * (np.exp(-(((ks - 6.5) / 2.6) ** 2)) - np.exp(-((6.5 / 2.6) ** 2))),
        }[kind]
        fades = 2.0 ** (-days / (3.0 * rng.uniform(0.85, 1.15)))
        hazards.append(np.minimum(np.exp(level + rise[:, None] * fades), 0.9))
        steep, often = (0.5, 0.012) if kind == "annoyed" else (0.3, 0.001)
        leaves.append(np.minimum(often * np.exp(steep * (counts - 1)), 0.9) * (counts > 0))
    return Market(kinds=kinds, hazards=np.array(hazards), leaves=np.array(leaves))


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Where everybody stands: arrays over users."""

    segment: Ints
    k: Ints
    #: days since the last touch; 0 where there was none
    r: Ints
    #: touches in the last six days
    n: Ints
    #: neither bought nor left
    there: Truths


#: (day, slot, who is present, where they stand, what is left of the day's budget) → who is touched
Policy = Callable[[int, int, Truths, People, int], Truths]
#: told at the end of each day: the day, where everybody stands, and who was touched, bought, left today
Watch = Callable[[int, People, Truths, Truths, Truths], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    conversions: int
    opt_outs: int
    touches: int
    #: mean touches of those who bought after one
    converters: float


def live(size: int, seed: int, policy: Policy, watch: Watch | None = None, days: int = DAYS) -> Result:
    """The same users, moments and luck for every policy of a seed."""
    planted = market(seed)
    rng = np.random.default_rng([seed, 2])
    segment = rng.integers(SEGMENTS, size=size)
    k, r = np.zeros(size, np.int64), np.zeros(size, np.int64)
    recent = np.zeros((size, WORTH.tires - 1), np.int64)
    there, bought = np.ones(size, bool), np.zeros(size, bool)
    opt_outs = touches = 0
    budget = round(EACH * size / DAYS)
    for day in range(days):
        slots = np.where(rng.random(size) < _PRESENT, rng.integers(SLOTS, size=size), -1)
        wins, leaves = rng.random(size), rng.random(size)
        touched, n = np.zeros(size, bool), recent.sum(axis=1)
        people = People(segment=segment, k=k, r=r, n=n, there=there)
        for slot in range(SLOTS):
            present = (slots == slot) & there
            chosen = policy(day, slot, present, people, budget - int(touched.sum())) & present
            assert touched.sum() + chosen.sum() <= budget
            assert (k[chosen] < WORTH.at_most).all()
            touched |= chosen
        touches += int(touched.sum())
        k, r = k + touched, np.where(touched, 0, r)
        left = touched & (leaves < planted.leaves[segment, np.minimum(n + 1, planted.leaves.shape[1] - 1)])
        won = there & ~left & (wins < planted.hazards[segment, k, np.minimum(r, RECENCY - 1)])
        if watch is not None:
            watch(day, People(segment=segment, k=k, r=r, n=n + touched, there=there), touched, won, left)
        there = there & ~left & ~won
        bought |= won
        opt_outs += int(left.sum())
        r = np.where(k > 0, r + 1, 0)
        recent = np.concatenate([recent[:, 1:], touched[:, None].astype(np.int64)], axis=1)
        reset = r >= WORTH.window
        k, r = np.where(reset & there, 0, k), np.where(reset, 0, r)
    after = bought & (k > 0)
    return Result(
        conversions=int(bought.sum()), opt_outs=opt_outs, touches=touches,
        converters=float(k[after].mean()) if after.any() else float("nan"),
    )  # fmt: skip
