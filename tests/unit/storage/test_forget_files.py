"""Files lose her rows and words, and their manifests say so; what was killed in the middle is completed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from storage import forget_files
from storage.forget_files import forget_in_files, traces
from storage.redaction import GONE, Person

AT = datetime(2017, 10, 16, tzinfo=UTC)
HER = "ann-77@x.example"
ANN = Person(ids=(HER,))
NUMBER = Person(ids=(42,))


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export(folder: Path, users: list[Any], name: str = "g") -> Path:
    """An audience and its manifest, as `growth select` writes them."""
    out = folder / f"{name}.parquet"
    pl.DataFrame({"user": users}).write_parquet(out)
    manifest = {"group": name, "file": out.name, "count": len(users), "sha256": sha(out)}
    (folder / f"{name}.manifest.json").write_text(json.dumps(manifest))
    return out


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_rows_of_a_table_go_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pl.DataFrame(
        {"user": ["bo", HER, None], "n": [1, 2, 3], "who": [["a"], [HER], None], "at": [AT, AT, None]},
        schema_overrides={"n": pl.Int16},
    )
    frame.write_parquet(path)
    found = forget_in_files([path], ANN, AT)
    assert found.changed == {str(path): 1}
    after = pl.read_parquet(path)
    assert after.equals(frame.filter(pl.col("n") != 2))
    assert after.schema == frame.schema
    assert HER.encode() not in path.read_bytes()
    assert forget_in_files([path], ANN, AT).changed == {}


def test_a_number_goes_by_its_column_only(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"user": [42, 43], "age": [1, 42]}).write_parquet(path)
    forget_in_files([path], NUMBER, AT)
    assert pl.read_parquet(path).to_dicts() == [{"user": 43, "age": 42}]


def test_a_csv_keeps_every_other_line_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ['user,"a ""b"""\n', f"{HER},x\n", '"c,\nd",007\n', f'"{HER}",\n', "last,1.50"]
    path.write_text("".join(lines))
    assert forget_in_files([path], ANN, AT).changed == {str(path): 2}
    assert path.read_text() == "".join([lines[0], lines[2], lines[4]])


def test_json_lines_logs_and_pages(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"user": "{HER}"}}\n{{"user":"bo"}}\n{{"by": "{HER}"}}\n')
    (tmp_path / "a.log").write_text(f"mailed {HER}\nmailed bo\n")
    (tmp_path / "a.json").write_text(json.dumps({"top": [{"user_id": HER}, {"user_id": "bo"}]}))
    forget_in_files(everything(tmp_path), ANN, AT)
    assert (tmp_path / "a.jsonl").read_text() == f'{{"user":"bo"}}\n{{"by": "{GONE}"}}\n'
    assert (tmp_path / "a.log").read_text() == f"mailed {GONE}\nmailed bo\n"
    assert json.loads((tmp_path / "a.json").read_text()) == {"top": [{"user_id": "bo"}]}


def test_a_manifest_tells_the_new_count_and_hash_and_that_it_is_redacted(tmp_path: Path) -> None:
    out, other = export(tmp_path, ["bo", HER, "cy"]), export(tmp_path, ["bo"], "untouched")
    before = (tmp_path / "untouched.manifest.json").read_bytes()
    found = forget_in_files(everything(tmp_path), ANN, AT)
    told = json.loads((tmp_path / "g.manifest.json").read_text())
    assert (told["count"], told["sha256"]) == (2, sha(out))
    assert told["redacted"] == {"at": AT.isoformat(), "rows": 1}
    assert found.manifests == [str(tmp_path / "g.manifest.json")]
    assert (tmp_path / "untouched.manifest.json").read_bytes() == before
    assert other.exists()
    forget_in_files(everything(tmp_path), Person(ids=("cy",)), AT)
    assert json.loads((tmp_path / "g.manifest.json").read_text())["redacted"]["rows"] == 2


def test_a_manifest_of_several_parts(tmp_path: Path) -> None:
    parts = []
    for i, users in enumerate([["bo", HER], ["cy"]]):
        path = tmp_path / f"part-{i}.parquet"
        pl.DataFrame({"user": users}).write_parquet(path)
        parts.append(
            {"file": path.name, "rows": len(users), "sha256": sha(path), "bytes": path.stat().st_size}
        )
    (tmp_path / "manifest.json").write_text(json.dumps({"count": 3, "files": parts}))
    forget_in_files(everything(tmp_path), ANN, AT)
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert told["count"] == 2
    assert [each["rows"] for each in told["files"]] == [1, 1]
    assert all(each["sha256"] == sha(tmp_path / each["file"]) for each in told["files"])
    assert told["files"][0]["bytes"] == (tmp_path / "part-0.parquet").stat().st_size


def test_a_kill_between_file_and_manifest_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(tmp_path, ["bo", HER])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forget_files, "_tell_anew", killed)
        with pytest.raises(KeyboardInterrupt):
            forget_in_files(everything(tmp_path), ANN, AT)
    assert json.loads((tmp_path / "g.manifest.json").read_text())["count"] == 2
    forget_in_files(everything(tmp_path), ANN, AT)
    told = json.loads((tmp_path / "g.manifest.json").read_text())
    assert (told["count"], told["sha256"]) == (1, sha(out))
    assert "redacting" not in told


def test_a_file_that_somebody_else_changed_keeps_its_old_hash_in_the_manifest(tmp_path: Path) -> None:
    out = export(tmp_path, ["bo", "cy"])
    pl.DataFrame({"user": ["forged"]}).write_parquet(out)
    forget_in_files(everything(tmp_path), ANN, AT)
    assert json.loads((tmp_path / "g.manifest.json").read_text())["sha256"] != sha(out)


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    export(tmp_path, ["bo", HER])
    before = {path: path.read_bytes() for path in everything(tmp_path)}
    found = forget_in_files(everything(tmp_path), ANN, AT, dry_run=True)
    assert list(found.changed.values()) == [1]
    assert {path: path.read_bytes() for path in everything(tmp_path)} == before


def test_her_bytes_are_found_across_the_pieces_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forget_files, "_PIECE", 10)
    path = tmp_path / "x.bin"
    path.write_bytes(b"\0" * 7 + HER.encode() + b"\0" * 20)
    assert traces([path, tmp_path / "gone"], ANN) == [path]
    assert traces([path], Person(ids=("bo-12345",))) == []


def test_a_file_that_is_not_what_it_is_called_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.json").write_text("{no json")
    found = forget_in_files(everything(tmp_path), ANN, AT)
    assert len(found.left) == 2
    assert all("cannot be read" in each for each in found.left)
