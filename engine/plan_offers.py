"""What everyone in an audience would make of each benefit: responses by the model, effects as measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engine.effects import PlanEffects, plan_effects
from engine.plan_models import asked_model, checked
from engine.wiring import Workspace
from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import ModelVersion
from models.api import History, Predictor, score_offers
from planner.api import Composed, Resources


@dataclass(frozen=True, kw_only=True)
class Offered:
    #: user, benefit, response
    responses: pl.DataFrame
    #: of the response model; None: nothing was offered yet, or the model fails
    version: ModelVersion | None
    effects: PlanEffects | None
    #: a sentence for each model that fails
    warnings: tuple[str, ...]


def score_benefits(
    workspace: Workspace,
    known: History,
    resources: Resources,
    composed: Composed,
    audiences: pl.DataFrame,
    as_of: datetime,
) -> Offered:
    """For every audience member and every benefit of a task today. Where the response model fails: each
    benefit's assumption, or the share of all offers that were taken."""
    people = audiences["user"].unique().sort()
    version: ModelVersion | None = None
    warnings: tuple[str, ...] = ()
    if known.treatments is None:
        found = _assumed(resources, composed, people)
    else:
        offers = _offers(known, resources, composed)
        found, version, warnings = asked_model(
            workspace,
            workspace.definitions().recipe("response").name,
            as_of,
            lambda model: checked(_responses(model, known, people, offers, as_of), "response"),
            lambda: _usual(known, resources, people, offers["benefit"]),
            "each benefit's assumption, or the share of all offers that were taken",
        )
    effects = plan_effects(workspace, resources, composed.tasks, known, audiences, as_of)
    warnings += effects.warnings if effects else ()
    return Offered(responses=found, version=version, effects=effects, warnings=warnings)


def _wanted(resources: Resources, composed: Composed) -> list[str]:
    tasks = {task.benefit for task in composed.tasks}
    return [benefit.name for benefit in resources.benefits if benefit.name in tasks]


def _assumed(resources: Resources, composed: Composed, people: pl.Series) -> pl.DataFrame:
    """As each benefit's definition assumes: nothing was offered yet that a model could have learned from.
    Raises BadInput for a benefit that assumes nothing."""
    told, wanted = {each.name: each.response for each in resources.benefits}, _wanted(resources, composed)
    for name in wanted:
        if told[name] is None:
            problem = "is required: no event has role treatment, so no model of responses is learned"
            raise BadInput(problem, where=f"benefit {name}", field="response")
    return _same_for_all(people, wanted, [told[name] or 0.0 for name in wanted])


def _usual(known: History, resources: Resources, people: pl.Series, benefits: pl.Series) -> pl.DataFrame:
    """As each benefit's definition assumes, else the share of all offers that were taken by who got them."""
    treatments, responses = known.contacts()
    given = treatments.select("user", OFFER).unique()
    taken = given.join(responses.select("user", OFFER), on=["user", OFFER], how="semi")
    share = taken.height / max(given.height, 1)
    told = {each.name: each.response for each in resources.benefits}
    rates = [share if (assumed := told[name]) is None else assumed for name in benefits]
    return _same_for_all(people, benefits.to_list(), rates)


def _same_for_all(people: pl.Series, benefits: list[str], rates: list[float]) -> pl.DataFrame:
    told = {
        "benefit": pl.Series(benefits, dtype=pl.String),
        "response": pl.Series(rates, dtype=pl.Float64),
    }
    return pl.DataFrame({"user": people}).join(pl.DataFrame(told), how="cross")


def _offers(known: History, resources: Resources, composed: Composed) -> pl.DataFrame:
    """offer, its traits and `benefit`: one row a benefit of a task today. Raises BadInput for one that the
    response model could not know by its traits."""
    wanted = _wanted(resources, composed)
    treatments, _ = known.contacts()
    kind = treatments.schema[OFFER]
    rows = []
    for benefit in (each for each in resources.benefits if each.name in wanted):
        missing = [trait for trait in known.traits if trait not in benefit.offer]
        unknown = [trait for trait in benefit.offer if trait not in (OFFER, *known.traits)]
        for trait in (*missing, *unknown):
            problem = (
                "is required: the response model knows offers by it"
                if trait in missing
                else "is no trait of offers"
            )
            raise BadInput(problem, where=f"benefit {benefit.name}", field=f"offer.{trait}")
        traits = {trait: benefit.offer[trait] for trait in known.traits}
        rows.append({**traits, OFFER: benefit.offer.get(OFFER), "benefit": benefit.name})
    # a benefit that is no known offer has traits, and no items
    return pl.DataFrame(rows, schema_overrides={OFFER: kind}, strict=False)


def _responses(
    predictor: Predictor, known: History, people: pl.Series, offers: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    """[user, benefit, response]."""
    scored = score_offers(predictor, known, people, offers.drop("benefit"), as_of)
    return scored.select("user", offers["benefit"].gather(scored["place"]).alias("benefit"), "response")
