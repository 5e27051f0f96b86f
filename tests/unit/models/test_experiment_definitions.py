"""Experiments as they are written: what is refused, alone and together."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from kernel.definitions import parse
from kernel.errors import BadInput
from models.experiments import Experiment, Holdout, check_experiments

GOOD: dict[str, Any] = {
    "kind": "experiment",
    "name": "spring",
    "variants": {"none": 0.5, "coupon": 0.5},
    "holdout": "none",
    "starts": "2026-03-01",
    "planned": 5000,
    "metrics": [{"name": "spend", "sum": {"amount": 1}}],
}


def made(**told: Any) -> Experiment:
    return parse(Experiment, {**GOOD, **told}, "spring.yaml")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"variants": {"none": 0.5, "coupon": 0.4}}, "shares of variants sum to 0.9, not 1"),
        ({"variants": {"none": 1.0}}, "variants"),
        ({"variants": {"none": 0.0, "coupon": 1.0}}, "variant 'none' has no share"),
        ({"variants": {"none": 1.5, "coupon": -0.5}}, "variants"),
        ({"holdout": "control"}, "holdout 'control' is not among the variants"),
        ({"slice": [0.6, 0.2], "layer": "a"}, "slice is not"),
        ({"slice": [0.2, 0.6]}, "begins at 0"),
        ({"slice": [0.2, 1.6], "layer": "a"}, "slice"),
        ({"ends": "2026-03-01"}, "ends is not after starts"),
        ({"planned": 3}, "planned = 3"),
        ({"alpha": 0.7}, "alpha = 0.7"),
        ({"metrics": []}, "metrics"),
        ({"metrics": [{"name": "a"}, {"name": "a"}]}, "two metrics have one name"),
        ({"metrics": [{"name": "a", "per": {"orders": 1}}]}, "per needs sum"),
        ({"metrics": [{"name": "a", "cap": 5}]}, "cap needs sum"),
        (
            {"metrics": [{"name": "a", "cap": 5, "sum": {"x": 1}, "per": {"n": 1}}]},
            "cap does not go with per",
        ),
        ({"salz": "x"}, "not a known field"),
    ],
)
def test_what_does_not_fit_is_one_sentence(told: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=r"spring\.yaml") as caught:
        made(**told)
    assert said in str(caught.value)


def test_a_window_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="within = 'soon': is not a window"):
        made(within="soon")


def test_it_runs_from_its_first_day_up_to_its_end() -> None:
    told = made(ends="2026-03-08")
    instants = [datetime(2026, 2, 28, 23, 59, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    instants += [datetime(2026, 3, 7, 23, 59, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC)]
    assert [told.runs_at(at) for at in instants] == [False, True, True, False]
    assert made().runs_at(datetime(2030, 1, 1, tzinfo=UTC))
    assert told.starts == date(2026, 3, 1)


def test_experiments_of_a_layer_may_not_share_users_while_both_run() -> None:
    first = made(layer="a", slice=[0.0, 0.5], ends="2026-03-08")
    beside = made(name="b", layer="a", slice=[0.5, 1.0])
    check_experiments([first, beside])
    check_experiments([beside, first])
    check_experiments([first, made(name="b", layer="a", slice=[0.0, 1.0], starts="2026-03-08")])
    check_experiments([first, made(name="b", layer="other", slice=[0.0, 1.0])])
    with pytest.raises(
        BadInput, match=r"experiment b: slice = .* overlaps that of experiment spring in layer a"
    ):
        check_experiments([first, made(name="b", layer="a", slice=[0.4, 1.0], starts="2026-03-07")])


def test_two_experiments_may_not_draw_with_one_salt() -> None:
    with pytest.raises(BadInput, match="salt = 'spring': is that of experiment spring"):
        check_experiments([made(), made(name="b", salt="spring")])


def test_there_is_one_global_holdout() -> None:
    one, two = (Holdout(name=name, share=0.05) for name in ("a", "b"))
    check_experiments([], [one])
    with pytest.raises(BadInput, match="more than one is defined: a, b"):
        check_experiments([], [one, two])
