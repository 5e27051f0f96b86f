"""The door of the room: what now, and what came of it."""

from realtime.decide import NO_POLICY, Allowed, anything, decide
from realtime.moments import MOMENTS, DecisionRequest, Id, Moment
from realtime.offpolicy import OffPolicy, evaluate
from realtime.outcomes import Lesson, OutcomeReport, Reward, learn_due, net_value, observe, restore_newest
from realtime.policy import Greedy, Learner, Policy, Uniform
from realtime.ports import DecisionLog
from realtime.replay import replay
from realtime.vw import SquareCB

__all__ = [
    "MOMENTS",
    "NO_POLICY",
    "Allowed",
    "DecisionLog",
    "DecisionRequest",
    "Greedy",
    "Id",
    "Learner",
    "Lesson",
    "Moment",
    "OffPolicy",
    "OutcomeReport",
    "Policy",
    "Reward",
    "SquareCB",
    "Uniform",
    "anything",
    "decide",
    "evaluate",
    "learn_due",
    "net_value",
    "observe",
    "replay",
    "restore_newest",
]
