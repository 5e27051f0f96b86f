"""Policies judged on a real journal, kept in a real MLflow, promoted through the gate, rolled back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.learning import publish_live
from engine.live import LivePolicy
from engine.policies import evaluate_policy, live_policy, rewarded
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput, NotFound
from kernel.learning import Action, Decision
from realtime.records import encode_decision, encode_outcome
from realtime.rewards import Outcome
from storage.journal import FileJournalWriter

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
BEGIN = datetime(2017, 10, 16, tzinfo=UTC)
ACTIONS = (Action(id="a"), Action(id="b", cost=0.1))


def quiet(_text: str) -> None: ...


def write(root: Path, count: int) -> None:
    """A uniform log in which `a` suits new users and `b` the others; each second choice that suits pays 1."""
    rng = np.random.default_rng(4)
    writer = FileJournalWriter(root / "var" / "journal", "w1")
    for number in range(count):
        new, chosen = bool(rng.integers(2)), int(rng.integers(2))
        at = BEGIN + timedelta(minutes=number)
        decision = Decision(
            decision_id=f"d{number}",
            user_id="u",
            moment="guidance",
            decided_at=at,
            context={"new": new},
            actions=("a", "b"),
            propensities=(0.5, 0.5),
            action=ACTIONS[chosen].id,
            propensity=0.5,
            policy="uniform",
            prices={},
            reason="",
        )
        writer.append(encode_decision(decision, ACTIONS, session_id=f"s{number // 3}"))
        if (chosen == 0) == new and rng.random() < 0.5:
            micros = int((at + timedelta(minutes=1)).timestamp() * 1e6)
            writer.append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", 1.0, micros, micros)))
    writer.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("space") / "shop"
    init_workspace(root)
    write(root, 1500)
    return open_workspace(root)


def test_the_log_gives_every_decision_with_its_reward(space: Workspace) -> None:
    rows = rewarded(space)
    assert [decision.decision_id for decision, *_ in rows] == [f"d{number}" for number in range(1500)]
    assert {round(reward, 6) for _decision, _actions, reward in rows} == {0.0, 1.0, -0.1, 0.9}


def test_better_policies_pass_the_gate_worse_do_not_and_one_call_rolls_back(space: Workspace) -> None:
    found = evaluate_policy(space, "squarecb", quiet)
    assert found["promote"], found["reason"]
    assert (found["decisions_learned"], found["decisions_judged"]) == (1000, 500)
    assert found["challenger"]["dr"]["low"] > found["champion"]["dr"]["mean"]
    refused = evaluate_policy(space, "uniform", quiet)
    assert not refused["promote"]
    assert live_policy(space) is None

    registry = space.registry
    with pytest.raises(BadInput, match="refused by the gate"):
        registry.promote("policy", refused["version"])
    registry.promote("policy", found["version"])
    policy, version = live_policy(space) or pytest.fail("no champion")
    assert (version.version, version.alias, policy.name) == (
        found["version"],
        "champion",
        f"v{found['version']}-squarecb@1000",
    )
    assert policy.distribution({"new": True}, ACTIONS)[0] > 0.8
    registry.promote("policy", refused["version"], force=True)
    policy, _version = live_policy(space) or pytest.fail("no champion")
    assert policy.name == f"v{refused['version']}-uniform"
    assert registry.rollback("policy").version == found["version"]
    policy, _version = live_policy(space) or pytest.fail("no champion")
    assert policy.name == f"v{found['version']}-squarecb@1000"
    assert registry.names() == []  # no policy is taken for a model that predicts

    run = mlflow.MlflowClient(registry.uri).get_run(found["run_id"])
    assert run.data.metrics["dr"] == pytest.approx(found["challenger"]["dr"]["mean"])
    assert run.data.metrics["champion_dr_high"] == pytest.approx(found["champion"]["dr"]["high"])
    listed = {each.path for each in mlflow.MlflowClient(registry.uri).list_artifacts(found["run_id"])}
    assert listed >= {"estimates.png", "weights.png", "policy"}


def test_the_server_decides_with_the_champion(space: Workspace) -> None:
    found = evaluate_policy(space, "squarecb", quiet)
    space.registry.promote("policy", found["version"])
    publish_live(space)
    live = LivePolicy(space.snapshots)
    assert live.current().name == "squarecb@0"
    live.refresh()
    served = live.current()
    assert served.name == f"v{found['version']}-squarecb@1000"
    assert served.distribution({"new": True}, ACTIONS)[0] > 0.8


def test_through_the_command(space: Workspace) -> None:
    words = ["evaluate", "--dir", str(space.root), "--policy", "fixed", "--with", "action=b"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "refused" in told.output
    assert "snips" in told.output


@pytest.mark.parametrize(
    "wrong",
    [["--with", "action"], ["--with", "colour=red"], [], ["--with", "action=a", "--as-of", "2017-10-16"]],
)
def test_parameters_of_nonsense_are_one_sentence(space: Workspace, wrong: list[str]) -> None:
    told = CliRunner().invoke(app, ["evaluate", "--dir", str(space.root), "--policy", "fixed", *wrong])
    assert isinstance(told.exception, BadInput)
    assert "--with" in str(told.exception) or "--as-of" in str(told.exception)


def test_parameters_make_the_policy_again(space: Workspace) -> None:
    found = evaluate_policy(space, "squarecb", quiet, parameters={"epsilon": 0.2, "bits": 12})
    space.registry.promote("policy", found["version"], force=True)
    policy, _version = live_policy(space) or pytest.fail("no champion")
    assert min(policy.distribution({"new": True}, ACTIONS)) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_of_nonsense_is_refused(space: Workspace, share: float) -> None:
    with pytest.raises(BadInput, match="learn-share"):
        evaluate_policy(space, "uniform", quiet, learn_share=share)


def test_an_unknown_kind_and_an_empty_log_are_refused(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'squarecb'"):
        evaluate_policy(space, "squarebc", quiet)
    init_workspace(tmp_path / "new")
    with pytest.raises(BadInput, match="too few"):
        evaluate_policy(open_workspace(tmp_path / "new"), "uniform", quiet)
