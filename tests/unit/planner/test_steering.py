"""Frequencies leave candidates out, with the reason, and weigh those that stay."""

from __future__ import annotations

import polars as pl
import pytest

from planner.steering import Steered, steer, weighed

ROWS = pl.DataFrame(
    {
        "user": [1, 1, 2, 3, 4],
        "channel": ["push", "mail", "push", "push", "push"],
        "goal": ["win_back", "win_back", "win_back", "retain", "win_back"],
        "response": [0.2, 0.2, 0.2, 0.2, 0.2],
        "gain": [2.0] * 5,
        "per_touch": [0.1] * 5,
        "per_response": [1.0] * 5,
    }
)
TOLD = pl.DataFrame({"user": [1, 2, 3], "factor": [0.5, 0.0, 0.0], "reason": ["", "reached", "reached"]})


def steered(**said: object) -> Steered:
    told = {"name": "ads", "channels": ("push",), "goals": ("win_back",), "users": TOLD} | said
    return Steered(**told)  # type: ignore[arg-type]  # each is of its field's type


def test_who_must_not_be_touched_is_left_out_on_its_channels_and_goals_alone() -> None:
    rows, pruned = steer(ROWS, [steered()])
    assert rows.select("user", "channel", "factor").rows() == [
        (1, "push", 0.5), (1, "mail", 1.0), (3, "push", 1.0), (4, "push", 1.0)
    ]  # fmt: skip
    assert pruned == {"frequency ads: reached": 1}
    everything, _ = steer(ROWS, [steered(goals=None)])
    assert everything["user"].to_list() == [1, 1, 4]


def test_factors_of_several_multiply() -> None:
    rows, _ = steer(ROWS, [steered(), steered(name="other", channels=("push", "mail"))])
    assert rows.filter(pl.col("user") == 1)["factor"].to_list() == [0.25, 0.5]


def test_a_factor_weighs_response_gain_and_what_responses_cost() -> None:
    rows, _ = steer(ROWS, [steered()])
    first = weighed(rows).row(0, named=True)
    assert (first["response"], first["gain"]) == (0.1, 1.0)
    assert first["cost"] == pytest.approx(0.1 + 0.1)
    assert first["value"] == pytest.approx(1.0 - 0.2)
    other = weighed(rows).row(3, named=True)
    assert (other["response"], other["gain"], other["value"]) == (0.2, 2.0, pytest.approx(1.7))
