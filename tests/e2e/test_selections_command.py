"""`growth run selections`, `jobs`, `tags`, `lineage` and `select --check`, as an operator gives them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

AT = datetime(2017, 10, 16, tzinfo=UTC)
COUNTED = {"event": "order", "agg": "count", "within": "7d", "op": "ge", "value": 1}
DEFINITIONS = [
    {"kind": "tag", "name": "buyer", "owner": "crm", "where": COUNTED, "expires": "30d"},
    {"kind": "group", "name": "a", "where": {"tag": "buyer"}},
    {"kind": "group", "name": "b", "where": {"not": {"group": "a"}}},
    {"kind": "group", "name": "late", "where": COUNTED, "needs": [{"file": "file:///no/such/file"}]},
    {"kind": "group", "name": "child", "where": {"group": "late"}},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, growth: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("selections") / "w"
    growth.well("init", root)
    rows = [(n, f"{n}-{k}", AT - timedelta(days=1 + 5 * n), 1.0) for n in range(6) for k in range(2)]
    schema = {
        "user_id": pl.Int64,
        "order_id": pl.String,
        "ordered_at": pl.Datetime("us", "UTC"),
        "total": pl.Float64,
    }
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / "data" / "orders.parquet")
    (root / "definitions" / "all.yaml").write_text(yaml.safe_dump_all(DEFINITIONS))
    growth.well("apply", "-f", root / "definitions", "--dir", root)
    return root


def test_a_tag_that_was_never_produced_blocks_who_uses_it(growth: Any, root: Path) -> None:
    refused = growth("select", "b", "--dir", root, "--as-of", "2017-10-16", "--out", root / "b.csv")
    assert (refused.code, refused.err) == (
        1, "growth: group b uses tag buyer, which is never produced; run: growth run selections\n",
    )  # fmt: skip
    assert not (root / "b.csv").exists()
    assert growth("doctor", "--dir", root).out.count("BAD  tag buyer: never produced") == 1


def test_a_run_publishes_says_what_waits_and_is_told_of(growth: Any, root: Path) -> None:
    ran = growth("run", "selections", "--date", "2017-10-16", "--dir", root, "--json")
    assert ran.code == 1
    states = {job["key"]: job["state"] for job in ran.json[0]["jobs"]}
    assert states == {"tag:buyer": "done", "a": "done", "b": "done", "late": "blocked", "child": "blocked"}
    told = growth.well("jobs", "--dir", root).out
    assert "blocked  late: file file:///no/such/file is not there" in told
    assert "blocked  child: group late blocked: file" in told
    well = growth.well("run", "selections", "--date", "2017-10-16", "--groups", "b", "--dir", root)
    assert "3 unchanged" in well.out
    tags = growth.well("tags", "--dir", root, "--json").json
    assert [(tag["name"], tag["count"], tag["owner"]) for tag in tags] == [("buyer", 2, "crm")]
    assert tags[0]["state"].startswith("expired: produced as of 2017-10-16 00:00 UTC, good for 30d")
    days = growth.well(
        "run", "selections", "--backfill", "2017-10-13..2017-10-15", "--groups", "a", "--dir", root
    )
    assert days.out.count("2 done") == 3
    assert growth.well("estimate", "a", "--as-of", "2017-10-16", "--dir", root, "--json").json["count"] == 2


def test_a_selection_is_written_checked_and_known_to_lineage(growth: Any, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.parquet"
    words = (
        "select",
        "b",
        "--as-of",
        "2017-10-16",
        "--out",
        out,
        "--part-rows",
        "3",
        "--dir",
        root,
        "--json",
    )
    made = growth.well(*words).json
    assert (made["count"], made["version"], len(made["files"]), made["unchanged"]) == (4, 1, 2, False)
    assert growth.well(*words).json["unchanged"] is True
    manifest = tmp_path / "b.manifest.json"
    assert "4 users in 2 files" in growth.well("select", "--check", manifest, "--dir", root).out
    found = growth.well("lineage", "a", "--dir", root, "--json").json
    assert [each["node"] for each in found["down"]] == ["group:b", f"export:{manifest}"]
    assert "event:order" in growth.well("lineage", "shop.orders", "--dir", root).out
    (tmp_path / "b-00001.parquet").write_bytes(b"cut short")
    broken = growth("select", "--check", manifest, "--dir", root)
    assert broken.code == 1
    assert "b-00001.parquet has 9 bytes, and the manifest says" in broken.err
    assert json.loads(manifest.read_text())["group"] == "b"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "selections"), "give either --date or --backfill"),
        (("run", "selections", "--date", "soon"), "'soon': is not a date"),
        (("run", "selections", "--backfill", "2017-10-16..2017-10-01"), "ends before it begins"),
        (("run", "selections", "--date", "2017-10-16", "--groups", "bb"), "unknown group"),
        (("run", "selections", "--date", "2017-10-16", "--wait", "long"), "is not a window"),
        (("jobs", "nope"), "unknown run"),
        (("lineage", "byuer"), "unknown name; did you mean 'buyer'"),
        (("select",), "give either the NAME of a group or --check MANIFEST"),
        (("select", "b", "--as-of", "2017-10-16", "--with", "user.x"), "unknown field"),
        (("select", "b", "--as-of", "2017-10-16", "--out", "x.doc"), "does not end in"),
        (("select", "--check", "nowhere.json"), "does not exist"),
    ],
)
def test_bad_input_is_one_sentence(growth: Any, root: Path, words: tuple[str, ...], sentence: str) -> None:
    ran = growth(*words, "--dir", root)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
