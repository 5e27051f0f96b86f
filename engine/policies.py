"""Policies off the log: judged on what was decided, kept in MLflow, promoted through the gate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from inspect import signature
from types import MappingProxyType
from typing import Any

from engine.day import Progress
from engine.wiring import Workspace
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint
from kernel.learning import Action, Decision, ModelVersion
from models.api import POLICY, PolicyEvidence, ValueToGo, fit_value_to_go
from realtime.api import (
    ESTIMATORS,
    NO_POLICY,
    POLICIES,
    Join,
    Learner,
    MomentDefinition,
    OffPolicy,
    Promoted,
    RewardRule,
    Verdict,
    as_logged,
    judge,
    micros,
    replay,
    rewards,
    scores,
    sessions_of,
)
from storage.journal import FileJournalReader

#: the earlier part of the log teaches, the later part judges
LEARN_SHARE = 2 / 3

#: a decision, its actions in full, and its reward in major units
Row = tuple[Decision, Sequence[Action], float]


def evaluate_policy(
    space: Workspace,
    kind: str,
    step: Progress,
    *,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    learn_share: float = LEARN_SHARE,
) -> dict[str, Any]:
    """Learns the policy anew on the earlier decisions, judges it on the later ones against what was
    live, and keeps it with its evidence as the challenger.

    What it learned from never judges it. Raises NotFound for an unknown kind, and BadInput when too few
    decisions have their reward yet.
    """
    policy = made_from({**parameters, "kind": kind})
    if not 0 < learn_share < 1:
        raise BadInput("is not between 0 and 1", field="--learn-share", value=learn_share)
    step("reading decisions")
    rows = [row for row in rewarded(space) if row[0].policy != NO_POLICY]
    first = int(len(rows) * learn_share)
    earlier, later = rows[:first], rows[first:]
    if len(later) < 2:
        raise BadInput(
            "is too few: decisions count when their reward is final", where="log", field="decisions",
            value=len(rows),
        )  # fmt: skip
    step(f"learning from {len(earlier):,} decisions")
    _teach(policy, earlier)
    step(f"judging on {len(later):,} decisions")
    challenger, live = replay(later, policy), as_logged(later)
    verdict = judge(challenger, live)
    weights = scores(challenger).weights.tolist()
    made_by = {**parameters, "kind": kind}
    version = space.registry.record_policy(_evidence(made_by, policy, verdict, rows, len(earlier), weights))
    return _told(verdict, version, len(earlier))


def rewarded(space: Workspace) -> list[Row]:
    """Every decision in the journals whose reward is final now, in the order in which they became so."""
    return [(decision, actions, reward) for _session, decision, actions, reward in _joined(space)]


def future_worth(space: Workspace, seed: int) -> ValueToGo:
    """Value-to-go from every logged session whose rewards are final: what `Sequential` takes. Raises
    BadInput when there are too few."""
    return fit_value_to_go(sessions_of(_joined(space)), seed=seed)


def _joined(space: Workspace) -> list[tuple[str | None, Decision, Sequence[Action], float]]:
    join = Join(FileJournalReader(space.journal), rules=reward_rules(space))
    found = join.final(micros(space.clock.now(), "now"), sys.maxsize)
    return [
        (each.choice.rest["session_id"], each.choice.decision, each.actions, each.reward) for each in found
    ]


def reward_rules(space: Workspace) -> Mapping[str, RewardRule]:
    """Moment → its rule, of those in force."""
    return rewards(
        [parse(RewardRule, each.body, f"reward {each.name}") for each in space.store.current("reward")],
        [parse(MomentDefinition, each.body, f"moment {each.name}") for each in space.store.current("moment")],
    )


def live_policy(space: Workspace) -> tuple[Learner, ModelVersion] | None:
    """The champion as it was when it was judged, named by its version; None when none was ever promoted.
    What it has learned since is in the snapshots and states under that name."""
    found = space.registry.policy()
    if found is None:
        return None
    made_by, state, version = found
    policy = made_from(made_by)
    policy.restore(state)
    return Promoted(policy, version.version), version


def made_from(made_by: Mapping[str, Any]) -> Learner:
    """A fresh policy. Raises NotFound for an unknown kind, BadInput for parameters that it does not take."""
    kind = made_by["kind"]
    if kind not in POLICIES:
        raise NotFound("policy", kind, POLICIES, field="--policy")
    told = {name: value for name, value in made_by.items() if name != "kind"}
    try:
        signature(POLICIES[kind]).bind(**told)
    except TypeError as error:
        raise BadInput(f"does not fit {kind}: {error}", field="--with", value=told or None) from None
    try:
        return POLICIES[kind](**told)
    except (TypeError, ValueError) as error:
        raise BadInput(f"does not fit {kind}: {error}", field="--with", value=told) from None


def _teach(policy: Learner, rows: Sequence[Row]) -> None:
    for decision, actions, reward in rows:
        policy.learn(
            decision.context, actions, decision.actions.index(decision.action), decision.propensity, reward
        )


def _evidence(
    made_by: Mapping[str, Any],
    policy: Learner,
    verdict: Verdict,
    rows: Sequence[Row],
    learned: int,
    weights: list[float],
) -> PolicyEvidence:
    ours, theirs = verdict.challenger, verdict.champion
    as_of: datetime = max(decision.decided_at for decision, _actions, _reward in rows)
    return PolicyEvidence(
        made_by=made_by,
        state=policy.save(),
        policy=policy.name,
        challenger={name: getattr(ours, name) for name in ESTIMATORS},
        champion={name: getattr(theirs, name) for name in ESTIMATORS},
        difference=verdict.difference,
        weights=weights,
        facts={
            "decisions_learned": learned,
            "decisions_judged": ours.decisions,
            "effective_decisions": ours.effective,
            "largest_weight": ours.largest,
        },
        refusal="" if verdict.promote else verdict.reason,
        reason=verdict.reason,
        data_fingerprint=fingerprint([[decision.decision_id, reward] for decision, _actions, reward in rows]),
        as_of=as_of,
    )


def _told(verdict: Verdict, version: ModelVersion, learned: int) -> dict[str, Any]:
    def estimates(found: OffPolicy) -> dict[str, Any]:
        return {name: vars(getattr(found, name)) for name in ESTIMATORS}

    return {
        "model": POLICY,
        "version": version.version,
        "run_id": version.run_id,
        "promote": verdict.promote,
        "reason": verdict.reason,
        "decisions_learned": learned,
        "decisions_judged": verdict.challenger.decisions,
        "effective_decisions": verdict.challenger.effective,
        "warning": verdict.challenger.warning,
        "challenger": estimates(verdict.challenger),
        "champion": estimates(verdict.champion),
        "difference": vars(verdict.difference),
    }
