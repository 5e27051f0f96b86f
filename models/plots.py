"""Pictures of a model's evidence, drawn without a display."""

from __future__ import annotations

from matplotlib.figure import Figure

from models.backtest import BackTest
from models.training import Evidence


def reliability_plot(evidence: Evidence, unit: str) -> Figure:
    """Mean prediction against mean outcome by tenth; on the diagonal is calibrated."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    predicted = [each[0] for each in evidence.reliability]
    found = [each[1] for each in evidence.reliability]
    top = max([*predicted, *found]) * 1.05 or 1.0
    axes.plot([0, top], [0, top], color="#999999", linewidth=1, label="perfect")
    axes.plot(predicted, found, marker="o", color="#0b6e4f", label="held out, by tenth")
    axes.set(xlabel=f"predicted {unit}", ylabel=f"what happened ({unit})", title="Reliability")
    axes.legend(frameon=False)
    return figure


def importance_plot(evidence: Evidence, most: int = 15) -> Figure:
    """Mean |contribution| to the raw score of the strongest features."""
    ranked = list(evidence.importance.items())[:most][::-1]
    figure = Figure(figsize=(6, 0.3 * len(ranked) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color="#0b6e4f")
    axes.set(xlabel="mean |contribution|", title="What the model looks at")
    return figure


def lift_plot(test: BackTest) -> Figure:
    """Lift over random of the model and of RFM by plan date."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    places = range(test.dates.height)
    for offset, name, colour in ((-0.2, "model", "#0b6e4f"), (0.2, "rfm", "#c9a227")):
        heights = test.dates[f"lift_{name}"].to_list()
        axes.bar([place + offset for place in places], heights, width=0.4, label=name, color=colour)
    axes.axhline(1.0, color="#999999", linewidth=1)
    axes.set_xticks(list(places), [str(plan.date()) for plan in test.dates["plan"]])
    axes.set(ylabel="lift over random", title=f"Back-test: best {test.share:.0%} of each offer's recipients")
    axes.legend(frameon=False)
    return figure
