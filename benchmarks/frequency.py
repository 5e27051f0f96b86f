"""How often is right: touches spent where the next is worth most, beside caps, quotas, propensity and an
oracle."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from benchmarks.case import Case, Line
from benchmarks.frequency_world import (
    DAYS,
    EACH,
    SEGMENTS,
    SLOTS,
    WORTH,
    Floats,
    Ints,
    People,
    Policy,
    Result,
    Truths,
    Watch,
    live,
    market,
)
from touchpoint.exposure_states import RECENCY
from touchpoint.frequency_control import (
    DRAWN_RATE,
    choose,
    drawn_share,
    first_share,
    first_then,
    follow,
)
from touchpoint.frequency_curves import Curves, learn_curves, value_states
from touchpoint.frequency_value import Values, evaluate, targets, tiring_states
from touchpoint.hazard import Counts
from touchpoint.pacing import price_now

SEEDS = 10
DRAWN_SHARE = 0.02
OURS, ORACLE, FIRST_COME, QUOTA = "ours", "oracle that knows the curves", "first-come caps", "equal quota"
PROPENSITY = "highest propensity, capped"


@dataclass
class Steered(ABC):
    """Touches by price: values of today's states, looked up and paced through the day."""

    size: int
    rng: np.random.Generator
    price: float = -1.0
    worth: Floats | None = None
    values: Values | None = None
    day: int = -1
    ceiling: float = 0.0
    #: users who looked in today so far, and the part of users who did yesterday
    came: int = 0
    comes: float = 1.0
    drawn: Truths = field(init=False)
    target: Floats = field(init=False)
    #: the randomised part's users who are to be touched today, should they look in
    due: Truths = field(init=False)
    #: of the day's touches, those for users who are steered, and how many of these are spent
    ours: int = 0
    spent: int = 0

    def __post_init__(self) -> None:
        self.budget = round(EACH * self.size / DAYS)
        self.drawn = np.zeros(self.size, bool)
        self.target = np.zeros(self.size)
        self.due = np.zeros(self.size, bool)

    @abstractmethod
    def value(self) -> Values:
        """Of a touch in every state, as far as it knows, at its price."""

    def begin(self, day: int, people: People) -> None:
        self.day = day
        coin = self.rng.random(self.size) < DRAWN_RATE
        self.due = people.there & self.drawn & coin & (people.k < self.target)
        self.ours, self.spent = max(self.budget - round(self.comes * int(self.due.sum())), 0), 0
        if self.price < 0:  # what the first day's best touches would be worth, looked at a few times
            self.price = 0.0
            for _ in range(8):
                self.values = self.value()
                self.price += 0.5 * (self.clearing(people) - self.price)
        self.values = self.value()
        self.ceiling = self.clearing(people)
        self.worth = self.values.worth

    def gains(self, people: People, who: Ints) -> Floats:
        assert self.values is not None
        return self.looked_up(self.values, people, who)

    def looked_up(self, values: Values, people: People, who: Ints) -> Floats:
        k = people.k[who]
        r = np.where(k > 0, np.minimum(people.r[who], RECENCY - 1), RECENCY - 1)
        return np.asarray(values.gain[people.segment[who], k, r, people.n[who]], float)

    def clearing(self, people: People) -> float:
        gains = self.gains(people, np.flatnonzero(people.there & ~self.drawn))
        expected = round(self.ours / self.comes)  # of those, so many as the budget are thought to look in
        return choose(gains, np.zeros(len(gains), bool), budget=min(expected, len(gains))).ceiling

    def __call__(self, day: int, slot: int, present: Truths, people: People, left: int) -> Truths:
        if day != self.day:
            if self.day >= 0:
                self.price = follow(self.price, self.ceiling)
                self.comes, self.came = max(self.came / max(int(people.there.sum()), 1), 0.01), 0
            self.begin(day, people)
        self.came += int(present.sum())
        price = price_now(self.ceiling, spent=self.spent, share=(slot + 1) / SLOTS, budget=self.ours)
        chosen = present & self.due
        rest = left - int(chosen.sum())
        if rest < 0:
            return np.zeros(self.size, bool)
        who = np.flatnonzero(present & ~self.drawn)
        gains = self.gains(people, who)
        gains = np.where(gains > price, gains, -np.inf)
        steered = choose(gains, np.zeros(len(who), bool), budget=min(rest, self.ours - self.spent)).touched
        self.spent += int(steered.sum())
        chosen[who[steered]] = True
        return chosen


@dataclass
class Knowing(Steered):
    seed: int = 0

    def value(self) -> Values:
        planted = market(self.seed)
        return evaluate(planted.hazards, planted.leaves, WORTH, self.price, start=self.worth)


@dataclass
class Learning(Steered):
    """Counts what it sees, learns every night, and goes by what it believes every morning."""

    seed: int = 0
    curves: Curves | None = None
    #: by the mean of what is believed, on days on which the budget is not used up
    hoped: Values | None = None
    outcomes: Counts = field(init=False)
    leaves: Counts = field(init=False)
    #: part of the users whose touches are drawn, and each user's place; touches that each has had
    share: float = field(init=False)
    place: Floats = field(init=False)
    had: Ints = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.place, self.had = self.rng.random(self.size), np.zeros(self.size, np.int64)
        self.share = first_share(DRAWN_SHARE, users=self.size, segments=SEGMENTS, at_most=WORTH.at_most)
        self.target = self.rng.integers(WORTH.at_most + 1, size=self.size).astype(float)
        # one made-up user a thousand days at risk: how often things happen before anything was seen
        shape = (SEGMENTS, 2, WORTH.at_most + 1, RECENCY)
        self.outcomes = Counts(at_risk=np.zeros(shape), events=np.zeros(shape))
        shape = (SEGMENTS, 2, tiring_states(WORTH) + 1, 1)
        self.leaves = Counts(at_risk=np.zeros(shape), events=np.zeros(shape))
        self.outcomes.at_risk[:, 0, 0, 0] += 1000 / SEGMENTS
        self.outcomes.events[:, 0, 0, 0] += 1 / SEGMENTS
        self.leaves.at_risk[:, 0, 1, 0] += 1000 / SEGMENTS
        self.leaves.events[:, 0, 1, 0] += 2 / SEGMENTS

    def value(self) -> Values:
        if self.curves is None:
            self.learn()
        assert self.curves is not None
        return self.believed(expected=False)

    def believed(self, *, expected: bool) -> Values:
        assert self.curves is not None
        return value_states(self.curves, WORTH, self.price, expected=expected, start=self.worth)

    def begin(self, day: int, people: People) -> None:
        self.hoped = None
        seen = float(self.had[self.drawn].sum())
        self.share = drawn_share(DRAWN_SHARE, self.share, seen=seen, segments=SEGMENTS)
        self.drawn = self.place < self.share
        super().begin(day, people)
        if self.ceiling == 0:
            self.hoped = self.believed(expected=True)

    def gains(self, people: People, who: Ints) -> Floats:
        found = super().gains(people, who)
        if self.hoped is None:
            return found
        return first_then(found, self.looked_up(self.hoped, people, who))

    def learn(self) -> None:
        names = tuple(f"segment {place}" for place in range(SEGMENTS))
        self.curves = learn_curves(names, self.outcomes, self.leaves, start=self.curves)

    def watch(self, day: int, people: People, touched: Truths, won: Truths, left: Truths) -> None:
        self.had += touched
        self.count(people, touched, won, left)
        self.learn()

    def count(self, people: People, touched: Truths, won: Truths, left: Truths) -> None:
        at, drawn = people.there & ~left, self.drawn.astype(int)
        place = (
            people.segment,
            drawn,
            people.k,
            np.where(people.k > 0, np.minimum(people.r, RECENCY - 1), 0),
        )
        _count(self.outcomes.at_risk, place, at)
        _count(self.outcomes.events, place, won)
        n = np.minimum(people.n, self.leaves.at_risk.shape[2] - 1)
        tiring = (people.segment, drawn, n, np.zeros_like(n))
        _count(self.leaves.at_risk, tiring, touched)
        _count(self.leaves.events, tiring, left)


def _count(counts: Floats, place: tuple[Ints, ...], who: Truths) -> None:
    flat = np.ravel_multi_index(tuple(each[who] for each in place), counts.shape)
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


def first_come(day: int, slot: int, present: Truths, people: People, left: int) -> Truths:
    """Whoever looks in, as long as the day's touches last: at most three a week and twelve in all."""
    may = present & (people.n < 3) & (people.k < WORTH.at_most)
    return may & (np.cumsum(may) <= left)


def equal_quota(day: int, slot: int, present: Truths, people: People, left: int) -> Truths:
    """So many for each, no more."""
    may = present & (people.k < EACH)
    due = min(left, round(EACH * len(present) / DAYS * (slot + 1) / SLOTS))
    return may & (np.cumsum(may) <= due)


@dataclass
class Propensity:
    """Whoever buys most often, by what was seen so far: at most three a week and twelve in all."""

    sold: Floats = field(default_factory=lambda: np.full(SEGMENTS, 0.1))
    days: Floats = field(default_factory=lambda: np.full(SEGMENTS, 100.0))

    def __call__(self, day: int, slot: int, present: Truths, people: People, left: int) -> Truths:
        rate = (self.sold / self.days)[people.segment]
        may = present & (people.n < 3) & (people.k < WORTH.at_most)
        allowed = min(left, round(EACH * len(present) / DAYS * 1.5 / SLOTS) if slot < SLOTS - 1 else left)
        gains = np.where(may, rate, -np.inf)
        return choose(gains, np.zeros(len(gains), bool), budget=allowed).touched

    def watch(self, day: int, people: People, touched: Truths, won: Truths, left: Truths) -> None:
        self.sold += np.bincount(people.segment[won], minlength=SEGMENTS)
        self.days += np.bincount(people.segment[people.there], minlength=SEGMENTS)


def recovered(learner: Learning, seed: int) -> tuple[int, int]:
    """Of the planted hazards on the day of the k-th touch, how many lie in their 95 % intervals, and of how
    many: those of which at least 50 days were seen."""
    planted = market(seed)
    assert learner.curves is not None
    found = [0, 0]
    for hazards, curve, counts in (
        (planted.hazards[:, :, 0], learner.curves.outcomes, learner.outcomes),
        (planted.leaves, learner.curves.leaves, learner.leaves),
    ):
        assert curve is not None
        seen = counts.at_risk.sum(axis=1)[..., 0] >= 50
        log = curve.log_hazards((0.0,))[..., 0]
        inside = np.abs(np.log(np.maximum(hazards, 1e-12)) - log) <= 1.96 * curve.deviations()
        found[0] += int((inside & seen).sum())
        found[1] += int(seen.sum())
    return found[0], found[1]


def run(size: int, seed: int, seconds: float) -> list[Line]:
    small = size < 5_000
    seeds, days = range(seed, seed + (1 if small else SEEDS)), 10 if small else DAYS
    results: dict[str, list[Result]] = {}
    took: dict[str, float] = {}
    inside: list[tuple[int, int]] = []
    wanted: list[float] = []
    for each in seeds:
        learner = Learning(size, np.random.default_rng([each, 3]), seed=each)
        propensity = Propensity()
        contestants: dict[str, tuple[Policy, Watch | None]] = {
            OURS: (learner, learner.watch),
            ORACLE: (Knowing(size, np.random.default_rng([each, 3]), seed=each), None),
            FIRST_COME: (first_come, None),
            QUOTA: (equal_quota, None),
            PROPENSITY: (propensity, propensity.watch),
            "no touch at all": (lambda day, slot, present, people, left: present & False, None),
        }
        for who, (policy, watch) in contestants.items():
            begun = time.process_time()
            results.setdefault(who, []).append(live(size, each, policy, watch, days))
            took[who] = took.get(who, 0.0) + time.process_time() - begun
        inside.append(recovered(learner, each))
        assert learner.values is not None
        wanted.append(float(targets(learner.values, learner.price)[:, 0].mean()))
    return [_line(size, who, results, took, inside, wanted) for who in results]


def _line(
    size: int, who: str, results: dict[str, list[Result]], took: dict[str, float],
    inside: list[tuple[int, int]], wanted: list[float],
) -> Line:  # fmt: skip
    mine, ours = results[who], results[OURS]
    won = np.array([each.conversions for each in mine], float)
    best = np.array([each.conversions for each in ours], float)
    notes: dict[str, object] = {
        "seeds": len(mine),
        "conversions a seed (least – greatest)": f"{won.mean():,.0f} ({won.min():,.0f} – {won.max():,.0f})",
        "ours is so many times as many, in the worst seed": f"{(best / np.maximum(won, 1)).min():.2f}",
        "opt-outs": f"{np.mean([each.opt_outs for each in mine]):,.0f}",
        "touches": f"{np.mean([each.touches for each in mine]):,.0f}",
        "touches a converter": f"{np.nanmean([each.converters for each in mine] or [0.0]):.2f}"
        if any(each.touches for each in mine) else "–",
    }  # fmt: skip
    if who == OURS:
        notes["target, mean over segments"] = f"{np.mean(wanted):.2f}"
        hit, of = (sum(each) for each in zip(*inside, strict=True))
        notes["planted hazards within 95 % intervals"] = f"{hit / max(of, 1):.3f} of {of:,}"
    return Line(
        size=size, who=who, ratio=float(won.sum() / best.sum()), times=took[who] / took[OURS],
        seconds=took[who], notes=notes,
    )  # fmt: skip


CASE = Case(
    about=(
        f"{SEGMENTS} segments with planted curves (immune, sure to buy, concave, inverted U, easily "
        f"annoyed), {DAYS} days, {EACH:g} touches a user for everybody, ten seeds: users, moments and luck "
        "are the same for all contestants of a seed. Ours learns from its own exposures only, of which "
        f"those of at most {DRAWN_SHARE:.0%} of the users are drawn, of fewer as more is known; a user is "
        "touched when she looks in, or not, and who looks in later is not known. The oracle decides in the "
        "same way, knows the planted curves and draws nobody. Seconds are of the processor."
    ),
    measure="conversions",
    sizes=(20_000, 200_000),
    smoke=2_000,
    run=run,
    packages=("numpy",),
)
