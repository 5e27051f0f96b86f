"""What users would do at given prices, against trying every choice of every user."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from conflict.problem import Floats, Problem, Rules, nested
from conflict.reply import Box, Here, narrowed, rivals, worth

SEEDS = range(6)


def _some(
    rng: np.random.Generator, width: type[np.floating] = np.float64, *, users: int = 12, negative: bool = True
) -> Problem:
    """A few users under rules that cross, with ties, counts and sums, losses and amounts below 0."""
    families, limits, kinds = int(rng.integers(0, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 7))
    caps = [np.iinfo(np.int32).max]
    slots = np.zeros((kinds, families), np.int32)
    for family in range(families):
        names = list(range(len(caps), len(caps) + int(rng.integers(1, 3))))
        caps += [int(each) for each in rng.integers(0, 3, len(names))]
        slots[:, family] = rng.choice([0, *names], kinds)
    counts = rng.integers(1, 8, users)
    size, rows = int(counts.sum()), int(rng.integers(0, 3))
    least = int(rng.choice([0, 0, 1, 2]))
    rules = Rules(
        member=rng.random((kinds, limits)) < 0.6,
        summed=rng.integers(0, rows + 1, limits),
        at_most=rng.integers(3, 9, limits).astype(np.float64),
        at_least=np.full(limits, -np.inf),
        penalty=np.full(limits, np.inf),
        slots=slots,
        caps=np.array(caps, np.int32),
        families=tuple(f"family{each}" for each in range(families)),
        nested=nested(slots),
        max_tasks=least + int(rng.integers(0 if least else 1, 4)),
        min_tasks=least,
    )
    return Problem(
        rules=rules,
        value=(rng.integers(-8, 17, size) / 4).astype(width),
        amounts=(rng.integers(-4 if negative else 0, 9, (rows, size)) / 2).astype(width),
        kind=rng.integers(0, kinds, size).astype(np.uint16),
        starts=np.r_[0, np.cumsum(counts)].astype(np.int64),
    )


def _replies(problem: Problem, user: int) -> list[tuple[int, ...]]:
    """Every choice that the user's own rules allow."""
    rules = problem.rules
    own = range(problem.starts[user], problem.starts[user + 1])
    return [
        choice
        for count in range(rules.min_tasks, rules.max_tasks + 1)
        for choice in combinations(own, count)
        if _kept(problem, choice)
    ]


def _kept(problem: Problem, choice: tuple[int, ...]) -> bool:
    rules = problem.rules
    for slots in rules.slots.T:
        filled = np.bincount(slots[problem.kind[list(choice)]], minlength=rules.caps.size)
        if (filled[1:] > rules.caps[1:]).any():
            return False
    return True


def _able(problem: Problem) -> Problem:
    """Those users only whose rules leave them a choice."""
    able = np.array([u for u in range(problem.users) if _replies(problem, u)], np.int64)
    return replace(problem.people(able), origin=None)


def _prices(rng: np.random.Generator, problem: Problem) -> Floats:
    """On a grid, so that replies tie, and now and then 0."""
    return rng.integers(-3, 4, problem.rules.limits) / 4 * rng.choice([0.0, 1.0, 1.1])


def _box(rng: np.random.Generator, at: Floats) -> Box:
    wide = rng.choice([0.0, 0.05, 0.5, 2.0])
    return Box(at=at, low=at - wide * rng.random(at.size), high=at + wide * rng.random(at.size))


def _use(problem: Problem, choice: list[int]) -> Floats:
    return np.array([problem.usage(row)[choice].sum() for row in range(problem.rules.limits)])


@pytest.mark.parametrize("width", [np.float64, np.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_reply_is_that_of_enumeration(seed: int, width: type[np.floating]) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        problem = _able(_some(rng, width))
        prices = _prices(rng, problem)
        adjusted = problem.adjusted(prices)
        chosen = np.zeros(problem.size, np.bool_)
        at = worth(problem, prices, chosen)
        net = gross = 0.0
        use = np.zeros(problem.rules.limits)
        for user in range(problem.users):
            best = max(float(adjusted[list(each)].sum()) for each in _replies(problem, user))
            first, last = problem.starts[user], problem.starts[user + 1]
            taken = tuple(np.flatnonzero(chosen[first:last]) + first)
            assert taken in _replies(problem, user)
            assert adjusted[list(taken)].sum() == pytest.approx(best, abs=1e-9)
            net += best
            gross += float(problem.value[list(taken)].sum())
            use += _use(problem, list(taken))
        assert at.net == pytest.approx(net, abs=1e-6)
        assert at.gross == pytest.approx(gross, abs=1e-6)
        assert at.use == pytest.approx(use, abs=1e-6)


def test_who_can_keep_no_rule_makes_everything_worthless() -> None:
    rng = np.random.default_rng(11)
    seen = 0
    for _ in range(60):
        problem = _some(rng)
        able = _able(problem).users == problem.users
        seen += not able
        assert (worth(problem, np.zeros(problem.rules.limits)).net > -np.inf) is able
    assert 5 < seen < 55


def test_a_search_that_is_cut_short_still_bounds() -> None:
    # rules that cross for one user with 60 candidates: more replies than are ever looked at
    rng = np.random.default_rng(0)
    size = 60
    slots = np.c_[rng.integers(1, 13, size), rng.integers(13, 25, size), rng.integers(25, 37, size)]
    rules = Rules(
        member=np.zeros((size, 0), np.bool_), summed=np.zeros(0, np.int64), at_most=np.zeros(0),
        at_least=np.zeros(0), penalty=np.zeros(0), slots=slots.astype(np.int32),
        caps=np.r_[np.iinfo(np.int32).max, np.ones(36)].astype(np.int32), families=("a", "b", "c"),
        nested=False, max_tasks=12, min_tasks=0,
    )  # fmt: skip
    problem = Problem(
        rules=rules, value=1 + rng.random(size), amounts=np.zeros((0, size)),
        kind=np.arange(size, dtype=np.uint16),
        starts=np.array([0, size]),
    )  # fmt: skip
    chosen = np.zeros(size, np.bool_)
    at = worth(problem, np.zeros(0), chosen)
    assert _kept(problem, tuple(np.flatnonzero(chosen)))
    assert at.net >= at.gross == pytest.approx(problem.value[chosen].sum())
    # one family alone is a ceiling that sorting finds
    for slot in slots.T:
        best = sum(problem.value[slot == each].max(initial=0) for each in np.unique(slot))
        assert at.net <= best + 1e-9


@pytest.mark.parametrize("width", [np.float64, np.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_inside_a_box_the_narrowed_and_the_settled_are_the_whole(seed: int, width: type[np.floating]) -> None:
    rng = np.random.default_rng(100 + seed)
    settled = 0
    for _ in range(40):
        problem = _able(_some(rng, width))
        if not problem.users:
            continue
        box = _box(rng, _prices(rng, problem))
        inner = narrowed(problem, box)
        settled += problem.users - inner.users
        assert inner.origin is not None
        assert (np.diff(inner.starts) > 0).all()
        assert (np.diff(inner.origin) > 0).all()
        assert (inner.value == problem.value[inner.origin]).all()
        assert (inner.amounts == problem.amounts[:, inner.origin]).all()
        # prices inside, at the edges and in the corners
        for part in (0.0, 1.0, rng.random(box.at.size), rng.integers(0, 2, box.at.size)):
            prices = box.low + part * (box.high - box.low)
            whole, left = worth(problem, prices), worth(inner, prices)
            gone = problem.rules.at_most - inner.rules.at_most
            assert left.net + inner.elsewhere - prices @ gone == pytest.approx(whole.net, abs=1e-9)
        # inside the box nothing ties with what was settled, so use and value are the same too
        if (box.high > box.low).all():
            prices = box.low + rng.uniform(0.2, 0.8, box.at.size) * (box.high - box.low)
            whole, left = worth(problem, prices), worth(inner, prices)
            gone = problem.rules.at_most - inner.rules.at_most
            assert left.gross + inner.elsewhere == pytest.approx(whole.gross, abs=1e-9)
            assert left.use + gone == pytest.approx(whole.use, abs=1e-9)
    assert settled > 50


def test_boxes_nest() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        problem = _able(_some(rng))
        if not problem.users:
            continue
        outer = _box(rng, _prices(rng, problem))
        at = outer.low + rng.random(outer.at.size) * (outer.high - outer.low)
        half = (outer.high - outer.low) / 12
        box = Box(at=at, low=np.maximum(outer.low, at - half), high=np.minimum(outer.high, at + half))
        once, twice = narrowed(problem, box), Here(problem=narrowed(problem, outer)).narrowed(box)
        for part in (0.0, 0.3, 1.0):
            prices = box.low + part * (box.high - box.low)
            one, two = worth(once, prices), worth(twice, prices)
            of_one = one.net + once.elsewhere + prices @ once.rules.at_most
            assert of_one == pytest.approx(two.net + twice.elsewhere + prices @ twice.rules.at_most, abs=1e-9)
        assert once.origin is not None
        assert twice.origin is not None
        assert set(twice.origin) <= set(once.origin)


@pytest.mark.parametrize("width", [np.float64, np.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_rivals_are_all_replies_near_the_best(seed: int, width: type[np.floating]) -> None:
    rng = np.random.default_rng(200 + seed)
    for _ in range(25):
        problem = _some(rng, width)
        prices = _prices(rng, problem)
        # between two steps of the grid, so that rounding decides nothing
        within = float(rng.choice([0.0, 0.06, 0.3, 1.3])) + 0.003
        found = rivals(problem, Box(at=prices, low=prices, high=prices), within, room=10_000)
        adjusted = problem.adjusted(prices)
        assert found.cut == 0
        for user in range(problem.users):
            replies = {each: float(adjusted[list(each)].sum()) for each in _replies(problem, user)}
            top = max(replies.values(), default=-np.inf)
            wanted = {each for each, net in replies.items() if net >= top - within}
            rows = np.flatnonzero(found.owner == user)
            got = [
                tuple(sorted(found.members[found.starts[row] : found.starts[row + 1]].tolist()))
                for row in rows
            ]
            assert len(got) == len(set(got))
            if len(wanted) < 2:
                assert not got
                continue
            assert set(got) == wanted
            losses = [top - replies[each] for each in got]
            assert found.losses[rows] == pytest.approx(losses, abs=1e-6)
            # the first is what the user takes at the prices, to the last tie
            chosen = np.zeros(problem.size, np.bool_)
            worth(
                problem.people(np.array([user])),
                prices,
                chosen[problem.starts[user] : problem.starts[user + 1]],
            )
            assert got[0] == tuple(np.flatnonzero(chosen))
            assert losses[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_rivals_of_a_box_hold_every_best_reply_inside(seed: int) -> None:
    rng = np.random.default_rng(300 + seed)
    for _ in range(25):
        problem = _able(_some(rng))
        if not problem.users:
            continue
        box = _box(rng, _prices(rng, problem))
        found = rivals(problem, box, room=10_000)
        chosen = np.zeros(problem.size, np.bool_)
        worth(problem, box.at, chosen)
        for part in (0.0, 1.0, rng.random(box.at.size)):
            prices = box.low + part * (box.high - box.low)
            adjusted = problem.adjusted(prices)
            for user in range(problem.users):
                first, last = problem.starts[user], problem.starts[user + 1]
                held = [
                    found.members[found.starts[r] : found.starts[r + 1]]
                    for r in np.flatnonzero(found.owner == user)
                ]
                held = held or [np.flatnonzero(chosen[first:last]) + first]
                best = max(float(adjusted[list(each)].sum()) for each in _replies(problem, user))
                assert max(float(adjusted[each].sum()) for each in held) == pytest.approx(best, abs=1e-9)


def test_the_cut_is_counted_user_by_user() -> None:
    problem = replace(
        _some(np.random.default_rng(0), users=2),
        value=np.ones(7), amounts=np.zeros((0, 7)), kind=np.zeros(7, np.uint16),
        starts=np.array([0, 4, 7]),
    )  # fmt: skip
    rules = replace(
        problem.rules, member=np.ones((1, 1), np.bool_), summed=np.zeros(1, np.int64), at_most=np.ones(1),
        at_least=np.full(1, -np.inf), penalty=np.full(1, np.inf), slots=np.zeros((1, 0), np.int32),
        caps=np.ones(1, np.int32), max_tasks=1, min_tasks=0, nested=True,
    )  # fmt: skip
    problem = replace(problem, rules=rules)
    point = Box(at=np.zeros(1), low=np.zeros(1), high=np.zeros(1))
    for room, cut in ((3, 0), (2, 1), (1, 2)):
        found = rivals(problem, point, 0.5, room=room)
        assert found.cut == cut
        assert np.bincount(found.owner).tolist() == [min(4, 1 + room), min(3, 1 + room)]


def test_many_pieces_of_work_give_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    problem = _able(_some(rng, users=300))
    while problem.users < 250:
        problem = _able(_some(rng, users=300))
    box = _box(rng, np.full(problem.rules.limits, 0.3))
    box = replace(box, low=box.at - 0.2, high=box.at + 0.2)
    one, mask = worth(problem, box.at), np.zeros(problem.size, np.bool_)
    inner, found = narrowed(problem, box), rivals(problem, box)
    monkeypatch.setattr("conflict.reply._PIECE", 50)
    many = worth(problem, box.at, mask)
    assert many.net == pytest.approx(one.net)
    assert many.use == pytest.approx(one.use)
    assert np.bincount(problem.user_of()[mask], minlength=problem.users).max() <= problem.rules.max_tasks
    pieces, others = narrowed(problem, box), rivals(problem, box)
    assert pieces.starts.tolist() == inner.starts.tolist()
    assert (pieces.origin == inner.origin).all()
    assert pieces.rules.at_most == pytest.approx(inner.rules.at_most)
    assert others.owner.tolist() == found.owner.tolist()
    assert others.members.tolist() == found.members.tolist()
    assert others.starts.tolist() == found.starts.tolist()


def test_nobody_at_all() -> None:
    problem = Problem.nothing(_some(np.random.default_rng(2)).rules)
    prices = np.ones(problem.rules.limits)
    assert worth(problem, prices).net == 0.0
    box = Box(at=prices, low=prices, high=prices)
    assert narrowed(problem, box).size == 0
    assert rivals(problem, box).owner.size == 0
