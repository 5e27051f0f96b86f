"""The door of `planner`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from planner.activities import Activity, Metric, Period, Reward, check_activities
    from planner.activity_calendar import own_span, period_end, period_key, public_holidays, span
    from planner.activity_life import MOVES, State, check_move, due
    from planner.activity_metrics import rates
    from planner.activity_rewards import Due, Spent, fired, ranked, reached, refused, stands_in
    from planner.activity_tally import Tally
    from planner.candidates import Candidates, Scores, derive_candidates
    from planner.compose import Composed, Resources, compose
    from planner.intended import intended
    from planner.leaderboard import Leaderboard, Standing
    from planner.limits import day_limits
    from planner.planning import Planning
    from planner.post_mortem import Result, post_mortem
    from planner.registration import check_answers, form
    from planner.rest_of_day import rest_of_day
    from planner.rule_tuning import Brought, shares_by_worth
    from planner.rules import AUDIENCE, Firing, Rule, check_rules, rule_limits, rule_of, rule_tasks
    from planner.steering import Steered
    from planner.summary import contested, goal_table, task_table
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "AUDIENCE",
    "MOVES",
    "Activity",
    "Brought",
    "Candidates",
    "Composed",
    "Due",
    "Firing",
    "Leaderboard",
    "Metric",
    "Period",
    "Planning",
    "Resources",
    "Result",
    "Reward",
    "Rule",
    "Scores",
    "Spent",
    "Standing",
    "State",
    "Steered",
    "Tally",
    "check_activities",
    "check_answers",
    "check_move",
    "check_rules",
    "compose",
    "contested",
    "day_limits",
    "derive_candidates",
    "due",
    "fired",
    "form",
    "goal_table",
    "intended",
    "own_span",
    "period_end",
    "period_key",
    "post_mortem",
    "public_holidays",
    "ranked",
    "rates",
    "reached",
    "refused",
    "rest_of_day",
    "rule_limits",
    "rule_of",
    "rule_tasks",
    "shares_by_worth",
    "span",
    "stands_in",
    "task_table",
]
