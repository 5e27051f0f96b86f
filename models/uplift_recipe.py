"""What an uplift model is learned from and what it values, as a person writes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Name
from kernel.errors import BadInput, NotFound
from kernel.work import Benefit, Goal, Money, Window
from models.experiments import Experiment, Holdout
from models.exploration import Exploration


class UpliftRecipe(Definition):
    """A model of what a benefit adds, learned where chance decided who got it.

    Either an experiment, whose variants `give` benefits; or past plans: users for whom one benefit was
    intended, of whom those of the global holdout got nothing; or the trials that an exploration makes.
    """

    kind: Literal["uplift"] = "uplift"
    #: goal whose candidates it values
    goal: Name
    #: experiment that it learns from
    experiment: Name | None = None
    #: or the benefit that past plans intended
    benefit: Name | None = None
    #: or the exploration whose draws it learns from
    exploration: Name | None = None
    #: trials older than this are forgotten, so that it follows what changes; absent: none are
    recent: Window | None = None
    #: a trial of so long ago teaches half as much as one of today; absent: all teach alike
    forgets: Window | None = None
    #: file of the workspace: user, variant, at (of the exposure), and maybe `p_VARIANT`, the chance that
    #: each variant had; absent: as bucketed, from the experiment's first day. Of an exploration: trials made
    #: before, in the same shares: user, at, benefit, touchpoint (nulls: nothing)
    assigned: str | None = None
    #: of a user in the window: money of the purchases, whether there was one, or how many there were
    outcome: Literal["spend", "bought", "purchases"] = "spend"
    #: how long after it an outcome counts; absent: the goal's window
    within: Window | None = None
    #: windows of history that features sum over
    history: tuple[Window, ...] = Field(default=("28d", "84d", "364d"), min_length=1)
    #: all that effects may depend on, where the analyst knows; absent: every feature. The fewer, the fewer
    #: trials are needed
    features: tuple[str, ...] | None = Field(default=None, min_length=1)
    #: profit in one unit of the outcome; `basket`: the goal's margin of what the user's own purchases come
    #: to; absent: the goal's margin (of `spend` only)
    worth: Money | Literal["basket"] | None = None
    #: what treating one user costs, for the curve of profit
    cost: Money = 0.0
    #: touchpoints that it holds for; absent: all that carry the benefit
    touchpoints: tuple[Name, ...] | None = None
    #: what is learned from several touchpoints at once holds for each in the measure of its reach
    by_reach: bool = False
    #: of an exploration: touches of plans teach too, compared with those whom chance gives nothing
    touches: bool = False
    #: whose single effects are used: `proven` asks that they beat every baseline, else everyone gets the
    #: average; `shrunken` uses as much of them as users held back bear out
    trust: Literal["proven", "shrunken"] = "proven"
    #: `low` values every candidate by the low end of its interval
    value_at: Literal["mean", "low"] = "mean"
    learner: Literal["stack", "s", "t", "x", "dr", "class"] = "stack"
    #: half-samples learned from for the intervals of single users
    halves: int = Field(default=4, ge=2, le=50)

    @model_validator(mode="after")
    def _consistent(self) -> UpliftRecipe:
        if sum(each is not None for each in (self.experiment, self.benefit, self.exploration)) != 1:
            raise ValueError(
                "name what it learns from: either an experiment, a benefit of past plans, or an exploration"
            )
        if self.outcome != "spend" and self.worth is None:
            raise ValueError(f"outcome {self.outcome} needs worth: the profit in one more, or basket")
        if self.outcome == "spend" and self.worth == "basket":
            raise ValueError("worth basket needs outcome bought or purchases: spend is money already")
        if self.by_reach and self.exploration is None:
            raise ValueError("by_reach needs exploration, which tells through what users were reached")
        if self.touches and self.exploration is None:
            raise ValueError(
                "touches needs exploration, without which nothing but what plans choose is tried"
            )
        if self.assigned is not None and self.benefit is not None:
            raise ValueError("assigned needs experiment, whose variants it names, or exploration")
        return self

    def window(self, goal: Goal) -> timedelta:
        """How long an outcome counts."""
        return goal.horizon if self.within is None else parse_window(self.within)

    @property
    def longest(self) -> timedelta:
        """How far back its features look."""
        return max(parse_window(each) for each in self.history)

    def profit(self, goal: Goal) -> float:
        """Money in one unit of outcome more (of worth `basket`, for each unit of money in a basket): below 0
        for a goal that is to decrease it."""
        worth = self.worth if isinstance(self.worth, float) else goal.margin
        return worth if goal.direction == "increase" else -worth


def check_uplift(
    recipes: Iterable[UpliftRecipe],
    experiments: Iterable[Experiment],
    goals: Iterable[Goal],
    benefits: Iterable[Benefit],
    holdouts: Iterable[Holdout],
    explorations: Iterable[Exploration] = (),
) -> None:
    """Raises BadInput or NotFound for an experiment that gives, an exploration that draws, or an uplift model
    that needs what is not there, and for two models of one goal, benefit and touchpoint."""
    of_name = {each.name: each for each in experiments}
    drawing = {each.name: each for each in explorations}
    offered = {each.name: each for each in benefits}
    goal_names, held = [each.name for each in goals], list(holdouts)
    for experiment in of_name.values():
        for benefit in experiment.gives.values():
            _known("benefit", benefit, offered, f"experiment {experiment.name}", "gives")
    for exploration in drawing.values():
        where = f"exploration {exploration.name}"
        _known("goal", exploration.goal, goal_names, where, "goal")
        for way in exploration.ways:
            _known("benefit", way.benefit, offered, where, "ways.benefit")
            _known("touchpoint", way.touchpoint, offered[way.benefit].touchpoints, where, "ways.touchpoint")
            if exploration.goal not in offered[way.benefit].goals:
                problem = f"does not serve goal {exploration.goal}"
                raise BadInput(problem, where=where, field="ways.benefit", value=way.benefit)
    taken: dict[tuple[str, str, str], str] = {}
    for recipe in recipes:
        where = f"uplift {recipe.name}"
        _known("goal", recipe.goal, goal_names, where, "goal")
        if recipe.experiment is not None:
            _known("experiment", recipe.experiment, of_name, where, "experiment")
            if not of_name[recipe.experiment].gives:
                raise BadInput(
                    "gives no benefits: nothing in the plan could be valued by it", where=where,
                    field="experiment", value=recipe.experiment,
                )  # fmt: skip
        if recipe.benefit is not None:
            _known("benefit", recipe.benefit, offered, where, "benefit")
            if not held:
                raise BadInput(
                    "needs a definition of kind holdout, whom plans leave out", where=where, field="benefit",
                    value=recipe.benefit,
                )  # fmt: skip
        if recipe.exploration is not None:
            _known("exploration", recipe.exploration, drawing, where, "exploration")
            if drawing[recipe.exploration].goal != recipe.goal:
                problem = f"draws for goal {drawing[recipe.exploration].goal}"
                raise BadInput(problem, where=where, field="exploration", value=recipe.exploration)
            chosen = recipe.touches or drawing[recipe.exploration].promising is not None
            if chosen and recipe.trust != "shrunken":
                problem = "is not shrunken: most rows are of users who promise much, and the average that a "
                problem += "refused model gives to everyone would be theirs"
                raise BadInput(problem, where=where, field="trust", value=recipe.trust)
            if not treated_by(recipe, of_name, drawing):
                problem = f"has no way through any of the touchpoints of {recipe.exploration}"
                raise BadInput(problem, where=where, field="touchpoints", value=recipe.touchpoints)
        for benefit in treated_by(recipe, of_name, drawing):
            for touchpoint in recipe.touchpoints or offered[benefit].touchpoints:
                _known("touchpoint", touchpoint, offered[benefit].touchpoints, where, "touchpoints")
                key = (recipe.goal, benefit, touchpoint)
                if key in taken:
                    raise BadInput(
                        f"values goal {recipe.goal} by {benefit} through {touchpoint}, as {taken[key]} does",
                        where=where, field="benefit", value=benefit,
                    )  # fmt: skip
                taken[key] = where


def treated_by(
    recipe: UpliftRecipe,
    experiments: Mapping[str, Experiment],
    explorations: Mapping[str, Exploration] | None = None,
) -> tuple[str, ...]:
    """The benefits whose effect it tells."""
    if recipe.exploration is not None:
        drawing = (explorations or {}).get(recipe.exploration)
        ways = () if drawing is None else drawing.ways
        through = [each for each in ways if not recipe.touchpoints or each.touchpoint in recipe.touchpoints]
        return tuple(sorted({each.benefit for each in through}))
    if recipe.experiment is None:
        return (recipe.benefit,) if recipe.benefit else ()
    found = experiments.get(recipe.experiment)
    return () if found is None else tuple(sorted(set(found.gives.values())))


def _known(kind: str, name: str, known: Collection[str], where: str, field: str) -> None:
    if name not in known:
        raise NotFound(kind, name, known, where=where, field=field)
