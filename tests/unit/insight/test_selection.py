"""Selection writes whole files or none, with a manifest that speaks for them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.api import Group, Population, parse_catalog, select
from kernel.errors import BadInput, NotFound

AT = datetime(2017, 10, 16, tzinfo=UTC)


@pytest.fixture
def population(tmp_path: Path) -> Population:
    (tmp_path / "shop").mkdir()
    users = pl.DataFrame({"member_no": ["b", "a", "c,d"], "age": [50, 60, None]})
    users.write_parquet(tmp_path / "shop" / "users.parquet")
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://shop"}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "member_no"}},
        "fields": {"user.age": {"table": "users", "column": "age", "type": "integer"}},
    }
    known = {
        "old": Group(name="old", where={"field": "user.age", "op": "ge", "value": 50}),
        "ageless": Group(name="ageless", where={"field": "user.age", "op": "is_null"}),
        "nobody": Group(name="nobody", where={"field": "user.age", "op": "ge", "value": 999}),
    }
    return Population(parse_catalog(raw, folder=tmp_path), AT, known)


def test_a_parquet_file_with_its_manifest(population: Population, tmp_path: Path) -> None:
    out = tmp_path / "audience.parquet"
    manifest = select(population, "old", out)
    assert pl.read_parquet(out).to_dict(as_series=False) == {"member_no": ["a", "b"]}
    assert json.loads((tmp_path / "old.manifest.json").read_text()) == manifest
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (manifest["count"], manifest["universe"], manifest["group"]) == (2, 3, "old")
    assert manifest["as_of"] == "2017-10-16T00:00:00+00:00"
    assert manifest["source_fingerprint"] == population.source_fingerprint
    assert manifest["group_fingerprint"] == population.groups["old"].fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audience.parquet",
        "old.manifest.json",
        "shop",
    ]


def test_a_csv_quotes_what_needs_quotes(population: Population, tmp_path: Path) -> None:
    select(population, "ageless", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == 'member_no\n"c,d"\n'


def test_the_same_selection_is_the_same_file(population: Population, tmp_path: Path) -> None:
    first = select(population, "old", tmp_path / "x.csv")
    assert select(population, "old", tmp_path / "x.csv") == first


@pytest.mark.parametrize(
    ("name", "out", "kind", "sentence"),
    [
        ("nobody", "x.csv", BadInput, "group nobody: .*has no members"),
        ("old", "x.xlsx", BadInput, r"x\.xlsx': does not end in \.parquet or \.csv"),
        ("old", "nowhere/x.csv", BadInput, "is in a folder that does not exist"),
        ("older", "x.csv", NotFound, "group = 'older': unknown group; did you mean 'old'"),
    ],
)
def test_what_cannot_be_selected_writes_nothing(
    name: str, out: str, kind: type[BadInput], sentence: str, population: Population, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=sentence):
        select(population, name, tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_write_that_fails_leaves_the_old_file(
    population: Population, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"
    select(population, "old", out)
    before = out.read_bytes()

    def full(self: pl.DataFrame, path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(OSError, match="disk full"):
        select(population, "ageless", out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.manifest.json", "shop", "x.csv"]
