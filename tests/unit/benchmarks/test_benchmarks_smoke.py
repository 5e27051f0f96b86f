"""Every benchmark runs, at a size that takes no time, and writes what it says it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.case import report
from benchmarks.registry import CASES


@pytest.mark.parametrize("name", CASES)
def test_case_runs_and_reports(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    lines = case.run(case.smoke, 1, 10.0)
    assert len(lines) > 1, "a case without a peer says nothing"
    assert (lines[0].who, lines[0].ratio, lines[0].times) == ("ours", 1.0, 1.0)
    table = report(name, case, lines, seed=1, seconds=5.0, folder=tmp_path).read_text()
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert [line["who"] for line in record["lines"]] == [line.who for line in lines]
    assert all(line.who in table for line in lines)
    assert record["setting"]["seed"] == 1
    assert set(case.packages) <= set(record["setting"])


def test_the_allocation_beats_those_who_do_not_search() -> None:
    lines = {line.who: line for line in CASES["allocation"].run(2_000, 2, 10.0)}
    for who in ("greedy by value", "first come"):
        assert lines[who].ratio is not None
        assert lines[who].ratio < 1.0
