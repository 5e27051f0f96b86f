"""Is the split what was declared? A variant that loses users before they are counted makes all figures wrong.

At one look: Pearson's chi-squared. At every look: the Dirichlet mixture of multinomials (Lindon & Malek
2022), whose odds against the declared shares exceed 1/α at any look with probability α at most, exactly, for
any number of looks. Its priors are centred on the declared shares with the weight of `CONCENTRATIONS` users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import chi2

from kernel.errors import BadInput

Floats = NDArray[np.float64]
#: an experiment whose counts are this unlikely is not to be read: one false alarm in a thousand
ALPHA = 0.001
#: weights of the prior: the least finds a broken split among the first hundred users, the most one of a
#: percent among a hundred thousand; each has an equal part of the odds
CONCENTRATIONS = np.array([10.0, 100.0, 1000.0, 10_000.0])
#: what to look at (after the taxonomy of Fabijan et al. 2019)
CAUSES = (
    "is a user counted when bucketed in one variant, but when exposed in another?",
    "does a variant crash, redirect or load slowly before it is logged?",
    "were shares changed while it ran? then read each period by itself",
    "are bots, staff or duplicates removed by something that the treatment changes?",
    "is a rule, an activity or another experiment keeping some of the users away?",
)


@dataclass(frozen=True, kw_only=True)
class SampleRatio:
    """Counted against declared."""

    #: variant → users
    counts: Mapping[str, int]
    #: variant → declared share
    shares: Mapping[str, float]
    #: of Pearson's chi-squared on all users so far, good for one look
    p_fixed: float
    #: good for all looks at once
    p_always: float
    #: first day on which the sequential test said so; None: it never did
    since: object | None
    #: segment column, label, variant, counted, expected, p (Bonferroni): those off balance, worst first
    segments: pl.DataFrame

    @property
    def alarm(self) -> bool:
        return self.p_always <= ALPHA

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": dict(self.counts),
            "shares": dict(self.shares),
            "p_fixed": self.p_fixed,
            "p_always": self.p_always,
            "alarm": self.alarm,
            "since": None if self.since is None else str(self.since),
            "segments": self.segments.to_dicts(),
            "look_at": list(CAUSES) if self.alarm else [],
        }


def sample_ratio(
    assigned: pl.DataFrame, shares: Mapping[str, float], segments: tuple[str, ...] = ()
) -> SampleRatio:
    """`assigned`: user, variant, at (an instant), and columns of `segments`, one row a user.

    Looks are taken at the end of each UTC day. Raises BadInput for a variant that is not declared, or when
    there is nobody.
    """
    for name in ("variant", "at"):
        if name not in assigned.columns:
            raise BadInput("is missing", where="assigned", field=name)
    if not isinstance(assigned.schema["at"], pl.Datetime):
        raise BadInput("is not a time", where="assigned", field="at", value=str(assigned.schema["at"]))
    names = list(shares)
    unknown = assigned.filter(~pl.col("variant").is_in(names))
    if unknown.height:
        raise BadInput("is not a variant of the experiment", field="variant", value=unknown["variant"][0])
    if assigned.is_empty():
        raise BadInput("holds nobody", field="assigned")
    theta = np.array([shares[name] for name in names])
    theta = theta / theta.sum()
    by_day = assigned.group_by(pl.col("at").dt.date().alias("day")).agg(
        (pl.col("variant") == name).sum().alias(f"n{i}") for i, name in enumerate(names)
    )
    by_day = by_day.sort("day")
    running = by_day.drop("day").to_numpy().cumsum(axis=0).astype(np.float64)
    p = sequential_p(running, theta)
    alarms = np.flatnonzero(p <= ALPHA)
    return SampleRatio(
        counts={name: int(count) for name, count in zip(names, running[-1], strict=True)},
        shares=dict(zip(names, theta.tolist(), strict=True)),
        p_fixed=float(chi_squared_p(running[-1], theta)),
        p_always=float(p[-1]),
        since=by_day["day"][int(alarms[0])] if len(alarms) else None,
        segments=_off_balance(assigned, dict(zip(names, theta, strict=True)), segments),
    )


def chi_squared_p(counts: Floats, theta: Floats) -> Any:
    """Pearson's test of counts (… × k) against shares (k): … p-values."""
    expected = counts.sum(axis=-1, keepdims=True) * theta
    return chi2.sf((np.square(counts - expected) / expected).sum(axis=-1), counts.shape[-1] - 1)


def sequential_p(running: Floats, theta: Floats) -> Floats:
    """Running counts (… × looks × k) against shares (k): p-values at each look, good for all looks so far."""
    users = running.sum(axis=-1)
    odds = []
    for weight in CONCENTRATIONS:
        prior = weight * theta
        drawn = (gammaln(prior + running) - gammaln(prior) - running * np.log(theta)).sum(axis=-1)
        odds.append(gammaln(weight) - gammaln(weight + users) + drawn)
    log_odds = logsumexp(odds, axis=0) - np.log(len(odds))
    return np.asarray(np.exp(-np.maximum.accumulate(np.maximum(log_odds, 0.0), axis=-1)))


def _off_balance(
    assigned: pl.DataFrame, shares: Mapping[str, float], segments: tuple[str, ...]
) -> pl.DataFrame:
    """Labels of the segment columns whose counts do not fit, each variant's part, worst first."""
    schema = {
        "segment": pl.String, "label": pl.String, "variant": pl.String,
        "counted": pl.Int64, "expected": pl.Float64, "p": pl.Float64,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    theta, tests = np.array(list(shares.values())), 0
    for segment in segments:
        if segment not in assigned.columns:
            raise BadInput("is not a column of the assignments", field="segment", value=segment)
        for (label,), part in assigned.group_by(pl.col(segment).cast(pl.String), maintain_order=True):
            tests += 1
            counts = np.array([(part["variant"] == name).sum() for name in shares], dtype=np.float64)
            p = float(chi_squared_p(counts, theta))
            for name, count, share in zip(shares, counts, theta, strict=True):
                rows.append(
                    {"segment": segment, "label": label, "variant": name, "counted": int(count),
                     "expected": part.height * float(share), "p": p}
                )  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema)
    corrected = frame.with_columns((pl.col("p") * max(tests, 1)).clip(upper_bound=1.0))
    return corrected.filter(pl.col("p") <= ALPHA).sort("p", "segment", "label", "variant", nulls_last=True)
