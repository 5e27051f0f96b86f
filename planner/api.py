"""The door of `planner`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from planner.activities import Activity, Metric, Period, Promotion, Reward
    from planner.activity_calendar import own_span, period_end, period_key, public_holidays, span
    from planner.activity_checks import check_activities
    from planner.activity_life import MOVES, State, check_move, due
    from planner.activity_metrics import rates
    from planner.activity_promotion import (
        PROMOTION,
        check_promotions,
        first_day_of,
        on_own_day,
        promotion_rule,
    )
    from planner.activity_rewards import Due, Spent, fired, ranked, reached, refused, stands_in
    from planner.activity_tally import Tally
    from planner.activity_templates import ActivityTemplate, MadeActivity, make
    from planner.candidates import Candidates, Scores, derive_candidates
    from planner.compose import Composed, Resources, compose
    from planner.intended import intended
    from planner.keep import Keep
    from planner.leaderboard import Leaderboard, Standing
    from planner.limits import all_limits, day_limits, present
    from planner.planning import Planning
    from planner.post_mortem import Result, post_mortem
    from planner.pruning import (
        LABELS,
        WHY,
        Pruner,
        box_of,
        by_task,
        pruner,
        scaled,
        scarce_floors,
        signed,
        typical_of,
    )
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
    "LABELS",
    "MOVES",
    "PROMOTION",
    "WHY",
    "Activity",
    "ActivityTemplate",
    "Brought",
    "Candidates",
    "Composed",
    "Due",
    "Firing",
    "Keep",
    "Leaderboard",
    "MadeActivity",
    "Metric",
    "Period",
    "Planning",
    "Promotion",
    "Pruner",
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
    "all_limits",
    "box_of",
    "by_task",
    "check_activities",
    "check_answers",
    "check_move",
    "check_promotions",
    "check_rules",
    "compose",
    "contested",
    "day_limits",
    "derive_candidates",
    "due",
    "fired",
    "first_day_of",
    "form",
    "goal_table",
    "intended",
    "make",
    "on_own_day",
    "own_span",
    "period_end",
    "period_key",
    "post_mortem",
    "present",
    "promotion_rule",
    "pruner",
    "public_holidays",
    "ranked",
    "rates",
    "reached",
    "refused",
    "rest_of_day",
    "rule_limits",
    "rule_of",
    "rule_tasks",
    "scaled",
    "scarce_floors",
    "shares_by_worth",
    "signed",
    "span",
    "stands_in",
    "task_table",
    "typical_of",
]
