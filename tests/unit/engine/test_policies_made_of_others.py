"""Apprentice and sequential policies on a real journal: judged, kept, promoted, learned, served."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.learning import Learning
from engine.live import LivePolicy
from engine.policies import evaluate_policy, live_policy
from engine.policy_kinds import beginning, made_from
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Action, Decision
from realtime.api import Apprentice, Outcome, Promoted, Sequential, encode_decision, encode_outcome, placed
from storage.journal import FileJournalWriter

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
BEGIN = datetime(2017, 10, 16, tzinfo=UTC)
#: guidance brings nothing now and an order two steps on; a coupon brings a little, and spoils that
ACTIONS = (Action(id="coupon"), Action(id="guide"))
RULE = {"kind": "fixed", "action": "guide"}


def quiet(_text: str) -> None: ...


def write(
    root: Path, count: int, *, policy: str = "uniform", sessions: bool = True, uniform: bool = True
) -> None:
    """Sessions of two decisions, by a uniform policy, or by a rule that always guides."""
    rng, writer, guided = np.random.default_rng(4), FileJournalWriter(root / "var" / "journal", "w1"), False
    for number in range(count):
        step = number % 2
        guided = guided and step == 1
        context = {"city": f"c{rng.integers(3)}", "guided": guided}
        chosen = int(rng.integers(2)) if uniform else 1
        at = BEGIN + timedelta(minutes=number)
        decision = Decision(
            decision_id=f"d{number}",
            user_id="u",
            moment="guidance",
            decided_at=at,
            context=placed(context, stage="guidance", step=step) if sessions else context,
            actions=("coupon", "guide"),
            propensities=(0.5, 0.5) if uniform else (0.0, 1.0),
            action=ACTIONS[chosen].id,
            propensity=0.5 if uniform else 1.0,
            policy=policy,
            prices={},
            reason="",
        )
        name = f"s{number // 2}" if sessions else None
        writer.append(encode_decision(decision, ACTIONS, session_id=name))
        brought = 0.3 * (chosen == 0 and step == 0) + 1.0 * (guided and rng.random() < 0.9)
        if brought:
            then = int((at + timedelta(seconds=20)).timestamp() * 1e6)
            writer.append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", brought, then, then)))
        guided = step == 0 and chosen == 1
    writer.close()


def shop(folder: Path, count: int, **log: Any) -> Workspace:
    init_workspace(folder)
    write(folder, count, **log)
    return open_workspace(folder)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return shop(tmp_path_factory.mktemp("uniform") / "shop", 3000)


@pytest.fixture
def learned() -> Callable[[Workspace], LivePolicy]:
    """What deciders have when the learner has caught up."""

    def catch_up(space: Workspace) -> LivePolicy:
        learning = Learning(space)
        while learning.round():
            pass
        learning.close()
        live = LivePolicy(space.snapshots)
        live.refresh()
        return live

    return catch_up


def first(policy: Any) -> float:
    """P(guide) at a session's first decision."""
    return float(
        policy.distribution(placed({"city": "c1", "guided": False}, stage="guidance", step=0), ACTIONS)[1]
    )


def test_the_sequential_is_credited_with_what_comes_later_and_the_myopic_is_not(
    uniform: Workspace, learned: Callable[[Workspace], LivePolicy]
) -> None:
    found = evaluate_policy(uniform, "sequential", quiet, parameters={"base.epsilon": 0.1})
    assert found["promote"], found["reason"]
    assert found["decisions_judged"] == 500  # one of each session that judges
    myopic = evaluate_policy(uniform, "squarecb", quiet, parameters={"epsilon": 0.1})
    uniform.registry.promote("policy", found["version"])
    judged, _version = live_policy(uniform) or pytest.fail("no champion")
    assert judged.name == f"v{found['version']}-sequential-squarecb@2000"
    assert first(judged) > 0.8
    live = learned(uniform)
    assert live.current().name == f"v{found['version']}-sequential-squarecb@3000"
    assert first(live.current()) > 0.8
    uniform.registry.promote("policy", myopic["version"], force=True)
    assert first((live_policy(uniform) or pytest.fail("no champion"))[0]) < 0.2
    assert first(learned(uniform).current()) < 0.2


def test_before_its_first_lesson_a_sequential_foresees_already(uniform: Workspace) -> None:
    found = evaluate_policy(uniform, "sequential", quiet)
    made_by, state, version = uniform.registry.policy(found["version"]) or pytest.fail("none")
    fresh = beginning(made_by, version.version, state)
    assert fresh.name.endswith("sequential-squarecb@0")
    assert isinstance(fresh, Promoted)
    assert isinstance(fresh.policy, Sequential)
    context = placed({"city": "c1", "guided": False}, stage="guidance", step=0)
    coupon, guide = fresh.policy.credited(context, ACTIONS)
    assert guide.value - coupon.value == pytest.approx(0.9, abs=0.2)
    with pytest.raises(Unavailable, match="not that of"):
        beginning(made_by, 1, state[:-1000:-1])


def test_an_apprentice_of_the_champion_may_be_promoted_and_goes_live_when_it_agrees(
    tmp_path: Path, learned: Callable[[Workspace], LivePolicy]
) -> None:
    space = shop(tmp_path / "shop", 400, policy="fixed@guide", sessions=False, uniform=False)
    told = {"rule": "fixed", "rule.action": "guide", "window": 300, "live_at": 0.9}
    refused = evaluate_policy(space, "apprentice", quiet, parameters=told)
    assert not refused["promote"]  # nobody said that the rule is live
    rule = evaluate_policy(space, "fixed", quiet, parameters={"action": "guide"})
    space.registry.promote("policy", rule["version"], force=True)
    found = evaluate_policy(space, "apprentice", quiet, parameters=told)
    assert found["promote"], found["reason"]
    assert "until it agrees with it in 90% of 300 decisions" in found["reason"]
    assert found["agreement"]["decisions"] == 266
    assert found["agreement"]["share"] > 0.9
    other = evaluate_policy(space, "apprentice", quiet, parameters={**told, "rule.action": "coupon"})
    assert not other["promote"]

    space.registry.promote("policy", found["version"])
    judged, _version = live_policy(space) or pytest.fail("no champion")
    assert judged.name == f"v{found['version']}-apprentice@0"
    assert judged.distribution({"city": "c1"}, ACTIONS) == (0.0, 1.0)
    served = learned(space).current()
    assert served.name.startswith(f"v{found['version']}-apprentice@live-squarecb@")
    coupon, guide = served.distribution({"city": "c1", "guided": False}, ACTIONS)
    assert guide > 0.8
    assert coupon > 0.0  # it explores now


def test_one_that_has_not_seen_enough_lets_the_rule_decide(
    tmp_path: Path, learned: Callable[[Workspace], LivePolicy]
) -> None:
    space = shop(tmp_path / "shop", 200, policy="fixed@guide", sessions=False, uniform=False)
    told = {"rule": "fixed", "rule.action": "guide", "window": 300}
    found = evaluate_policy(space, "apprentice", quiet, parameters=told)
    space.registry.promote("policy", found["version"], force=True)
    served = learned(space).current()
    assert served.name == f"v{found['version']}-apprentice@200"
    assert served.distribution({"city": "c1"}, ACTIONS) == (0.0, 1.0)


def test_the_command_tells_the_agreement(uniform: Workspace) -> None:
    words = ["evaluate", "--dir", str(uniform.root), "--policy", "apprentice", "--with", "rule=greedy"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "it agrees with its rule in" in told.output


@pytest.mark.parametrize(
    ("kind", "told", "words"),
    [
        ("apprentice", {}, "needs the rule"),
        ("apprentice", {"rule": "squarecb"}, "unknown policy"),
        ("apprentice", {"rule": "fixed"}, "does not fit fixed"),
        ("apprentice", {"rule": "greedy", "live_at": 2.0}, "live_at"),
        ("apprentice", {"rule": "greedy", "live": 2.0}, "does not fit apprentice"),
        ("apprentice", {"rule": "greedy", "learner": "none"}, "unknown policy"),
        ("apprentice", {"rule": "greedy", "window": "many"}, "does not fit apprentice"),
        ("sequential", {"base": "apprentice"}, "unknown policy"),
        ("sequential", {"base.colour": 1}, "does not fit squarecb"),
        ("sequential", {"colour": 1}, "does not fit sequential"),
        ("sequential", {"explore": "much"}, "is not a number"),
        ("sequential", {"explore": 7}, "explore"),
    ],
)
def test_parts_of_nonsense_are_one_sentence(
    uniform: Workspace, kind: str, told: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        evaluate_policy(uniform, kind, quiet, parameters=told)


def test_too_few_sessions_are_refused_and_kinds_are_known_by_name(tmp_path: Path) -> None:
    space = shop(tmp_path / "shop", 150)
    with pytest.raises(BadInput, match="sessions"):
        evaluate_policy(space, "sequential", quiet)
    with pytest.raises(NotFound, match="did you mean 'apprentice'"):
        made_from({"kind": "aprentice"})
    assert isinstance(made_from({"kind": "apprentice", "rule": "greedy"}), Apprentice)
