"""The model card: what a reviewer asks, answered on one page, as Markdown and as HTML.

Mitchell et al., "Model cards for model reporting", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from kernel.learning import Interval
from models.compare import Verdict
from models.training import Trained
from models.uplift_gate import Margin

_ASKED = {
    "response": "P(responds to an offer | reached)",
    "spend": "money that a user spends in the window",
    "churn": "P(a user buys nothing in the window)",
    "lapse": "P(a user is silent for longer than their own rhythm allows)",
    "next_purchase": "days until a user's next purchase, at most the window",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c}"
    "table{border-collapse:collapse;margin:.5rem 0 1rem}"
    "td,th{border-bottom:1px solid #ddd;padding:.25rem .75rem;"
    "text-align:right}td:first-child,th:first-child{text-align:left}h2{margin-top:2rem}"
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question and its answer."""

    title: str
    text: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def card(trained: Trained, verdict: Verdict, *, data_fingerprint: str) -> tuple[Section, ...]:
    """The first section's title is the page's."""
    return (
        Section(
            title=f"{trained.predictor.recipe.name}, as of {trained.dataset.as_of:%Y-%m-%d}",
            text=_asked(trained),
        ),
        _why(verdict),
        _data(trained, data_fingerprint),
        _features(trained),
        _good(trained),
        _calibrated(trained),
        _helped(trained),
        *_profit(trained),
        _made(trained),
        Section(
            title="What it does not say",
            text="It tells what goes with the outcome, not what causes it: a high score is no reason to "
            "believe that an offer changes anything. It was judged on one stretch of time; drift is watched "
            "by `growth drift`.",
        ),
    )


def as_markdown(sections: Sequence[Section]) -> str:
    lines: list[str] = []
    for place, each in enumerate(sections):
        lines += [f"{'#' if place == 0 else '##'} {each.title}", ""]
        if each.text:
            lines += [each.text, ""]
        if each.rows:
            lines += [_row(each.head), _row(["---"] * len(each.head)), *map(_row, each.rows), ""]
    return "\n".join(lines)


def as_html(sections: Sequence[Section]) -> str:
    """One page that needs nothing else."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(sections[0].title)}</title>"]
    parts.append(f"<style>{_STYLE}</style>")
    for place, each in enumerate(sections):
        level = "h1" if place == 0 else "h2"
        parts.append(f"<{level}>{escape(each.title)}</{level}>")
        if each.text:
            parts.append(f"<p>{escape(each.text)}</p>")
        if each.rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in each.head)
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in each.rows)
            parts.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    return "\n".join(parts) + "\n"


def _asked(trained: Trained) -> str:
    recipe = trained.predictor.recipe
    return f"Predicts {_ASKED[recipe.predicts]}; window {recipe.within}."


def _why(verdict: Verdict) -> Section:
    role = "Promoted" if verdict.promote else "Not promoted"
    if not verdict.trusted:
        role = "Refused: everyone gets the average"
    compared = f" The champion was taken {verdict.compared}." if verdict.compared else ""
    return Section(
        title="Why it is, or is not, the champion",
        text=f"{role}. It {verdict.reason}.{compared}",
        head=("against", "measure", "better by", "standard errors"),
        rows=[_margin(each) for each in verdict.margins],
    )


def _margin(each: Margin) -> list[str]:
    return [each.baseline, each.measure, _interval(each.difference), f"{each.errors:+.1f}"]


def _data(trained: Trained, fingerprint: str) -> Section:
    frame, evidence = trained.dataset.frame, trained.evidence
    days = frame["at"].dt.strftime("%Y-%m-%d").sort()
    rows = [
        ["fingerprint of everything known", fingerprint],
        ["nothing is known after", f"{trained.dataset.as_of:%Y-%m-%d %H:%M} UTC"],
        ["examples", f"{frame.height:,} of {frame['user'].n_unique():,} users"],
        ["instants", f"{frame['at'].n_unique()}, {days[0]} to {days[-1]}"],
        ["mean outcome", _short(float(frame["label"].cast(float).mean()))],  # type: ignore[arg-type]
        ["learned from, when judged", f"{evidence.rows_learned:,} examples"],
        ["held out", f"{evidence.rows_held_out:,} examples from {evidence.held_out_from:%Y-%m-%d} on"],
    ]  # fmt: skip
    return Section(title="What data", head=("", ""), rows=rows)


def _features(trained: Trained) -> Section:
    ranked = list(trained.evidence.importance.items())[:15]
    total = sum(trained.evidence.importance.values()) or 1.0
    text = (
        f"{len(trained.predictor.features)} features; the strongest by mean |contribution| to the raw score."
    )
    if trained.unused:
        text += f" Without two different values, so not learned from: {', '.join(trained.unused[:20])}."
    signs = trained.predictor.recipe.monotone
    if signs:
        text += f" Held to a sign: {', '.join(f'{name} {sign}' for name, sign in signs.items())}."
    rows = [[name, _short(value), f"{value / total:.0%}"] for name, value in ranked]
    return Section(
        title="What features", text=text, head=("feature", "mean |contribution|", "share"), rows=rows
    )


def _good(trained: Trained) -> Section:
    evidence = trained.evidence
    rows = [
        [name, _interval(value), _interval(evidence.baseline_figures[name])
         if name in evidence.baseline_figures else "–"]
        for name, value in evidence.figures.items()
    ]  # fmt: skip
    text = "On time that it had not seen; intervals by bootstrap over users (95 %)."
    return Section(title="How good", text=text, head=("figure", "model", evidence.baseline), rows=rows)


def _calibrated(trained: Trained) -> Section:
    method = trained.predictor.calibrator.method
    text = (
        f"Calibrated by {method}, chosen on predictions for instants that a fold had not seen."
        if trained.predictor.band is None
        else f"Made right in the mean by a factor of {trained.predictor.factor:.3f}; intervals conformal, by "
        + ("quantiles of each user's own." if trained.predictor.heads else "levels of the prediction.")
    )
    rows = [
        [f"{place + 1}", _short(p), _short(y), f"{count:,}"]
        for place, (p, y, count) in enumerate(trained.evidence.reliability)
    ]
    return Section(
        title="How calibrated", text=text, head=("tenth", "predicted", "happened", "rows"), rows=rows
    )


def _helped(trained: Trained) -> Section:
    rows = [
        [f"{each.field}: {each.label}", f"{each.rows:,}", _short(each.foreseen), _short(each.found),
         _interval(each.figure), _interval(each.better),
         "–" if each.covered is None else f"{each.covered:.0%}", each.said]
        for each in trained.evidence.segments
    ]  # fmt: skip
    head = (
        "segment",
        "rows",
        "predicted",
        "happened",
        "AUC or error",
        "loss saved",
        "in interval",
        "users are",
    )
    text = f"Against {trained.evidence.baseline}: loss that the model saves a row."
    return Section(title="Who is helped, who is hurt", text=text, head=head, rows=rows)


def _profit(trained: Trained) -> tuple[Section, ...]:
    curve, stakes = trained.evidence.profit, trained.predictor.recipe.stakes
    if curve is None or stakes is None:
        return ()
    rows = [
        ["choosing those who are foreseen to pay", f"{curve.share:.0%}", _interval(curve.policy)],
        ["choosing everyone", "100%", _interval(curve.everyone)],
    ]
    text = f"An outcome brings {stakes.outcome:g}, choosing a user costs {stakes.contact:g}. Money per user."
    return (
        Section(title="In money", text=text, head=("policy", "share chosen", "profit a user"), rows=rows),
    )


def _made(trained: Trained) -> Section:
    how = trained.how
    rows = [[name, f"{value:g}"] for name, value in vars(how.parameters).items()]
    text = f"Learner: {how.learner}"
    if how.losses:
        text += f" (mean error of each: {', '.join(f'{n} {v:.4g}' for n, v in how.losses.items())})"
    if trained.searched is not None:
        text += f"; parameters of trial {trained.searched.best.number} of {len(trained.searched.trials)}"
        text += ", which the time ended" if trained.searched.cut else ""
    return Section(title="How it was made", text=f"{text}.", head=("parameter", "value"), rows=rows)


def _interval(value: Interval) -> str:
    return f"{_short(value.mean)} [{_short(value.low)}, {_short(value.high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
