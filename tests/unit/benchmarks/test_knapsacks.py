"""The classical problems: published figures come out, and candidates mean what the program means."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from benchmarks import gap, mkp, mmkp
from benchmarks.genetic import evolve
from benchmarks.knapsacks import Contest, Entry, Instance, contest, judge, lines, whole_program
from conflict.api import allocate, verify
from conflict.programs import Answer, Solver, solve
from kernel.errors import BadInput

#: c515-1 of the OR-Library: agent × job, and agent
_COST = """17 21 22 18 24 15 20 18 19 18 16 22 24 24 16
23 16 21 16 17 16 19 25 18 21 17 15 25 17 24
16 20 16 25 24 16 17 19 19 18 20 16 17 21 24
19 19 22 22 20 16 19 17 21 19 25 23 25 25 25
18 19 15 15 21 25 16 16 23 15 22 17 19 22 24"""
_USE = """8 15 14 23 8 16 8 25 9 17 25 15 10 8 24
15 7 23 22 11 11 12 10 17 16 7 16 10 18 22
21 20 6 22 24 10 24 9 21 14 11 14 11 19 16
20 11 8 14 9 5 6 19 19 7 6 6 13 9 18
8 13 13 13 10 20 25 16 16 17 10 10 5 12 23"""
_CAPACITY = [36, 34, 38, 27, 33]

_SMALL = [
    *(gap.draw(kind, 3, 6, 3) for kind in gap.TYPES),
    *(mkp.draw(2, 9, tightness, 1) for tightness in mkp.TIGHTNESS),
    mmkp.draw(1, 1),
]


def _name(instance: Instance) -> str:
    return instance.name.replace("×", "x")


def _table(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array([row.split() for row in text.splitlines()], np.int64)


def _linear(instance: Instance) -> float:
    solved = solve(whole_program(instance, whole=False), Solver.GLOP, seconds=20.0)
    assert solved.answer is Answer.OPTIMAL
    return solved.bound


@pytest.mark.parametrize(("sign", "best"), [(1, 261), (-1, -336)], ids=["cheapest", "dearest"])
def test_a_published_assignment_has_its_published_optimum(sign: int, best: int) -> None:
    instance = gap.instance("c515-1", sign * _table(_COST), _table(_USE), np.array(_CAPACITY))
    for entry in contest(instance, 1, 10.0).entries:
        assert entry.objective == -best, entry.who
        assert entry.proven, entry.who


@pytest.mark.parametrize("instance", _SMALL, ids=_name)
def test_limits_and_program_agree_on_what_is_allowed(instance: Instance) -> None:
    program = whole_program(instance)
    best = solve(program, Solver.HIGHS, seconds=10.0).x
    assert best is not None
    rng = np.random.default_rng(1)
    seen = set()
    for changes in np.tile([0, 1, 2, 4], 30):
        chosen = best > 0.5
        chosen[rng.choice(chosen.size, changes, replace=False)] ^= True
        used = np.add.reduceat(program.coefficients * chosen[program.columns], program.starts[:-1])
        inside = bool(np.all((used >= program.row_low) & (used <= program.row_high)))
        kept = verify(instance.frame, instance.limits, instance.frame.filter(pl.Series(chosen))) == []
        assert inside == kept
        seen.add(kept)
    assert seen == {True, False}, "a test that sees one side only says nothing"


@pytest.mark.parametrize("instance", _SMALL[:-1], ids=_name)
def test_everybody_finds_what_enumeration_finds(instance: Instance) -> None:
    value = instance.frame["value"].to_numpy()
    users = int(instance.frame["user"].n_unique())
    each = value.size // users
    none = [] if instance.must else [-1]
    best = -np.inf
    for choice in product([*none, *range(each)], repeat=users):
        at = [user * each + pick for user, pick in enumerate(choice) if pick >= 0]
        if np.all(instance.usage[:, at].sum(axis=1) <= instance.capacity):
            best = max(best, float(value[at].sum()))
    played = contest(instance, 1, 10.0)
    for entry in played.entries:
        assert entry.objective == best, entry.who
        assert entry.broken == 0
        assert played.gap(entry) == 0.0
    assert played.linear >= best - 1e-6


@pytest.mark.parametrize("tightness", mkp.TIGHTNESS)
def test_the_peer_of_1998_finds_the_best_of_few(tightness: float) -> None:
    drawn = mkp.draw(2, 9, tightness, 1)
    best = solve(whole_program(drawn), Solver.HIGHS, seconds=10.0).objective
    chosen, says = evolve(drawn, 1, 60.0)
    entry = judge(drawn, "1998", drawn.frame.filter(pl.Series(chosen)), None, 1.0, says)
    assert (entry.objective, entry.broken) == (best, 0)


@pytest.mark.parametrize(("which", "bound"), [(0, 59489.339237), (1, 59024.301618)])
def test_knapsacks_of_the_library_are_written_off_rightly(which: int, bound: float) -> None:
    """Linear bounds as in the OR-Library's `mkcbres`; capacities are a quarter of the sums of uses."""
    taken = mkp.library()[which]
    assert _linear(taken) == pytest.approx(bound, abs=1e-5)
    assert taken.capacity == pytest.approx(taken.usage.sum(axis=1) / 4, abs=0.5)
    assert list(taken.published) == ["the value of 1998", "the best known"]


def test_types_of_assignment_follow_their_recipes() -> None:
    for kind in "ABC":
        drawn = gap.draw(kind, 5, 40, 3)
        use, cost = drawn.frame["use"], -drawn.frame["value"]
        assert (use.min(), use.max(), cost.min(), cost.max()) == (5, 25, 10, 50)
    drawn = gap.draw("D", 5, 40, 3)
    both = drawn.frame["use"] - drawn.frame["value"]
    assert (both.min(), both.max()) == (101, 121)
    assert drawn.frame["use"].max() > 90
    drawn = gap.draw("E", 5, 40, 3)
    # 1000 divided by the use, less up to 10
    below = 1000 / drawn.frame["use"] + drawn.frame["value"]
    assert below.min() >= 0
    assert below.max() < 11
    for kind in "CDE":
        drawn = gap.draw(kind, 5, 40, 3)
        assert list(drawn.capacity) == [int(0.8 * row.sum() / 5) for row in drawn.usage]
    tiny = gap.draw("E", 5, 5, 3)
    assert all(most >= row.max() for most, row in zip(tiny.capacity, tiny.usage, strict=True))


def test_capacity_of_types_a_and_b() -> None:
    drawn = gap.draw("A", 3, 12, 3)
    load = [0.0, 0.0, 0.0]
    for job in range(12):
        rows = drawn.frame.filter(pl.col("user") == job).sort("value", "task", descending=[True, False])
        load[rows["task"][0]] += rows["use"][0]
    assert list(drawn.capacity) == [int(0.6 * 15 * 12 / 3 + 0.4 * max(load))] * 3
    for seed in range(9):
        # B draws its own, and has less room for the same work
        wide, narrow = (gap.draw(kind, 5, 100, seed).capacity[0] for kind in "AB")
        assert narrow < 0.8 * wide


@pytest.mark.parametrize(
    ("kind", "published"), [("A", 2339), ("B", 2339), ("C", 2391), ("D", 12244), ("E", 22379)]
)
def test_drawn_assignments_cost_what_published_ones_cost(kind: str, published: int) -> None:
    """Best known costs of a20200 to e20200."""
    assert -_linear(gap.draw(kind, 20, 200, 2)) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(("tightness", "published"), [(0.25, 24438), (0.5, 43450), (0.75, 60664)])
def test_drawn_knapsacks_are_worth_what_published_ones_are(tightness: float, published: int) -> None:
    """Means of ten linear bounds of 5.100 in the OR-Library's `mkcbres`."""
    bounds = [_linear(mkp.draw(5, 100, tightness, seed)) for seed in range(10)]
    assert np.mean(bounds) == pytest.approx(published, rel=0.03)


def test_every_class_of_knapsack_has_its_published_gap() -> None:
    assert set(mkp.PUBLISHED) == {(rows, items) for rows in (5, 10, 30) for items in (100, 250, 500)}
    for resources, items in mkp.PUBLISHED:
        drawn = mkp.draw(resources, items, 0.5, 1)
        assert drawn.usage.shape == (resources, items)
        assert list(drawn.published.values()) == [mkp.PUBLISHED[resources, items][1]]
        assert drawn.capacity == pytest.approx(0.5 * drawn.usage.sum(axis=1), abs=1.0)


@pytest.mark.parametrize("number", mmkp.SIZES)
def test_every_class_of_multiple_choice_has_its_size_and_an_answer(number: int) -> None:
    classes, items, resources = mmkp.SIZES[number]
    drawn = mmkp.draw(number, 1)
    assert drawn.frame.group_by("user").len()["len"].to_list() == [items] * classes
    assert drawn.usage.shape == (resources, classes * items)
    assert set(drawn.capacity) == {5 * classes}
    assert np.isfinite(_linear(drawn))


def test_drawn_multiple_choices_are_worth_what_published_ones_are() -> None:
    """The linear bound of I07; the few prices of a draw make it wide."""
    bounds = [_linear(mmkp.draw(7, seed)) for seed in range(20)]
    assert np.mean(bounds) == pytest.approx(24608, rel=0.05)


def test_the_same_seed_draws_the_same() -> None:
    for draw in (
        lambda s: gap.draw("E", 3, 9, s),
        lambda s: mkp.draw(2, 9, 0.5, s),
        lambda s: mmkp.draw(2, s),
    ):
        assert draw(1).frame.equals(draw(1).frame)
        assert not draw(1).frame.equals(draw(2).frame)


def test_a_choice_that_breaks_something_counts_for_nothing() -> None:
    drawn = mkp.draw(2, 9, 0.25, 1)
    entry = judge(drawn, "greedy", drawn.frame, 1e9, 1.0, "OPTIMAL")
    assert (entry.objective, entry.broken, entry.proven) == (None, 2, False)
    kept = allocate(drawn.frame, drawn.limits, time_limit=5.0).assignments
    assert judge(drawn, "ours", kept, None, 1.0, "FEASIBLE").objective == kept["value"].sum()


def test_a_size_that_means_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="size = 40"):
        gap.run(40, 1, 1.0)
    with pytest.raises(BadInput, match="size = 5000"):
        mkp.run(5_000, 1, 1.0)
    with pytest.raises(BadInput, match="unknown instance"):
        mmkp.run(14, 1, 1.0)


def _entry(who: str, objective: float | None, bound: float, broken: int | None = 0) -> Entry:
    return Entry(who=who, objective=objective, bound=bound, seconds=2.0, broken=broken, says="FEASIBLE")


def test_lines_tell_who_is_better_and_how_far_the_best_bound_is() -> None:
    first, second = gap.draw("A", 3, 5, 1), gap.draw("B", 3, 5, 1)
    contests = [
        Contest(
            instance=first,
            entries=(_entry("ours", -200.0, -190.0), _entry("peer", -250.0, -199.0)),
            linear=-192.5,
        ),
        Contest(
            instance=second,
            entries=(_entry("ours", -100.0, -100.0), _entry("peer", None, np.inf, None)),
            linear=np.inf,
        ),
    ]
    table = lines(contests, 3_005)
    assert [line.who for line in table] == ["ours", "peer"] * 3
    assert [line.ratio for line in table] == [1.0, 0.8, 1.0, None, 1.0, None]
    assert [line.notes["proven"] for line in table] == ["no", "no", "yes", "no", "1 of 2", "0 of 2"]
    gaps = [line.notes["gap to the best bound, %"] for line in table]
    assert gaps == ["0.5025", "25.6281", "0.0000", "–", "0.2513", "–"]
    assert table[0].notes["objective"] == "200"
    assert table[0].notes["best bound"] == table[1].notes["its bound"] == "199"
    assert table[0].notes["from the linear bound, %"] == "3.8961"
    assert table[2].notes["from the linear bound, %"] == "–"
    assert (table[4].times, table[4].seconds) == (1.0, 4.0)
