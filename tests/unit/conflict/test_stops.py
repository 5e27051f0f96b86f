"""Rules that say when a search has done enough."""

from __future__ import annotations

import pytest

from conflict.api import Gap, Progress, Rounds, Seconds, Stalled, any_of
from kernel.errors import BadInput


def _at(
    seconds: float, objective: float | None = 1.0, bound: float | None = 2.0, rounds: int = 0
) -> Progress:
    return Progress(seconds=seconds, phase="choices", objective=objective, bound=bound, rounds=rounds)


def test_each_rule_at_its_edge() -> None:
    assert Gap(1.0)(_at(0))
    assert not Gap(0.99)(_at(0))
    assert not Gap(1.0)(_at(0, objective=None))
    assert Seconds(3)(_at(3))
    assert not Seconds(3)(_at(2.9))
    assert Rounds(2)(_at(0, rounds=2))
    assert not Rounds(2)(_at(0, rounds=1))


def test_stalled_counts_from_the_last_improvement() -> None:
    stop = Stalled(2.0)
    told = [stop(_at(0)), stop(_at(1.9)), stop(_at(2.5, bound=1.5)), stop(_at(4.4, bound=1.5))]
    assert told == [False] * 4
    assert stop(_at(4.5, bound=1.5))


def test_stalled_waits_for_a_choice() -> None:
    stop = Stalled(1.0)
    assert not stop(_at(0, objective=None))
    assert not stop(_at(9, objective=None))


def test_any_of_asks_every_rule_every_time() -> None:
    stalled = Stalled(1.0)
    either = any_of(Seconds(5), stalled)
    assert not either(_at(0))
    assert either(_at(1))
    assert either(_at(6, bound=1.5))
    assert not stalled(_at(6.5, bound=1.5))


@pytest.mark.parametrize("make", [lambda: Gap(-1e-9), lambda: Seconds(float("nan")), lambda: Rounds(0)])
def test_rules_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(BadInput):
        make()  # type: ignore[operator]
