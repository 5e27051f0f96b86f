"""The door of `planner`."""

from __future__ import annotations

from planner.candidates import Candidates, Scores, derive_candidates
from planner.compose import Composed, Resources, compose
from planner.limits import day_limits
from planner.steering import Steered
from planner.summary import contested, goal_table, task_table

__all__ = [
    "Candidates",
    "Composed",
    "Resources",
    "Scores",
    "Steered",
    "compose",
    "contested",
    "day_limits",
    "derive_candidates",
    "goal_table",
    "task_table",
]
