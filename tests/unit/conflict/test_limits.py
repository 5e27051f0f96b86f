"""Every way in which candidates and limits can be wrong gets one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from conflict.api import allocate, load_limits, read_candidates
from kernel.choices import Limits, Status
from kernel.errors import BadInput

GOOD = {"user": [1, 1, 2], "task": ["a", "b", "a"], "value": [1.0, 2.0, 3.0]}
LABELLED = {
    **GOOD,
    "channel": ["sms", "push", "sms"],
    "cost": [1, 2, 3],
    "tier": [1, 2, 1],
    "fresh": [True] * 3,
}


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _parquet(path: Path, columns: dict[str, object]) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"user": [1], "task": [1]}, "value: this column is missing; there are: user, task"),
        ({**GOOD, "value": [1.0, float("nan"), 2.0]}, "value = nan: is not a finite number, in row 1"),
        ({**GOOD, "value": [1.0, 2.0, float("inf")]}, "value = inf: is not a finite number, in row 2"),
        ({**GOOD, "value": [None, 1.0, 2.0]}, "value: is empty in row 0"),
        ({**GOOD, "value": ["1", "2", "3"]}, "value = 'String': must be numbers"),
        ({**GOOD, "user": [1.5, 2.5, 3.5]}, "user = 'Float64': must be integers or text"),
        ({**GOOD, "user": [1, None, 2]}, "user: is empty in row 1"),
        ({**GOOD, "task": ["a", "a", "a"]}, "(user, task) = (1, 'a'): stands in two rows"),
    ],
)
def test_wrong_candidates_are_named(tmp_path: Path, columns: dict[str, object], says: str) -> None:
    path = _parquet(tmp_path / "c.parquet", columns)
    with pytest.raises(BadInput) as error:
        read_candidates(path)
    assert str(error.value) == f"{path}: {says}"


def test_missing_files_and_other_formats_are_named(tmp_path: Path) -> None:
    for read in (read_candidates, load_limits):
        with pytest.raises(BadInput, match=r"nowhere.*no such file"):
            read(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="is not a Parquet file"):
        read_candidates(_write(tmp_path / "c.parquet", "user,task\n1,2\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limits:\n  - {name: a, at_most: 1", "line 2: is not YAML"),
        ("limits: []\nlimits: []\n", "line 2: is not YAML: limits stands twice"),
        ("- 1", "is not a mapping"),
        ("limitz: []", "limitz = '[]': is not a known field here"),
        ("limits:\n  - {name: a}", "needs at_most or at_least"),
        ("limits:\n  - {name: a, at_most: 1, at_least: 2}", "at_least 2.0 is above at_most 1.0"),
        ("limits:\n  - {name: a, at_most: -1}", "at_most -1.0 is negative"),
        ("limits:\n  - {name: a, at_most: .nan}", "at_most = nan"),
        ("limits:\n  - {name: a, at_most: 1}\n  - {name: a, at_most: 2}", "limit 'a' is named twice"),
        ("per_user: {max_tasks: -1}", "per_user.max_tasks = -1"),
        ("per_user: {min_tasks: 2}", "min_tasks 2 is above max_tasks 1"),
        ("per_user: {never_together: [[a]]}", "never_together needs two different tasks"),
    ],
)
def test_wrong_limits_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = _write(tmp_path / "l.yaml", text)
    with pytest.raises(BadInput) as error:
        load_limits(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "limits: [{name: a, sum: coast, at_most: 1}]",
            "sum = 'coast': unknown column; did you mean 'cost'?",
        ),
        ("limits: [{name: a, sum: channel, at_most: 1}]", "channel = 'String': must be numbers"),
        ("limits: [{name: a, where: {chanel: sms}, at_most: 1}]", "unknown column; did you mean 'channel'?"),
        (
            "limits: [{name: a, where: {channel: smz}, at_most: 1}]",
            "unknown label of channel; did you mean 'sms'?",
        ),
        ("limits: [{name: a, where: {tier: '1'}, at_most: 1}]", "is not a label of a column of type Int64"),
        ("limits: [{name: a, where: {tier: true}, at_most: 1}]", "is not a label of a column of type Int64"),
        ("limits: [{name: a, where: {channel: 1}, at_most: 1}]", "is not a label of a column of type String"),
        ("limits: [{name: a, where: {fresh: 1}, at_most: 1}]", "is not a label of a column of type Boolean"),
        ("limits: [{name: a, where: {channel: push, task: a}, at_least: 1}]", "no candidate is in its slice"),
        ("per_user: {max_by: {chanel: {sms: 1}}}", "max_by = 'chanel': unknown column"),
        ("per_user: {max_by: {channel: {smz: 1}}}", "max_by = 'smz': unknown label of channel"),
        ("per_user: {never_together: [[a, z]]}", "never_together = 'z': unknown label of task"),
    ],
)
def test_limits_that_do_not_fit_the_candidates_are_named(tmp_path: Path, text: str, says: str) -> None:
    limits = load_limits(_write(tmp_path / "l.yaml", text))
    with pytest.raises(BadInput) as error:
        allocate(pl.DataFrame(LABELLED), limits)
    assert says in str(error.value)


def test_a_label_that_is_empty_is_an_error_where_a_limit_selects_on_it() -> None:
    frame = pl.DataFrame({**LABELLED, "channel": ["sms", None, "sms"]})
    limits = Limits.model_validate({"limits": [{"name": "a", "where": {"channel": "sms"}, "at_most": 1}]})
    with pytest.raises(BadInput, match=r"selects on a column that is empty in row 1"):
        allocate(frame, limits)
    assert allocate(frame, Limits()).status is Status.OPTIMAL


def test_labels_of_max_by_may_be_numbers_and_booleans(tmp_path: Path) -> None:
    limits = load_limits(
        _write(
            tmp_path / "l.yaml", "per_user: {max_tasks: 2, max_by: {tier: {1: 1, 2: 0}, fresh: {true: 2}}}"
        )
    )
    chosen = allocate(pl.DataFrame(LABELLED), limits).assignments
    assert chosen.rows() == [(1, "a", 1.0, "sms", 1, 1, True), (2, "a", 3.0, "sms", 3, 1, True)]


def test_an_empty_file_of_limits_is_the_defaults(tmp_path: Path) -> None:
    assert load_limits(_write(tmp_path / "l.yaml", "")) == Limits()


def test_times_and_gaps_that_make_no_sense_are_errors() -> None:
    for wrong in ({"time_limit": 0.0}, {"gap": -1.0}, {"gap": float("nan")}, {"time_limit": float("nan")}):
        with pytest.raises(BadInput, match="time_limit"):
            allocate(pl.DataFrame(GOOD), Limits(), **wrong)
