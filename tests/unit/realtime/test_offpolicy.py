from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from kernel.errors import BadInput
from kernel.learning import Action, Decision
from realtime.offpolicy import ESTIMATORS, LoggedChoices, evaluate, scores
from realtime.policy import Greedy, Uniform
from realtime.replay import as_logged, replay

ROWS = 400
SMALL = LoggedChoices(
    rewards=np.array([1.0, 0.0, 2.0, 0.0]),
    chosen=np.array([0, 1, 0, 1]),
    propensities=np.array([0.5, 0.5, 0.25, 0.75]),
    target=np.array([[1.0, 0.0]] * 4),
    contexts=np.zeros((4, 1)),
)


def test_by_hand() -> None:
    """Weights 2, 0, 4, 0."""
    result = evaluate(SMALL)
    assert result.ips.mean == pytest.approx((2 * 1 + 4 * 2) / 4)
    assert result.snips.mean == pytest.approx((2 * 1 + 4 * 2) / 6)
    assert result.effective == pytest.approx(36 / 20)
    error = np.std([2, 0, 8, 0], ddof=1) / 2
    assert result.ips.high - result.ips.mean == pytest.approx(1.959964 * error, rel=1e-6)
    assert "4 decisions say as much as 2" in result.warning


def own(rows: int = ROWS) -> LoggedChoices:
    rng = np.random.default_rng(3)
    target = rng.dirichlet(np.ones(3), size=rows)
    chosen = (rng.random((rows, 1)) > target.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return LoggedChoices(
        rewards=rng.normal(size=rows) + chosen,
        chosen=chosen,
        propensities=target[np.arange(rows), chosen],
        target=target,
        contexts=rng.normal(size=(rows, 2)),
    )


def test_its_own_log_gives_its_own_mean() -> None:
    log = own()
    result = evaluate(log)
    assert result.ips.mean == pytest.approx(log.rewards.mean())
    assert result.snips.mean == pytest.approx(log.rewards.mean())
    assert (result.effective, result.warning) == (pytest.approx(ROWS), "")


def test_the_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    normal, drawn = evaluate(own()), evaluate(own(), resamples=400, seed=3)
    assert drawn == evaluate(own(), resamples=400, seed=3)
    assert drawn != evaluate(own(), resamples=400, seed=4)
    for name in ESTIMATORS:
        wide = getattr(normal, name).high - getattr(normal, name).low
        assert getattr(drawn, name).mean == getattr(normal, name).mean
        assert getattr(drawn, name).high - getattr(drawn, name).low == pytest.approx(wide, rel=0.25)


def test_switch_dr_switches_where_weights_explode_and_is_steadier_for_it() -> None:
    rng = np.random.default_rng(5)
    likely = np.array([0.98, 0.01, 0.01])
    chosen = rng.choice(3, size=2000, p=likely)
    log = LoggedChoices(
        rewards=rng.normal(size=2000) + 1,
        chosen=chosen,
        propensities=likely[chosen],
        target=np.full((2000, 3), 1 / 3),
        contexts=rng.normal(size=(2000, 2)),
    )
    result = evaluate(log)
    assert result.switch_at < result.largest == pytest.approx(100 / 3)
    assert result.switch.high - result.switch.low < result.dr.high - result.dr.low
    assert abs(result.switch.mean - 1) < abs(result.ips.mean - 1)
    found = scores(log)
    reach = 1.959964 * found.switch.std(ddof=1) / math.sqrt(2000) + abs(found.left_out)
    assert found.left_out != 0
    assert result.switch.high - result.switch.mean == pytest.approx(reach, rel=1e-6)


def test_a_higher_level_is_wider() -> None:
    for name in ESTIMATORS:
        narrow, wide = (getattr(evaluate(own(), level=level), name) for level in (0.8, 0.99))
        assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_a_log_that_never_did_what_the_policy_does_is_told() -> None:
    log = own()
    half = replace(log, chosen=log.chosen % 2, target=np.tile([0.0, 0.0, 1.0], (ROWS, 1)))
    result = evaluate(half)
    assert "does not cover" in result.warning
    assert result.effective == 0
    assert math.isnan(result.snips.mean)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"propensities": np.zeros(4)}, "propensities"),
        ({"propensities": np.full(4, 1.1)}, "propensities"),
        ({"rewards": np.array([1, 2, 3, math.nan])}, "rewards"),
        ({"rewards": np.ones(3)}, "chosen"),
        ({"rewards": np.ones(1)}, "decisions"),
        ({"chosen": np.array([0, 1, 2, 0])}, "chosen"),
        ({"target": np.full((4, 2), 0.4)}, "target"),
        ({"target": np.tile([1.5, -0.5], (4, 1))}, "target"),
        ({"contexts": np.full((4, 1), math.inf)}, "contexts"),
    ],
)
def test_a_log_of_nonsense_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        replace(SMALL, **change)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "wrong", [{"level": 1.0}, {"level": 0.0}, {"ridge": 0.0}, {"ridge": math.nan}, {"resamples": 5}]
)
def test_a_setting_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        evaluate(SMALL, **wrong)


def logged(number: int, actions: tuple[Action, ...], policy: str = "uniform") -> Decision:
    share = 1 / len(actions)
    return Decision(
        decision_id=f"d{number}",
        user_id="u",
        moment="guidance",
        decided_at=datetime(2017, 10, 16, tzinfo=UTC),
        context={"city": f"c{number % 3}", "age": number},
        actions=tuple(each.id for each in actions),
        propensities=(share,) * len(actions),
        action=actions[number % len(actions)].id,
        propensity=share,
        policy=policy,
        prices={"coupons": 1.0},
        reason="",
    )


A, B = Action(id="a", value=2.0, resource="coupons"), Action(id="b", value=1.5)


def test_replay_lays_the_target_in_the_columns_of_the_actions() -> None:
    rows = [(logged(n, actions), actions, float(n)) for n, actions in enumerate([(A, B), (B, A), (B,)])]
    choices = replay([*rows, (logged(9, (A,), policy="default"), (A,), 9.0)], Greedy(epsilon=0.0))
    assert choices.target.tolist() == [[0.0, 1.0]] * 3  # the price makes b the better one
    assert choices.chosen.tolist() == [0, 0, 1]
    assert choices.rewards.tolist() == [0.0, 1.0, 2.0]
    assert choices.contexts.shape == (3, 16)
    assert len({tuple(row) for row in choices.contexts.tolist()}) == 3


def test_replay_of_the_logging_policy_itself_weighs_one() -> None:
    rows = [(logged(n, (A, B)), (A, B), float(n % 2)) for n in range(200)]
    result = evaluate(replay(rows, Uniform()))
    assert result.ips.mean == pytest.approx(0.5)
    assert result.warning == ""


def test_as_logged_is_what_was_done() -> None:
    rows = [(logged(n, (A, B)), (A, B), float(n % 3)) for n in range(200)]
    choices = as_logged([*rows, (logged(9, (A,), policy="default"), (A,), 9.0)])
    assert choices.target.tolist() == [[0.5, 0.5]] * 200
    result = evaluate(choices)
    assert result.ips.mean == pytest.approx(choices.rewards.mean())
    assert result.effective == pytest.approx(200)


def test_replay_of_nothing_is_bad_input() -> None:
    with pytest.raises(BadInput, match="too few"):
        replay([], Uniform())
