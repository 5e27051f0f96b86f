"""Noon: the best action of every segment changes in the middle of the day, and nobody says so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np

from benchmarks.case import Case, Line
from benchmarks.sequence import interval
from kernel.learning import Action
from realtime.policy import Learner, draw
from realtime.ridge import Ridge
from realtime.thompson import Thompson
from realtime.vw import SquareCB

SEEDS = 10
#: lessons after which one has faded, as a share of the day
_MEMORY = 0.05
_SEGMENTS = ("new", "regular", "lapsed", "loyal")
_ACTIONS = tuple(Action(id=name) for name in ("nothing", "banner", "guide", "bundle", "coupon", "call"))
_TENTHS = 10
OURS = "ours"

CONTESTANTS: dict[str, Callable[[int], Learner]] = {
    OURS: lambda memory: SquareCB(memory=memory),
    "SquareCB": lambda _: SquareCB(),
    "ridge that forgets": lambda memory: Ridge(memory=memory),
    "ridge": lambda _: Ridge(),
    "Thompson that forgets": lambda memory: Thompson(memory=memory),
    "Thompson": lambda _: Thompson(),
}


def chances(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of success, segment × action: before noon and after it, when no segment's best is what it was."""
    rng = np.random.default_rng(seed)
    morning = np.array([rng.permutation(np.linspace(0.05, 0.5, len(_ACTIONS))) for _ in _SEGMENTS])
    return morning, np.roll(morning, 1, axis=1)


def day(policy: Learner, size: int, seed: int) -> list[float]:
    """For each tenth of the day, what was expected of the choices, as a share of the best ones' (1)."""
    chance = random.Random(seed)  # noqa: S311  a benchmark's
    halves = chances(seed)
    got, best = np.zeros(_TENTHS), np.zeros(_TENTHS)
    for number in range(size):
        worth, tenth = halves[number * 2 // size], number * _TENTHS // size
        segment = chance.randrange(len(_SEGMENTS))
        context = {"segment": _SEGMENTS[segment], "basket": round(chance.uniform(5, 80), 2)}
        propensities = policy.distribution(context, _ACTIONS)
        chosen = draw(propensities, seed, str(number))
        reward = float(chance.random() < worth[segment, chosen])
        policy.learn(context, _ACTIONS, chosen, propensities[chosen], reward)
        got[tenth] += worth[segment, chosen]
        best[tenth] += worth[segment].max()
    return [float(each) for each in got / best]


def run(size: int, seed: int, _seconds: float) -> list[Line]:
    seeds = SEEDS if size >= 10_000 else 2
    lines, ours, took = list[Line](), 0.0, 0.0
    for who, made in CONTESTANTS.items():
        begun = time.perf_counter()
        days = [day(made(round(_MEMORY * size)), size, seed + each) for each in range(seeds)]
        seconds = (time.perf_counter() - begun) / seeds
        tenths = np.array(days)

        def said(first: int, last: int, tenths: np.ndarray = tenths) -> str:
            mean, low, high = interval([float(each) for each in tenths[:, first:last].mean(axis=1)])
            return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

        whole = float(tenths.mean())
        ours, took = ours or whole, took or seconds
        notes: dict[str, object] = {
            "the whole day": said(0, _TENTHS),
            "last tenth before noon": said(4, 5),
            "first tenth after": said(5, 6),
            "second": said(6, 7),
            "last tenth of the day": said(9, 10),
            "seeds": seeds,
        }
        lines.append(
            Line(size=size, who=who, ratio=whole / ours, times=seconds / took, seconds=seconds, notes=notes)
        )
    return lines


CASE = Case(
    about="A day of decisions for four segments and six actions, which succeed with .05 to .5. At noon every "
    "segment's best action becomes another. What was expected of the choices, as a share of the best ones'. "
    "Ours is SquareCB; it and those that forget are told `memory`: a twentieth of "
    "the day.",
    measure="share of the best",
    sizes=(20_000,),
    smoke=400,
    run=run,
    packages=("vowpalwabbit", "numpy"),
)
