"""What the steps of a plan have come to, kept: found for the same inputs after the same steps only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from kernel.errors import Unavailable
from storage.plan_work import PlanWork


@dataclass(frozen=True)
class Found:
    frame: pl.DataFrame
    told: dict[str, float]
    again: pl.DataFrame


def frame() -> pl.DataFrame:
    stage = pl.Series(["new", "gone", None], dtype=pl.Enum(["new", "gone"]))
    return pl.DataFrame(
        {
            "user": [3, 1, 2],
            "stage": stage,
            "value": [0.1 + 0.2, float("nan"), None],
            "at": [datetime(2026, 3, 1, tzinfo=UTC)] * 3,
            "nothing": [None, None, None],
        }
    )


def test_a_product_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = frame()
    work = PlanWork(tmp_path / "work", "a")
    assert not work.begun
    back = work.keep("one", Found(shared, {"x": 0.1}, shared), {"rows": 3})
    assert work.begun
    assert back.frame is back.again
    again = PlanWork(tmp_path / "work", "a").find("one")
    assert again is not None
    assert again.facts == {"rows": 3}
    for each in (back, again.value):
        assert each.told == {"x": 0.1}
        assert each.frame.schema == shared.schema
        assert each.frame.equals(shared, null_equal=True)
        assert each.frame.n_chunks() == 1


def test_it_is_found_by_the_same_inputs_after_the_same_steps_only(tmp_path: Path) -> None:
    work = PlanWork(tmp_path / "work", "a")
    work.keep("one", 1, {})
    work.keep("two", 2, {})
    assert PlanWork(tmp_path / "work", "b").find("one") is None
    skips = PlanWork(tmp_path / "work", "a")
    assert skips.find("two") is None
    goes = PlanWork(tmp_path / "work", "a")
    assert (goes.find("one") or goes).value == 1  # type: ignore[union-attr]  # None fails the test
    assert (goes.find("two") or goes).value == 2  # type: ignore[union-attr]
    other = PlanWork(tmp_path / "work", "a")
    other.keep("one", 10, {})
    assert other.find("two") is None
    work.clear()
    assert not work.begun


@pytest.mark.parametrize("spoilt", ["value.pickle", "0.parquet", "step.json", "gone"])
def test_what_was_spoilt_is_done_again(tmp_path: Path, spoilt: str) -> None:
    PlanWork(tmp_path / "work", "a").keep("one", frame(), {})
    place = tmp_path / "work" / "one"
    if spoilt == "gone":
        (place / "0.parquet").unlink()
    else:
        file = place / spoilt
        file.write_bytes(file.read_bytes()[:-3])
    assert PlanWork(tmp_path / "work", "a").find("one") is None


def test_half_a_product_is_none(tmp_path: Path) -> None:
    (tmp_path / "work" / ".one").mkdir(parents=True)
    (tmp_path / "work" / ".one" / "value.pickle").write_bytes(b"half")
    work = PlanWork(tmp_path / "work", "a")
    assert work.find("one") is None
    assert work.keep("one", 1, {}) == 1


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="step one"):
        PlanWork(tmp_path / "work", "a").keep("one", 1, {})
