"""A training as the registry keeps it."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from models.card import as_html, as_markdown, card
from models.compare import Verdict
from models.features import definition_of
from models.plots import (
    contributions_plot,
    gain_plot,
    importance_plot,
    profit_plot,
    reliability_plot,
    residual_plot,
    segments_plot,
)
from models.tracking_record import Record, flat
from models.training import Trained


def record_of(trained: Trained, verdict: Verdict, *, data_fingerprint: str) -> Record:
    """Parameters, figures, pictures and the card of a training, and the gate's verdict."""
    predictor, evidence = trained.predictor, trained.evidence
    recipe = predictor.recipe
    unit = {"spend": "money", "next_purchase": "days"}.get(recipe.predicts, "probability")
    sections = card(trained, verdict, data_fingerprint=data_fingerprint)
    figures = {
        "reliability.png": reliability_plot(evidence, unit),
        "importance.png": importance_plot(evidence),
        "shap.png": contributions_plot(evidence),
        "segments.png": segments_plot(evidence),
        "gain.png": gain_plot(evidence),
    }
    if predictor.band is not None:
        figures["residuals.png"] = residual_plot(evidence, unit)
    if evidence.profit is not None:
        figures["profit.png"] = profit_plot(evidence)
    return Record(
        name=recipe.name,
        as_of=trained.dataset.as_of,
        model=predictor,
        judged=trained.judged,
        sample=trained.dataset.frame.select(predictor.features).head(5).cast(pl.Float64),
        dataset=trained.dataset.frame,
        params=_parameters(trained),
        metrics={
            **flat(evidence.figures),
            **flat(evidence.baseline_figures, "baseline_"),
            "margin_over_baseline_se": evidence.margin,
            **{f"margin_over_{each.baseline.replace(' ', '_')}_se": each.errors for each in verdict.margins},
        },
        figures=figures,
        texts={
            "card.md": as_markdown(sections),
            "card.html": as_html(sections),
            "importance.json": json.dumps(evidence.importance, indent=1),
            "recipe.json": recipe.model_dump_json(indent=1),
            "segments.csv": _segments(trained).write_csv(),
        },
        trials={} if trained.searched is None else _trials(trained),
        trusted=verdict.trusted,
        promote=verdict.promote,
        reason=verdict.reason,
    )


def _parameters(trained: Trained) -> dict[str, Any]:
    recipe, evidence = trained.predictor.recipe, trained.evidence
    return {
        "predicts": recipe.predicts,
        "within": recipe.within,
        "history": " ".join(recipe.history),
        "features": len(trained.predictor.features),
        "rows": trained.dataset.frame.height,
        "rows_learned": evidence.rows_learned,
        "rows_held_out": evidence.rows_held_out,
        "held_out_from": evidence.held_out_from.isoformat(),
        "baseline": evidence.baseline,
        "calibrator": trained.predictor.calibrator.method,
        "trusted": trained.predictor.trusted,
        "learner": trained.how.learner,
        "unused": " ".join(trained.unused)[:500],
        **definition_of(recipe),
        **{f"learner_{name}": value for name, value in vars(trained.how.parameters).items()},
    }


def _segments(trained: Trained) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "field": each.field,
                "label": each.label,
                "rows": each.rows,
                "predicted": each.foreseen,
                "happened": each.found,
                **flat({"figure": each.figure, "loss_saved": each.better}),
                "users_are": each.said,
            }
            for each in trained.evidence.segments
        ]
    )


def _trials(trained: Trained) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    assert trained.searched is not None  # noqa: S101 (the caller looked)
    return {
        f"{trained.predictor.recipe.name} · trial {each.number}": (
            vars(each.parameters),
            {"loss": each.loss, **{f"loss_fold_{n + 1}": fold for n, fold in enumerate(each.folds)}},
        )
        for each in trained.searched.trials
    }
