"""From a sample to an uplift model with its evidence: learned, judged on others, let through or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from kernel.clock import parse_window
from kernel.errors import BadInput, NotFound
from kernel.learning import Interval
from kernel.randomness import derive_seed
from models.datasets import matrix
from models.hashing import units
from models.uplift import FittedUplift, Uplift
from models.uplift_average import shrunken
from models.uplift_base import Trees, fit_mean
from models.uplift_evidence import UpliftEvidence, Worth, evaluate_uplift
from models.uplift_recipe import UpliftRecipe
from models.uplift_sample import CONTROL, Split, UpliftSample
from models.uplift_trial import FEWEST, Floats

#: what a new model is compared with besides random order, the response and the average effect
LAST_VALUE, CHAMPION_EFFECTS = "last value", "champion"
_SEGMENTS = ("never bought", "low", "middle", "high")


@dataclass(frozen=True, kw_only=True, eq=False)
class UpliftModel:
    """What the plan asks: effects of each treatment on each user, with intervals."""

    recipe: UpliftRecipe
    #: learned from everyone; gives the average effect for a treatment that was refused
    fitted: FittedUplift
    #: learned from those before the held-out ones only: what a later model is compared with
    judged: FittedUplift
    #: treatment → average effect, shrunken
    averages: Mapping[str, Interval]
    #: treatment → the gate's sentence
    reasons: Mapping[str, str]
    #: first instant of those that it was judged on; None: other users, chosen by hash
    judged_from: datetime | None
    #: effects are those of a touch that is seen
    as_seen: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        return self.fitted.features

    @property
    def treatments(self) -> tuple[str, ...]:
        return self.fitted.treatments

    def trusts(self, treatment: str) -> bool:
        """Whether single users' effects of it are used, rather than the average."""
        return self.fitted.trusted[self.treatments.index(treatment)]

    @property
    def trusted(self) -> bool:
        """Whether any treatment's single effects are."""
        return any(self.fitted.trusted)

    def effects(self, users: pl.DataFrame) -> pl.DataFrame:
        """`users`: user and the features. user, treatment, effect, low, high: in units of the outcome."""
        rows = users.with_columns(pl.col(list(self.features)).cast(pl.Float64))
        middle = self.fitted.effects(rows)
        ends = [each.to_numpy() for each in self.fitted.predict_interval(rows)] if self.trusted else []
        if self.recipe.trust == "shrunken":
            # differences between users are shrunken already; so is the average then
            learned = [each.effect.mean for each in self.fitted.averages]
            drawn = np.array([self.averages[name].mean for name in self.treatments]) - learned
            middle, ends = middle + drawn, [each + drawn for each in ends]
        parts = []
        for column, name in enumerate(self.treatments):
            if self.trusts(name):
                columns = [middle[:, column], ends[0][:, column], ends[1][:, column]]
            else:
                told = self.averages[name]
                columns = [np.full(users.height, each) for each in (told.mean, told.low, told.high)]
            told_of = pl.DataFrame(columns, schema=["effect", "low", "high"])
            parts.append(users.select("user", pl.lit(name).alias("treatment")).hstack(told_of))
        return pl.concat(parts)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """users × treatments: what MLflow serves."""
        found = self.effects(frame.select(pl.int_range(pl.len()).alias("user"), *self.features))
        columns = [found.filter(treatment=name)["effect"].to_numpy() for name in self.treatments]
        return np.column_stack(columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedUplift:
    model: UpliftModel
    #: treatment → evidence, of those held out
    evidence: Mapping[str, UpliftEvidence]
    sample: UpliftSample
    #: by what those judged on differ from those learned from
    held_out: str
    rows_learned: int
    rows_held_out: int
    #: sentences about what makes this doubtful
    warnings: tuple[str, ...] = field(default=())


def train_uplift(
    sample: UpliftSample,
    recipe: UpliftRecipe,
    *,
    worth: float,
    seed: int,
    champion: UpliftModel | None = None,
    trees: Trees | None = None,
) -> TrainedUplift:
    """Learns from some, judges on the others, then learns from all. Deterministic in `seed`.

    A treatment's single effects are let through when they beat, by two standard errors on the held-out:
    random order, the average effect, the response, the last value, and the champion's effects as they were
    before it knew the held-out. Raises BadInput for what cannot be learned from.
    """
    seed = derive_seed(seed, "uplift model", recipe.name)
    if "reach" in sample.frame.columns:
        sample = _as_if_seen(sample, seed)
    split = sample.split(recipe.name)
    early, late = split.early, split.late
    names = _features(split, recipe, sample.features)
    learner = Uplift(kind=recipe.learner, control=CONTROL, seed=seed, trees=trees or Trees())
    forgets = None if recipe.forgets is None else parse_window(recipe.forgets)
    judged = _fit(learner, early, names, forgets)
    baselines, warnings = _baselines(split, recipe, judged.treatments, champion)
    evidence = evaluate_uplift(
        judged,
        late.frame.select(names),
        late.frame["treatment"],
        late.y,
        seed=seed,
        weight=late.weight(forgets),
        propensity=late.propensity,
        baselines=baselines,
        segment=_segments(late.frame, recipe),
        money=Worth(value=worth, cost=recipe.cost),
    )
    final = _fit(replace(learner, groups=recipe.halves), sample, names, forgets)
    model = UpliftModel(
        recipe=recipe,
        fitted=final.trusting(
            {name: recipe.trust == "shrunken" or each.verdict.promote for name, each in evidence.items()}
        ),
        judged=judged,
        averages=dict(zip(final.treatments, shrunken(final.averages), strict=True)),
        reasons={name: each.verdict.reason for name, each in evidence.items()},
        judged_from=split.begin,
        as_seen="reach" in sample.frame.columns,
    )
    warnings += tuple(dict.fromkeys(each.warning for each in final.averages if each.warning))
    return TrainedUplift(
        model=model,
        evidence=evidence,
        sample=sample,
        held_out=split.title,
        rows_learned=early.frame.height,
        rows_held_out=late.frame.height,
        warnings=warnings,
    )


def _features(split: Split, recipe: UpliftRecipe, known: tuple[str, ...]) -> tuple[str, ...]:
    """What says something on both sides, of those that the recipe names. Raises NotFound for one that there
    is not, BadInput when nothing is left."""
    names = tuple(name for name in split.early.features if name in split.late.features)
    if recipe.features is None:
        return names
    where = f"uplift {recipe.name}"
    for name in recipe.features:
        if name not in split.early.frame.columns:
            raise NotFound("feature", name, known, where=where, field="features")
    named = tuple(name for name in names if name in recipe.features)
    if not named:
        problem = "say nothing: each is unknown, or the same for everyone"
        raise BadInput(problem, where=where, field="features", value=recipe.features)
    return named


def _as_if_seen(sample: UpliftSample, seed: int) -> UpliftSample:
    """The same with outcomes y of the treated as m + (y − m) / reach, m what they would have done anyway,
    learned from other users who got nothing.

    A touch works as far as it is seen, so effects through a touchpoint are its reach times that of one that
    is seen; divided by it they are the same through all.
    """
    frame = sample.frame
    names = sample.features
    if not names:
        raise BadInput("say nothing: each is the same for everyone", field="features")
    x = matrix(frame, names)
    fold = units(frame["user"], f"uplift reach {seed}") < 0.5
    alone = (frame["treatment"] == CONTROL).to_numpy()
    expected = np.empty(frame.height)
    for here in (fold, ~fold):
        rest = ~here & alone
        if rest.sum() < FEWEST:
            raise BadInput(
                f"has {rest.sum()} of half the users; {FEWEST} are needed", field="treatment", value=CONTROL
            )
        model = fit_mean(x[rest], sample.y[rest], np.ones(int(rest.sum())), Trees(rounds=0), seed)
        expected[here] = model.predict(x[here])
    seen = expected + (sample.y - expected) / frame["reach"].to_numpy()
    seen = np.where(alone, sample.y, seen)
    return replace(sample, frame=frame.with_columns(y=pl.Series(seen)))


def _fit(
    learner: Uplift, sample: UpliftSample, names: tuple[str, ...], forgets: timedelta | None
) -> FittedUplift:
    frame, weight = sample.frame, sample.weight(forgets)
    return learner.fit(
        frame.select(names), frame["treatment"], sample.y, weight=weight, propensity=sample.propensity
    )


def _baselines(
    split: Split, recipe: UpliftRecipe, treatments: tuple[str, ...], champion: UpliftModel | None
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Scores to beat, users or users × treatments, and what could not be compared."""
    found: dict[str, Floats] = {}
    late = split.late
    last = _amount(recipe, late.within)
    if last in late.frame.columns:
        found[LAST_VALUE] = late.frame[last].cast(pl.Float64).fill_nan(None).fill_null(0.0).to_numpy()
    if champion is None or not champion.trusted:
        return found, ()
    if champion.treatments != treatments or not set(champion.judged.features) <= set(late.frame.columns):
        return found, ("the champion knows other treatments or features, and is not compared",)
    if not split.unseen_by(champion.judged_from):
        return found, ("the champion has learned from some of those judged on, and is not compared",)
    found[CHAMPION_EFFECTS] = champion.judged.effects(late.frame.select(champion.judged.features))
    return found, ()


def _amount(recipe: UpliftRecipe, within: timedelta) -> str:
    """The feature that tells what was spent in as long a time as an outcome counts, or nearly."""
    nearest = min(recipe.history, key=lambda each: abs(parse_window(each) - within))
    return f"amount_{nearest}"


def _segments(frame: pl.DataFrame, recipe: UpliftRecipe) -> list[str]:
    """Thirds of what they spent before, and those who never bought."""
    longest = max(recipe.history, key=parse_window)
    name = f"amount_{longest}"
    if name not in frame.columns:
        return ["all"] * frame.height
    spent = frame[name].cast(pl.Float64).fill_nan(None)
    known = spent.drop_nulls().to_numpy()
    edges = np.quantile(known, [1 / 3, 2 / 3]) if len(known) else np.zeros(2)
    place = np.searchsorted(edges, spent.fill_null(0.0).to_numpy(), side="left") + 1
    return [_SEGMENTS[each] for each in np.where(spent.is_null().to_numpy(), 0, place)]
