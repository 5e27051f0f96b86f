"""The door of the room: what now, and what came of it."""

from realtime.decide import NO_POLICY, Allowed, anything, decide
from realtime.join import Join, Joined
from realtime.learner import Follower, JournalLearner, Learned
from realtime.moments import MOMENTS, DecisionRequest, Id, Moment
from realtime.offpolicy import OffPolicy, evaluate
from realtime.outcomes import Lesson, OutcomeReport, Reward, learn_due, net_value, observe, restore_newest
from realtime.policies import POLICIES
from realtime.policy import Fixed, Greedy, Learner, Policy, Uniform
from realtime.ports import DecisionLog, JournalReader, JournalWriter, Position, Snapshots
from realtime.records import Choice, decode_decision, decode_outcome, encode_decision, encode_outcome, micros
from realtime.replay import replay
from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule, by_moment
from realtime.thompson import Thompson
from realtime.vw import SquareCB

__all__ = [
    "ELSEWHERE",
    "MOMENTS",
    "NET_VALUE",
    "NO_POLICY",
    "POLICIES",
    "Allowed",
    "Choice",
    "DecisionLog",
    "DecisionRequest",
    "Fixed",
    "Follower",
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
    "Moment",
    "OffPolicy",
    "Outcome",
    "OutcomeReport",
    "Policy",
    "Position",
    "Reward",
    "RewardRule",
    "Snapshots",
    "SquareCB",
    "Thompson",
    "Uniform",
    "anything",
    "by_moment",
    "decide",
    "decode_decision",
    "decode_outcome",
    "encode_decision",
    "encode_outcome",
    "evaluate",
    "learn_due",
    "micros",
    "net_value",
    "observe",
    "replay",
    "restore_newest",
]
