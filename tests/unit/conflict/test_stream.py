"""Streamed candidates are what is read at once: the same columns, the same complaints, the same rows out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conflict import kinds, problem, scan, shuffle
from conflict.candidates import check_candidates, read_candidates
from conflict.limits import check_limits
from conflict.problem import compile_problem
from conflict.sink import frame, write
from conflict.stream import Loaded, load
from kernel.choices import Limits
from kernel.errors import BadInput, Stale

IDS: dict[str, tuple[Any, Any]] = {
    "int": (pl.Int64, pl.Int16),
    "small": (pl.UInt8, pl.UInt64),
    "text": (pl.String, pl.String),
    "category": (pl.Categorical(), pl.Categorical()),
    "mixed": (pl.String, pl.Int32),
    "long": (pl.Int128, pl.UInt128),
    "wide task": (pl.Int64, pl.Int128),
}
CHANNELS = pl.Enum(["sms", "push", "mail"])
LIMITS = Limits.model_validate(
    {
        "per_user": {"max_tasks": 2, "max_by": {"fresh": {"true": 1}}, "min_tasks": 1},
        "limits": [
            {"name": "money", "sum": "cost", "where": {"channel": ["sms", "mail"]}, "at_most": 10},
            {"name": "again", "sum": "cost", "at_most": 20},
            {"name": "hours", "sum": "hours", "where": {"tier": 2}, "at_most": 5, "at_least": 1},
            {"name": "half", "where": {"share": 0.5}, "at_most": 5, "penalty": 2.0},
        ],
    }
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of pieces fall everywhere."""
    monkeypatch.setattr(scan, "_PIECE", 37)
    monkeypatch.setattr(shuffle, "_PIECE", 41)
    monkeypatch.setattr(shuffle, "_AT_ONCE", 150)


def candidates(
    seed: int, ids: str = "int", users: int = 90, most: int = 12, shuffled: bool = False
) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, users)
    user = np.repeat(np.arange(100, 100 + users), counts)
    task = np.concatenate([rng.choice(np.arange(3, 5 + most), each, replace=False) for each in counts])
    rows = user.size
    made = pl.DataFrame(
        {
            "user": user,
            "note": [f"row {each}" for each in range(rows)],
            "task": task,
            "value": rng.normal(size=rows),
            "cost": rng.uniform(0, 1, rows).astype(np.float32),
            "hours": rng.integers(0, 9, rows).astype(np.int16),
            "channel": pl.Series(rng.choice(["sms", "mail", "push"], rows), dtype=CHANNELS),
            "tier": rng.integers(-1, 3, rows).astype(np.int8),
            "fresh": rng.random(rows) < 0.5,
            "share": rng.choice([0.0, 0.5], rows),
        }
    )  # fmt: skip
    for column, dtype in zip(("user", "task"), IDS[ids], strict=True):
        text = dtype in (pl.String, pl.Categorical)
        made = made.with_columns((pl.col(column).cast(pl.String) if text else pl.col(column)).cast(dtype))
    return made.sample(fraction=1, shuffle=True, seed=seed) if shuffled else made


def saved(made: pl.DataFrame, path: Path, group: int = 50) -> Path:
    made.write_parquet(path, row_group_size=group)
    return path


def assert_same(loaded: Loaded, made: pl.DataFrame, limits: Limits) -> None:
    wanted, rows = compile_problem(made, limits)
    for field in fields(problem.Problem):
        if field.name != "rules":
            assert_equal(field.name, getattr(loaded.problem, field.name), getattr(wanted, field.name))
    for field in fields(problem.Rules):
        assert_equal(field.name, getattr(loaded.problem.rules, field.name), getattr(wanted.rules, field.name))
    every = np.arange(made.height)
    assert_equal("rows", loaded.rows_of(every), every if rows is None else rows)


def assert_equal(name: str, one: Any, other: Any) -> None:
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
    else:
        assert one == other, name


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("ids", IDS)
def test_loaded_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str, shuffled: bool, wide: bool
) -> None:
    monkeypatch.setattr(problem, "WIDE", 20 if wide else 10**6)
    made = candidates(len(ids), ids, shuffled=shuffled)
    path = saved(made, tmp_path / "c.parquet")
    loaded = load(path, LIMITS)
    assert_same(loaded, read_candidates(path), LIMITS)
    assert loaded.problem.value.dtype == (np.float32 if wide else np.float64)
    chosen = np.random.default_rng(1).random(made.height) < 0.3
    write(loaded, chosen, tmp_path / "out.parquet")
    out = pl.read_parquet(tmp_path / "out.parquet")
    assert out.equals(made[np.sort(loaded.rows_of(np.flatnonzero(chosen)))])
    assert out.schema == made.schema
    assert out.equals(frame(loaded, chosen))
    # what was chosen is what came out
    np.testing.assert_allclose(out["value"].to_numpy().sum(), loaded.problem.value[chosen].sum(), rtol=1e-5)


@pytest.mark.parametrize("group", [1, 7, 36, 37, 38, 100, 1000])
def test_borders_of_row_groups_and_pieces_do_not_matter(tmp_path: Path, group: int) -> None:
    made = candidates(group)
    loaded = load(saved(made, tmp_path / "c.parquet", group), LIMITS)
    assert_same(loaded, made, LIMITS)
    assert loaded.rows is None, "users ascend, so nothing was sorted as a whole"


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    made = candidates(3)
    one = load(saved(made, tmp_path / "a.parquet"), LIMITS).problem
    for other in (
        made.sample(fraction=1, shuffle=True, seed=9),
        made.sort("user", "value"),
        made.sort("user", "task"),
    ):
        two = load(saved(other, tmp_path / "b.parquet"), LIMITS).problem
        np.testing.assert_array_equal(one.value, two.value)
        np.testing.assert_array_equal(one.kind, two.kind)
        np.testing.assert_array_equal(one.starts, two.starts)


def test_users_that_descend_only_between_pieces_are_sorted(tmp_path: Path) -> None:
    made = candidates(14)
    swapped = pl.concat([made[37 * 7 : 37 * 14], made[: 37 * 7]])
    loaded = load(saved(swapped, tmp_path / "c.parquet", 37), LIMITS)
    assert loaded.rows is not None
    assert_same(loaded, swapped, LIMITS)


def test_tasks_may_be_far_apart_and_beyond_the_sign(tmp_path: Path) -> None:
    made = candidates(15)
    far = {"low": pl.col("task").cast(pl.UInt64), "high": pl.col("task").cast(pl.UInt64) + 2**63}
    mixed = made.with_columns(task=pl.when(pl.col("task") % 2 == 0).then(far["low"]).otherwise(far["high"]))
    assert_same(load(saved(mixed, tmp_path / "c.parquet"), LIMITS), mixed, LIMITS)
    doubled = pl.concat([mixed, mixed[300:301]]).sort("user", maintain_order=True)
    with pytest.raises(BadInput, match="stands in two rows"):
        load(saved(doubled, tmp_path / "c.parquet"), LIMITS)


def test_candidates_in_order_need_no_places(tmp_path: Path) -> None:
    made = candidates(4).sort("user", "task")
    loaded = load(saved(made, tmp_path / "c.parquet"), LIMITS)
    assert loaded.rows is None
    assert loaded.places is None
    assert_same(loaded, made, LIMITS)


@pytest.mark.parametrize("most", [60, 500])
def test_users_with_many_candidates(tmp_path: Path, most: int) -> None:
    made = pl.concat(
        [
            candidates(1, users=30).sort("user", "task"),
            candidates(2, users=5, most=most).with_columns(pl.col("user") + 50),
        ]
    )
    loaded = load(saved(made, tmp_path / "c.parquet"), LIMITS)
    assert loaded.places is not None
    assert loaded.places.dtype == (np.uint8 if most < 256 else np.uint16)
    assert_same(loaded, made, LIMITS)


def test_a_folder_or_a_pattern_is_one_table(tmp_path: Path) -> None:
    made = candidates(5)
    for part, rows in enumerate(made.iter_slices(101)):
        saved(rows, tmp_path / f"part-{part}.parquet")
    for path in (tmp_path, tmp_path / "part-*.parquet"):
        loaded = load(path, LIMITS)
        assert_same(loaded, made, LIMITS)
        assert read_candidates(path).equals(made)
        chosen = loaded.problem.value > 0
        assert frame(loaded, chosen).equals(made.filter(pl.col("value") > 0))
    saved(made.select(pl.all().exclude("tier"), tier=pl.lit("x")), tmp_path / "part-z.parquet")
    with pytest.raises(BadInput, match=r"part-z.parquet: tier = 'String': is not the same in all files"):
        load(tmp_path, LIMITS)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput, match=r"holds no \*.parquet"):
        load(tmp_path / "none", LIMITS)


@pytest.mark.parametrize("rows", [0, 1])
def test_nobody_and_one(tmp_path: Path, rows: int) -> None:
    made = candidates(6).head(rows)
    limits = LIMITS if rows == 0 else Limits()
    loaded = load(saved(made, tmp_path / "c.parquet"), limits)
    assert_same(loaded, made, limits)
    write(loaded, np.zeros(rows, np.bool_), tmp_path / "o.parquet")
    out = pl.read_parquet(tmp_path / "o.parquet")
    assert (out.height, out.schema) == (0, made.schema)


@pytest.mark.parametrize("table", [4, 2**22])
def test_more_kinds_than_sixteen_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: int) -> None:
    monkeypatch.setattr(kinds, "_TABLE", table)
    monkeypatch.setattr(scan, "_PIECE", 30_000)
    rows = 70_000
    made = pl.DataFrame(
        {"user": np.arange(rows), "task": (np.arange(rows) * 7919) % rows, "value": np.ones(rows)}
    )
    limits = Limits.model_validate(
        {
            "per_user": {"never_together": [[1, 5]]},
            "limits": [{"name": "a", "where": {"task": 3}, "at_most": 1}],
        }
    )
    loaded = load(saved(made, tmp_path / "c.parquet", 9000), limits)
    assert loaded.problem.kind.dtype == np.uint32
    assert_same(loaded, made, limits)


WRONG: dict[str, tuple[Any, ...]] = {
    "no user": ("user", None),
    "no task": ("task", None),
    "no value": ("value", None),
    "nan": ("value", float("nan")),
    "infinite": ("cost", float("-inf")),
    "no amount": ("hours", None),
    "no label": ("channel", None),
    "no label of a rule": ("fresh", None),
}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
def test_faults_in_rows_are_told_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, wide: bool, shuffled: bool
) -> None:
    monkeypatch.setattr(problem, "WIDE", 20 if wide else 10**6)
    column, value = WRONG[wrong]
    made = candidates(7, shuffled=shuffled)
    spoilt = made.with_columns(
        pl.when(pl.int_range(pl.len()).is_in([200, 301]))
        .then(value)
        .otherwise(pl.col(column))
        .cast(made.schema[column])
        .alias(column)
    )
    path = saved(spoilt, tmp_path / "c.parquet")
    with pytest.raises(BadInput) as streamed:
        load(path, LIMITS)
    assert str(streamed.value) == in_memory(spoilt, path, LIMITS)
    assert "200" in str(streamed.value)


def in_memory(made: pl.DataFrame, path: Path, limits: Limits) -> str:
    try:
        check_candidates(made, str(path))
        check_limits(made, limits)
    except BadInput as error:
        return str(error)
    return "nothing wrong"


@pytest.mark.parametrize("ids", ["int", "text", "long"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_rows_that_stand_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool, shuffled: bool, ids: str
) -> None:
    monkeypatch.setattr(problem, "WIDE", 20 if wide else 10**6)
    made = candidates(8, ids, shuffled=shuffled)
    for rows in ([150], [300, 90], [36, 37], [made.height - 1]):
        doubled = pl.concat([made, made[rows]])
        doubled = doubled if shuffled else doubled.sort("user", maintain_order=True)
        path = saved(doubled, tmp_path / "c.parquet")
        with pytest.raises(BadInput) as error:
            load(path, LIMITS)
        assert str(error.value) == in_memory(doubled, path, LIMITS)


@pytest.mark.parametrize(
    "limits",
    [
        {"limits": [{"name": "a", "sum": "coast", "at_most": 1}]},
        {"limits": [{"name": "a", "sum": "channel", "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"chanel": "sms"}, "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"channel": "smz"}, "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"channel": ["sms", 1]}, "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"tier": "1"}, "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"note": "row 3", "task": 99}, "at_most": 1}]},
        {"limits": [{"name": "a", "where": {"note": "row 0", "user": 110}, "at_least": 1}]},
        {"per_user": {"max_by": {"chanel": {"sms": 1}}}},
        {"per_user": {"max_by": {"channel": {"smz": 1}}}},
        {"per_user": {"never_together": [[3, 999]]}},
        {"per_user": {"never_together": [[3, "b"]]}},
    ],
)
def test_limits_that_do_not_fit_are_told_as_in_memory(tmp_path: Path, limits: dict[str, Any]) -> None:
    made = candidates(9)
    path = saved(made, tmp_path / "c.parquet")
    asked = Limits.model_validate(limits)
    with pytest.raises(BadInput) as error:
        load(path, asked)
    assert str(error.value) == in_memory(made, path, asked)


def test_other_columns_and_files_are_told_as_in_memory(tmp_path: Path) -> None:
    made = candidates(10)
    for wrong in (
        made.drop("value"),
        made.with_columns(user=pl.lit(1.5)),
        made.with_columns(value=pl.lit("x")),
    ):
        path = saved(wrong, tmp_path / "c.parquet")
        with pytest.raises(BadInput) as error:
            load(path, Limits())
        assert str(error.value) == in_memory(wrong, path, Limits())
    (tmp_path / "c.parquet").write_text("user,task,value\n")
    with pytest.raises(BadInput, match="is not a Parquet file"):
        load(tmp_path / "c.parquet", Limits())
    with pytest.raises(BadInput, match="no such file"):
        load(tmp_path / "d.parquet", Limits())


def test_a_number_beyond_32_bits_is_an_error_where_32_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = candidates(11).with_columns(value=pl.lit(-1e300))
    path = saved(made, tmp_path / "c.parquet")
    assert load(path, LIMITS).problem.value[0] == -1e300
    monkeypatch.setattr(problem, "WIDE", 20)
    with pytest.raises(BadInput, match=r"value = 1e\+300: goes beyond what 32 bits hold"):
        load(path, LIMITS)


def test_a_file_that_changed_or_broke_is_not_written_from(tmp_path: Path) -> None:
    made = candidates(12)
    path = saved(made, tmp_path / "c.parquet")
    loaded = load(path, LIMITS)
    saved(made.head(50), path)
    chosen = np.ones(made.height, np.bool_)
    for use in (lambda: frame(loaded, chosen), lambda: write(loaded, chosen, tmp_path / "o.parquet")):
        with pytest.raises(Stale, match=r"c.parquet: has changed"):
            use()
    assert not (tmp_path / "o.parquet").exists()
    saved(made.with_columns(pl.col("value") + 1), path)
    with pytest.raises(Stale, match=r"c.parquet: has changed"):
        frame(loaded, chosen)
    opened = scan.open_source(path)
    saved(made, path)
    with pytest.raises(Stale, match=r"c.parquet: has changed"):
        list(opened.pieces(["value"], lambda first, piece: piece, lambda first, end: True))
    whole = saved(made, path).read_bytes()
    path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(BadInput, match=r"c.parquet: candidates: cannot be read"):
        load(path, LIMITS)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "WIDE", 20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    made = candidates(13, shuffled=True)
    loaded = load(saved(made, tmp_path / "c.parquet"), LIMITS)
    with pytest.raises(BadInput, match="two rows"):
        load(saved(pl.concat([made, made[:1]]), tmp_path / "d.parquet"), LIMITS)
    assert list((tmp_path / "scratch").iterdir()) == []
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BadInput, match=r"out: cannot be written"):
        write(loaded, np.ones(made.height, np.bool_), tmp_path / "taken" / "o.parquet")
    (tmp_path / "out" / "o.parquet").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"out: cannot be written"):
        write(loaded, np.ones(made.height, np.bool_), tmp_path / "out" / "o.parquet")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["o.parquet"]
