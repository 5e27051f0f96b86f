"""A search tries the defaults first, repeats itself by its seed, and keeps the best."""

from __future__ import annotations

from kernel.learning import Search
from models.learners import DEFAULT, Parameters
from models.search import search_parameters


def loss(parameters: Parameters) -> tuple[float, ...]:
    """Least at ten leaves; two folds."""
    off = abs(parameters.leaves - 10) + abs(parameters.rate - 0.1)
    return off, off + 1


def test_the_defaults_are_first_and_the_best_is_never_worse() -> None:
    found = search_parameters(loss, Search(trials=12), 3)
    assert found.trials[0].parameters == DEFAULT
    assert len(found.trials) == 12
    assert found.best.loss == min(each.loss for each in found.trials) <= found.trials[0].loss
    assert not found.cut


def test_the_same_seed_tries_the_same_sets() -> None:
    one, two, other = (search_parameters(loss, Search(trials=10), seed) for seed in (3, 3, 4))
    assert one.trials == two.trials
    assert one.trials != other.trials


def test_of_equals_the_earliest_is_kept() -> None:
    assert search_parameters(lambda _: (1.0,), Search(trials=5), 0).best.number == 0


def test_a_search_that_the_time_ended_says_so() -> None:
    found = search_parameters(loss, Search(trials=1000, seconds=1e-9), 0)
    assert found.cut
    assert 1 <= len(found.trials) < 1000
