"""Planted curves come out of counts within their intervals, also where who is touched is confounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from benchmarks.frequency import DRAWN_SHARE, Learning, first_come
from benchmarks.frequency_world import SEGMENTS, WORTH, Floats, People, Truths, live, market
from kernel.errors import BadInput
from kernel.events import INSTANT
from touchpoint.exposure_states import RECENCY, derive_states
from touchpoint.frequency_control import DRAWN_RATE
from touchpoint.hazard import Counts, Hazards, fit_hazards

TOP = 8
KS = np.arange(TOP + 1)
SHAPES = (2.5 * (1 - np.exp(-KS / 1.5)), 3.0 * np.exp(-((KS - 4.5) ** 2) / 4) * (KS > 0), 0.0 * KS)


def planted(seed: int, segments: int = 9, half_life: float = 3.0) -> Floats:
    """[segments, 1 + TOP, 8]: concave, inverted U and immune in turn."""
    rng = np.random.default_rng([seed, 5])
    level = np.log(0.01) + rng.normal(0, 0.3, segments)
    lift = np.array([SHAPES[place % 3] * rng.uniform(0.8, 1.2) for place in range(segments)])
    fades = 2.0 ** (-np.arange(8) / half_life)
    return np.asarray(np.exp(level[:, None, None] + lift[:, :, None] * fades), float)


def counted(
    hazards: Floats, seed: int, each: float = 400.0, drawn: float = 0.1, biased: float = 0.0
) -> Counts:
    """`biased`: by which touched days of users who were not drawn look better, on the log scale."""
    rng = np.random.default_rng([seed, 6])
    days = rng.poisson(each, (len(hazards), 2, *hazards.shape[1:])).astype(float)
    days[:, :, 0, 1:] = 0.0
    days[:, 1] = np.floor(days[:, 1] * drawn)
    both = np.stack([hazards, hazards], axis=1)
    both[:, 0, 1:] *= np.exp(biased * 2.0 ** (-np.arange(hazards.shape[2]) / 3.0))
    return Counts(at_risk=days, events=rng.binomial(days.astype(int), np.minimum(both, 1)).astype(float))


def within(found: Hazards, hazards: Floats) -> Truths:
    log = found.log_hazards((0.0,))[..., 0]
    return np.abs(np.log(hazards[:, :, 0]) - log) <= 1.96 * found.deviations()


def test_planted_curves_lie_in_their_intervals() -> None:
    inside = [within(fit_hazards(counted(planted(seed), seed)), planted(seed)) for seed in range(8)]
    # nominal 95 %; the curves of a segment hang together, so a seed counts rather than a point
    assert 0.93 <= np.mean(inside) <= 0.995
    assert min(np.mean(each) for each in inside) > 0.9


def test_the_half_life_is_found_and_shapes_are_told_apart() -> None:
    found = fit_hazards(counted(planted(3, half_life=4.0), 3, each=2000.0))
    assert 3.3 < found.half_life < 4.8
    curve = found.mean[:, 1:]
    assert (curve[0::3, -1] > 1.5).all(), "concave: it stays up"
    assert (curve[1::3].argmax(axis=1) >= 3).all(), "inverted U: the peak is in the middle"
    assert (curve[1::3, -1] < curve[1::3].max(axis=1) - 1.0).all()
    assert (np.abs(curve[2::3]).max(axis=1) < 0.8).all(), "immune: nothing"


def test_few_users_lean_on_the_others() -> None:
    hazards = planted(1, segments=12)
    hazards[:] = hazards[:1]
    counts = counted(hazards, 1, each=300.0)
    counts.at_risk[-1] = counts.events[-1] = 0.0
    found = fit_hazards(counts)
    assert np.abs(found.mean[-1, 1:] - found.mean[:-1, 1:].mean(axis=0)).max() < 0.3
    assert (found.deviations()[-1] > found.deviations()[:-1].max(axis=0)).all()


def test_randomised_users_ground_a_curve_that_confounding_would_raise() -> None:
    """Touched users who were not drawn buy twice as often, whatever the touch does."""
    misses, naive = [], []
    for seed in range(4):
        hazards, biased = planted(seed), np.log(2.0)
        counts = counted(hazards, seed, each=1500.0, drawn=0.3, biased=biased)
        true = np.log(hazards[:, :, 0] / hazards[:, :1, 0])[:, 1:]
        misses.append(np.mean(fit_hazards(counts).mean[:, 1:] - true))
        alone = Counts(at_risk=counts.at_risk.sum(axis=1, keepdims=True).repeat(2, 1) / 2,
                       events=counts.events.sum(axis=1, keepdims=True).repeat(2, 1) / 2)  # fmt: skip
        naive.append(np.mean(fit_hazards(alone).mean[:, 1:] - true))
        assert np.abs(fit_hazards(counts).drawn[2:] - biased).max() < 0.45
    assert np.mean(naive) > 0.4
    assert abs(np.mean(misses)) < 0.1


def test_a_fit_goes_on_from_an_earlier_one() -> None:
    counts = counted(planted(2), 2)
    first = fit_hazards(counts)
    again = fit_hazards(counts, start=first)
    assert np.abs(again.mean - first.mean).max() < 0.1
    assert 0.9 < again.half_life / first.half_life < 1.1
    faded = fit_hazards(counts.faded(0.1))
    assert (faded.deviations() > first.deviations()).mean() > 0.95


def test_expected_hazards_are_the_means_of_the_posterior() -> None:
    found = fit_hazards(counted(planted(4), 4))
    rng, days = np.random.default_rng(1), np.array([0.0, 2.0, 5.0])
    fades = 2.0 ** (-days / found.half_life)
    for segment in (0, 4):
        theta = rng.multivariate_normal(found.mean[segment], found.covariance[segment], 40_000)
        curves = np.concatenate([np.zeros((len(theta), 1)), theta[:, 1:]], 1)
        drawn = np.exp(theta[:, :1, None] + curves[:, :, None] * fades).mean(axis=0)
        assert found.expected(list(days))[segment] == pytest.approx(drawn, rel=0.02)
    known = found.expected([0.0]) / found.hazards([0.0])
    assert known.min() >= 1.0
    assert np.corrcoef(known.ravel(), found.deviations().ravel())[0, 1] > 0.9


def test_counts_that_cannot_be_are_refused() -> None:
    nothing = np.zeros((1, 2, 3, 2))
    with pytest.raises(BadInput, match="nobody was ever at risk"):
        fit_hazards(Counts(at_risk=nothing, events=nothing))
    with pytest.raises(BadInput, match="more events"):
        Counts(at_risk=nothing, events=nothing + 1)
    with pytest.raises(BadInput, match="segments, 2, k, r"):
        Counts(at_risk=nothing[0], events=nothing[0])


def test_drawn_users_get_their_touches_while_nothing_is_known() -> None:
    """On the first days a touch has no price: whoever looks in early must not use up what is theirs."""
    size, days = 20_000, 4
    learner = Learning(size, np.random.default_rng(2), seed=2)
    live(size, 2, learner, learner.watch, days=days)
    assert learner.ceiling == 0.0
    assert learner.share == DRAWN_SHARE, "so few users are all needed"
    due = np.minimum(learner.target, days * DRAWN_RATE * 0.7)[learner.drawn]
    assert learner.had[learner.drawn].sum() > 0.85 * due.sum()


def test_counts_from_the_log_of_a_market_are_those_that_it_was_run_by() -> None:
    """The world keeps its own tally; the same days, told as events, come to the same counts."""
    size, days, begun = 3_000, 25, datetime(2026, 1, 1, tzinfo=UTC)
    learner = Learning(size, np.random.default_rng(1), seed=1)
    learner.drawn[:] = False
    for counts in (learner.outcomes, learner.leaves):  # what it begins with is made up
        counts.at_risk[:] = counts.events[:] = 0.0
    logs: dict[str, list[tuple[int, datetime]]] = {"touched": [], "won": [], "left": []}
    segment = np.zeros(size, int)

    def watch(day: int, people: People, touched: Truths, won: Truths, left: Truths) -> None:
        learner.count(people, touched, won, left)
        segment[:] = people.segment
        for hour, name, who in ((9, "touched", touched), (10, "left", left), (11, "won", won)):
            logs[name] += [
                (int(user), begun + timedelta(days=day, hours=hour)) for user in np.flatnonzero(who)
            ]

    live(size, 1, first_come, watch, days=days)
    frames = {
        name: pl.DataFrame(rows, schema={"user": pl.Int64, "at": INSTANT}, orient="row")
        for name, rows in logs.items()
    }
    names = [f"segment {place}" for place in range(SEGMENTS)]
    users = pl.DataFrame(
        {"user": range(size), "segment": [names[each] for each in segment], "randomised": [False] * size}
    )
    seen = derive_states(
        users=users, exposures=frames["touched"], outcomes=frames["won"], leaves=frames["left"], worth=WORTH,
        as_of=begun + timedelta(days=days), zone=ZoneInfo("UTC"), history=days, half_life=10**9,
        segments=names, )  # fmt: skip
    assert np.abs(seen.outcomes.events - learner.outcomes.events).max() < 1e-4
    assert np.abs(seen.outcomes.at_risk - learner.outcomes.at_risk).max() < 1e-2
    assert np.abs(seen.leaves.at_risk - learner.leaves.at_risk).max() < 1e-3
    assert np.abs(seen.leaves.events - learner.leaves.events).max() < 1e-4
    assert seen.outcomes.at_risk[..., 1:, :].sum() > 10_000
    assert market(1).hazards.shape == (SEGMENTS, WORTH.at_most + 1, RECENCY)
