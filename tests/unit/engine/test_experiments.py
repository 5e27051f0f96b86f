"""`growth experiment` and the definitions behind it, on files in an embedded workspace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.experiments import bucket_all, bucket_one, experiment_of, hold_out, read_experiment
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput, NotFound

YAML = """
kind: experiment
name: spring
holdout: none
variants: {none: 0.5, coupon: 0.5}
starts: 2026-03-01
planned: 4000
within: 7d
metrics:
  - {name: spend, sum: {amount: 1}}
---
kind: holdout
name: untouched
share: 0.1
"""
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    init_workspace(tmp_path / "shop")
    (tmp_path / "spring.yaml").write_text(YAML, encoding="utf-8")
    found = open_workspace(tmp_path / "shop")
    apply(found, tmp_path / "spring.yaml", by="test")
    return found


def files(space: Workspace, folder: Path) -> dict[str, Path]:
    """Users, their variants as dealt out, and outcomes in which the coupon adds 5 of 20."""
    rng, n = np.random.default_rng(1), 4000
    users, assigned, outcomes = (folder / f"{name}.parquet" for name in ("users", "assigned", "outcomes"))
    pl.DataFrame({"user": range(n)}).write_parquet(users)
    bucket_all(space, "spring", users, assigned, None)
    coupon = pl.read_parquet(assigned)["variant"].fill_null("-").to_numpy() == "coupon"
    at = pl.Series([BEGIN + timedelta(days=2)] * n).cast(pl.Datetime("us", "UTC"))
    last = pl.DataFrame({"user": [n], "amount": [0.0], "at": [BEGIN + timedelta(days=9)]})
    frame = pl.DataFrame({"user": range(n), "amount": rng.normal(20, 10, n) + 5 * coupon, "at": at})
    pl.concat([frame, last.cast(frame.schema)]).write_parquet(outcomes)
    return {"assigned": assigned, "outcomes": outcomes}


def test_definitions_are_checked_together_when_applied(space: Workspace, tmp_path: Path) -> None:
    for text, said in (
        ("kind: holdout\nname: second\nshare: 0.1\n", "more than one is defined"),
        (
            YAML.split("---")[0].replace("name: spring", "name: again\nsalt: spring", 1),
            "is that of experiment",
        ),
    ):
        (tmp_path / "more.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=said):
            apply(space, tmp_path / "more.yaml", by="test")
    assert experiment_of(space, "spring")[1] is not None
    with pytest.raises(NotFound, match="did you mean 'spring'"):
        experiment_of(space, "sprint")


def test_one_user_as_all_users_and_none_of_the_held_out(space: Workspace, tmp_path: Path) -> None:
    made = files(space, tmp_path)
    dealt = pl.read_parquet(made["assigned"])
    for user, variant in dealt.head(50).select("user", "variant").rows():
        assert bucket_one(space, "spring", str(user)) == variant
    left = hold_out(space, dealt.select("user"))
    assert left["user"].equals(dealt.filter(pl.col("variant").is_not_null())["user"])
    assert 0.85 < left.height / dealt.height < 0.95


def test_it_is_read_from_files_as_of_the_last_outcome(space: Workspace, tmp_path: Path) -> None:
    found = read_experiment(space, "spring", **files(space, tmp_path))
    (line,) = found.lines
    assert found.as_of == BEGIN + timedelta(days=9)
    assert line.finding == "better"
    assert line.always is not None
    assert line.always.low < 5 < line.always.high


def test_the_forgotten_are_in_no_experiment(space: Workspace, tmp_path: Path) -> None:
    made = files(space, tmp_path)
    before = read_experiment(space, "spring", **made).lines[0]
    dealt = pl.read_parquet(made["assigned"]).filter(pl.col("variant") == "coupon")
    gone = str(dealt["user"][0])
    space.tombstones.begin([gone], BEGIN)
    assert bucket_one(space, "spring", gone) is None
    after = read_experiment(space, "spring", **made).lines[0]
    assert (before.users - after.users, before.users_holdout - after.users_holdout) == (1, 0)


def call(*words: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(done.exception, BadInput):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout


def test_the_commands_say_what_the_use_cases_find(space: Workspace, tmp_path: Path) -> None:
    made, here = files(space, tmp_path), ("--dir", space.root)
    given = ("--assigned", made["assigned"], "--outcomes", made["outcomes"])
    code, told = call("experiment", "read", "spring", *given, "--json", "--out", tmp_path / "o.csv", *here)
    assert code == 0
    assert json.loads(told) == json.loads(json.dumps(read_experiment(space, "spring", **made).as_json()))
    assert pl.read_csv(tmp_path / "o.csv")["finding"].to_list() == ["better"]
    code, told = call("experiment", "read", "spring", *given, *here)
    assert code == 0
    assert "better" in told
    code, told = call("experiment", "bucket", "spring", "--user", 7, *here)
    assert (code, told.strip()) == (0, bucket_one(space, "spring", "7") or "not in the experiment")
    code, told = call("experiment", "power", "--mean", 0.1, "--effect", 0.02, "--daily", 500, "--json")
    assert code == 0
    assert json.loads(told)["total"] == pytest.approx(7678, abs=2)
    assert json.loads(told)["days"] == 16 + 14


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("power", "--mean", "0.1"), "--effect"),
        (("power", "--mean", "1.4", "--effect", "0.1"), "mean = 1.4"),
        (("bucket", "spring", "--user", "7", "--out", "x.csv"), "--out = 'x.csv': does not go with --user"),
        (("bucket", "spring", "--users", "nowhere.csv"), "--users = 'nowhere.csv': no such file"),
        (("read", "spring", "--outcomes", "nowhere.parquet"), "--outcomes = 'nowhere.parquet': no such file"),
        (("read", "winter"), "unknown experiment"),
    ],
)
def test_what_does_not_fit_is_one_sentence(space: Workspace, words: tuple[str, ...], said: str) -> None:
    here = () if words[0] == "power" else ("--dir", space.root)
    code, told = call("experiment", *words, *here)
    assert code == 2
    assert said in told


def test_a_file_that_is_none_is_one_sentence(space: Workspace, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("no parquet", encoding="utf-8")
    with pytest.raises(BadInput, match=r"--outcomes = .*: cannot be read"):
        read_experiment(space, "spring", outcomes=broken)
    timeless = tmp_path / "timeless.parquet"
    pl.DataFrame({"user": [1], "amount": [1.0]}).write_parquet(timeless)
    with pytest.raises(BadInput, match="has no column at"):
        read_experiment(space, "spring", outcomes=timeless)
