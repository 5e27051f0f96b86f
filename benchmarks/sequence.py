"""Sequence: value-to-go against the myopic bandit, on visits where early actions pay only later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import t as student

from benchmarks.case import Case, Line
from benchmarks.session_world import Visits, exact_value, oracle
from models.value_to_go import fit_value_to_go
from realtime.policy import Learner, Uniform
from realtime.sequence import Sequential
from realtime.sessions import Session
from realtime.vw import SquareCB

#: policies that are compared are judged exactly, so seeds vary only by the visits learned from
SEEDS = 12
OURS = "ours"
MYOPIC, RETURNS = "myopic SquareCB", "SquareCB on all that the session still brought"
_EPSILON = 0.05

Lessons = Iterator[tuple[Session, int, float]]


def visits(size: int, seed: int) -> list[Session]:
    """A uniform log."""
    world = Visits(seed)
    return [world.visit(Uniform(), learn=False) for _ in range(size)]


def at_once(log: list[Session]) -> Lessons:
    for session in log:
        for place, step in enumerate(session):
            yield session, place, step.reward


def from_here_on(log: list[Session]) -> Lessons:
    for session in log:
        for place in range(len(session)):
            yield session, place, sum(step.reward for step in session[place:])


def taught(policy: Learner, lessons: Lessons) -> Learner:
    for session, place, reward in lessons:
        step = session[place]
        policy.learn(step.context, step.actions, step.chosen, 1 / len(step.actions), reward)
    return policy


def sequential(log: list[Session], seed: int) -> Learner:
    return taught(Sequential(SquareCB(epsilon=_EPSILON), fit_value_to_go(log, seed=seed)), at_once(log))


def myopic(log: list[Session], _seed: int) -> Learner:
    return taught(SquareCB(epsilon=_EPSILON), at_once(log))


def returns(log: list[Session], _seed: int) -> Learner:
    return taught(SquareCB(epsilon=_EPSILON), from_here_on(log))


CONTESTANTS: dict[str, Callable[[list[Session], int], Learner]] = {
    OURS: sequential, MYOPIC: myopic, RETURNS: returns,
}  # fmt: skip


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval over seeds."""
    mean, count = float(np.mean(values)), len(values)
    reach = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - reach, mean + reach


def run(size: int, seed: int, _seconds: float) -> list[Line]:
    seeds = SEEDS if size >= 1000 else 2
    values: dict[str, list[float]] = {who: [] for who in CONTESTANTS}
    seconds = dict.fromkeys(CONTESTANTS, 0.0)
    for number in range(seeds):
        log = visits(size, seed + number)
        for who, learned in CONTESTANTS.items():
            begun = time.perf_counter()
            policy = learned(log, seed + number)
            seconds[who] += (time.perf_counter() - begun) / seeds
            values[who].append(exact_value(policy))
    ours = interval(values[OURS])[0]
    lines = []
    for who, found in values.items():
        mean, low, high = interval(found)
        more = interval([mine - other for mine, other in zip(values[OURS], found, strict=True)])
        lines.append(
            Line(
                size=size,
                who=who,
                ratio=mean / ours,
                times=seconds[who] / seconds[OURS],
                seconds=seconds[who],
                notes={
                    "worth of a session": f"{mean:.3f} [{low:.3f}, {high:.3f}]",
                    "ours − it": "–" if who == OURS else f"{more[0]:.3f} [{more[1]:.3f}, {more[2]:.3f}]",
                    "seeds": seeds,
                },
            )
        )
    known = {
        "uniform": exact_value(Uniform()),
        f"oracle that explores {_EPSILON:.0%}": oracle(_EPSILON),
        "oracle": oracle(),
    }
    for who, mean in known.items():
        notes: dict[str, object] = {"worth of a session": f"{mean:.3f}"}
        lines.append(Line(size=size, who=who, ratio=mean / ours, times=0.0, seconds=0.0, notes=notes))
    return lines


CASE = Case(
    about="Visits of six steps in which guidance pays three steps later and an early coupon spoils the "
    "margin. Ours is SquareCB with value-to-go; each contestant learns from the same uniform log, and its "
    "policy is then valued exactly.",
    measure="worth of a session, in major units",
    sizes=(1_000, 3_000),
    smoke=150,
    run=run,
    packages=("vowpalwabbit", "lightgbm", "numpy"),
)
