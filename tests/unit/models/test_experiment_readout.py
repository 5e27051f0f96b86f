"""The whole readout: findings, corrections, subjects, and what makes it unreadable."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from kernel.errors import BadInput
from models.experiment_readout import BETTER, NOT_READABLE, OPEN, TOO_LITTLE, WORSE, Readout, read_out
from models.experiments import Experiment
from models.sequential import reach

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
LATE = BEGIN + timedelta(days=60)
INSTANT = pl.Datetime("us", "UTC")
VARIANTS = {"none": 0.5, "mail": 0.25, "push": 0.25}


def experiment(**told: Any) -> Experiment:
    raw = {
        "name": "e", "variants": VARIANTS, "holdout": "none", "starts": date(2026, 3, 1), "planned": 6000,
        "metrics": [
            {"name": "spend", "sum": {"amount": 1}},
            {"name": "cost", "sum": {"cost": 1}, "better": "less"},
            {"name": "basket", "sum": {"amount": 1}, "per": {"orders": 1}},
        ],
    }  # fmt: skip
    return Experiment.model_validate({**raw, **told})


def world(gain: dict[str, float], n: int = 6000, seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One outcome a user: spend 20 ± 10 with the variant's gain, cost 1 more where the gain is positive."""
    rng = np.random.default_rng(seed)
    variant = rng.choice(list(VARIANTS), n, p=list(VARIANTS.values()))
    added = np.array([gain.get(each, 0.0) for each in variant])
    assigned = pl.DataFrame(
        {"user": range(n), "variant": variant, "at": [BEGIN] * n}, schema_overrides={"at": INSTANT}
    )
    outcomes = pl.DataFrame(
        {
            "user": range(n),
            "at": [BEGIN + timedelta(days=3)] * n,
            "amount": rng.normal(20, 10, n) + added,
            "cost": rng.normal(5, 1, n) + (added > 0),
            "orders": rng.integers(1, 4, n),
        },
        schema_overrides={"at": INSTANT},
    )
    return assigned, outcomes


def findings(found: Readout) -> dict[tuple[str, str], str]:
    return {(line.variant, line.metric): line.finding for line in found.lines}


def test_what_helps_what_costs_and_what_does_nothing() -> None:
    found = read_out(experiment(), *world({"mail": 3.0}), LATE)
    assert findings(found) == {
        ("mail", "spend"): BETTER, ("mail", "cost"): WORSE, ("mail", "basket"): BETTER,
        ("push", "spend"): OPEN, ("push", "cost"): OPEN, ("push", "basket"): OPEN,
    }  # fmt: skip
    mail = found.lines[0]
    assert (mail.variant, mail.decides) == ("mail", True)
    assert mail.always is not None
    assert mail.total is not None
    assert mail.always.low < 3 < mail.always.high
    assert mail.total.mean == pytest.approx(mail.always.mean * mail.users)
    assert mail.total.low == pytest.approx(mail.always.low * mail.users)
    assert mail.relative == pytest.approx(mail.always.mean / mail.mean_holdout)
    assert [line.decides for line in found.lines] == [True, True, False, False, False, False]
    assert all(line.total is None for line in found.lines if line.metric == "basket")


def test_intervals_are_of_alpha_divided_among_variants_at_the_pairs_planned_users() -> None:
    found = read_out(experiment(), *world({}), LATE)
    line = found.lines[0]
    assert line.one_look is not None
    assert line.always is not None
    assert line.one_look.level == line.always.level == pytest.approx(0.975)
    half = {name: (each.high - each.low) / 2 for name, each in (("1", line.one_look), ("n", line.always))}
    error = half["1"] / norm.ppf(1 - 0.025 / 2)
    assert half["n"] / error == pytest.approx(reach(line.users + line.users_holdout, 4500, 0.025))
    assert (line.p_always or 0) <= 1


def test_interval_and_p_value_agree_on_what_is_found() -> None:
    for seed in range(12):
        for line in read_out(experiment(), *world({"mail": 0.8}, n=3000, seed=seed), LATE).lines:
            assert line.always is not None
            assert line.p_always is not None
            outside = not line.always.low <= 0 <= line.always.high
            assert outside == (line.p_always <= 0.05)


def test_a_wrong_split_is_not_to_be_read() -> None:
    assigned, outcomes = world({"mail": 3.0})
    lost = assigned.filter((pl.col("variant") != "mail") | (pl.col("user") % 4 > 0))
    found = read_out(experiment(), lost, outcomes, LATE)
    assert set(findings(found).values()) == {NOT_READABLE}
    assert "the split is not what was declared" in found.warnings[0]
    assert found.as_json()["sample_ratio"]["e"]["alarm"]


def test_the_split_is_of_all_who_came_also_those_whose_window_is_not_over() -> None:
    assigned, outcomes = world({})
    young = assigned.with_columns(
        pl.when(pl.col("user") % 2 == 0).then(pl.lit(LATE)).otherwise("at").cast(INSTANT).alias("at")
    )
    found = read_out(experiment(), young, outcomes, LATE)
    assert sum(found.ratios["e"].counts.values()) == 6000
    assert found.immature == 3000


def test_subjects_are_read_each_by_itself() -> None:
    one, outcomes = world({"mail": 3.0})
    other = one.with_columns(subject=pl.lit("rule b"), variant=one["variant"].shuffle(3))
    both = pl.concat([one.with_columns(subject=pl.lit("rule a")), other.select(*one.columns, "subject")])
    found = read_out(experiment(), both, outcomes, LATE)
    said = {(line.subject, line.variant): line.finding for line in found.lines if line.decides}
    assert said == {
        ("rule a", "mail"): BETTER,
        ("rule a", "push"): OPEN,
        ("rule b", "mail"): OPEN,
        ("rule b", "push"): OPEN,
    }
    assert set(found.ratios) == {"rule a", "rule b"}


def test_few_users_say_nothing() -> None:
    found = read_out(experiment(), *world({"mail": 30.0}, n=300), LATE)
    assert set(findings(found).values()) == {TOO_LITTLE}
    assert "nothing is said below 100 users" in found.warnings[-1]
    assert found.lines[0].always is None


def test_before_the_first_window_is_over_there_is_nothing_to_read() -> None:
    with pytest.raises(BadInput, match=r"experiment e: as_of = .* before the first user's window"):
        read_out(experiment(), *world({}), BEGIN + timedelta(days=1))


def test_it_says_the_same_as_json_and_as_a_table() -> None:
    found = read_out(experiment(), *world({"mail": 3.0}), LATE)
    told = json.loads(json.dumps(found.as_json()))
    table = found.as_frame()
    assert table.height == len(told["lines"]) == 6
    for row, line in zip(table.rows(named=True), told["lines"], strict=True):
        assert row["effect"] == line["always"]["mean"]
        assert (row["always_low"], row["one_look_high"]) == (line["always"]["low"], line["one_look"]["high"])
        assert row["finding"] == line["finding"]
