"""Two versions on the same rows, which neither had seen; and the gate that a new one must pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import Interval, ModelRecipe
from kernel.randomness import derive_seed
from models.datasets import FEWEST_LABELS, FEWEST_ROWS
from models.evaluation import losses, readout
from models.evidence import Floats, margin, metrics_of
from models.history import History
from models.predictor import Predictor
from models.training import PROBABILITIES, Trained, dataset_of
from models.uplift_gate import MARGIN, Margin

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A version as it is compared."""

    version: int
    #: nothing after this instant was known to `final`
    as_of: datetime
    #: learned from everything
    final: Predictor
    #: learned from before its held-out time only; None for versions that did not keep it
    judged: Predictor | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """May a model be used, and does it take the champion's place?"""

    #: it beat every trivial baseline: it may predict
    trusted: bool
    #: it becomes the champion
    promote: bool
    #: one sentence
    reason: str
    #: over the trivial baselines, and over the champion where there is one
    margins: tuple[Margin, ...]
    #: on which rows the champion was compared, and in which form; empty without one
    compared: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions on the same held-out rows."""

    name: str
    versions: tuple[int, int]
    rows: int
    users: int
    #: first instant of the rows
    since: datetime
    #: how each was taken: `as it predicts` or `as it was judged`
    form: str
    #: figure → of the first, of the second
    figures: dict[str, tuple[Interval, Interval]]
    #: loss of the first less that of the second: above 0 the second is better
    difference: Margin

    @property
    def reason(self) -> str:
        """Which is better, in one sentence."""
        first, second = self.versions
        errors = self.difference.errors
        if abs(errors) <= MARGIN:
            return f"no difference that {self.rows:,} rows could show ({errors:+.1f} standard errors)"
        better, worse = (second, first) if errors > 0 else (first, second)
        what = self.difference.measure
        return (
            f"version {better} is better than version {worse} in {what}, by {abs(errors):.1f} standard errors"
        )


def weigh(trained: Trained, champion: Kept | None, history: History) -> Verdict:
    """The gate: better than the trivial baselines and than the champion, each by more than two standard
    errors (users are the witnesses, not rows) on the same held-out rows."""
    margins = trained.evidence.margins
    lost = [_lost(each) for each in margins if not each.won]
    if lost:
        reason = "; ".join(lost)
        return Verdict(trusted=False, promote=False, reason=reason, margins=margins)
    least = min(margins, key=lambda each: each.errors)
    passed = (
        f"beats every trivial baseline, by {least.errors:.1f} standard errors at least ({least.baseline})"
    )
    if champion is None:
        return Verdict(trusted=True, promote=True, reason=passed, margins=margins)
    rows, theirs, compared = _against(trained, champion, history)
    if rows is None or theirs is None:
        reason = f"{passed}; cannot be compared with champion v{champion.version}: {compared}"
        return Verdict(trusted=True, promote=False, reason=reason, margins=margins, compared=compared)
    probability = trained.predictor.recipe.predicts in PROBABILITIES
    y = rows["label"].to_numpy().astype(float)
    better = losses(y, theirs, probability=probability)
    better = better - losses(y, trained.judged.predict(rows), probability=probability)
    found = margin(CHAMPION, better, rows["user"].to_numpy(), probability=probability)
    said = _lost(found) if not found.won else f"and champion v{champion.version} by {found.errors:.1f}"
    return Verdict(
        trusted=True,
        promote=found.won,
        reason=f"{passed}, {said}" if found.won else f"{passed}; v{champion.version} stays champion: {said}",
        margins=(*margins, found),
        compared=compared,
    )


def _lost(each: Margin) -> str:
    return (
        f"does not beat {each.baseline} in {each.measure}: {each.difference.mean:.3g}, "
        f"{each.errors:.1f} standard errors where more than {MARGIN:g} are asked"
    )


def _against(
    trained: Trained, champion: Kept, history: History
) -> tuple[pl.DataFrame | None, Floats | None, str]:
    """Held-out rows that the champion had not seen, what it says of them, and how it was taken.

    As it predicts, on rows from after everything that it knew, where these are half of the held-out ones;
    else as it was judged, learned from before its own held-out time.
    """
    late, recipe = trained.held_out.frame, trained.predictor.recipe
    after = late.filter(pl.col("at") >= champion.as_of)
    if after.height >= late.height / 2 and _enough(after, recipe):
        rows, form = after, champion.final
        said = f"as it predicts, on {after.height:,} rows from after everything that it knew"
    elif champion.judged is not None and champion.judged.knows_until is not None:
        rows, form = late.filter(pl.col("at") >= champion.judged.knows_until), champion.judged
        said = f"as it was judged, on {rows.height:,} rows from after what it had learned from then"
        if not _enough(rows, recipe):
            return None, None, "it has seen nearly all of the held-out rows"
    else:
        return None, None, "it has seen held-out rows, and kept no earlier form of itself"
    told = with_features(rows, form, history, trained.dataset.as_of)
    if not _enough(told, recipe):
        return None, None, "hardly any row has its features"
    return told, _predicted(form, told), said


def _predicted(form: Predictor, rows: pl.DataFrame) -> Floats:
    return replace(form, trusted=True).predict(rows)


def _enough(rows: pl.DataFrame, recipe: ModelRecipe) -> bool:
    if rows.height < FEWEST_ROWS:
        return False
    if recipe.predicts not in PROBABILITIES:
        return True
    positive = int(rows["label"].sum())
    return min(positive, rows.height - positive) >= FEWEST_LABELS


def with_features(
    rows: pl.DataFrame, predictor: Predictor, history: History, as_of: datetime
) -> pl.DataFrame:
    """`rows` that the predictor's own features are known for, with them."""
    missing = [name for name in predictor.features if name not in rows.columns]
    if not missing:
        return rows
    keys = [name for name in ("user", OFFER, "at") if name in rows.columns]
    own = dataset_of(history, as_of, predictor.recipe).frame
    lacking = [name for name in missing if name not in own.columns]
    if lacking:
        raise BadInput(
            "is a feature of the model that is not made any more",
            where=predictor.recipe.name,
            field=lacking[0],
        )
    return rows.join(own.select(*keys, *missing), on=keys, how="inner", maintain_order="left")


def compare(one: Kept, two: Kept, history: History, as_of: datetime, *, seed: int) -> Comparison:
    """Both on rows that neither has seen, asked what the second was asked. Raises BadInput where there are
    none.

    As they predict, on rows from after everything that either knew; else as they were judged.
    """
    recipe = two.final.recipe
    if one.final.recipe.predicts != recipe.predicts:
        raise BadInput(
            f"predicts {one.final.recipe.predicts}, version {two.version} {recipe.predicts}",
            field="version", value=one.version,
        )  # fmt: skip
    data = dataset_of(history, as_of, recipe)
    rows = data.frame.filter(pl.col("at") >= max(one.as_of, two.as_of))
    forms, form = (one.final, two.final), "as it predicts"
    if not _enough(rows, recipe) and one.judged is not None and two.judged is not None:
        forms, form = (one.judged, two.judged), "as it was judged"
        known = [each.knows_until for each in forms if each.knows_until is not None]
        rows = data.frame.filter(pl.col("at") >= max(known))
    if not _enough(rows, recipe):
        raise BadInput(
            f"leaves no rows that neither version {one.version} nor version {two.version} has seen",
            field="as_of", value=as_of.isoformat(),
        )  # fmt: skip
    for each in forms:
        rows = with_features(rows, each, history, as_of)
    return _compared((one.version, two.version), rows, forms, form, derive_seed(seed, "compare"))


def _compared(
    versions: tuple[int, int],
    rows: pl.DataFrame,
    forms: tuple[Predictor, Predictor],
    form: str,
    seed: int,
) -> Comparison:
    recipe = forms[1].recipe
    y, users = rows["label"].to_numpy().astype(float), rows["user"].to_numpy()
    first, second = (_predicted(each, rows) for each in forms)
    probability = recipe.predicts in PROBABILITIES
    better = losses(y, first, probability=probability) - losses(y, second, probability=probability)
    metrics = metrics_of(recipe)
    read = [readout(y, each, metrics, seed=seed, users=users) for each in (first, second)]
    since = rows["at"].min()
    assert isinstance(since, datetime)  # noqa: S101 (the column is one of instants)
    return Comparison(
        name=recipe.name,
        versions=versions,
        rows=rows.height,
        users=rows["user"].n_unique(),
        since=since,
        form=form,
        figures={name: (read[0][name], read[1][name]) for name in metrics},
        difference=margin("first", better, users, probability=probability),
    )
