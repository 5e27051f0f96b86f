"""Selection writes whole files or none, with a manifest that speaks for them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight import selection
from insight.api import Group, Population, parse_catalog, select
from insight.selection import check_selection
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
    assert json.loads((tmp_path / "old.manifest.json").read_text()) | {"unchanged": False} == manifest
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
    written = (tmp_path / "x.csv").stat().st_mtime_ns
    assert select(population, "old", tmp_path / "x.csv") == {**first, "unchanged": True}
    assert (tmp_path / "x.csv").stat().st_mtime_ns == written
    (tmp_path / "x.csv").write_text("member_no\na\nB\n")
    assert select(population, "old", tmp_path / "x.csv") == first
    assert select(population, "old", tmp_path / "x.csv", version=2)["unchanged"] is False


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

    def full(self: pl.DataFrame, **_: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(OSError, match="disk full"):
        select(population, "ageless", out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.manifest.json", "shop", "x.csv"]


@pytest.fixture
def crowd(tmp_path: Path) -> Population:
    """1,000 users with a city and an age in two tables; the odd have no age."""
    (tmp_path / "shop").mkdir()
    ids = [f"u{n:04}" for n in range(1000)]
    pl.DataFrame({"member_no": ids, "town": [f'T"{n % 3},\n' for n in range(1000)]}).sample(
        fraction=1, shuffle=True, seed=1
    ).write_parquet(tmp_path / "shop" / "users.parquet")
    pl.DataFrame({"who": [*ids[::2], "ghost"], "age": [*range(0, 1000, 2), 7]}).sample(
        fraction=1, shuffle=True, seed=2
    ).write_parquet(tmp_path / "shop" / "ages.parquet")
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://shop"}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "member_no"}},
        "fields": {
            "user.town": {"table": "users", "column": "town", "type": "string"},
            "user.age": {"table": "ages", "key": "who", "column": "age", "type": "integer"},
        },
    }
    known = {"all": Group(name="all", where={"field": "user.town", "op": "not_null"})}
    return Population(parse_catalog(raw, folder=tmp_path), AT, known)


EXPECTED = [
    (f"u{n:04}", f'T"{n % 3},\n', n if n % 2 == 0 else None) for n in range(1000)
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("part_rows", [None, 64, 300, 1000])
def test_columns_and_parts_are_put_together_from_pieces(
    crowd: Population, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, part_rows: int | None
) -> None:
    monkeypatch.setattr(selection, "PIECE", 170)
    out = tmp_path / f"x.{suffix}"
    manifest = select(crowd, "all", out, fields=["user.age", "user.town"], part_rows=part_rows)
    assert manifest["columns"] == ["member_no", "user.age", "user.town"]
    frames = [
        pl.read_csv(path) if suffix == "csv" else pl.read_parquet(path)
        for path in sorted(tmp_path.glob(f"*.{suffix}"))
    ]
    assert [frame.height for frame in frames] == [each["rows"] for each in manifest["files"]]
    assert len(frames) == (1 if part_rows is None else -(-1000 // part_rows))
    rows = pl.concat(frames).select("member_no", "user.town", "user.age").rows()
    assert rows == EXPECTED
    found = check_selection(str(tmp_path / "all.manifest.json"))
    assert found == {"ok": True, "problems": [], "count": 1000, "files": len(frames)}


def test_fewer_parts_leave_no_old_ones_behind(crowd: Population, tmp_path: Path) -> None:
    select(crowd, "all", tmp_path / "x.csv", part_rows=100)
    assert len(list(tmp_path.glob("x-*.csv"))) == 10
    select(crowd, "all", tmp_path / "x.csv", part_rows=400)
    assert len(list(tmp_path.glob("x-*.csv"))) == 3
    assert check_selection(str(tmp_path / "all.manifest.json"))["ok"]
    select(crowd, "all", tmp_path / "x.csv")
    assert [path.name for path in tmp_path.glob("x*")] == ["x.csv"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_any_address_that_a_driver_knows(crowd: Population, tmp_path: Path, suffix: str) -> None:
    base = f"memory://lake-{suffix}"
    manifest = select(crowd, "all", f"{base}/a/x.{suffix}", part_rows=600, fields=["user.age"])
    assert [each["rows"] for each in manifest["files"]] == [600, 400]
    assert check_selection(f"{base}/a/all.manifest.json")["ok"]
    assert select(crowd, "all", f"{base}/a/x.{suffix}", part_rows=600, fields=["user.age"])["unchanged"]
    local = f"file://{tmp_path}/y.{suffix}"
    select(crowd, "all", local)
    assert check_selection(f"file://{tmp_path}/all.manifest.json")["ok"]
    with pytest.raises(BadInput, match=r"out = 'nope://x/y.csv': cannot be used"):
        select(crowd, "all", "nope://x/y.csv")


def test_a_check_names_what_is_not_as_the_manifest_says(crowd: Population, tmp_path: Path) -> None:
    select(crowd, "all", tmp_path / "x.csv", part_rows=500)
    at = str(tmp_path / "all.manifest.json")
    first, second = tmp_path / "x-00000.csv", tmp_path / "x-00001.csv"
    whole = first.read_bytes()
    first.write_bytes(whole.replace(b"u0000", b"u9999"))
    second.unlink()
    found = check_selection(at)
    assert not found["ok"]
    assert found["problems"] == ["x-00000.csv has another checksum", "x-00001.csv is not there"]
    first.write_bytes(whole + b"u5\n")
    assert "bytes, and the manifest says" in check_selection(at)["problems"][0]
    manifest = json.loads(Path(at).read_text())
    first.write_bytes(whole)
    manifest["files"] = manifest["files"][:1]
    Path(at).write_text(json.dumps(manifest))
    assert check_selection(at)["problems"] == ["the files have 500 users, and the manifest says 1000"]
    manifest["files"][0]["rows"] = 499
    Path(at).write_text(json.dumps(manifest))
    assert "has 500 rows, and the manifest says 499" in check_selection(at)["problems"][0]
    for wrong, sentence in (
        ("[]", "is not a manifest"),
        ("{}", "is not the manifest of a selection"),
        ("{", "read"),
    ):
        Path(at).write_text(wrong)
        with pytest.raises(BadInput, match=sentence):
            check_selection(at)
    with pytest.raises(BadInput, match="does not exist"):
        check_selection(str(tmp_path / "none.json"))


def test_fields_and_parts_that_make_no_sense_are_refused(crowd: Population, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"--with = 'user\.agee': unknown field; did you mean"):
        select(crowd, "all", tmp_path / "x.csv", fields=["user.agee"])
    with pytest.raises(BadInput, match="names a field twice"):
        select(crowd, "all", tmp_path / "x.csv", fields=["user.age", "user.age"])
    with pytest.raises(BadInput, match="less than one user a file"):
        select(crowd, "all", tmp_path / "x.csv", part_rows=0)
    assert not list(tmp_path.glob("x*"))
