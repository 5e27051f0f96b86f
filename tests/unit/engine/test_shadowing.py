"""The learner's process shadows the challenger off the real journal, and tells how policies stand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.http.app import create_app
from engine.learning import Learning
from engine.policies import evaluate_policy
from engine.serve import services
from engine.shadowing import Shadowing, standing
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.learning import Action, Decision
from realtime.api import Join, Learned, Uniform, encode_decision, encode_outcome
from realtime.records import micros
from realtime.rewards import Outcome
from storage.journal import FileJournalReader, FileJournalWriter

with warnings.catch_warnings():  # it would rather have a newer client than the one we pin
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
BEGIN = datetime(2017, 10, 16, tzinfo=UTC)
ACTIONS = (Action(id="a"), Action(id="b"))


def quiet(_text: str) -> None: ...


def write(root: Path, numbers: range) -> None:
    """A uniform log in which `b` pays 1 and `a` nothing."""
    rng, writer = np.random.default_rng(numbers.start), FileJournalWriter(root / "var" / "journal", "w1")
    for number in numbers:
        at, chosen = BEGIN + timedelta(minutes=number), int(rng.integers(2))
        decision = Decision(
            decision_id=f"d{number}", user_id="u", moment="guidance", decided_at=at,
            context={"n": number % 3}, actions=("a", "b"), propensities=(0.5, 0.5),
            action=ACTIONS[chosen].id, propensity=0.5, policy="uniform", prices={}, reason="",
        )  # fmt: skip
        writer.append(encode_decision(decision, ACTIONS))
        if chosen:
            then = micros(at, "at") + 1_000_000
            writer.append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", 1.0, then, then)))
    writer.close()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A challenger was judged on 300 decisions, and 240 came since; nobody has learned yet."""
    root = tmp_path_factory.mktemp("shadowed") / "shop"
    init_workspace(root)
    write(root, range(300))
    evaluate_policy(open_workspace(root), "fixed", quiet, parameters={"action": "b"})
    write(root, range(300, 540))
    return root


@pytest.fixture
def space(judged: Path) -> Iterator[Workspace]:
    space = open_workspace(judged)
    yield space
    for each in (judged / "var" / "snapshots").glob("*.snapshot"):
        each.unlink()


def rounds(space: Workspace, shadowing: Shadowing, count: int) -> None:
    """So many of the learner's, which tells all that is final in each of them."""
    for _ in range(count):
        for joined in Join(FileJournalReader(space.journal)).final(micros(space.clock.now(), "now"), 10_000):
            shadowing.saw(joined)
        shadowing.round(Uniform(), Learned(until=micros(space.clock.now(), "now")))


def test_the_learner_shadows_it_and_tells_over_http_and_by_the_command(space: Workspace) -> None:
    assert standing(space.snapshots)["live"] is None
    learning = Learning(space)
    learning.round()
    learning.close()
    found = standing(space.snapshots)
    assert found["live"]["policy"] == "squarecb@540"
    assert found["live"]["version"] is None
    assert (found["shadow"]["version"], found["shadow"]["policy"]) == (1, "fixed@b")
    assert (found["shadow"]["decisions"], found["shadow"]["judged"]) == (100, 100)
    assert found["shadow"]["distance"] == 0.5
    assert found["shadow"]["value"]["mean"] == 1.0
    assert found["shadow"]["live_value"]["mean"] == pytest.approx(0.5, abs=0.2)
    with TestClient(create_app(services(space))) as client:
        answer = client.get("/v1/policies")
    assert answer.status_code == 200
    assert answer.json()["shadow"] == {**found["shadow"], "since": answer.json()["shadow"]["since"]}
    assert answer.json()["trouble"] == ""
    told = CliRunner().invoke(app, ["policies", "--dir", str(space.root)])
    assert told.exit_code == 0, told.output
    for words in ("squarecb@540: 540 lessons", "v1 fixed@b", "agrees in", "would earn 1.0000", "of its own"):
        assert words in told.output
    as_json = CliRunner().invoke(app, ["policies", "--dir", str(space.root), "--json"])
    assert json.loads(as_json.output) == found


def test_a_restart_goes_on_and_counts_nothing_twice(space: Workspace) -> None:
    first = Shadowing(space, sample=10_000, pace=0, every=0)
    first.look()
    rounds(space, first, 1)
    before = standing(space.snapshots)["shadow"]
    assert (before["decisions"], before["judged"]) == (240, 240)
    again = Shadowing(space, sample=10_000, pace=0, every=0)
    again.look()
    rounds(space, again, 2)
    assert standing(space.snapshots)["shadow"] == before


def test_nothing_new_is_not_published_again(space: Workspace) -> None:
    shadowing = Shadowing(space, pace=0, every=0)
    shadowing.look()
    rounds(space, shadowing, 4)
    number, _ = space.snapshots.newest("policies") or pytest.fail("none")
    rounds(space, shadowing, 3)
    assert space.snapshots.newest("policies", number) is None


def test_a_challenger_that_cannot_be_made_stops_nobody_and_is_looked_for_again(space: Workspace) -> None:
    (made_by,) = (space.root / space.settings.artifacts).rglob("made_by.json")
    as_it_was = made_by.read_text()
    made_by.write_text('{"kind": "x"}')
    try:
        learning = Learning(space)
        assert learning.round() == 540
        learning.close()
        found = standing(space.snapshots)
        assert found["shadow"] is None
        assert "unknown policy" in found["trouble"]
        told = CliRunner().invoke(app, ["policies", "--dir", str(space.root)])
        assert "shadow     none: --policy = 'x': unknown policy" in told.output
        made_by.write_text('{"kind": "fixed", "action": "a"}')  # not what the state is of
        shadowing = Shadowing(space, pace=0, every=0)
        shadowing.look()
        rounds(space, shadowing, 1)
        assert "saved state is not that of" in standing(space.snapshots)["trouble"]
        made_by.write_text(as_it_was)
        shadowing.look()
        rounds(space, shadowing, 1)
        assert standing(space.snapshots)["trouble"] == ""
        assert standing(space.snapshots)["shadow"]["decisions"] == 100
    finally:
        made_by.write_text(as_it_was)


def test_one_that_breaks_while_it_is_asked_stops_nobody(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("deep inside")

    learning = Learning(space)
    monkeypatch.setattr("realtime.shadowing.shadow", broken)
    assert learning.round() == 540
    learning.close()
    found = standing(space.snapshots)
    assert (found["shadow"], found["trouble"]) == (None, "RuntimeError")
    assert found["live"]["lessons"] == 540


def test_the_agreement_of_a_live_apprentice_is_told_and_a_champion_has_no_shadow(space: Workspace) -> None:
    found = evaluate_policy(space, "apprentice", quiet, parameters={"rule": "fixed", "rule.action": "b"})
    space.registry.promote("policy", found["version"], force=True)
    learning = Learning(space)
    learning.round()
    learning.close()
    told = standing(space.snapshots)
    assert told["shadow"] is None
    assert told["live"]["policy"] == f"v{found['version']}-apprentice@540"
    assert told["apprentice"] == {
        "rule": "fixed@b", "share": pytest.approx(0.98, abs=0.02), "decisions": 540, "live": False,
        "live_at": 0.8, "window": 1000,
    }  # fmt: skip
    shown = CliRunner().invoke(app, ["policies", "--dir", str(space.root)]).output
    assert "apprentice watches: agrees with fixed@b in 9" in shown


def test_before_anything_was_learned_there_is_nothing_to_show(tmp_path: Path) -> None:
    init_workspace(tmp_path / "new")
    shown = CliRunner().invoke(app, ["policies", "--dir", str(tmp_path / "new")])
    assert (shown.exit_code, "nothing was learned yet" in shown.output) == (0, True)
