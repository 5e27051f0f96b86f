"""The page says for each promise what happens when a part is down, and names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "touchpoint.md").read_text(encoding="utf-8")


def test_every_row_of_the_table_names_a_test_that_is_there() -> None:
    section = PAGE.split("## When a part is down")[1].split("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("| ") and not row.startswith("| promise |")]
    rows = [row for row in rows if not row.startswith("| ---")]
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"names no test: {row}"
        assert set(named) <= known, f"names a test that is not there: {row}"
