"""Exposures as counts at risk: every run of days is counted once, in its place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from kernel.events import INSTANT
from touchpoint.exposure_states import RECENCY, Seen, derive_states
from touchpoint.frequency_value import Worth

AS_OF = datetime(2026, 3, 31, tzinfo=UTC)
WORTH = Worth(value=10.0, kept=5.0, at_most=4, window=10, tires=3, rest=2, horizon=10)
Events = Sequence[tuple[str, float]]


def frame(rows: Events) -> pl.DataFrame:
    """(user, days before `AS_OF`)"""
    data = {"user": [user for user, _ in rows], "at": [AS_OF - timedelta(days=ago) for _, ago in rows]}
    return pl.DataFrame(data, schema={"user": pl.String, "at": INSTANT})


def seen(
    exposures: Events,
    outcomes: Events = (),
    leaves: Events = (),
    users: tuple[str, ...] = ("a",),
    **said: Any,
) -> Seen:
    people = pl.DataFrame(
        {"user": users, "segment": ["all"] * len(users), "randomised": [False] * len(users)}
    )
    told: dict[str, Any] = {"history": 30, "half_life": 10**9, **said}
    return derive_states(
        users=told.pop("people", people), exposures=frame(exposures), outcomes=frame(outcomes),
        leaves=frame(leaves), worth=WORTH, as_of=AS_OF, zone=ZoneInfo("UTC"), **told,
    )  # fmt: skip


def at_risk(found: Seen, k: int) -> list[int]:
    return [round(each) for each in found.outcomes.at_risk[0, 0, k].tolist()]


def test_a_run_ends_with_the_next_exposure_and_the_last_with_today() -> None:
    found = seen([("a", 8.5), ("a", 5.5)])
    assert at_risk(found, 1)[:4] == [1, 1, 1, 0]  # three days until the second
    assert at_risk(found, 2)[:7] == [1, 1, 1, 1, 1, 1, 0]  # its own day and five more, before today
    assert at_risk(found, 0)[0] == 30 - 3 - 6
    assert found.outcomes.events.sum() == 0
    state = found.states.row(0, named=True)
    assert (state["k"], state["r"], state["n"], state["rests"], state["left"]) == (2, 6, 0, False, False)


def test_an_outcome_ends_a_run_counts_on_its_day_and_counting_begins_anew() -> None:
    found = seen([("a", 20.5), ("a", 15.5)], [("a", 18.5)])
    assert found.outcomes.events[0, 0, 1, 2] == pytest.approx(1)
    assert at_risk(found, 1)[:10] == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert found.outcomes.events.sum() == pytest.approx(1)
    # thirty days less the first run's three, two of rest, the second's ten; then the window was over
    assert at_risk(found, 0)[0] == 30 - 3 - 2 - 10
    assert found.converters == {1: 1}
    assert found.touches_per_converter == 1.0
    assert found.states.row(0, named=True)["k"] == 0


def test_an_outcome_without_exposures_counts_at_none_and_one_at_rest_does_not() -> None:
    found = seen([], [("a", 10.5), ("a", 9.5), ("a", 5.5)])
    assert found.outcomes.events[0, 0, 0, 0] == pytest.approx(2)
    assert found.totals == {"exposures": 0, "outcomes": 2, "opt_outs": 0}
    assert seen([], [("a", 0.5)]).states["rests"].to_list() == [True]


def test_who_leaves_is_at_risk_no_more_and_the_last_exposure_tired() -> None:
    found = seen([("a", 20.5), ("a", 19.5), ("a", 5.5)], [("a", 3.5)], [("a", 18.5)])
    assert found.leaves.at_risk[0, 0, :, 0].tolist() == pytest.approx([0, 1, 1, 0])
    assert found.leaves.events[0, 0, :, 0].tolist() == pytest.approx([0, 0, 1, 0])
    assert found.outcomes.events.sum() == 0
    assert at_risk(found, 2)[:3] == [1, 0, 0]
    assert at_risk(found, 0)[0] == 30 - 2 - 19
    assert found.states["left"].to_list() == [True]


def test_an_opt_out_long_after_is_no_exposures_doing() -> None:
    assert seen([("a", 20.5)], leaves=[("a", 10.5)]).leaves.events.sum() == 0


def test_exposures_beyond_the_most_count_at_the_most_and_those_of_one_day_follow_each_other() -> None:
    found = seen([("a", 8.5 - i / 100) for i in range(6)])
    assert at_risk(found, 4)[0] == 1
    assert [at_risk(found, k)[0] for k in (1, 2, 3)] == [0, 0, 0]
    assert found.leaves.at_risk[0, 0, 3, 0] == pytest.approx(6)  # of a day, all are within the tiring window
    assert found.states["k"].to_list() == [6]


def test_weights_halve_and_randomised_users_are_counted_apart() -> None:
    people = pl.DataFrame({"user": ["a", "b"], "segment": ["x", "y"], "randomised": [True, False]})
    found = seen([("a", 10.5), ("b", 20.5)], people=people, half_life=10)
    assert found.segments == ("x", "y")
    assert found.outcomes.at_risk[0, 1, 1, 0] == pytest.approx(0.5)
    assert found.outcomes.at_risk[1, 0, 1, 0] == pytest.approx(0.25)
    assert found.outcomes.at_risk[0, 0].sum() == 0


def test_recency_beyond_what_is_told_apart_is_kept_together() -> None:
    worth = Worth(value=1.0, kept=0.0, at_most=2, window=25, tires=3, rest=0, horizon=10)
    people = pl.DataFrame({"user": ["a"], "segment": ["all"], "randomised": [False]})
    found = derive_states(
        users=people, exposures=frame([("a", 25.5)]), outcomes=frame([]), leaves=frame([]), worth=worth,
        as_of=AS_OF, zone=ZoneInfo("UTC"), history=30, half_life=10**9,
    )  # fmt: skip
    assert found.outcomes.at_risk[0, 0, 1, RECENCY - 1] == pytest.approx(25 - (RECENCY - 1))
    assert found.outcomes.at_risk[0, 0, 1].sum() == pytest.approx(25)


def test_days_are_those_of_the_zone() -> None:
    people = pl.DataFrame({"user": ["a"], "segment": ["all"], "randomised": [False]})
    zone = ZoneInfo("Asia/Shanghai")
    begins = datetime(2026, 3, 30, 16, tzinfo=UTC)  # midnight there
    late = pl.DataFrame(
        {"user": ["a"], "at": [begins - timedelta(minutes=1)]}, schema={"user": pl.String, "at": INSTANT}
    )
    found = derive_states(
        users=people, exposures=late, outcomes=frame([]), leaves=frame([]), worth=WORTH, as_of=begins,
        zone=zone, history=30, half_life=10**9,
    )  # fmt: skip
    assert found.states["r"].to_list() == [1]
    assert found.outcomes.at_risk[0, 0, 1].sum() == 1


def test_what_does_not_fit_is_said() -> None:
    twice = pl.DataFrame({"user": ["a", "a"], "segment": ["x", "x"], "randomised": [False, False]})
    with pytest.raises(BadInput, match="users: user = 'a': is there twice"):
        seen([], people=twice)
    with pytest.raises(BadInput, match="segment"):
        seen([], segments=("other",))
    with pytest.raises(BadInput, match="randomised"):
        seen([], people=twice.drop("randomised"))


def test_nobody_is_lost() -> None:
    """However exposures and outcomes fall, days at risk are all days less those at rest or gone."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        exposures = [("a", float(x)) for x in rng.uniform(0.1, 29.9, 12)]
        found = seen(exposures)
        assert found.outcomes.at_risk.sum() == pytest.approx(30)
