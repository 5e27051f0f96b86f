"""The two crowds, in this process and in a cluster of separate workers, are one and the same."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict.limits import check_limits
from conflict.prices import bound_of, find_prices
from conflict.problem import Floats, Ints, Problem, compile_problem
from conflict.reply import Box, Here, narrowed, worth
from conflict.spark import Choice, SparkCrowd, choice_of, close_spark, open_spark, read_crowd
from kernel.choices import Limit, Limits, PerUser
from kernel.errors import BadInput, Stale

if find_spec("pyspark") is None and not os.environ.get("CI"):
    pytest.skip("the extra `spark` is not installed", allow_module_level=True)

# one session in one process

URL = "local-cluster[2,1,1024]"


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    # what fails for good need not fail four times
    session = open_spark(URL, {"spark.task.maxFailures": "2"})
    yield session
    close_spark(session)


def _people(rng: np.random.Generator, users: int, text: bool) -> pl.DataFrame:
    """Every user has 1 to 8 of 9 tasks; no two values are alike, so a value names its candidate."""
    counts = rng.integers(1, 9, users)
    user = np.repeat(rng.permutation(users), counts)
    task = np.concatenate([rng.permutation(9)[:count] for count in counts])
    frame = pl.DataFrame(
        {
            "user": user,
            "task": task,
            "value": rng.normal(0.6, 1.0, user.size),
            "cost.usd": rng.integers(0, 5, user.size),
            "points": rng.uniform(0.5, 1.5, user.size).astype(np.float32),
            "channel": np.array(["sms", "push", "mail"])[task % 3],
            "tier": task % 2,
            "note": rng.integers(0, 99, user.size).astype(str),
        }
    )
    if text:
        frame = frame.with_columns(
            pl.format("ü {}", "user").alias("user"), pl.format("t{}", "task").alias("task")
        )
    return frame.sample(fraction=1.0, shuffle=True, seed=5)


def _limits(users: int, text: bool, least: int) -> Limits:
    name = (lambda each: f"t{each}") if text else (lambda each: each)
    return Limits(
        per_user=PerUser(
            max_tasks=3,
            min_tasks=least,
            max_by={"channel": {"sms": 1, "push": 2, "mail": 1}, "tier": {"0": 2, "1": 1}},
            never_together=((name(0), name(1), name(5)),),
        ),
        limits=(
            Limit(name="money", sum="cost.usd", at_most=1.1 * users),
            Limit(name="points", sum="points", where={"channel": ("sms", "mail")}, at_most=0.6 * users),
            Limit(name="odd", where={"tier": 1}, at_most=0.5 * users),
            Limit(name="volume", where={"task": name(4)}, at_least=0.15 * users),
        ),
    )


class Both:
    """The same candidates here and there."""

    def __init__(self, spark: Any, folder: Path, users: int, *, text: bool, least: int, chunk: int) -> None:
        self.frame = _people(np.random.default_rng([users, least]), users, text)
        self.limits = _limits(users, text, least)
        self.path = folder / "candidates"
        self.path.mkdir()
        for part in range(3):
            self.frame[part::3].write_parquet(self.path / f"{part}.parquet")
        self.problem, self.rows = compile_problem(self.frame, self.limits)
        self.here = Here(problem=self.problem)
        self.there = read_crowd(spark, str(self.path), self.limits, chunk=chunk)

    def frame_of(self, values: Floats) -> pl.DataFrame:
        """Rows by user and task of the candidates with these values."""
        return self.frame.filter(pl.col("value").is_in(values.tolist())).sort("user", "task")


CASES = [
    {"users": 3_000, "text": False, "least": 0, "chunk": 250_000},
    {"users": 800, "text": True, "least": 1, "chunk": 97},
]


@pytest.fixture(scope="module", params=range(len(CASES)))
def both(
    spark: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Both]:
    pair = Both(spark, tmp_path_factory.mktemp("both"), **CASES[request.param])
    yield pair
    pair.there.close()


def _box(rng: np.random.Generator, width: float) -> Box:
    at = rng.uniform(0.0, 0.5, 4) * [1, 1, 1, -1]
    return Box(at=at, low=at - width * np.abs(at), high=at + width * np.abs(at))


def _open(problem: Problem) -> set[frozenset[float]]:
    """Who is open: the values of each one's candidates."""
    return {
        frozenset(problem.value[first:last].tolist())
        for first, last in zip(problem.starts[:-1], problem.starts[1:], strict=True)
    }


def test_replies_come_to_the_same(both: Both) -> None:
    assert (both.there.size, both.there.users) == (both.here.size, both.here.users)
    assert not both.there.rules.nested
    rng = np.random.default_rng(1)
    for prices in (np.zeros(4), _box(rng, 0.0).at):
        here, there = both.here.worth(prices), both.there.worth(prices)
        assert there.net == pytest.approx(here.net, rel=1e-12)
        assert there.gross == pytest.approx(here.gross, rel=1e-12)
        np.testing.assert_allclose(there.use, here.use, rtol=1e-12)


def test_the_same_users_are_open(both: Both) -> None:
    rng = np.random.default_rng(2)
    for width in (0.3, 0.02):
        box = _box(rng, width)
        here, there = both.here.narrowed(box), both.there.narrowed(box)
        assert 0 < here.users < both.here.users
        assert _open(there) == _open(here)
        assert there.elsewhere == pytest.approx(here.elsewhere, rel=1e-12)
        np.testing.assert_allclose(there.rules.at_most, here.rules.at_most, rtol=1e-9)
        np.testing.assert_allclose(there.rules.at_least, here.rules.at_least, rtol=1e-9)
        by_value = np.argsort(here.value), np.argsort(there.value)
        np.testing.assert_array_equal(here.amounts[:, by_value[0]], there.amounts[:, by_value[1]])
        np.testing.assert_array_equal(here.kind[by_value[0]], there.kind[by_value[1]])
        assert there.origin is not None
        assert (np.diff(there.origin) > 0).all()


def test_samples_are_whole_users_under_shrunken_bounds(both: Both) -> None:
    size = both.here.size // 4
    drawn = both.there.sample(size, 7)
    assert _open(drawn) <= _open(both.problem)
    assert len(_open(drawn)) == drawn.users
    assert 0.5 * size < drawn.size <= 1.2 * size
    share = drawn.users / both.here.users
    np.testing.assert_allclose(drawn.rules.at_most, share * both.problem.rules.at_most)
    again = both.there.sample(size, 7)
    np.testing.assert_array_equal(again.origin, drawn.origin)
    assert _open(both.there.sample(size, 8)) != _open(drawn)


def test_large_samples_are_drawn_in_the_cluster(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conflict.spark._RESERVOIR", 100)
    before = len(both.there.rounds)
    drawn = both.there.sample(both.here.size // 4, 7)
    assert [each.what for each in both.there.rounds[before:]] == ["sample"]
    assert _open(drawn) < _open(both.problem)
    assert len(_open(drawn)) == drawn.users


def test_prices_give_the_same_bound(both: Both) -> None:
    end = time.monotonic() + 60
    bounds = []
    for crowd in (both.here, both.there):
        prices = find_prices(crowd, seed=1, end=end)
        assert prices.exact
        bounds.append(bound_of(crowd.rules, prices.values, crowd.worth(prices.values)))
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-9)


def test_what_is_written_is_what_would_be_chosen_here(both: Both, tmp_path: Path) -> None:
    wide = _box(np.random.default_rng(6), 0.3)
    at = wide.at + 0.3 * (wide.high - wide.at)
    close = Box(at=at, low=at - 0.05 * np.abs(at), high=at + 0.05 * np.abs(at))
    outer = both.there.narrowed(wide)
    pool = narrowed(outer, close)
    levels = ((outer, wide), (pool, close))
    assert 0 < pool.users < outer.users < both.there.users
    chosen = np.random.default_rng(3).random(pool.size) < 0.4
    choice = choice_of(levels, pool, chosen)
    expected = list(pool.value[chosen])
    # everybody else as settled, level by level
    outer = both.problem
    for _, box in levels:
        inner = narrowed(outer, box)
        replies = np.zeros(outer.size, np.bool_)
        worth(outer, box.at, replies)
        still = set(inner.value.tolist())
        owner = outer.user_of()
        open_ = np.unique(owner[[value in still for value in outer.value]])
        expected += list(outer.value[replies & ~np.isin(owner, open_)])
        outer = inner
    totals = both.there.write(choice, str(tmp_path / "out"))
    written = pl.read_parquet(tmp_path / "out" / "*.parquet").sort("user", "task")
    rows = both.frame_of(np.array(expected))
    assert written.equals(rows)
    assert totals.chosen == written.height
    assert totals.objective == pytest.approx(written["value"].sum(), rel=1e-12)
    mask = np.isin(both.problem.value, expected)
    np.testing.assert_allclose(totals.used, both.problem.used(mask), rtol=1e-12)
    with pytest.raises(BadInput, match="out: is there already"):
        both.there.write(choice, str(tmp_path / "out"))


def test_without_open_users_everybody_replies(both: Both, tmp_path: Path) -> None:
    at = _box(np.random.default_rng(4), 0.0).at
    replies = np.zeros(both.problem.size, np.bool_)
    here = worth(both.problem, at, replies)
    totals = both.there.write(Choice(at=at), str(tmp_path / "out"))
    assert totals.objective == pytest.approx(here.gross, rel=1e-12)
    np.testing.assert_allclose(totals.used, here.use, rtol=1e-12)
    written = pl.read_parquet(tmp_path / "out" / "*.parquet").sort("user", "task")
    assert written.equals(both.frame_of(both.problem.value[replies]))


def test_another_pool_than_the_clusters_is_refused(both: Both) -> None:
    box = _box(np.random.default_rng(5), 0.2)
    pool = both.there.narrowed(box)
    fewer = pool.people(np.arange(pool.users - 1))
    for wrong in (fewer, Problem.nothing(pool.rules)):
        choice = Choice(at=box.at, box=box, pool=wrong, chosen=np.zeros(wrong.size, np.bool_))
        with pytest.raises(Stale, match="other users are open"):
            both.there.totals(choice)


def _numbers(crowd: SparkCrowd) -> dict[float, int]:
    at = np.full(4, 0.2) * [1, 1, 1, -1]
    some = crowd.narrowed(Box(at=at, low=0.0 * at, high=5.0 * at))
    assert some.origin is not None
    return dict(zip(some.value.tolist(), some.origin.tolist(), strict=True))


def test_numbers_do_not_depend_on_files_or_order(spark: Any, tmp_path: Path) -> None:
    frame, limits = _people(np.random.default_rng(9), 400, text=True), _limits(400, text=True, least=0)
    numbers = []
    for shuffle, files, chunk in ((1, 1, 10_000), (2, 4, 10_000), (3, 2, 50)):
        path = tmp_path / f"{shuffle}"
        path.mkdir()
        shuffled = frame.sample(fraction=1.0, shuffle=True, seed=shuffle)
        for part in range(files):
            shuffled[part::files].write_parquet(path / f"{part}.parquet")
        crowd = read_crowd(spark, str(path), limits, chunk=chunk)
        numbers.append(_numbers(crowd))
        if chunk == 50:
            assert len(crowd.seals) > 20
        crowd.close()
    assert len(numbers[0]) > 1_000
    assert numbers[0] == numbers[1] == numbers[2]


def test_a_lost_worker_changes_nothing(spark: Any, tmp_path: Path) -> None:
    pair = Both(spark, tmp_path, 500, text=False, least=0, chunk=200)
    before = _numbers(pair.there)
    lost = _executors()
    assert len(lost) == 2
    os.kill(lost[0], signal.SIGKILL)
    assert _numbers(pair.there) == before
    pair.there.close()


def _executors() -> Ints:
    """Process ids of the cluster's executors that belong to this process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if b"CoarseGrainedExecutorBackend" in command:
            found.append(int(folder.name))

    def ours(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return [each for each in found if ours(each)]


def test_a_source_that_changes_is_noticed(spark: Any, tmp_path: Path) -> None:
    pair = Both(spark, tmp_path, 300, text=False, least=0, chunk=200)
    changed = pair.frame.with_columns(pl.col("value") + 1e-9)
    for part in range(3):
        changed[part::3].write_parquet(pair.path / f"{part}.parquet")
    with pytest.raises(Stale, match="the candidates have changed"):
        pair.there.write(Choice(at=np.zeros(4)), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    pair.there.chunks.unpersist(blocking=True)
    with pytest.raises(Stale, match="the candidates have changed"):
        pair.there.worth(np.zeros(4))


NAN, INF = float("nan"), float("inf")
GOOD = {
    "user": [1, 1, 2],
    "task": ["a", "b", "a"],
    "value": [1.0, 2.0, 3.0],
    "channel": ["sms", "push", "sms"],
}
CEILING = Limits(limits=(Limit(name="money", sum="cost", where={"channel": "sms"}, at_most=1),))
COST = {"cost": [1.0, 2.0, 3.0]}
WRONG = [
    ({"user": [1], "task": [1]}, Limits(), "{path}: value: this column is missing; there are: user, task"),
    ({**GOOD, "value": [1.0, NAN, 2.0]}, Limits(), "{path}: value = nan: is not a finite number, in 1 row"),
    ({**GOOD, "value": [1.0, None, None]}, Limits(), "{path}: value: is empty in 2 rows"),
    ({**GOOD, "value": ["1", "2", "3"]}, Limits(), "{path}: value = 'String': must be numbers"),
    ({**GOOD, "user": [1.5, 2.5, 3.5]}, Limits(), "{path}: user = 'Float64': must be integers or text"),
    ({**GOOD, "user": [1, None, 2]}, Limits(), "{path}: user: is empty in 1 row"),
    ({**GOOD, "task": ["a", "a", "a"]}, Limits(), "{path}: (user, task) = (1, 'a'): stands in two rows"),
    (GOOD, CEILING, "limits: limit money: sum = 'cost': unknown column; known: channel, task, user, value"),
    ({**GOOD, "cost": [1.0, 2.0, -INF]}, CEILING, "{path}: cost = -inf: is not a finite number, in 1 row"),
    ({**GOOD, **COST, "channel": ["sms", None, "sms"]}, CEILING, "{path}: channel: is empty in 1 row"),
    ({**GOOD, **COST, "channel": ["SMS", "x", "x"]}, CEILING, None),
    ({**GOOD, **COST, "channel": [1, 2, 3]}, CEILING, None),
    (GOOD, Limits(per_user=PerUser(max_by={"channel": {"mail": 1}})), None),
    (GOOD, Limits(per_user=PerUser(never_together=(("a", "c"),))), None),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "limits", "says"), WRONG)
def test_wrong_candidates_are_named(
    spark: Any, tmp_path: Path, columns: dict[str, Any], limits: Limits, says: str | None
) -> None:
    """Without a sentence of its own: the same as in one process."""
    frame, path = pl.DataFrame(columns), tmp_path / "c.parquet"
    frame.write_parquet(path)
    with pytest.raises(BadInput) as error:
        read_crowd(spark, str(path), limits)
    if says is None:
        with pytest.raises(BadInput) as here:
            check_limits(frame, limits)
        says = str(here.value)
    assert str(error.value) == says.format(path=path)


def test_missing_files_and_other_formats_are_named(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere: candidates: no such file"):
        read_crowd(spark, str(tmp_path / "nowhere"), Limits())
    other = tmp_path / "c.parquet"
    other.write_text("user,task\n1,2\n")
    with pytest.raises(BadInput, match=r"c.parquet: candidates: is not a Parquet file"):
        read_crowd(spark, str(other), Limits())


def test_no_candidates_at_all(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pl.DataFrame(GOOD).clear().write_parquet(path)
    limits = Limits(limits=(Limit(name="all", at_most=3),))
    crowd = read_crowd(spark, str(path), limits)
    assert (crowd.size, crowd.users, crowd.sample(10, 1).size) == (0, 0, 0)
    at = crowd.worth(np.ones(1))
    assert (at.net, at.gross, at.use.tolist()) == (0.0, 0.0, [0.0])
    assert crowd.narrowed(Box(at=np.ones(1), low=np.zeros(1), high=np.ones(1))).size == 0
    assert crowd.write(Choice(at=np.zeros(1)), str(tmp_path / "out")).chosen == 0
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").is_empty()


def test_rounds_are_counted(both: Both) -> None:
    before = len(both.there.rounds)
    both.there.worth(np.zeros(4))
    new = both.there.rounds[before:]
    assert [each.what for each in both.there.rounds[:2]] == ["check", "pack"]
    assert [each.what for each in new] == ["worth"]
    assert 0 < new[0].seconds < 60


def test_one_session_at_a_time(spark: Any) -> None:
    with pytest.raises(BadInput, match="another Spark session is open"):
        open_spark("local[1]")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("spark:/10.0.0.1:7077", "is not spark://HOST:PORT, local"),
        ("yarn", "is not spark://HOST:PORT, local"),
        ("local-cluster[2,1]", "is not spark://HOST:PORT, local"),
        ("local-cluster[0,1,1024]", "is not spark://HOST:PORT, local"),
        ("local-cluster[2,1,100]", "needs 512 megabytes a worker"),
        ("spark://127.0.0.1:99999", "no Spark master answers there"),
    ],
)
def test_wrong_urls_are_named(url: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        open_spark(url)
    assert str(error.value).startswith(f"engine = '{url}': {says}")


def test_a_master_that_does_not_answer_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"spark://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(BadInput, match=r"no Spark master answers there: .*refused"):
            open_spark(url)
