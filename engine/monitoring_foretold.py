"""What models foretold against what came: money, silence, responses by day, uplift by day."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import polars as pl

from engine.definitions import Definitions
from engine.effect_money import effect_money
from engine.effects_samples import first_intentions
from engine.wiring import Workspace
from kernel.clock import parse_window
from kernel.errors import BadInput
from kernel.learning import ModelVersion
from kernel.work import Goal
from models.api import (
    CONTROL,
    CalibrationDrift,
    Experiment,
    History,
    Holdout,
    Predictor,
    UpliftRecipe,
    calibration_drift,
    effect_drift,
    response_outcomes,
    score_users,
    treated_by,
    uplift_sample,
)

#: models whose predictions are compared with what came
FORETELLS = ("spend", "churn", "response")
_YEAR, _DAY = timedelta(days=365), timedelta(days=1)
#: users of an arm, or of a day, below which a mean is not near enough to normal to be summed
_FEWEST = 30
#: days of which it can be told how far days differ
_DAYS = 3


def calibration(
    space: Workspace, version: ModelVersion, history: History, as_of: datetime, alpha: float
) -> CalibrationDrift | None:
    """What the versions of their time foretold, against what came, of outcomes that are final.

    Money and silence of every user, in windows that do not overlap; responses by the days on which offers
    were first received. None where there is nothing yet.
    """
    if version.params["predicts"] == "response":
        return _responses(space, version, history, as_of, alpha)
    return _windows(space, version, history, as_of, alpha)


def _windows(
    space: Workspace, version: ModelVersion, history: History, as_of: datetime, alpha: float
) -> CalibrationDrift | None:
    within, parts = space.definitions().recipe(version.params["predicts"]).horizon, []
    learned = [each.as_of for each in space.registry.versions(version.name)]
    at = as_of - within
    while any(when <= at for when in learned) and at - within >= history.begin:
        predictor, _ = space.registry.usable(version.name, at)
        users = history.until(at).purchases.select("user").unique(maintain_order=True)
        told = score_users(predictor, history.until(at), users, at, "predicted")
        came = _came(history, at, within)
        both = told.join(came, on="user", how="left").with_columns(pl.col("observed").fill_null(0.0))
        if predictor.recipe.predicts == "churn":
            # a window without a purchase; amounts of zero are purchases too
            gone = ~pl.col("user").is_in(came["user"].implode())
            both = both.with_columns(gone.cast(pl.Float64).alias("observed"))
        parts.append(both.with_columns(pl.lit(at).alias("day")))
        at -= within
    if not parts:
        return None
    chances = version.params["predicts"] == "churn"
    looks = max(_YEAR // within, 1)
    return calibration_drift(pl.concat(parts), alpha=alpha, horizon=looks, probability=chances)


def _came(history: History, at: datetime, within: timedelta) -> pl.DataFrame:
    """user, observed: money spent in the window, of those who bought."""
    inside = history.purchases.filter((pl.col("at") > at) & (pl.col("at") <= at + within))
    return inside.group_by("user").agg(pl.col("amount").sum().cast(pl.Float64).alias("observed"))


def _responses(
    space: Workspace, version: ModelVersion, history: History, as_of: datetime, alpha: float
) -> CalibrationDrift | None:
    """By the day on which offers were first received; users are the witnesses, with all their offers of it.

    Offers differ in ways that no model of users foresees: a day's standard error is as much wider as days
    differed beyond chance when the version was judged.
    """
    within = parse_window(version.params.get("within", ""), "within")
    known, first = history.until(as_of), min(each.as_of for each in space.registry.versions(version.name))
    days = [at for at in known.offers()["at"].unique().sort().to_list() if at + within <= as_of]
    parts = [_answers(known, at, space.registry.usable(version.name, at)[0]) for at in days if at >= first]
    if not any(each.height >= _FEWEST for each in parts):
        return None
    _final, judged = space.registry.load(version.name, version.version)
    earlier = []
    if judged is not None and judged.knows_until is not None:
        unseen = [at for at in days if judged.knows_until <= at < version.as_of]
        earlier = [_answers(known, at, judged) for at in unseen]
    looks = sum(at > as_of - _YEAR for at in days)
    return calibration_drift(
        pl.concat(parts), alpha=alpha, horizon=max(looks, 1), probability=False, widen=_wider(earlier)
    )


def _answers(history: History, at: datetime, predictor: Predictor) -> pl.DataFrame:
    """[day, user, predicted, observed]: responses to the offers of an instant, foreseen and come."""
    rows = response_outcomes(history, at, predictor.recipe)
    told = rows.with_columns(pl.Series("predicted", predictor.predict(rows), dtype=pl.Float64))
    both = told.group_by("user").agg(pl.col("predicted").sum(), pl.col("label").sum().alias("observed"))
    return both.select(pl.lit(at).alias("day"), "user", "predicted", "observed")


def _wider(earlier: list[pl.DataFrame]) -> float:
    """Root mean square of earlier days' standard scores, at least 1; 1 where there are too few to tell."""
    left, scores = pl.col("observed") - pl.col("predicted"), []
    for day in earlier:
        score = (
            day.select(left.sum() / (left.var() * pl.len()).sqrt()).item() if day.height >= _FEWEST else None
        )
        if score is not None and math.isfinite(score):
            scores.append(score)
    if len(scores) < _DAYS:
        return 1.0
    return max(1.0, math.sqrt(sum(z * z for z in scores) / len(scores)))


def uplift(
    space: Workspace, recipe: UpliftRecipe, history: History, as_of: datetime, alpha: float
) -> list[tuple[str, CalibrationDrift]]:
    """(goal and benefit, effects foreseen for first intentions against what the holdout shows), by the day of
    the intention: a user is of one day only, so that days tell of different users."""
    definitions, found = space.definitions(), []
    goal = next(each for each in definitions.of(Goal) if each.name == recipe.goal)
    within = recipe.window(goal)
    holdout = definitions.one(Holdout)
    if holdout is None or not recipe.profit(goal):
        return []
    first = first_intentions(space, holdout, as_of)
    for benefit in treated_by(recipe, {each.name: each for each in definitions.of(Experiment)}):
        # only what was valued by a measured effect foretold one
        if "gain_low" not in first.columns:
            continue
        rows = first.filter(
            (pl.col("goal") == goal.name) & (pl.col("benefit") == benefit) & pl.col("gain_low").is_not_null()
        )
        if rows.is_empty():
            continue
        rows = _foreseen(definitions, recipe, goal, benefit, history, rows)
        try:
            sample = uplift_sample(history, rows, recipe, within, as_of)
        except BadInput:  # no window is over yet
            continue
        days = effect_days(sample.frame)
        if days.height:
            drift = effect_drift(days, alpha=alpha, horizon=_YEAR // _DAY)
            found.append((f"{goal.name} {benefit}", drift))
    return found


def _foreseen(
    definitions: Definitions,
    recipe: UpliftRecipe,
    goal: Goal,
    benefit: str,
    history: History,
    rows: pl.DataFrame,
) -> pl.DataFrame:
    """user, at, treatment, p_foreseen: gains, which plans tell in money, in units of the outcome again."""
    parts = []
    for at in rows["at"].unique(maintain_order=True).to_list():
        same = rows.filter(pl.col("at") == at)
        money = effect_money(definitions, recipe, goal, history, at)
        ways = same["touchpoint"].unique().to_list()
        factor = pl.col("touchpoint").replace_strict({each: money.factor(benefit, each) for each in ways})
        unit = pl.col("worth") * factor
        told = pl.when(unit != 0).then(pl.col("gain") / unit).otherwise(0.0)
        parts.append(money.worth(same).with_columns(p_foreseen=told))
    label = pl.when("treated").then(pl.lit(benefit)).otherwise(pl.lit(CONTROL)).alias("treatment")
    return pl.concat(parts).select("user", "at", label, "p_foreseen")


def effect_days(rows: pl.DataFrame) -> pl.DataFrame:
    """day, rows, predicted, observed, error. Days with too few users of an arm are joined to the next ones.

    `rows`: at, treatment, y, p_foreseen; one row a user.
    """
    treated = pl.col("treatment") != CONTROL
    daily = rows.group_by(pl.col("at").dt.date().alias("day")).agg(t=treated.sum(), c=(~treated).sum())
    block, t, c, blocks = 0, 0, 0, list[int]()
    for _day, more_t, more_c in daily.sort("day").iter_rows():
        t, c = t + more_t, c + more_c
        blocks.append(block)
        if min(t, c) >= _FEWEST:
            block, t, c = block + 1, 0, 0
    of_day = daily.sort("day").select("day", pl.Series("block", blocks, dtype=pl.Int64))
    # what is left over at the end waits for more
    of_day = of_day.filter(pl.col("block") < block)
    sides = {"t": treated, "c": ~treated}
    found = (
        rows.with_columns(pl.col("at").dt.date().alias("day"))
        .join(of_day, on="day")
        .group_by("block")
        .agg(
            pl.col("day").min(),
            pl.len().alias("rows"),
            pl.col("p_foreseen").mean().alias("predicted"),
            *(pl.col("y").filter(side).mean().alias(f"mean_{name}") for name, side in sides.items()),
            *((pl.col("y").filter(side).var() / side.sum()).alias(f"var_{name}")
              for name, side in sides.items()),
        )
    )  # fmt: skip
    found = found.with_columns(
        observed=pl.col("mean_t") - pl.col("mean_c"), error=(pl.col("var_t") + pl.col("var_c")).sqrt()
    )
    told = found.filter(pl.col("error") > 0).sort("day")
    return told.select("day", "rows", "predicted", "observed", "error")
