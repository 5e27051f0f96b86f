"""An uplift model as a reviewer reads it: figures, pictures and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from kernel.learning import Interval
from models.tracking_record import Record, flat
from models.uplift_evidence import MODEL, RESPONSE, UpliftEvidence
from models.uplift_recipe import UpliftRecipe
from models.uplift_training import TrainedUplift

_GREEN, _GOLD, _GREY = "#0b6e4f", "#c9a227", "#888888"


def uplift_record(trained: TrainedUplift, data_fingerprint: str) -> Record:
    """Ready for the registry: the champion when any treatment's single effects are used."""
    model, sample = trained.model, trained.sample
    name = model.recipe.name
    reason = "; ".join(f"{treatment}: {said}" for treatment, said in model.reasons.items())
    return Record(
        name=name,
        as_of=sample.as_of,
        model=model,
        sample=sample.frame.select(model.features).head(5).cast(pl.Float64),
        dataset=sample.frame,
        params=parameters(trained),
        metrics={
            **flat(figures(trained)),
            **flat(baselines(trained), "baseline_"),
            "margin_over_baseline_se": margin(trained),
        },
        tags={"kind": "uplift", "warnings": "; ".join(trained.warnings)},
        figures=plots(trained),
        texts={
            "evidence.json": json.dumps(as_json(trained), indent=2),
            "card.md": card(trained, data_fingerprint),
        },
        trusted=model.trusted,
        promote=model.trusted,
        reason=reason,
    )


def parameters(trained: TrainedUplift) -> dict[str, Any]:
    model, recipe = trained.model, trained.model.recipe
    return {
        "predicts": "uplift",
        "goal": recipe.goal,
        "learned_from": _source(recipe),
        "outcome": recipe.outcome,
        "within": f"{trained.sample.within.days}d",
        "history": " ".join(recipe.history),
        "learner": recipe.learner,
        "trust": recipe.trust,
        "treatments": " ".join(model.treatments),
        "features": len(model.features),
        "rows": trained.sample.frame.height,
        "rows_learned": trained.rows_learned,
        "rows_held_out": trained.rows_held_out,
        "held_out": trained.held_out,
        "rows_immature": trained.sample.immature,
        "baseline": RESPONSE,
        "trusted": model.trusted,
    }


def _source(recipe: UpliftRecipe) -> str:
    if recipe.exploration is not None:
        return f"exploration {recipe.exploration}"
    return f"experiment {recipe.experiment}" if recipe.experiment is not None else "past plans"


def figures(trained: TrainedUplift) -> dict[str, Interval]:
    """`TREATMENT_figure` → interval; of one treatment without its name in front."""
    found: dict[str, Interval] = {}
    single = len(trained.model.treatments) == 1
    for name, evidence in trained.evidence.items():
        front = "" if single else f"{name}_"
        found[f"{front}average_effect"] = trained.model.averages[name]
        found[f"{front}targeting_gain"] = evidence.verdict.gain
        for kind, interval in evidence.coefficients.get(MODEL, {}).items():
            found[f"{front}{kind}"] = interval
        if evidence.profit is not None:
            found[f"{front}profit_of_policy"] = evidence.profit.policy
            found[f"{front}profit_over_average"] = evidence.profit.over_average
    return found


def baselines(trained: TrainedUplift) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    single = len(trained.model.treatments) == 1
    for name, evidence in trained.evidence.items():
        for kind, interval in evidence.coefficients.get(RESPONSE, {}).items():
            found[f"{'' if single else f'{name}_'}{kind}"] = interval
    return found


def margin(trained: TrainedUplift) -> float:
    """Standard errors by which the best treatment's model beats the baseline that it beats least."""
    verdicts = [each.verdict for each in trained.evidence.values()]
    return max(min(each.errors for each in verdict.margins) for verdict in verdicts)


def as_json(trained: TrainedUplift) -> dict[str, Any]:
    """All the evidence, by treatment."""
    return {
        name: {
            "verdict": each.verdict.as_json(),
            "average": vars(each.average.effect),
            "share_with_overlap": each.average.share,
            "average_shrunken": vars(trained.model.averages[name]),
            "coefficients": _plain(each.coefficients),
            "segments": _plain(each.segments),
            "segment_effects": {label: vars(value) for label, value in each.segment_effects.items()},
            "ladder": [
                {"users": step.users, "foreseen": step.foreseen, "found": vars(step.found)}
                for step in each.ladder
            ],
            "profit": None
            if each.profit is None
            else {
                "policy": vars(each.profit.policy),
                "share": each.profit.share,
                "everyone": vars(each.profit.everyone),
                "over_average": vars(each.profit.over_average),
            },
        }
        for name, each in trained.evidence.items()
    }


def _plain(told: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Any]]:
    return {name: {kind: vars(value) for kind, value in each.items()} for name, each in told.items()}


def plots(trained: TrainedUplift) -> dict[str, Figure]:
    """File name → picture."""
    found = {}
    for name, evidence in trained.evidence.items():
        found[f"ladder_{name}.png"] = _ladder(name, evidence)
        found[f"segments_{name}.png"] = _segments(name, evidence)
        if evidence.profit is not None:
            found[f"profit_{name}.png"] = _profit(name, evidence)
    return found


def _ladder(name: str, evidence: UpliftEvidence) -> Figure:
    """Who is hurt, who is helped: fifths of the foreseen effect, and what their effect was."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for place, step in enumerate(evidence.ladder, 1):
        axes.plot([place, place], [step.found.low, step.found.high], color=_GREEN, linewidth=2)
        axes.plot(place, step.found.mean, "o", color=_GREEN, label="found" if place == 1 else None)
        axes.plot(
            place, step.foreseen, "_", color=_GOLD, markersize=18, label="foreseen" if place == 1 else None
        )
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set(xlabel="users by foreseen effect, least first", ylabel="effect a user", title=name)
    axes.legend(frameon=False)
    return figure


def _segments(name: str, evidence: UpliftEvidence) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    labels = list(evidence.segment_effects)
    for place, label in enumerate(labels):
        found = evidence.segment_effects[label]
        axes.plot([found.low, found.high], [place, place], color=_GREEN, linewidth=2)
        axes.plot(found.mean, place, "o", color=_GREEN)
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="effect a user", title=f"{name} by what was spent before")
    return figure


def _profit(name: str, evidence: UpliftEvidence) -> Figure:
    curve = evidence.profit
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    if curve is not None:
        points = curve.points
        axes.fill_between(points["share"], points["low"], points["high"], color=_GREEN, alpha=0.15)
        axes.plot(points["share"], points["profit"], color=_GREEN, label="best-scored first")
        axes.plot([0, 1], [0, curve.everyone.mean], color=_GREY, linestyle="--", label="drawn blindly")
        axes.axvline(curve.share, color=_GOLD, label="foreseen profit above 0")
        axes.legend(frameon=False)
    axes.set(xlabel="share of users treated", ylabel="profit a user, money", title=name)
    return figure


def card(trained: TrainedUplift, data_fingerprint: str) -> str:
    """Markdown: what data, how judged, against what, who is helped, who is hurt, why let through or not."""
    told = parameters(trained)
    lines = [
        f"# {trained.model.recipe.title}",
        "",
        f"What {', '.join(trained.model.treatments)} adds to {told['outcome']} within {told['within']}, "
        f"for goal {told['goal']}.",
        "",
        f"- **Data**: {told['learned_from']}, {told['rows']:,} rows as of {trained.sample.as_of:%Y-%m-%d}, "
        f"fingerprint {data_fingerprint}; {told['rows_immature']:,} rows, whose window was not over, are not "
        "among them",
        f"- **Features**: {told['features']}, windows {told['history']}",
        f"- **Learner**: {told['learner']}; judged on {told['rows_held_out']:,} rows ({told['held_out']}), "
        f"from which it had learned nothing",
        *(f"- **Careful**: {each}" for each in trained.warnings),
    ]
    for name, each in trained.evidence.items():
        lines += _treatment(name, each, trained.model.averages[name])
    return "\n".join([*lines, ""])


def _treatment(name: str, evidence: UpliftEvidence, used: Interval) -> list[str]:
    verdict, profit = evidence.verdict, evidence.profit
    word = "Let through" if verdict.promote else "Refused"
    lines = ["", f"## {name}", "", f"{word}: {verdict.reason}", ""]
    lines.append(f"- average effect of those held out {evidence.average.effect}; used where refused: {used}")
    lines += [
        f"- against {each.baseline}: {each.measure} better by {each.difference} ({each.errors:.1f} errors)"
        for each in verdict.margins
    ]
    lines += [f"- {kind}: {value}" for kind, value in evidence.coefficients.get(MODEL, {}).items()]
    if profit is not None:
        lines.append(
            f"- money: treating the {profit.share:.0%} whose foreseen profit is above 0 earns "
            f"{profit.policy} a user, everyone {profit.everyone}; "
            f"over the better of all and none {profit.over_average}"
        )
    lines += ["", "| fifth by foreseen effect | users | foreseen | found |", "| --- | --- | --- | --- |"]
    for place, step in enumerate(evidence.ladder, 1):
        lines.append(f"| {place} | {step.users:,} | {step.foreseen:.3f} | {step.found} |")
    lines += ["", "| segment | effect |", "| --- | --- |"]
    return lines + [f"| {label} | {value} |" for label, value in evidence.segment_effects.items()]
