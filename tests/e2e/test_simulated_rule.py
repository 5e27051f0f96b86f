"""The newcomer's path: an example shop, a rule tried for two simulated days, what it would earn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest


@pytest.fixture
def shop(tmp_path: Path, growth: Any) -> Path:
    """The example with a third of its users, which is enough to learn from."""
    root = tmp_path / "shop"
    growth.well("init", root, "--example")
    for name in ("users", "orders"):
        path = root / "data" / f"{name}.parquet"
        pl.read_parquet(path).filter(pl.col("user_id") % 3 == 0).write_parquet(path)
    growth.well("apply", "-f", root / "definitions" / "shop.yaml", "--dir", root)
    return root


def test_a_rule_runs_for_simulated_days_and_the_workspace_stays_as_it_was(shop: Path, growth: Any) -> None:
    rule = shop / "definitions" / "welcome.yaml"
    before = {path: path.stat().st_mtime_ns for path in (shop / "data").iterdir()}
    asked = ("simulate", "--rule", rule, "--days", "2", "--dir", shop)
    found = growth.well(*asked, "--json").json
    assert (found["rule"], found["first"], found["days"]) == ("welcome", "2026-11-21", 2)
    tried, played, read = found["tried"], found["played"], found["read"]
    assert tried["users"] > 50
    assert 0 < tried["held_out"] < tried["users"] / 2
    assert 0 < tried["assigned"] <= tried["users"] - tried["held_out"]
    # two days with the rule, seven in which the last window goes by
    assert len(played) == 9
    assert [each.get("assigned", 0) > 0 for each in played] == [True] * 2 + [False] * 7
    assert played[0]["assigned"] == tried["assigned"]
    assert sum(each["more"] for each in played) > 0
    assert all(each["registered"] + each["bought"] > 0 for each in played)
    assert read["firings"] == 2
    assert read["mature"] == read["users"] > tried["users"]
    assert 0 < read["converted"] < read["users"]
    assert read["cost"] == pytest.approx(sum(each["cost"] for each in played[:2]), rel=0.05)
    # a third of the shop holds out too few users to say more
    assert (read["added_profit"] is None) == any("nothing is said" in each for each in read["warnings"])

    assert {path: path.stat().st_mtime_ns for path in (shop / "data").iterdir()} == before
    assert growth.well("rule", "list", "--json", "--dir", shop).json == []
    assert not (shop / "plans").exists()


def test_what_cannot_be_simulated_is_said(shop: Path, growth: Any) -> None:
    for words, said in (
        (("--rule", shop / "definitions" / "shop.yaml"), "holds 0 rules instead of one"),
        (("--date", "2026-11-21"), "--date"),
        (("--users", "20"), "--users = 20: is less than 500"),
        (("--rule", shop / "growth.toml"), "growth.toml"),
    ):
        ran = growth("simulate", *words, "--dir", shop)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
