"""Why a user got what, and the files that say so."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from conflict.api import Reason, allocate, explain, verify, write_allocation
from kernel.choices import Allocation, Limits
from kernel.errors import BadInput, NotFound

FRAME = pl.DataFrame(
    {
        "user": ["u", "u", "u", "v", "w"],
        "task": ["a", "b", "c", "a", "a"],
        "value": [10.0, 6.0, 0.5, 9.0, 4.0],
        "cost": [1.0, 1.0, 1.0, 1.0, 1.0],
    }
)
LIMITS = Limits.model_validate({"limits": [{"name": "budget", "sum": "cost", "at_most": 2}]})


def _why(frame: pl.DataFrame, limits: Limits, user: object) -> dict[object, Reason]:
    return {each.task: each for each in explain(frame, limits, allocate(frame, limits), user)}


def test_every_candidate_is_explained_in_values_and_prices() -> None:
    why = _why(FRAME, LIMITS, "u")
    price = allocate(FRAME, LIMITS).limits[0].price
    assert price == pytest.approx(4.0), "one more unit would serve w, whatever keeps the last one from v"
    assert list(why) == ["a", "b", "c"]
    assert why["a"].chosen
    assert why["a"].pays == {"budget": price}
    assert why["a"].adjusted == pytest.approx(10.0 - price)
    assert why["b"].beaten_by == "a"
    assert why["b"].behind == pytest.approx(4.0)
    assert "beaten by a by 4 (at most 1 a user)" in why["b"].sentence
    assert why["c"].beaten_by is None
    assert "not worth its price" in why["c"].sentence
    assert f"budget {price:.4g}" in why["c"].sentence


def test_the_rule_that_decided_is_named() -> None:
    rules = {"max_tasks": 3, "never_together": [["a", "b"]]}
    why = _why(FRAME, Limits.model_validate({"per_user": rules}), "u")
    assert "beaten by a by 4 (never together)" in why["b"].sentence
    assert why["c"].chosen
    rules = {"max_tasks": 3, "max_by": {"task": {"b": 0, "c": 0}}}
    why = _why(FRAME, Limits.model_validate({"per_user": rules}), "u")
    assert not why["b"].chosen


def test_a_limit_that_is_full_is_named() -> None:
    frame = pl.DataFrame({"user": [1, 2], "task": ["a", "a"], "value": [3.0, 2.0], "cost": [3.0, 3.0]})
    limits = Limits.model_validate({"limits": [{"name": "budget", "sum": "cost", "at_most": 4}]})
    answer = allocate(frame, limits)
    free = Allocation(
        **{**vars(answer), "limits": tuple(type(u)(**{**vars(u), "price": 0.0}) for u in answer.limits)}
    )
    (why,) = explain(frame, limits, free, 2)
    assert "too little of budget is left" in why.sentence


@pytest.mark.parametrize("user", ["nobody", 7, None])
def test_an_unknown_user_is_an_error(user: object) -> None:
    with pytest.raises(NotFound, match="unknown user"):
        explain(FRAME, LIMITS, allocate(FRAME, LIMITS), user)


def test_both_files_say_what_was_decided(tmp_path: Path) -> None:
    answer = allocate(FRAME, LIMITS)
    write_allocation(answer, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(each.name for each in out.iterdir()) == ["allocation.json", "assignments.parquet"]
    assert pl.read_parquet(out / "assignments.parquet").equals(answer.assignments)
    said = json.loads((out / "allocation.json").read_text())
    assert said["status"] == "OPTIMAL"
    assert said["objective"] == said["bound"] == 19.0
    assert said["limits"] == [
        {
            "name": "budget",
            "used": 2.0,
            "at_most": 2.0,
            "at_least": None,
            "price": answer.limits[0].price,
            "passed": 0.0,
            "penalty": None,
            "range": list(answer.limits[0].range or ()),
        }
    ]


def test_a_folder_that_cannot_be_written_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="cannot be written"):
        write_allocation(allocate(FRAME, LIMITS), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_the_verifier_rejects_what_was_tampered_with() -> None:
    chosen = allocate(FRAME, LIMITS).assignments
    assert verify(FRAME, LIMITS, chosen) == []
    rules = {each.rule for each in verify(FRAME, LIMITS, chosen.with_columns(pl.col("value") + 1))}
    assert rules == {"candidates"}
    rules = {each.rule for each in verify(FRAME, LIMITS, pl.concat([chosen, chosen]))}
    assert rules == {"once", "per_user.max_tasks", "budget"}
    (broken,) = verify(FRAME, LIMITS, FRAME.filter(pl.col("task") == "a"))
    assert (broken.rule, broken.user, broken.found, broken.allowed) == ("budget", None, 3.0, 2.0)
    least = Limits.model_validate({"per_user": {"min_tasks": 1}})
    assert [each.user for each in verify(FRAME, least, chosen)] == ["w"]
