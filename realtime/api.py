"""The door of the room: what now, and what came of it."""

from realtime.apprentice import Agreement, Apprentice
from realtime.decide import NO_POLICY, Allowed, anything, decide
from realtime.gate import Verdict, judge
from realtime.join import Join, Joined
from realtime.learner import Follower, JournalLearner, Learned
from realtime.moments import MOMENTS, DecisionRequest, Id, Moment
from realtime.offpolicy import ESTIMATORS, LoggedChoices, OffPolicy, evaluate, scores
from realtime.outcomes import Lesson, OutcomeReport, Reward, learn_due, net_value, observe, restore_newest
from realtime.policies import POLICIES
from realtime.policy import Fixed, Greedy, Learner, Policy, Uniform
from realtime.ports import DecisionLog, JournalReader, JournalWriter, Position, Snapshots
from realtime.promoted import Promoted
from realtime.records import Choice, decode_decision, decode_outcome, encode_decision, encode_outcome, micros
from realtime.replay import as_logged, replay
from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule, by_moment
from realtime.sequence import FutureWorth, Sequential
from realtime.sessions import IDLE, Session, SessionStep, placed, sessions_of
from realtime.shadow import Shadowed, ShadowReport, shadow, shadow_report
from realtime.thompson import Thompson
from realtime.vw import SquareCB

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
    "Apprentice",
    "Choice",
    "DecisionLog",
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
    "JournalWriter",
    "Learned",
    "Learner",
    "Lesson",
    "LoggedChoices",
    "Moment",
    "OffPolicy",
    "Outcome",
    "OutcomeReport",
    "Policy",
    "Position",
    "Promoted",
    "Reward",
    "RewardRule",
    "Sequential",
    "Session",
    "SessionStep",
    "ShadowReport",
    "Shadowed",
    "Snapshots",
    "SquareCB",
    "Thompson",
    "Uniform",
    "Verdict",
    "anything",
    "as_logged",
    "by_moment",
    "decide",
    "decode_decision",
    "decode_outcome",
    "encode_decision",
    "encode_outcome",
    "evaluate",
    "judge",
    "learn_due",
    "micros",
    "net_value",
    "observe",
    "placed",
    "replay",
    "restore_newest",
    "scores",
    "sessions_of",
    "shadow",
    "shadow_report",
]
