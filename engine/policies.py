"""Policies off the log: judged on what was decided, kept in MLflow, promoted through the gate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from engine.day import Progress
from engine.live import tell_of_promotion
from engine.policy_kinds import SEQUENTIAL, fit_settings, made_from, sequential
from engine.wiring import Workspace
from kernel.definitions import parse
from kernel.errors import BadInput
from kernel.ids import fingerprint
from kernel.learning import Action, Decision, ModelVersion
from models.api import POLICY, PolicyEvidence, fit_value_to_go
from realtime.api import (
    ESTIMATORS,
    NO_POLICY,
    Agreement,
    Apprentice,
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
    one_each,
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

    What it learned from never judges it. A `sequential` is judged on one decision of each session, by what
    the rest of the session brought. An `apprentice` decides as its rule until it is live: so it is judged,
    and kept as it is before its first lesson; how often it would agree by now is told. Raises NotFound for
    an unknown kind, and BadInput when too few decisions have their reward yet.
    """
    made_by = {**parameters, "kind": kind}
    policy = made_from(made_by)
    if not 0 < learn_share < 1:
        raise BadInput("is not between 0 and 1", field="--learn-share", value=learn_share)
    step("reading decisions")
    rows = [row for row in _joined(space) if row[1].policy != NO_POLICY]
    first = int(len(rows) * learn_share)
    earlier, later = rows[:first], rows[first:]
    if len(later) < 2:
        raise BadInput(
            "is too few: decisions count when their reward is final", where="log", field="decisions",
            value=len(rows),
        )  # fmt: skip
    judged = [row[1:] for row in later]
    if kind == SEQUENTIAL:
        step("fitting what sessions bring later")
        sessions = sessions_of(earlier)
        policy = sequential(
            made_by, fit_value_to_go(sessions, seed=space.settings.seed, **fit_settings(made_by))
        )
        judged = one_each(later)
    step(f"learning from {len(earlier):,} decisions")
    _teach(policy, [row[1:] for row in earlier])
    agreement = policy.agreement if isinstance(policy, Apprentice) else None
    if agreement is not None:
        policy = made_from(made_by)
    step(f"judging on {len(judged):,} decisions")
    challenger, live = replay(judged, policy), as_logged(judged)
    verdict = _apprenticed(space, policy, judge(challenger, live))
    weights = scores(challenger).weights.tolist()
    known = [row[1:] for row in rows]
    version = space.registry.record_policy(_evidence(made_by, policy, verdict, known, len(earlier), weights))
    tell_of_promotion(space)
    return _told(verdict, version, len(earlier), agreement)


def _apprenticed(space: Workspace, policy: Learner, verdict: Verdict) -> Verdict:
    """An apprentice of the champion, which then changes nothing yet, needs no gate."""
    champion = space.registry.policy()
    if not isinstance(policy, Apprentice) or champion is None:
        return verdict
    rule = made_from(champion[0]).name
    if policy.rule.name != rule:
        return verdict
    return replace(
        verdict,
        promote=True,
        reason=f"it decides as the champion does, {rule}, until it agrees with it in "
        f"{policy.live_at:.0%} of {policy.window:,} decisions",
    )


def rewarded(space: Workspace) -> list[Row]:
    """Every decision in the journals whose reward is final now, in the order in which they became so."""
    return [(decision, actions, reward) for _session, decision, actions, reward in _joined(space)]


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


def _told(
    verdict: Verdict, version: ModelVersion, learned: int, agreement: Agreement | None
) -> dict[str, Any]:
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
        "agreement": None if agreement is None else vars(agreement),
    }
