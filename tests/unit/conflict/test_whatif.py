"""What other bounds would bring, against the same question asked anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict import whatif
from conflict.api import allocate, parse_sweep, sweep, verify, what_if
from conflict.whatif import changed_limits
from kernel.choices import Limits, Status
from kernel.errors import BadInput

USERS = 1_500


@pytest.fixture(scope="module")
def day() -> tuple[pl.DataFrame, Limits]:
    rng = np.random.default_rng(5)
    task = np.tile(np.arange(6), USERS)
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(USERS), 6),
            "task": task,
            "value": rng.lognormal(0, 0.4, 6)[task] * rng.lognormal(0, 0.6, task.size),
            "cost": rng.uniform(0.5, 1.5, task.size),
            "channel": task % 2,
        }
    )
    limits: list[dict[str, Any]] = [
        {"name": f"budget{each}", "sum": "cost", "where": {"task": each}, "at_most": 0.12 * USERS + 10 * each}
        for each in range(6)
    ]
    limits += [
        {"name": "channel0", "where": {"channel": 0}, "at_most": 0.4 * USERS},
        {"name": "volume5", "where": {"task": 5}, "at_least": 0.05 * USERS},
    ]
    return frame, Limits.model_validate({"per_user": {"max_tasks": 2}, "limits": limits})


@pytest.fixture(scope="module")
def asked(day: tuple[pl.DataFrame, Limits]) -> whatif.WhatIf:
    return what_if(*day, time_limit=3.0, gap=1e-3)


CHANGES = {
    "a little": {"budget1": {"at_most": 190.0}, "budget2": {"at_most": 205.0}},
    "much": {"budget0": {"at_most": 40.0}, "channel0": {"at_most": 900.0}},
    "a floor": {"volume5": {"at_least": 260.0}, "budget5": {"at_most": 400.0}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_bounds_again_are_those_of_a_new_problem(
    day: tuple[pl.DataFrame, Limits], asked: whatif.WhatIf, change: str
) -> None:
    frame, limits = day
    answer = asked.changed(CHANGES[change], time_limit=20.0, gap=1e-3)
    changed = changed_limits(limits, CHANGES[change])
    anew = allocate(frame, changed, time_limit=3.0, gap=1e-3)
    assert "from those before" in answer.method["prices"]
    assert answer.objective is not None
    assert answer.bound is not None
    assert anew.objective is not None
    assert anew.bound is not None
    assert verify(frame, changed, answer.assignments) == []
    assert answer.assignments["value"].sum() == pytest.approx(answer.objective)
    # both bounds hold for both choices, and the linear ones are the same to what was asked of them
    assert answer.bound >= max(answer.objective, anew.objective) - 1e-6
    assert answer.bound == pytest.approx(anew.bound, rel=2e-4)


def test_only_some_of_the_users_are_looked_at_in_a_large_problem(
    monkeypatch: pytest.MonkeyPatch, day: tuple[pl.DataFrame, Limits], asked: whatif.WhatIf
) -> None:
    frame, limits = day
    monkeypatch.setattr(whatif, "_ALL", 100)
    monkeypatch.setattr(whatif, "_POOL", 2_000)
    change = CHANGES["a little"]
    answer = asked.changed(change, time_limit=20.0, gap=1e-3)
    assert "from those before" in answer.method["prices"]
    assert answer.objective is not None
    assert verify(frame, changed_limits(limits, change), answer.assignments) == []
    assert answer.assignments["value"].sum() == pytest.approx(answer.objective)


def test_a_change_may_make_limits_contradict_and_another_may_mend_it(asked: whatif.WhatIf) -> None:
    broken = asked.moved({"volume5": {"at_least": 1_000.0}}, time_limit=2.0, rows=False)
    assert broken.allocation.status is Status.INFEASIBLE
    assert {"budget5", "volume5"} <= set(broken.allocation.conflicting)
    mended = broken.moved({"volume5": {"at_least": 80.0}}, time_limit=2.0, gap=1e-3, rows=False)
    assert mended.allocation.objective is not None
    assert mended.allocation.assignments.is_empty()


def test_a_curve_rises_bends_down_and_goes_on_past_what_cannot_be() -> None:
    frame = pl.DataFrame({"user": range(6), "task": ["a"] * 6, "value": [6.0, 5, 4, 3, 2, 1]})
    limits = Limits.model_validate({"limits": [{"name": "few", "at_most": 3, "at_least": 0}]})
    asked = what_if(frame, limits)
    rows = list(sweep(asked, parse_sweep("at_most:few=0:8:5", limits)))
    assert [row["at"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row["objective"] for row in rows] == [0, 11, 18, 21, 21]
    floors = list(
        sweep(asked.moved({"few": {"at_most": 9}}), parse_sweep("at_least:few=5:7:3", _loose(limits)))
    )
    assert [row["status"] for row in floors] == ["OPTIMAL", "OPTIMAL", "INFEASIBLE"]
    assert floors[2]["price"] is None


def _loose(limits: Limits) -> Limits:
    return changed_limits(limits, {"few": {"at_most": 9}})


BOTH = Limits.model_validate(
    {"limits": [{"name": "both", "at_most": 9, "at_least": 2}, {"name": "one", "at_most": 4}]}
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("one", "NAME=FROM:TO:POINTS"),
        ("one=1:2", "NAME=FROM:TO:POINTS"),
        ("one=1:2:3:4", "NAME=FROM:TO:POINTS"),
        ("one=1:b:3", "NAME=FROM:TO:POINTS"),
        ("=1:2:3", "NAME=FROM:TO:POINTS"),
        ("one=1:inf:3", "finite"),
        ("one=nan:2:3", "finite"),
        ("one=1:2:1", "points"),
        ("one=1:2:1001", "points"),
        ("noe=1:2:3", "did you mean 'one'"),
        ("both=3:5:3", "at_most:both or at_least:both"),
        ("at_least:one=3:5:3", "has no at_least"),
        ("at_most:both=1:5:3", "at_least 2.0 is above at_most 1.0"),
        ("one=-1:5:3", "negative"),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told.replace("(", r"\(")) as refused:
        parse_sweep(text, BOTH)
    assert "--sweep" in str(refused.value)


def test_unknown_limits_and_bounds_are_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'both'"):
        changed_limits(BOTH, {"boht": {"at_most": 1.0}})
    with pytest.raises(BadInput, match="did you mean 'at_most'"):
        changed_limits(BOTH, {"both": {"at_mots": 1.0}})
    with pytest.raises(BadInput, match="needs at_most or at_least"):
        changed_limits(BOTH, {"one": {"at_most": None}})
