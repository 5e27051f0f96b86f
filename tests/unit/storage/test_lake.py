"""Files and folders are whole or as they were."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from storage.lake import folder, write_json, write_parquet, write_text


def tree(root: Path) -> dict[str, str]:
    """Every file below, hidden ones too, and its text."""
    return {str(each.relative_to(root)): each.read_text() for each in root.rglob("*") if each.is_file()}


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "plans" / "2017-10-16"
    with folder(target) as fresh:
        (fresh / "plan.json").write_text("1")
        assert not target.exists()
        assert fresh.parent == target.parent  # one file system: the move is a rename
    assert tree(tmp_path) == {"plans/2017-10-16/plan.json": "1"}


def test_a_new_folder_replaces_all_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "plan"
    for name in ("old", "new"):
        with folder(target) as fresh:
            (fresh / name).write_text(name)
            if name == "new":
                assert tree(target) == {"old": "old"}
    assert tree(tmp_path) == {"plan/new": "new"}
    assert [each.name for each in tmp_path.iterdir()] == ["plan"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException], existed: bool
) -> None:
    target = tmp_path / "plan"
    if existed:
        target.mkdir()
        (target / "old").write_text("old")

    def fill() -> None:
        with folder(target) as fresh:
            (fresh / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fill()
    assert tree(tmp_path) == ({"plan/old": "old"} if existed else {})
    assert [each.name for each in tmp_path.iterdir()] == (["plan"] if existed else [])


def test_what_a_killed_write_left_does_not_get_in(tmp_path: Path) -> None:
    target = tmp_path / "plan"
    with folder(target) as fresh:
        name = fresh.name
    (tmp_path / name).mkdir()
    (tmp_path / name / "stale").write_text("stale")
    (tmp_path / ".plan.before").mkdir()
    (tmp_path / ".plan.before" / "older").write_text("older")
    with folder(target) as fresh:
        (fresh / "new").write_text("new")
    assert tree(tmp_path) == {"plan/new": "new"}


def test_files_are_written_with_their_folders_and_nothing_beside(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "t.txt", "größer\n")
    write_json(tmp_path / "a" / "t.json", {"day": date(2017, 1, 2), "text": "ü"})
    write_parquet(tmp_path / "b" / "t.parquet", pl.DataFrame({"x": [1, 2]}))
    assert (tmp_path / "a" / "t.txt").read_text(encoding="utf-8") == "größer\n"
    assert json.loads((tmp_path / "a" / "t.json").read_text(encoding="utf-8")) == {
        "day": "2017-01-02",
        "text": "ü",
    }
    assert pl.read_parquet(tmp_path / "b" / "t.parquet")["x"].to_list() == [1, 2]
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == [
        "t.json",
        "t.parquet",
        "t.txt",
    ]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {("a", "b"): 1})
    assert path.read_text() == "1\n"


def test_what_other_processes_began_is_put_away_once_they_are_dead(tmp_path: Path) -> None:
    target = tmp_path / "plan"
    for name in (".plan.1", ".plan.2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text(name)
    live = os.open(tmp_path / ".plan.2", os.O_RDONLY)
    fcntl.flock(live, fcntl.LOCK_EX)
    with folder(target) as fresh:
        (fresh / "new").write_text("new")
    assert tree(tmp_path) == {"plan/new": "new", ".plan.2/half": ".plan.2"}
    os.close(live)
    with folder(target) as fresh:
        (fresh / "newer").write_text("newer")
    assert tree(tmp_path) == {"plan/newer": "newer"}
