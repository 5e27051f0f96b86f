"""Who was treated how, by chance: in an experiment, in exposures, or in past plans and their holdout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl

from engine.definitions import Definitions
from engine.effects_touches import touched
from engine.experiment_files import read_frame
from engine.exploration import trials
from engine.holdout import INTENDED
from engine.wiring import Workspace
from engine.world import known_users
from kernel.clock import parse_window, start_of_day
from kernel.contact import Cap, hold_for
from kernel.errors import BadInput
from kernel.events import INSTANT
from kernel.work import Goal, Touchpoint
from models.api import (
    CONTROL,
    EXPLORED,
    Experiment,
    Exploration,
    History,
    Holdout,
    UpliftRecipe,
    UpliftSample,
    bucket_users,
    treated_by,
    uplift_sample,
)


def sample_of(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime, history: History
) -> UpliftSample:
    """The rows that the recipe learns from, as of an instant. Raises BadInput when there are too few."""
    within = recipe.window(goal_of(definitions, recipe))
    if recipe.exploration is not None:
        assigned = from_exploration(workspace, definitions, recipe, as_of)
    elif recipe.experiment is None:
        assigned = _from_plans(workspace, definitions, recipe, as_of)
    else:
        assigned = _from_experiment(workspace, definitions, recipe, as_of)
    assigned = workspace.tombstones.without(assigned).filter(pl.col("at") <= as_of)
    if recipe.recent is not None:
        assigned = assigned.filter(pl.col("at") > as_of - parse_window(recipe.recent))
    return uplift_sample(history, assigned, recipe, within, as_of)


def from_exploration(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime
) -> pl.DataFrame:
    """user, at, treatment, and p_… or reach where they are known: everyone drawn for nothing, or for a way
    through the recipe's touchpoints; if the recipe says so, everyone whom plans touched."""
    exploration = next(each for each in definitions.of(Exploration) if each.name == recipe.exploration)
    where = f"uplift {recipe.name}"
    parts = [trials(workspace, exploration.name, as_of)]
    if recipe.assigned is not None:
        earlier = read_frame(workspace.root / recipe.assigned, f"{where} assigned")
        for name in ("at", *EXPLORED):
            if name not in earlier.columns:
                raise BadInput("is missing", where=f"{where} assigned", field=name)
        if earlier.schema["at"] != INSTANT:
            raise BadInput("is not a time in UTC", where=f"{where} assigned", field="at")
        parts.insert(0, earlier.select("at", *EXPLORED))
    rows = pl.concat([each for each in parts if each.height] or parts[-1:])
    if rows.is_empty():
        raise BadInput("has drawn nobody yet", where=where, field="exploration", value=exploration.name)
    mine = pl.col("benefit").is_null()
    mine |= (
        pl.lit(value=True) if recipe.touchpoints is None else pl.col("touchpoint").is_in(recipe.touchpoints)
    )
    treated = treated_by(recipe, {}, {exploration.name: exploration})
    drawn = rows.filter(mine & (pl.col("benefit").is_null() | pl.col("benefit").is_in(treated))).with_columns(
        pl.lit(exploration.chance(each, recipe.touchpoints)).alias(f"p_{each}") for each in treated
    )
    if recipe.touches:
        within, held = recipe.window(goal_of(definitions, recipe)), hold_for(definitions.of(Cap))
        if within >= held:
            raise BadInput(
                f"is not shorter than {held.days} days, for which the ledger knows what went out",
                where=where, field="within", value=f"{within.days}d",
            )  # fmt: skip
        # of what plans chose no chances are known, so all are estimated, from what can be seen of users
        parts = [drawn, touched(workspace, recipe, treated, as_of)]
        drawn = pl.concat(parts, how="diagonal_relaxed").select("user", "at", *EXPLORED[1:])
    if recipe.by_reach:
        reach = {each.name: each.reach for each in definitions.of(Touchpoint)}
        seen = pl.col("touchpoint").replace_strict(reach, default=None, return_dtype=pl.Float64)
        # what reaches nobody teaches nothing, nor what went through a touchpoint that is defined no more
        drawn = drawn.with_columns(
            reach=pl.when(pl.col("touchpoint").is_null()).then(1.0).otherwise(seen)
        ).filter(pl.col("reach") > 0)
    return drawn.with_columns(pl.col("benefit").fill_null(CONTROL).alias("treatment")).drop(EXPLORED[1:])


def _from_experiment(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime
) -> pl.DataFrame:
    """user, at, treatment, p_…: variants under the names of the benefits that they give."""
    experiment = next(each for each in definitions.of(Experiment) if each.name == recipe.experiment)
    where = f"uplift {recipe.name}"
    begin = datetime.combine(experiment.starts, time(0), UTC)
    if begin > as_of:
        raise BadInput("begins later", where=where, field="experiment", value=experiment.name)
    if recipe.assigned is None:
        # whoever came later was not dealt in on the first day
        people = known_users(workspace, begin)
        dealt = bucket_users(people["user"], experiment, definitions.one(Holdout))
        dealt = dealt.with_columns(at=pl.lit(begin).cast(INSTANT))
    else:
        dealt = read_frame(workspace.root / recipe.assigned, f"{where} assigned")
    for name in ("user", "variant", "at"):
        if name not in dealt.columns:
            raise BadInput("is missing", where=f"{where} assigned", field=name)
    if dealt.schema["at"] != INSTANT:
        raise BadInput("is not a time in UTC", where=f"{where} assigned", field="at")
    dealt = dealt.drop_nulls("variant").sort("at").unique("user", keep="first", maintain_order=True)
    unknown = dealt.filter(~pl.col("variant").is_in(list(experiment.variants)))
    if unknown.height:
        raise BadInput("is no variant of the experiment", where=f"{where} assigned", field="variant",
                       value=unknown["variant"][0])  # fmt: skip
    names = {experiment.holdout: CONTROL, **experiment.gives}
    rows = dealt.filter(pl.col("variant").is_in(list(names)))
    return rows.select(
        "user",
        # features know what the day began with: one look a day, and nothing of the exposure itself
        pl.col("at").dt.truncate("1d"),
        pl.col("variant").replace_strict(names, return_dtype=pl.String).alias("treatment"),
        *_chances(rows, experiment),
    )


def _chances(rows: pl.DataFrame, experiment: Experiment) -> list[pl.Expr]:
    """P(each benefit), among those who got one of them or none: as told user by user, else the shares."""
    variants = [experiment.holdout, *experiment.gives]
    told = {name: pl.col(f"p_{name}") for name in variants if f"p_{name}" in rows.columns}
    each = told if len(told) == len(variants) else {n: pl.lit(experiment.variants[n]) for n in variants}
    every = pl.sum_horizontal(each.values())
    return [
        (pl.sum_horizontal(each[n] for n, given in experiment.gives.items() if given == benefit) / every)
        .alias(f"p_{benefit}")
        for benefit in sorted(set(experiment.gives.values()))
    ]  # fmt: skip


def _from_plans(
    workspace: Workspace, definitions: Definitions, recipe: UpliftRecipe, as_of: datetime
) -> pl.DataFrame:
    """user, at, treatment, p_…: everyone for whom plans meant this benefit for this goal before any other."""
    holdout = definitions.one(Holdout)
    if holdout is None:
        raise BadInput("has no holdout to learn from", where=f"uplift {recipe.name}", field="holdout")
    mine = (pl.col("goal") == recipe.goal) & (pl.col("benefit") == recipe.benefit)
    if recipe.touchpoints is not None:
        mine = mine & pl.col("touchpoint").is_in(recipe.touchpoints)
    rows = first_intentions(workspace, holdout, as_of)
    if rows.is_empty():
        raise BadInput(
            "has no past plan that held anybody out", where=f"uplift {recipe.name}", field="benefit",
            value=recipe.benefit,
        )  # fmt: skip
    return rows.filter(mine).select(
        "user",
        "at",
        pl.when("treated").then(pl.lit(recipe.benefit)).otherwise(pl.lit(CONTROL)).alias("treatment"),
        pl.lit(1 - holdout.share).alias(f"p_{recipe.benefit}"),
    )


def first_intentions(workspace: Workspace, holdout: Holdout, until: datetime) -> pl.DataFrame:
    """What plans meant first for each user since this holdout began: user, at, treated, then the columns of
    `intended.parquet`; without rows where there was none.

    Only the first is a trial. What a plan means for a user later, and what the user looks like by then, is
    the work of the first already, and differs between those who got it and those who were held out. Who was
    kept from it by an experiment is left out.
    """
    held = f"holdout {holdout.name}"
    parts = [
        frame.with_columns(pl.lit(at).cast(INSTANT).alias("at"))
        for at, frame in planned(workspace, until)
        if held in frame["why"].unique().to_list()
    ]
    if not parts:
        return pl.DataFrame(schema={"user": pl.Int64, "at": INSTANT, "goal": pl.String, "benefit": pl.String})
    rows = pl.concat(parts, how="diagonal_relaxed").sort("at", maintain_order=True)
    first = workspace.tombstones.without(rows).unique("user", keep="first", maintain_order=True)
    return first.filter(pl.col("why").is_null() | (pl.col("why") == held)).with_columns(
        pl.col("why").is_null().alias("treated")
    )


def planned(workspace: Workspace, until: datetime) -> list[tuple[datetime, pl.DataFrame]]:
    """(instant, intentions) of the newest plan of each day before `until`, earliest first, where anybody was
    held out and the files are still there."""
    found = []
    for entry in workspace.plans.newest_of_each_day():
        path = Path(entry.folder) / INTENDED
        at = start_of_day(entry.date, workspace.settings.zone)
        if at < until and path.exists():
            found.append((at, pl.read_parquet(path)))
    return found


def goal_of(definitions: Definitions, recipe: UpliftRecipe) -> Goal:
    goals: Mapping[str, Goal] = {each.name: each for each in definitions.of(Goal)}
    return goals[recipe.goal]
