"""An experiment read out: what each variant added to each metric, a user and in all, and how sure that is.

The first metric decides, by its always-valid interval: it may be looked at every day. α is divided among the
variants (Bonferroni), for intervals as for p-values, so that both say the same. Those of the other metrics
and of other subjects (activities, rules, policies) each hold by themselves; they are not corrected for each
other, and are there to understand with, not to decide by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import norm

from kernel.errors import BadInput
from kernel.learning import Interval
from models.experiment_effects import Arm, Effect, effect
from models.experiment_outcomes import SUBJECT, UserOutcomes, user_outcomes
from models.experiments import Experiment, Metric, shares_of
from models.sample_ratio import SampleRatio, sample_ratio
from models.sequential import FEWEST, INFORMATIVE, always_valid_p, reach

BETTER, WORSE, OPEN = "better", "worse", "open"
TOO_LITTLE, NOT_READABLE = "too little", "not to be read"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One variant against the holdout on one metric. Figures a user, in the metric's unit."""

    subject: str
    variant: str
    metric: str
    #: whether it is the metric that decides
    decides: bool
    #: users whose window is over
    users: int
    users_holdout: int
    #: observed figures: mean, or ratio
    mean: float | None
    mean_holdout: float | None
    #: interval for one look that was fixed beforehand; None: too little to say
    one_look: Interval | None
    #: interval that holds at every look
    always: Interval | None
    p_one_look: float | None
    p_always: float | None
    #: effect as part of the holdout's figure; None when that is zero
    relative: float | None
    #: `always` × the variant's users: what it added in all; None for a ratio
    total: Interval | None
    #: part of the variance that the pre-period explained
    explained: float
    #: part of the users whose value was cut to the metric's cap
    capped: float
    #: `better`, `worse`, `open`, `too little`, or `not to be read` when the split is wrong
    finding: str


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Everything about an experiment as of an instant."""

    experiment: str
    as_of: datetime
    #: the untreated variant
    holdout: str
    #: P(a false finding on the first metric), over all variants and looks
    alpha: float
    lines: tuple[Line, ...]
    #: subject → whether the split is what was declared
    ratios: dict[str, SampleRatio]
    #: users whose window is not over, users seen in several variants
    immature: int
    crossed: int
    #: sentences about what makes these figures doubtful
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            "as_of": self.as_of.isoformat(),
            "holdout": self.holdout,
            "alpha": self.alpha,
            "correction": "Bonferroni over variants; one metric decides",
            "lines": [
                {key: vars(each) if isinstance(each, Interval) else each for key, each in vars(line).items()}
                for line in self.lines
            ],
            "sample_ratio": {name: ratio.as_json() for name, ratio in self.ratios.items()},
            "immature": self.immature,
            "crossed": self.crossed,
            "warnings": list(self.warnings),
        }

    def as_frame(self) -> pl.DataFrame:
        """One row a line; intervals as `…_low`, `…_high`, the effect as `effect`."""
        rows = []
        for line in self.lines:
            row: dict[str, Any] = {"effect": line.always.mean if line.always else None}
            for key, value in vars(line).items():
                if key in ("one_look", "always", "total"):
                    row[f"{key}_low"] = value.low if value else None
                    row[f"{key}_high"] = value.high if value else None
                else:
                    row[key] = value
            rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None)


def read_out(
    experiment: Experiment,
    assigned: pl.DataFrame,
    outcomes: pl.DataFrame,
    as_of: datetime,
    *,
    covariates: pl.DataFrame | None = None,
    segments: tuple[str, ...] = (),
) -> Readout:
    """Frames as for `user_outcomes`; `segments`: columns of `assigned` in which the split is looked at too.

    Raises BadInput for frames that do not fit, or when no user's window is over.
    """
    users = user_outcomes(assigned, outcomes, experiment, as_of, covariates)
    if users.frame.is_empty():
        raise BadInput(
            "is before the first user's window is over", where=f"experiment {experiment.name}", field="as_of",
            value=as_of.isoformat(),
        )  # fmt: skip
    lines: list[Line] = []
    ratios = {}
    for (subject,), part in users.frame.group_by(SUBJECT, maintain_order=True):
        # the split is that of all who came, not only of those whose window is over
        came = users.everyone.filter(pl.col(SUBJECT) == subject)
        ratio = sample_ratio(came, shares_of(experiment), segments)
        ratios[str(subject)] = ratio
        lines += _lines(experiment, str(subject), part, users, readable=not ratio.alarm)
    return Readout(
        experiment=experiment.name,
        as_of=as_of,
        holdout=experiment.holdout,
        alpha=experiment.alpha,
        lines=tuple(lines),
        ratios=ratios,
        immature=users.immature,
        crossed=users.crossed,
        warnings=_warnings(users, ratios, lines),
    )


def _lines(
    experiment: Experiment, subject: str, part: pl.DataFrame, users: UserOutcomes, *, readable: bool
) -> list[Line]:
    found = []
    shares = shares_of(experiment)
    alpha = experiment.alpha / (len(shares) - 1)
    for i, metric in enumerate(experiment.metrics):
        arms = {name: _arm(part.filter(pl.col("variant") == name), i, metric, users) for name in shares}
        holdout = arms.pop(experiment.holdout)
        for name, arm in arms.items():
            planned = experiment.planned * (shares[name] + shares[experiment.holdout])
            line = _line(metric, arm, holdout, alpha, len(arms), planned, readable=readable)
            found.append(
                Line(subject=subject, variant=name, decides=i == 0,
                     capped=users.capped.get(metric.name, 0.0), **line)
            )  # fmt: skip
    return found


def _arm(rows: pl.DataFrame, i: int, metric: Metric, users: UserOutcomes) -> Arm:
    return Arm(
        values=rows[f"value_{i}"].to_numpy(),
        per=rows[f"per_{i}"].to_numpy() if metric.per else None,
        covariates=rows.select(users.covariates).to_numpy() if users.covariates else None,
    )


def _line(
    metric: Metric, variant: Arm, holdout: Arm, alpha: float, tests: int, planned: float, *, readable: bool
) -> dict[str, Any]:
    found = effect(variant, holdout)
    line: dict[str, Any] = {
        "metric": metric.name,
        "users": len(variant.values),
        "users_holdout": len(holdout.values),
        "mean": variant.figure if np.isfinite(variant.figure) else None,
        "mean_holdout": holdout.figure if np.isfinite(holdout.figure) else None,
        **dict.fromkeys(("one_look", "always", "p_one_look", "p_always", "relative", "total")),
        "explained": 0.0,
        "finding": TOO_LITTLE,
    }
    if found is None or not found.error:
        return line
    z = found.effect / found.error
    always = _interval(found, float(reach(found.users, planned, alpha)), alpha)
    line["one_look"], line["always"] = _interval(found, float(norm.ppf(1 - alpha / 2)), alpha), always
    line["p_one_look"] = min(float(2 * norm.sf(abs(z))) * tests, 1.0)
    line["p_always"] = min(float(always_valid_p(z, found.users, planned, alpha)) * tests, 1.0)
    line["relative"] = found.effect / abs(found.holdout) if found.holdout else None
    line["total"] = None if metric.per else _scaled(always, len(variant.values))
    line["explained"] = found.explained
    line["finding"] = _finding(metric, always) if readable else NOT_READABLE
    return line


def _finding(metric: Metric, always: Interval) -> str:
    if always.low <= 0 <= always.high:
        return OPEN
    return BETTER if (always.mean > 0) == (metric.better == "more") else WORSE


def _warnings(users: UserOutcomes, ratios: dict[str, SampleRatio], lines: list[Line]) -> tuple[str, ...]:
    said = [
        f"{subject}: the split is not what was declared (p {ratio.p_always:.1g}); nothing here is to be read"
        for subject, ratio in ratios.items()
        if ratio.alarm
    ]
    if users.crossed:
        said.append(f"{users.crossed} users were seen in several variants; they count in their first")
    if any(line.finding == TOO_LITTLE for line in lines):
        said.append(f"nothing is said below {FEWEST} users a variant, {INFORMATIVE} of them unlike the rest")
    return tuple(said)


def _interval(found: Effect, errors: float, alpha: float) -> Interval:
    half = errors * found.error
    return Interval(mean=found.effect, low=found.effect - half, high=found.effect + half, level=1 - alpha)


def _scaled(interval: Interval, by: float) -> Interval:
    low, high = sorted((interval.low * by, interval.high * by))
    return Interval(mean=interval.mean * by, low=low, high=high, level=interval.level)
