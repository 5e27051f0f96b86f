"""Bad input: exit code 2, one sentence that names the place and the value, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

GOAL = """\
kind: goal
name: grow
outcome: visit
audiences: [frequent]
base: spend
margin: 0.4
lift: 0.3
"""
WHERE = "kind: group\nname: g\nentity: user\nwhere: "
BENEFIT = "kind: benefit\nname: autumn\ngoals: [grow]\ntouchpoints: [note]\ncost_per_response: "
TOUCHPOINT = "kind: touchpoint\nname: note\nchannel: inbox\ncost_per_touch: 0.1\ncapacity: "

#: a document that apply must refuse → words that the sentence must have
DOCUMENTS = {
    "yaml": ("kind: goal\nname: [grow\nbase: spend\n", ("bad.yaml", "line")),
    "tab": ("kind: goal\n\tname: grow\n", ("bad.yaml", "line = 2")),
    "not a mapping": ("- goal\n", ("bad.yaml", "mapping")),
    "unknown kind": ("kind: gaol\nname: grow\n", ("bad.yaml", "kind", "'gaol'")),
    "no kind": ("name: grow\n", ("bad.yaml", "kind")),
    "unknown key": (GOAL + "budget: 3\n", ("bad.yaml", "budget", "3")),
    "missing key": (GOAL.replace("base: spend\n", ""), ("bad.yaml", "base")),
    "wrong type": (GOAL.replace("0.4", "plenty"), ("margin", "'plenty'")),
    "out of range": (GOAL.replace("0.4", "1.4"), ("margin", "1.4")),
    "nan": (GOAL.replace("0.4", ".nan"), ("margin", "nan")),
    "window": (GOAL + "window: 3 months\n", ("window", "'3 months'")),
    "name": (GOAL.replace("name: grow", "name: ../grow"), ("name", "'../grow'")),
    "negative cost": (BENEFIT + "-0.5\n", ("cost_per_response", "-0.5")),
    "negative capacity": (TOUCHPOINT + "-3\n", ("capacity", "-3")),
    "negative cap": ("kind: cap\nname: week\nwithin: 7d\nat_most: -1\n", ("at_most", "-1")),
    "negative volume": (
        "kind: limits\nname: daily\nlimits:\n  - {name: few, at_most: -4}\n",
        ("few", "at_most", "-4"),
    ),
    "unknown event": (
        WHERE + "{event: visti, agg: count, op: ge, value: 1}\n",
        ("event", "'visti'", "visit"),
    ),
    "unknown field": (WHERE + "{field: user.twon, op: eq, value: Kiel}\n", ("field", "'user.twon'")),
    "unknown event field": (
        WHERE + "{event: visit, agg: sum, of: amuont, op: gt, value: 1}\n",
        ("of", "'amuont'"),
    ),
    "unknown group": (WHERE + "{group: frequnet}\n", ("group", "'frequnet'")),
    "unknown op": (WHERE + "{field: user.town, op: equals, value: Kiel}\n", ("op", "'equals'")),
    "value of another type": (WHERE + "{field: user.town, op: eq, value: 3}\n", ("value", "3")),
    "cycle": (
        WHERE + "{group: h}\n---\n" + WHERE.replace("name: g", "name: h") + "{group: g}\n",
        ("group", "refers to itself", "h → g → h"),
    ),
    "unknown audience": (GOAL.replace("[frequent]", "[frequnet]"), ("audience", "frequnet")),
    "unknown touchpoint": (
        "kind: benefit\nname: autumn\ncost_per_response: 1\ngoals: [grow]\ntouchpoints: [pigeon]\n",
        ("touchpoint", "pigeon"),
    ),
    "twice": (GOAL + "---\n" + GOAL, ("bad.yaml", "name", "'grow'")),
    "nothing": ("# nothing\n", ("bad.yaml", "no definitions")),
}
GOOD = "kind: group\nname: fine\nentity: user\nwhere: {field: user.town, op: eq, value: Kiel}\n"


def refused(ran: Any, *words: object) -> None:
    """Two, and one sentence that says all of `words`."""
    lines = ran.err.splitlines()
    told = [line for line in lines if line.startswith("growth: ")]
    assert ran.code == 2, ran
    assert "Traceback" not in ran.err
    assert len(told) == 1, ran.err
    assert lines[-1] == told[0]
    for word in words:
        assert str(word) in told[0], f"{word} is not in: {told[0]}"


def files(root: Path) -> dict[str, int]:
    """Names and sizes; a database moves its log into itself when it likes."""
    found = {str(p.relative_to(root)): p.stat().st_size for p in sorted(root.rglob("*")) if p.is_file()}
    return {name: size for name, size in found.items() if not name.startswith("var/growth.db")}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_apply_refuses_the_document_and_all_with_it(
    growth: Any, applied: Path, tmp_path: Path, case: str
) -> None:
    text, words = DOCUMENTS[case]
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a_good.yaml").write_text(GOOD, encoding="utf-8")
    (folder / "bad.yaml").write_text(text, encoding="utf-8")
    growth.well("export", "--out", tmp_path / "before", "--dir", applied)
    bad = folder if case != "nothing" else folder / "bad.yaml"
    ran = growth("apply", "-f", bad, "--dir", applied)
    refused(ran, *words)
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    growth.well("export", "--out", tmp_path / "after", "--dir", applied)
    assert files(tmp_path / "after") == files(tmp_path / "before")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("apply", "-f", "{tmp}/absent.yaml"), ("-f", "absent.yaml")),
        (("estimate", "frequnet"), ("group", "'frequnet'", "frequent")),
        (("estimate",), ("group", "NAME")),
        (("estimate", "frequent", "--as-of", "yesterday"), ("--as-of", "'yesterday'")),
        (("estimate", "frequent", "--as-of", "2023-10-16T08:00:00"), ("zone", "2023-10-16T08:00:00")),
        (("select", "frequnet", "--out", "{tmp}/f.csv"), ("group", "'frequnet'")),
        (("select", "nobody", "--out", "{tmp}/f.csv"), ("group nobody", "no members")),
        (("select", "frequent", "--out", "{tmp}/f.xlsx"), ("out", "f.xlsx")),
        (("select", "frequent", "--out", "{tmp}/absent/f.csv"), ("out", "absent")),
        (("plan", "--date", "soon", "--out", "{tmp}/p"), ("--date", "'soon'")),
        (("plan", "--date", "2023-02-30", "--out", "{tmp}/p"), ("--date", "'2023-02-30'")),
        (("plan", "--date", "2031-01-01", "--out", "{tmp}/p"), ("date", "2031-01-01", "2023-10")),
        (("plan", "--date", "2001-01-01", "--out", "{tmp}/p"), ("date", "2001-01-01")),
        (("plan", "--date", "2023-10-16", "--out", "{tmp}/p"), ("model", "growth train")),
        (("train", "--as-of", "2031-01-01"), ("as_of", "2031-01-01")),
        (("train", "--as-of", "2023-01-20"), ("as_of", "2023-01-19")),
        (("promote", "answers", "3"), ("answers", "3")),
        (("rollback", "answers"), ("answers",)),
        (("serve", "--host", "0.0.0.0"), ("--host", "'0.0.0.0'", "GROWTH_TOKEN")),  # noqa: S104
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_a_command_refuses_and_writes_nothing(
    growth: Any, applied: Path, tmp_path: Path, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    refused(growth(*(word.format(tmp=tmp_path) for word in words), "--dir", applied), *told)
    assert files(tmp_path) == {}
    assert not (applied / "plans").exists()


@pytest.mark.parametrize(
    "words", [("doctor",), ("estimate", "x"), ("plan", "--date", "2023-10-16"), ("train",), ("serve",)]
)
def test_a_folder_that_is_no_workspace(growth: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = growth(*words, "--dir", tmp_path / "none")
    refused(ran, "--dir", tmp_path / "none", "growth init")
    assert list(tmp_path.iterdir()) == []


def test_in_a_process_of_its_own_it_is_the_same(growth: Any, tmp_path: Path) -> None:
    ran = growth.alone("doctor", "--dir", tmp_path)
    refused(ran, "--dir", tmp_path)
    assert ran.err.count("\n") == 1


def test_init_wants_a_folder_with_nothing_in_it(growth: Any, applied: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    before = files(applied)
    refused(growth("init", tmp_path), "DIR", tmp_path, "not empty")
    refused(growth("init", tmp_path / "mine.txt"), "DIR", "mine.txt")
    refused(growth("init", applied), "DIR", applied, "already")
    assert files(tmp_path) == {"mine.txt": 4}
    assert files(applied) == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("timezone = [", ("growth.toml", "parse")),
        ('timezone = "Mars/Olympus"\n', ("growth.toml", "timezone", "Mars/Olympus")),
        ('currency = "euros"\n', ("growth.toml", "currency", "euros")),
        ("seed = -1\n", ("growth.toml", "seed", "-1")),
        ("time_limit = 0\n", ("growth.toml", "time_limit", "0")),
        ("sede = 3\n", ("growth.toml", "sede", "3")),
    ],
)
def test_broken_settings(growth: Any, tmp_path: Path, text: str, told: tuple[str, ...]) -> None:
    (tmp_path / "growth.toml").write_text(text, encoding="utf-8")
    refused(growth("doctor", "--dir", tmp_path), *told)
    assert set(files(tmp_path)) == {"growth.toml"}


@pytest.fixture
def copy(applied: Path, tmp_path: Path) -> Path:
    """A workspace to break."""
    return Path(shutil.copytree(applied, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("column: town", "column: twon", ("catalog.yaml", "twon")),
        ("table: purchases", "table: purchasse", ("purchasse",)),
        ("club.duckdb", "absent.duckdb", ("catalog.yaml", "absent.duckdb")),
        ("role: amount", "role: amuont", ("catalog.yaml", "amuont")),
        ("type: decimal", "type: money", ("catalog.yaml", "type", "money")),
        ("Europe/Berlin", "Berlin", ("catalog.yaml", "timezone", "Berlin")),
        ("sources:", "sources: [", ("catalog.yaml", "line")),
    ],
)
def test_a_catalog_that_is_wrong(
    growth: Any, copy: Path, tmp_path: Path, old: str, new: str, told: tuple[str, ...]
) -> None:
    file = copy / "catalog.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    (tmp_path / "group.yaml").write_text(GOOD, encoding="utf-8")
    refused(growth("estimate", "-f", tmp_path / "group.yaml", "--dir", copy), *told)
    found = growth("doctor", "--dir", copy)
    assert found.code == 1
    assert "Traceback" not in found.err
    assert any(line.startswith("BAD  catalog") and told[-1] in line for line in found.out.splitlines())


LIMITS = "limits:\n  - {name: some, sum: cost, at_most: 5}\n"
ROWS = pl.DataFrame({"user": ["a", "b", "c"], "task": ["t"] * 3, "value": [1.0, 2, 3], "cost": [1.0] * 3})


@pytest.mark.parametrize(
    ("frame", "limits", "told"),
    [
        (None, LIMITS, ("c.parquet", "no such file")),
        (b"user,task,value\n", LIMITS, ("c.parquet", "not a Parquet file")),
        (ROWS.drop("value"), LIMITS, ("c.parquet", "value", "missing")),
        (ROWS.drop("cost"), LIMITS, ("some", "cost")),
        (ROWS.with_columns(value=pl.lit(float("nan"))), LIMITS, ("c.parquet", "value", "nan")),
        (ROWS.with_columns(cost=pl.lit(float("inf"))), LIMITS, ("cost", "inf")),
        (ROWS.with_columns(value=pl.lit("much")), LIMITS, ("value", "numbers")),
        (pl.concat([ROWS, ROWS]), LIMITS, ("c.parquet", "two rows")),
        (ROWS, "limits:\n  - {name: some, at_most: -1}\n", ("l.yaml", "at_most")),
        (ROWS, "limits: [\n", ("l.yaml", "line")),
        (ROWS, "limit: []\n", ("l.yaml", "limit")),
        (ROWS, "limits:\n  - {name: some, at_most: 1, where: {tasks: t}}\n", ("some", "tasks")),
        (ROWS, "per_user: {max_tasks: -1}\n", ("l.yaml", "per_user.max_tasks", "-1")),
    ],
)
def test_allocate_refuses_files_that_are_wrong(
    growth: Any, tmp_path: Path, frame: pl.DataFrame | bytes | None, limits: str, told: tuple[str, ...]
) -> None:
    if isinstance(frame, pl.DataFrame):
        frame.write_parquet(tmp_path / "c.parquet")
    elif frame is not None:
        (tmp_path / "c.parquet").write_bytes(frame)
    (tmp_path / "l.yaml").write_text(limits, encoding="utf-8")
    out = tmp_path / "out"
    refused(growth("allocate", tmp_path / "c.parquet", tmp_path / "l.yaml", "--out", out), *told)
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--time-limit", "0"), ("--time-limit", "-1"), ("--gap", "-1")]
)
def test_allocate_refuses_options_out_of_range(growth: Any, tmp_path: Path, option: str, value: str) -> None:
    ROWS.write_parquet(tmp_path / "c.parquet")
    (tmp_path / "l.yaml").write_text(LIMITS, encoding="utf-8")
    ran = growth("allocate", tmp_path / "c.parquet", tmp_path / "l.yaml", option, value, "--json")
    refused(ran, option.strip("-").replace("-", "_"), value)


def test_limits_that_cannot_hold_together_are_named_by_allocate(growth: Any, tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "c.parquet")
    (tmp_path / "l.yaml").write_text("limits:\n  - {name: many, at_least: 4}\n", encoding="utf-8")
    done = growth("allocate", tmp_path / "c.parquet", tmp_path / "l.yaml", "--json")
    refused(done, "l.yaml", "many", "cannot hold together")
    found = done.json
    assert (found["status"], found["conflicting"], found["chosen"]) == ("INFEASIBLE", ["many"], 0)


def test_a_plan_whose_limits_cannot_hold_together_is_not_made(
    growth: Any, planned_copy: Path, world: Any, tmp_path: Path
) -> None:
    (tmp_path / "limits.yaml").write_text(
        "kind: limits\nname: daily\nlimits:\n  - {name: everyone, at_least: 5000}\n", encoding="utf-8"
    )
    growth.well("apply", "-f", tmp_path / "limits.yaml", "--dir", planned_copy)
    before = files(planned_copy / "plans")
    refused(growth("plan", "--date", world.plan_date, "--dir", planned_copy), "limits", "everyone")
    assert files(planned_copy / "plans") == before


def test_a_plan_with_an_audience_of_nobody_is_not_made(
    growth: Any, planned_copy: Path, world: Any, tmp_path: Path
) -> None:
    goal = GOAL.replace("[frequent]", "[nobody]")
    (tmp_path / "goal.yaml").write_text(goal, encoding="utf-8")
    growth.well("apply", "-f", tmp_path / "goal.yaml", "--dir", planned_copy)
    before = files(planned_copy / "plans")
    refused(growth("plan", "--date", world.plan_date, "--dir", planned_copy), "group nobody", "no members")
    assert files(planned_copy / "plans") == before
