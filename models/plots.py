"""Pictures of a model's evidence, drawn without a display."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.backtest import BackTest
from models.evidence import Evidence

_GREEN, _GOLD, _GREY = "#0b6e4f", "#c9a227", "#999999"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def reliability_plot(evidence: Evidence, unit: str) -> Figure:
    """Mean prediction against mean outcome by tenth; on the diagonal is calibrated."""
    figure, axes = _figure(4.5, 4.5)
    predicted = [each[0] for each in evidence.reliability]
    found = [each[1] for each in evidence.reliability]
    top = max([*predicted, *found]) * 1.05 or 1.0
    axes.plot([0, top], [0, top], color=_GREY, linewidth=1, label="perfect")
    axes.plot(predicted, found, marker="o", color=_GREEN, label="held out, by tenth")
    axes.set(xlabel=f"predicted {unit}", ylabel=f"what happened ({unit})", title="Reliability")
    axes.legend(frameon=False)
    return figure


def importance_plot(evidence: Evidence, most: int = 15) -> Figure:
    """Mean |contribution| to the raw score of the strongest features."""
    ranked = list(evidence.importance.items())[:most][::-1]
    figure, axes = _figure(6, 0.3 * len(ranked) + 1)
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=_GREEN)
    axes.set(xlabel="mean |contribution|", title="What the model looks at")
    return figure


def contributions_plot(evidence: Evidence, most: int = 15) -> Figure:
    """One dot a held-out row: how far each feature moved its score, coloured by the feature's rank."""
    names, values, parts = evidence.shown
    count = min(most, len(names))
    figure, axes = _figure(6.5, 0.32 * count + 1)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    for place in range(count):
        value = values[:, place]
        known = ~np.isnan(value)
        axes.scatter(parts[~known, place], count - place + spread[~known], s=3, color="#cccccc")
        rank = value[known].argsort().argsort() / max(known.sum() - 1, 1)
        axes.scatter(
            parts[known, place], count - place + spread[known], s=3, c=rank, cmap="coolwarm", rasterized=True
        )
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set_yticks(range(count, 0, -1), names[:count])
    axes.set(xlabel="contribution to the raw score (red: high value, blue: low)", title="SHAP summary")
    return figure


def gain_plot(evidence: Evidence) -> Figure:
    """Share of all outcomes found against share of users chosen, best-scored first."""
    figure, axes = _figure(4.5, 4.5)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, label="random")
    for label, points, colour in (
        (evidence.baseline, evidence.baseline_gains, _GOLD),
        ("model", evidence.gains, _GREEN),
    ):
        axes.plot(*zip(*points, strict=True), color=colour, label=label)
    axes.set(xlabel="share chosen", ylabel="share of the outcome among them", title="Gain")
    axes.legend(frameon=False)
    return figure


def profit_plot(evidence: Evidence, currency: str = "money") -> Figure:
    """Profit a user of all against the share chosen, with its interval."""
    if evidence.profit is None:
        raise ValueError("the evidence has no profit curve")
    figure, axes = _figure(5.5, 4)
    points = evidence.profit.points
    axes.fill_between(points["share"], points["low"], points["high"], color=_GREEN, alpha=0.2, linewidth=0)
    axes.plot(points["share"], points["profit"], color=_GREEN)
    axes.axvline(evidence.profit.share, color=_GOLD, linewidth=1, label="what the model would choose")
    axes.axhline(0, color=_GREY, linewidth=1)
    axes.set(xlabel="share chosen", ylabel=f"{currency} a user", title="Policy curve")
    axes.legend(frameon=False)
    return figure


def residual_plot(evidence: Evidence, unit: str) -> Figure:
    """What happened less what was predicted, against the prediction."""
    figure, axes = _figure(5.5, 4)
    error = evidence.outcome - evidence.predicted
    low, high = np.quantile(error, [0.005, 0.995])
    axes.scatter(evidence.predicted, np.clip(error, low, high), s=3, color=_GREEN, alpha=0.4, rasterized=True)
    axes.axhline(0, color=_GREY, linewidth=1)
    axes.set(xlabel=f"predicted ({unit})", ylabel=f"outcome − predicted ({unit})", title="Residuals")
    return figure


def segments_plot(evidence: Evidence) -> Figure:
    """By segment: the strongest baseline's loss less the model's, with its interval; right of 0 it helps."""
    rows = evidence.segments[::-1]
    figure, axes = _figure(6.5, 0.3 * len(rows) + 1.2)
    for place, each in enumerate(rows):
        colour = _GREEN if each.better.low > 0 else "#b3261e" if each.better.high < 0 else _GREY
        axes.plot([each.better.low, each.better.high], [place, place], color=colour, linewidth=2)
        axes.plot(each.better.mean, place, "o", color=colour)
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{each.field}: {each.label}" for each in rows])
    axes.set(xlabel=f"loss saved against {evidence.baseline}", title="Who is helped, who is hurt")
    return figure


def lift_plot(test: BackTest) -> Figure:
    """Lift over random of the model and of RFM by plan date."""
    figure, axes = _figure(6, 3.5)
    places = range(test.dates.height)
    for offset, name, colour in ((-0.2, "model", _GREEN), (0.2, "rfm", _GOLD)):
        heights = test.dates[f"lift_{name}"].to_list()
        axes.bar([place + offset for place in places], heights, width=0.4, label=name, color=colour)
    axes.axhline(1.0, color=_GREY, linewidth=1)
    axes.set_xticks(list(places), [str(plan.date()) for plan in test.dates["plan"]])
    axes.set(ylabel="lift over random", title=f"Back-test: best {test.share:.0%} of each offer's recipients")
    axes.legend(frameon=False)
    return figure
