"""Tasks × eligible users → candidates, with what each is expected to gain and to cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from kernel.choices import DailyLimits
from kernel.errors import BadInput
from kernel.work import Benefit, Goal, Task, Touchpoint
from planner.compose import Resources
from planner.limits import slice_of
from planner.steering import Steered, steer, weighed

#: columns of a candidate frame, in order
COLUMNS = (
    "user",
    "task",
    "value",
    "gain",
    "cost",
    "response",
    "goal",
    "audience",
    "benefit",
    "touchpoint",
    "channel",
    "content",
)

#: columns of a candidate whose gain was measured; empty where it is assumed
INTERVAL = ("gain_low", "gain_high")
#: a billionth of the money: finer than any model can tell, coarser than the noise of adding up in threads
_DIGITS = 9
_SIGN = {"increase": 1.0, "decrease": -1.0}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the models say, as of the plan's instant."""

    #: user, spend (money in the goal window), churn (P no purchase), habit (money in a usual window)
    users: pl.DataFrame
    #: window that spend and habit are sums over; a goal's own window scales them
    window: timedelta
    #: user, benefit, response (P responds | reached)
    responses: pl.DataFrame
    #: user, goal, benefit, touchpoint, adds, adds_low, adds_high (money that the touch adds, measured, with
    #: its interval); where there is no row, and without a frame, it is assumed: lift × margin × base
    effects: pl.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What is worth deciding about, and what was left out."""

    frame: pl.DataFrame
    #: reason → number of user × task left out
    pruned: dict[str, int]
    #: candidates that users are kept from so that effects can be measured, with `why`; None: nobody is
    withheld: pl.DataFrame | None = None


def derive_candidates(
    tasks: Sequence[Task],
    resources: Resources,
    audiences: pl.DataFrame,
    scores: Scores,
    blocked: pl.DataFrame | None = None,
    daily: DailyLimits | None = None,
    withheld: pl.DataFrame | None = None,
    *,
    steered: Sequence[Steered] = (),
    besides: Mapping[str, float] | None = None,
) -> Candidates:
    """`audiences`: user, audience. `blocked`: user, channel that a cap or missing consent forbids.
    `withheld`: user, benefit (null: every one), why; at most one row a user and benefit.

    A response is worth margin × lift × base (see `kernel.work.Goal`); a touch is seen with the
    touchpoint's reach, costs its price whether seen or not, and the benefit's price when used:

        gain = reach · P(response) · margin · lift · base
        cost = cost_per_touch + reach · P(response) · cost_per_response
        value = gain − cost

    Where an effect was measured, gain is that, and the frame has `gain_low` and `gain_high` besides.

    `steered`: what frequencies say; their factors multiply response and gain. `besides`: task → money that a
    touch is worth besides its gain, as that of a trial is what it teaches: part of `value`, of nothing else.

    Left out, with the count kept: a user in several audiences of one goal keeps the first; candidates
    that a cap or consent forbids; candidates of value ≤ 0 or below what the goal asks for, unless a floor of
    `daily` may need them.
    """
    if not tasks:
        raise BadInput("has no tasks", field="plan")
    table = _task_table(tasks, resources, scores.window)
    rows = audiences.unique(maintain_order=True).join(table, on="audience")
    all_rows = rows.height
    rows = rows.sort("place", maintain_order=True).unique(
        ["user", "goal", "benefit", "touchpoint", "rule"], keep="first", maintain_order=True
    )
    pruned = {"same task through another audience": all_rows - rows.height}
    if blocked is not None:
        before = rows.height
        shut = blocked.select("user", "channel").unique().with_columns(_shut=pl.lit(value=True))
        rows = rows.join(shut, on=["user", "channel"], how="left", maintain_order="left")
        # what a floor asks for stays, and is refused where it is reserved: the floor was the operator's wish
        rows = rows.filter(pl.col("_shut").is_null() | _needed(daily, rows.columns)).drop("_shut")
        pruned["a cap or consent forbids it today"] = before - rows.height
    if steered:
        rows, gone = steer(rows, steered)
        pruned |= gone
    valued = weighed(_valued(rows, scores)) if steered else _valued(rows, scores)
    if besides:
        more = pl.col("task").replace_strict(besides, default=0.0, return_dtype=pl.Float64)
        valued = valued.with_columns(value=(pl.col("value") + more).round(_DIGITS))
    needed = _needed(daily, valued.columns)
    gains = valued.filter((pl.col("value") > 0) | needed)
    pruned["costs more than it is expected to gain"] = valued.height - gains.height
    kept = gains.filter((pl.col("value") >= pl.col("least_value")) | needed).sort("user", "task")
    pruned["is worth less than its goal asks of a touch"] = gains.height - kept.height
    columns = COLUMNS if scores.effects is None else (*COLUMNS, *INTERVAL)
    if withheld is not None:
        marked = _marked(kept, withheld)
        kept, kept_back = marked.filter(pl.col("why").is_null()), marked.filter(pl.col("why").is_not_null())
        pruned["held out, to measure by"] = kept_back.height
    return Candidates(
        frame=kept.select(columns),
        pruned={k: n for k, n in pruned.items() if n},
        withheld=None if withheld is None else kept_back.select(*columns, "why"),
    )


def _marked(rows: pl.DataFrame, withheld: pl.DataFrame) -> pl.DataFrame:
    """`why` for the rows that are withheld; a user's holdout before an experiment's."""
    everything = withheld.filter(pl.col("benefit").is_null()).select("user", pl.col("why").alias("_all"))
    some = withheld.filter(pl.col("benefit").is_not_null()).unique(["user", "benefit"], keep="first")
    return (
        rows.join(everything, on="user", how="left", maintain_order="left")
        .join(some, on=["user", "benefit"], how="left", maintain_order="left")
        .with_columns(pl.coalesce("_all", "why").alias("why"))
    )


def _needed(daily: DailyLimits | None, columns: Sequence[str]) -> pl.Expr:
    if daily is None:
        return pl.lit(value=False)
    if daily.per_user.min_tasks > 0:
        return pl.lit(value=True)
    floors = [slice_of(limit, columns) for limit in daily.limits if (limit.at_least or 0) > 0]
    return pl.any_horizontal(pl.lit(value=False), *floors)


def _task_table(tasks: Sequence[Task], resources: Resources, window: timedelta) -> pl.DataFrame:
    goals: dict[str, Goal] = {each.name: each for each in resources.goals}
    benefits: dict[str, Benefit] = {each.name: each for each in resources.benefits}
    touchpoints: dict[str, Touchpoint] = {each.name: each for each in resources.touchpoints}
    rows = []
    for task in tasks:
        goal, touchpoint = goals[task.goal], touchpoints[task.touchpoint]
        rows.append(
            {
                **{key: value for key, value in task.model_dump().items() if key != "name"},
                "task": task.name,
                "place": 0 if task.rule else goal.audiences.index(task.audience),
                "base": goal.base,
                "least_value": goal.least_value,
                "worth": goal.margin * goal.lift * _per_base(goal, window) * _SIGN[goal.direction],
                "reach": touchpoint.reach,
                "per_touch": touchpoint.cost_per_touch,
                "per_response": benefits[task.benefit].cost_per_response,
            }
        )
    return pl.DataFrame(rows)


def _per_base(goal: Goal, window: timedelta) -> float:
    """What one of the base stands for: a unit is worth what it is, money is a sum over the scores' window."""
    return goal.horizon / window if goal.unit_value is None else goal.unit_value


def _valued(rows: pl.DataFrame, scores: Scores) -> pl.DataFrame:
    people = scores.users.with_columns(
        spend_at_risk=pl.col("habit") * pl.col("churn"),
        spend_lost=(pl.col("habit") - pl.col("spend")).clip(0),
        unit=pl.lit(1.0),
    )
    bases = ("spend", "spend_at_risk", "spend_lost", "unit")
    long = people.unpivot(bases, index="user", variable_name="base", value_name="money")
    scored = rows.join(long, on=["user", "base"]).join(scores.responses, on=["user", "benefit"])
    known = pl.all_horizontal(pl.col("money", "response").cast(pl.Float64).is_finite())
    scored = scored.filter(known)
    if scored.height != rows.height:
        raise BadInput(f"are missing for {rows.height - scored.height} user × task", field="scores")
    response = (pl.col("reach") * pl.col("response")).round(_DIGITS)
    gain = (pl.col("response") * pl.col("worth") * pl.col("money")).round(_DIGITS)
    priced = scored.with_columns(response=response).with_columns(
        gain=gain,
        cost=(pl.col("per_touch") + pl.col("response") * pl.col("per_response")).round(_DIGITS),
    )
    if scores.effects is not None:
        priced = _measured(priced, scores.effects)
    return priced.with_columns(value=(pl.col("gain") - pl.col("cost")).round(_DIGITS))


def _measured(rows: pl.DataFrame, effects: pl.DataFrame) -> pl.DataFrame:
    """The gain that was measured, where it was; of what is assumed no interval is known."""
    on = ["user", "goal", "benefit", "touchpoint"]
    found = rows.join(effects, on=on, how="left", maintain_order="left")
    return found.with_columns(
        gain=pl.coalesce("adds", "gain").round(_DIGITS),
        gain_low=pl.col("adds_low").round(_DIGITS),
        gain_high=pl.col("adds_high").round(_DIGITS),
    ).drop("adds", "adds_low", "adds_high")
