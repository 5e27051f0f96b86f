"""An activity and a real-time policy read against the holdout, with planted effects."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from engine.activity_increment import activity_readout
from engine.cli.main import app
from engine.subject_readout import ALL, read_policy
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound
from kernel.learning import Action, Decision
from models.api import Holdout, held_out
from planner.api import Activity
from realtime.records import encode_decision, encode_outcome
from realtime.rewards import Outcome
from storage.journal import FileJournalWriter

CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: user_id}}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
DEFINITIONS = """
{kind: holdout, name: untouched, share: 0.3}
---
kind: group
name: everyone
entity: user
where: {event: order, agg: count, within: 364d, op: ge, value: 1}
"""
ACTIVITY = {
    "kind": "activity",
    "name": "race",
    "goal": "grow",
    "audience": ["everyone"],
    "when": {"start": "2025-06-01T00:00:00Z", "end": "2025-06-15T00:00:00Z"},
    "metrics": [
        {"name": "orders", "event": "order"},
        {"name": "spent", "agg": "sum", "event": "order", "of": "amount"},
    ],
    "revenue": [{"metric": "spent", "margin": 0.5}],
}
USERS, START = 1500, datetime(2025, 6, 1, tzinfo=UTC)
END, NOW = START + timedelta(days=14), START + timedelta(days=40)
#: of who is not held out: money in the activity's time, reward of a decision
SPENT, EARNED = 8.0, 2.0
ACTIONS = (Action(id="none"), Action(id="coupon", cost=0.5))


def chosen(users: range) -> np.ndarray:
    told = pl.Series("user", [str(user) for user in users])
    return ~held_out(told, Holdout(name="untouched", share=0.3)).to_numpy()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root, rng = tmp_path_factory.mktemp("subjects") / "shop", np.random.default_rng(4)
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    pl.DataFrame({"user_id": range(USERS)}).write_parquet(root / "data" / "users.parquet")
    reached = chosen(range(USERS))
    spent = rng.gamma(2, 5, USERS) + SPENT * reached
    before, during = (START + timedelta(days=each) for each in (-30, 3))
    orders = {
        "user_id": [*range(USERS), *range(USERS)],
        "ordered_at": [before] * USERS + [during] * USERS,
        "total": [*rng.gamma(2, 5, USERS), *spent],
    }
    pl.DataFrame(orders).write_parquet(root / "data" / "orders.parquet")
    (root / "all.yaml").write_text(DEFINITIONS, encoding="utf-8")
    space = open_workspace(root, FixedClock(at=NOW))
    apply(space, root / "all.yaml", by="test")
    _journal(root, reached, rng)
    return space


def _journal(root: Path, reached: np.ndarray, rng: np.random.Generator) -> None:
    """Before the policy everybody got nothing; from June on whoever is not held out gets a coupon."""
    writer = FileJournalWriter(root / "var" / "journal", "w1")
    for number in range(2 * USERS):
        user, moment = number % USERS, "checkout" if number % 2 else "exit"
        at = START + timedelta(days=-1 if number < USERS else 1, seconds=number)
        by_policy = bool(number >= USERS and reached[user])
        action = ACTIONS[by_policy]
        decision = Decision(
            decision_id=f"d{number}", user_id=str(user), moment=moment, decided_at=at, context={},
            actions=("none", "coupon") if by_policy else ("none",),
            propensities=(0.5, 0.5) if by_policy else (1.0,),
            action=action.id, propensity=0.5 if by_policy else 1.0,
            policy="v1-squarecb@10" if by_policy else "default", prices={}, reason="",
        )  # fmt: skip
        writer.append(encode_decision(decision, ACTIONS if by_policy else ACTIONS[:1]))
        value = float(rng.gamma(2, 1)) + (EARNED + action.cost) * by_policy
        late = int((at + timedelta(hours=1)).timestamp() * 1e6)
        writer.append(encode_outcome(Outcome(f"d{number}", f"o{number}", "order", value, late, late)))
    writer.close()


def test_an_activity_is_read_in_money_first(space: Workspace) -> None:
    found = activity_readout(space, parse(Activity, ACTIVITY, "test"), START, END)
    lines = {each.metric: each for each in found.lines}
    assert list(lines) == ["revenue", "orders", "spent"]
    assert lines["revenue"].decides
    for metric, planted in (("revenue", SPENT / 2), ("spent", SPENT)):
        always = lines[metric].always
        assert always is not None
        assert always.low < planted < always.high
        assert lines[metric].finding == "better"
    assert lines["orders"].always is None or lines["orders"].finding != "better"
    assert not found.warnings or "split" not in found.warnings[0]


def test_a_policy_is_read_by_moment_from_its_first_decision_on(space: Workspace) -> None:
    found = read_policy(space, "v1-squarecb", within="14d", before=None)
    subjects = {each.lines[0].subject: each for each in found}
    assert list(subjects) == [ALL, "checkout", "exit"]
    for readout in found:
        reward = readout.lines[0]
        assert (reward.metric, reward.decides, reward.finding) == ("reward", True, "better")
        assert reward.always is not None
        assert reward.always.low < EARNED < reward.always.high
    whole = subjects[ALL].lines[0]
    # who came before the policy first decided in a moment is not in it
    assert USERS - 10 < whole.users + whole.users_holdout <= USERS
    assert whole.users == chosen(range(USERS)).sum()


def test_the_command_reads_each_and_refuses_two(space: Workspace, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        told = CliRunner().invoke(app, ["experiment", "read", *words, "--dir", str(space.root)])
        if told.exception is not None:
            raise told.exception
        return told.stdout

    out = tmp_path / "policy.parquet"
    policy = ("--policy", "v1-squarecb", "--within", "14d")
    told = json.loads(run(*policy, "--out", str(out), "--json"))
    assert (told["policy"], len(told["subjects"])) == ("v1-squarecb", 3)
    assert pl.read_parquet(out)["subject"].n_unique() == 3
    shown = run(*policy)
    for word in (ALL, "checkout", "exit", "decided", "reward", "better"):
        assert word in shown
    for words, said in (
        (("--policy", "v1-squarecb", "--rule", "r"), "give one of the NAME"),
        ((), "give one of the NAME"),
        (("--activity", "race", "--within", "7d"), "windows of its own"),
        (("--policy", "v1-squarecb", "--segment", "city"), "does not go with --policy"),
        (("--activity", "races"), "unknown activity"),
        (("--rule", "nudge"), "unknown rule"),
    ):
        with pytest.raises(BadInput, match=said):
            run(*words)
    with pytest.raises(NotFound, match="did you mean 'v1-squarecb'"):
        read_policy(space, "v1-squarcb")
