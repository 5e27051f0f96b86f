"""The door of the room: what now, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from realtime.answers import Answer, default_answer
    from realtime.apprentice import Agreement, Apprentice
    from realtime.budget_definitions import BudgetDefinition, budgets
    from realtime.choosing import NO_POLICY, Allowed, anything
    from realtime.decider import Decider, Rooms, rooms_of
    from realtime.decision_ids import DecisionIds
    from realtime.forgetting import decision_of, without
    from realtime.gate import Verdict, judge
    from realtime.join import Join, Joined
    from realtime.learner import Follower, JournalLearner, Learned
    from realtime.moment_definitions import MomentDefinition, moments, rewards
    from realtime.moments import MOMENTS, DecisionRequest, Id, Moment
    from realtime.offpolicy import ESTIMATORS, LoggedChoices, OffPolicy, evaluate, scores
    from realtime.outcomes import OutcomeReport, Outcomes, Status, family
    from realtime.pacing import Budget, Budgets, Pacing, Standing, by_hour
    from realtime.policies import POLICIES
    from realtime.policy import Fixed, Greedy, Learner, Policy, Uniform
    from realtime.ports import JournalReader, JournalWriter, OnlineStore, Position, Snapshots
    from realtime.promoted import Promoted
    from realtime.records import (
        Choice,
        decode_decision,
        decode_outcome,
        decode_void,
        encode_decision,
        encode_outcome,
        encode_void,
        head,
        micros,
    )
    from realtime.replay import as_logged, replay
    from realtime.retelling import retell
    from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule, by_moment
    from realtime.ridge import Ridge
    from realtime.sequence import FutureWorth, Sequential, no_worth
    from realtime.sessions import IDLE, Session, SessionStep, one_each, placed, sessions_of
    from realtime.shadow import Shadowed, ShadowReport, shadow, shadow_report
    from realtime.shadowing import JournalShadow, Tally
    from realtime.thompson import Thompson
    from realtime.vw import SquareCB
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "ELSEWHERE",
    "ESTIMATORS",
    "IDLE",
    "MOMENTS",
    "NET_VALUE",
    "NO_POLICY",
    "POLICIES",
    "Agreement",
    "Allowed",
    "Answer",
    "Apprentice",
    "Budget",
    "BudgetDefinition",
    "Budgets",
    "Choice",
    "Decider",
    "DecisionIds",
    "DecisionRequest",
    "Fixed",
    "Follower",
    "FutureWorth",
    "Greedy",
    "Id",
    "Join",
    "Joined",
    "JournalLearner",
    "JournalReader",
    "JournalShadow",
    "JournalWriter",
    "Learned",
    "Learner",
    "LoggedChoices",
    "Moment",
    "MomentDefinition",
    "OffPolicy",
    "OnlineStore",
    "Outcome",
    "OutcomeReport",
    "Outcomes",
    "Pacing",
    "Policy",
    "Position",
    "Promoted",
    "RewardRule",
    "Ridge",
    "Rooms",
    "Sequential",
    "Session",
    "SessionStep",
    "ShadowReport",
    "Shadowed",
    "Snapshots",
    "SquareCB",
    "Standing",
    "Status",
    "Tally",
    "Thompson",
    "Uniform",
    "Verdict",
    "anything",
    "as_logged",
    "budgets",
    "by_hour",
    "by_moment",
    "decision_of",
    "decode_decision",
    "decode_outcome",
    "decode_void",
    "default_answer",
    "encode_decision",
    "encode_outcome",
    "encode_void",
    "evaluate",
    "family",
    "head",
    "judge",
    "micros",
    "moments",
    "no_worth",
    "one_each",
    "placed",
    "replay",
    "retell",
    "rewards",
    "rooms_of",
    "scores",
    "sessions_of",
    "shadow",
    "shadow_report",
    "without",
]
