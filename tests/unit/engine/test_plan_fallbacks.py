"""What a plan does without: events that are late, models that fail; and what stands when it is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from sqlalchemy import text

from benchmarks.plan_world import DAY, keep_model, lay_out
from engine.cycle import Made, plan
from engine.late_data import late_events, wait_for_events
from engine.plan_questions import PlanQuestions
from engine.planning import plan_recorded, standing
from engine.replan import Again
from engine.usecases import apply
from engine.wiring import Workspace
from kernel.errors import BadInput, GrowthError, NotFound

NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    opened = lay_out(tmp_path_factory.mktemp("plans") / "shop", 40)
    yield opened
    opened.database.dispose()


def define(space: Workspace, **said: Any) -> None:
    file = space.root / "said.yaml"
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    apply(space, file, by="tests")


def rhythm(space: Workspace, **said: Any) -> None:
    define(space, kind="planning", name="nightly", **said)


def note(space: Workspace, cost: float) -> None:
    said = {"channel": "inbox", "cost_per_touch": cost, "capacity": 40, "reach": 0.4}
    define(space, kind="touchpoint", name="note", **said)


def made(space: Workspace, again: Again | None = None) -> Made:
    return plan(space, DAY, None, lambda _: None, again=again)


def frames(made: Made, name: str) -> pl.DataFrame:
    return pl.read_parquet(made.folder / f"{name}.parquet")


def test_a_model_that_fails_gives_way(space: Workspace) -> None:

    assert "warnings" not in made(space).summary
    gone = keep_model(space, "turnover", scale=2.0)
    before = set((space.root / "var" / "artifacts").rglob("python_model.pkl"))
    broken = keep_model(space, "turnover", scale=float("nan"))
    assert set((space.root / "var" / "artifacts").rglob("python_model.pkl")) > before
    for path in sorted(before, key=lambda each: each.stat().st_mtime_ns)[-1:]:
        shutil.rmtree(path.parent)
    found = made(space)
    (said,) = found.summary["warnings"]
    assert f"version {broken} of model turnover fails" in said
    assert f"version {gone} of model turnover fails" in said
    assert said.endswith("version 1 stands in")
    assert [each["version"] for each in found.summary["models"] if each["name"] == "turnover"] == [1]
    assert not made(space).new
    rhythm(space, model_failure="average")
    found = made(space)
    assert found.summary["warnings"][0].endswith("everyone gets their usual spend")
    assert "turnover" not in [each["name"] for each in found.summary["models"]]
    rhythm(space, model_failure="fail")
    with pytest.raises(GrowthError, match="model_failure: fail"):
        made(space)
    rhythm(space)
    keep_model(space, "turnover", scale=3.0)
    assert "warnings" not in made(space).summary


def test_what_has_gone_out_stands_and_the_rest_is_decided_around_it(space: Workspace) -> None:
    first = made(space)
    touches = frames(first, "touches")
    sent, confirmed = touches["touch_id"][:4].to_list(), touches["touch_id"][4:7].to_list()
    with space.database.begin() as connection:
        for each in sent:
            words = text("UPDATE outbox_touches SET state = 'accepted' WHERE touch_id = :id")
            connection.execute(words, {"id": each})
    space.ledger.confirm([*confirmed, *sent])
    out = touches.filter(pl.col("touch_id").is_in([*sent, *confirmed]))
    rows = frames(first, "assignments").join(out, on=["user", "task"], how="semi", maintain_order="left")
    define(space, kind="limits", name="daily", per_user={"max_tasks": 1},
           limits=[{"name": "money", "sum": "cost", "at_most": 6}])  # fmt: skip
    found = made(space, Again())
    assert found.summary["version"] == first.summary["version"] + 1
    told = found.summary["replanned"]
    assert (told["out"], told["kept"], told["overspent"]) == (7, 7, [])
    anew, again = frames(found, "assignments"), frames(found, "touches")
    kept = anew.join(out, on=["user", "task"], how="semi", maintain_order="left")
    assert kept.equals(rows.select(kept.columns))
    assert again.join(out, on="touch_id", how="semi").sort("touch_id").equals(out.sort("touch_id"))
    assert anew["user"].is_unique().all()
    (money,) = [each for each in found.summary["allocation"]["limits"] if each["name"] == "money"]
    assert money["at_most"] == 6
    assert money["used"] == pytest.approx(anew["cost"].sum())
    assert money["used"] <= 6 + 1e-9
    assert anew.height > 7
    # nobody has two in the outbox or the ledger
    states = pl.DataFrame(space.outbox.outcomes(DAY.isoformat()))
    alive = states.filter(pl.col("state") != "cancelled")
    assert set(alive["touch_id"]) == set(again["touch_id"])
    assert alive["user_id"].is_unique().all()
    assert {each["state"] for each in space.outbox.tasks(DAY.isoformat())} == {"running"}
    assert set(alive.filter(pl.col("state") == "accepted")["touch_id"]) == set(sent)
    # the version before lies beside, and can be compared with
    questions, before = PlanQuestions(space), first.summary["version"]
    assert questions.folder(DAY, before).name == f"{DAY}.v{before}"
    difference = questions.difference(DAY, DAY, before, before + 1)
    assert difference["totals"]["cost"]["after"] == pytest.approx(anew["cost"].sum())
    assert not made(space).new
    assert made(space).summary["version"] == before + 1


def test_only_a_part_is_decided_anew(space: Workspace) -> None:
    stands = frames(made(space), "assignments")
    task = stands.group_by("task").len().sort("len", "task")["task"][-1]
    define(space, kind="benefit", name="greeting", cost_per_response=0.3, response=0.01,
           goals=["grow", "keep"], touchpoints=["letter", "note"])  # fmt: skip
    found = made(space, Again.of(f"task={task}"))
    assert found.summary["replanned"]["only"] == f"task={task}"
    others = pl.col("task") != task
    now = frames(found, "assignments")
    kept = stands.filter(others)
    assert now.filter(others).select("user", "task", "value").equals(kept.select("user", "task", "value"))
    assert now["user"].is_unique().all()
    with pytest.raises(NotFound, match="--only"):
        made(space, Again.of("task=nothing"))
    with pytest.raises(BadInput, match="--only"):
        Again.of("colour=red")
    assert {each["state"] for each in space.outbox.tasks(DAY.isoformat())} == {"running"}
    with pytest.raises(NotFound, match="date"):
        plan(space, DAY - timedelta(days=1), None, lambda _: None, again=Again())


def test_a_plan_that_is_anew_what_an_older_version_was_is_a_version_of_its_own(space: Workspace) -> None:
    found = []
    for cost in (0.02, 0.01, 0.02):
        note(space, cost)
        found.append(made(space).summary)
    first = found[0]["version"]
    assert [each["version"] for each in found] == [first, first + 1, first + 2]
    assert found[2]["asked"] == found[0]["inputs"]
    assert found[2]["totals"] == found[0]["totals"]
    assert not made(space).new
    entry = space.plans.find(DAY)
    assert entry is not None
    assert (entry.version, entry.inputs) == (first + 2, found[2]["inputs"])


def test_definitions_that_change_meanwhile_begin_it_anew(space: Workspace) -> None:
    changes = iter([0.03])

    def told(step: str) -> None:
        if step == "candidates" and (cost := next(changes, None)) is not None:
            note(space, cost)

    keep_model(space, "leaving", scale=2.0)
    found = plan(space, DAY, None, told)
    rows = frames(found, "candidates").filter(pl.col("touchpoint") == "note")
    assert rows["cost"].min() >= 0.03
    assert not Path(space.root / "var" / "plans" / DAY.isoformat()).exists()


def test_late_events_are_waited_for_then_said_and_touches_held(space: Workspace) -> None:
    assert late_events(space, DAY) == ()
    (late,) = late_events(space, NEXT)
    assert "event order is late" in late
    rhythm(space, fresh={"order": "3d"})
    assert late_events(space, NEXT) == ()
    rhythm(space, wait="2h", late_data="hold")
    waits = list[float]()

    def pause(seconds: float) -> None:
        waits.append(seconds)
        rhythm(space, wait="2h", late_data="hold", fresh={"order": "3d"})

    assert wait_for_events(space, NEXT, lambda _: None, patient=False, pause=pause) == (late,)
    assert wait_for_events(space, NEXT, lambda _: None, patient=True, pause=pause) == ()
    assert waits == [30.0]
    with pytest.raises(NotFound, match="fresh"):
        rhythm(space, fresh={"ordr": "3d"})
    rhythm(space, late_data="hold")
    found = plan_recorded(space, NEXT, None, lambda _: None, "command")
    assert found.summary["warnings"] == [late]
    assert late in (found.folder / "report.html").read_text(encoding="utf-8")
    told = standing(space, NEXT)
    assert (told["state"], told["making"], told["warnings"]) == ("held", False, [late])
    assert [each["step"] for each in told["runs"][0]["steps"]][-1] == "publication"
    assert space.outbox.tasks(NEXT.isoformat()) == []
    rhythm(space)
    assert standing(space, NEXT)["state"] == "held"
