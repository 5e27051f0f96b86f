"""Lifecycle stages, judged by each user's own rhythm of purchase.

A user's rhythm is the distribution of the log of the own gaps between purchase days. Mean and variance
are shrunk to the population's, the more the fewer gaps there are, so the next gap follows a Student t
whose tail beyond the present silence says how late the user is. Sources: variance and its degrees of
freedom as G. Smyth, "Linear models and empirical Bayes methods", 2004, section 6.2; mean by the normal
model with a normal prior (Gelman et al., "Bayesian Data Analysis", chapter 3); that regularity tells
who is still active, M. Platzer and T. Reutterer, "Ticking away the moments", 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import digamma, polygamma, stdtr

from kernel.people import Stage

#: late enough to be worth a word: nine in ten of the user's own gaps had ended by now
COOLING = 0.10
#: later than 99 of 100 of the own gaps: silence that is no longer part of the rhythm
LAPSED = 0.01
#: purchase days below which the own gaps (at most two) cannot tell a rhythm from an accident
FEW_DAYS = 4
#: own gaps that make a history long: enough to know the own spread within a quarter or so
LONG_GAPS = 12
#: latest gaps that are compared with the own history to see whether the pace has held
RECENT_GAPS = 6
#: the pace has held unless the latest gaps are slower than the own history by this many standard errors
SLOWER = 1.0
#: own rhythms for which a return counts as recent
RETURN_RHYTHMS = 4.0
#: gaps are whole days, so a spread of log gaps below this is rounding, not regularity
LEAST_SPREAD = 0.2
#: variance of the log of an exponential gap: purchases at random, assumed where nobody shows a spread
RANDOM_VARIANCE = math.pi**2 / 6
#: the prior never outweighs this many own gaps, and counts for this many where it cannot be learnt
MOST_PRIOR, PLAIN_PRIOR = 50.0, 4.0

_Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """What is known of anybody's gaps before any of the own is seen; log of days."""

    #: mean of users' mean log gap
    mean: float
    #: variance of users' mean log gaps
    between: float
    #: typical variance of log gaps within a user
    within: float
    #: own gaps that the typical variance is worth
    weight: float

    def typical(self, count: _Numbers, total: _Numbers) -> _Numbers:
        """Median gap in days, after `count` own log gaps that sum to `total`."""
        prior = self.within / self.between
        median: _Numbers = np.exp((total + prior * self.mean) / (count + prior))
        return median

    def variance(self, count: _Numbers, total: _Numbers, squares: _Numbers) -> _Numbers:
        """Shrunk variance of log gaps, from count, sum and sum of squares."""
        own = np.maximum(squares - total**2 / np.maximum(count, 1), 0)
        shrunk: _Numbers = (self.weight * self.within + own) / (self.weight + np.maximum(count - 1, 0))
        return shrunk

    def late(self, count: _Numbers, total: _Numbers, squares: _Numbers, days: _Numbers) -> _Numbers:
        """P(the next gap is longer than `days`)."""
        variance = self.variance(count, total, squares)
        prior = variance / self.between
        centre = (total + prior * self.mean) / (count + prior)
        scale = np.sqrt(variance * (1 + 1 / (count + prior)))
        score = (np.log(np.maximum(days, 1e-6)) - centre) / scale
        tail: _Numbers = stdtr(self.weight + np.maximum(count - 1, 0), -score)
        return tail


def derive_stages(
    *,
    users: pl.DataFrame,
    purchases: pl.DataFrame,
    as_of: datetime,
    zone: ZoneInfo,
    rhythm: Rhythm | None = None,
) -> pl.DataFrame:
    """One row a user of `users`, sorted: user, stage, late (P(gap > silence), NULL without a rhythm),
    rhythm_days (median gap), recency_days (since the last purchase), tenure_days, purchase_days.

    `purchases` after `as_of` are not looked at; days are calendar days of `zone`. `rhythm`: that of
    everybody, where these users are only some; else it is learnt from them.
    """
    days = _days(purchases, as_of, zone)
    history = _history(days, as_of)
    rhythm = rhythm or learn_rhythm(history)
    if rhythm is None:
        nothing = pl.lit(None, pl.Float64)
        staged = history.with_columns(
            late=nothing, rhythm_days=nothing, stage=pl.lit(str(Stage.NEW)), returned_days=nothing
        )
    else:
        staged = _judge(history, days, rhythm, as_of)
    columns = ["stage", "late", "rhythm_days", "recency_days", "tenure_days", "purchase_days"]
    return (
        users.select("user")
        .join(staged.select("user", *columns), on="user", how="left")
        .with_columns(
            pl.col("stage").fill_null(str(Stage.PROSPECT)).cast(pl.Enum([str(stage) for stage in Stage])),
            pl.col("purchase_days").fill_null(0).cast(pl.Int64),
        )
        .sort("user")
    )


def population_rhythm(*, purchases: pl.DataFrame, as_of: datetime, zone: ZoneInfo) -> Rhythm | None:
    """The rhythm of everybody who bought by `as_of`; None if nobody has a gap."""
    return learn_rhythm(_history(_days(purchases, as_of, zone), as_of))


def _history(days: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """One row a user, in order of the first day: ends and sums of the own gaps."""
    history = days.group_by("user", maintain_order=True).agg(
        pl.col("at").last(),
        pl.col("began").first(),
        pl.len().alias("purchase_days"),
        pl.col("gap").count().alias("count"),
        pl.col("gap").sum().alias("total"),
        (pl.col("gap") ** 2).sum().alias("squares"),
        pl.col("gap").tail(RECENT_GAPS).mean().alias("recent"),
    )
    return history.with_columns(
        _since("at", as_of).alias("recency_days"), _since("began", as_of).alias("tenure_days")
    )


def learn_rhythm(history: pl.DataFrame) -> Rhythm | None:
    """The population's rhythm from users' count, total and squares of log gaps; None if nobody has a gap."""
    known = history.filter(pl.col("count") > 0)
    if known.is_empty():
        return None
    count, total, squares = _sums(known)
    means = total / count
    enough = count > 2
    if enough.sum() < 2:
        return Rhythm(mean=float(means.mean()), between=1.0, within=RANDOM_VARIANCE, weight=PLAIN_PRIOR)
    freedom = count[enough] - 1
    variances = np.maximum((squares - total**2 / count)[enough] / freedom, LEAST_SPREAD**2)
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    weight = 2 * _inverse_trigamma(float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean()))
    weight = min(max(weight, 1.0), MOST_PRIOR)
    within = math.exp(float(logs.mean() + digamma(weight / 2) - math.log(weight / 2)))
    between = float(means[enough].var(ddof=1) - (variances / count[enough]).mean())
    return Rhythm(
        mean=float(means.mean()),
        between=max(between, LEAST_SPREAD**2),
        within=max(within, LEAST_SPREAD**2),
        weight=weight,
    )


def _judge(history: pl.DataFrame, days: pl.DataFrame, rhythm: Rhythm, as_of: datetime) -> pl.DataFrame:
    """`history` with late, rhythm_days and stage."""
    sums = _sums(history)
    returns = _returns(days, rhythm, as_of)
    judged = history.with_columns(
        late=pl.Series(rhythm.late(*sums, history["recency_days"].to_numpy())),
        rhythm_days=pl.Series(rhythm.typical(*sums[:2])),
        variance=pl.Series(rhythm.variance(*sums)),
    ).join(returns, on="user", how="left", maintain_order="left")
    usual = math.exp(rhythm.mean + (rhythm.within + rhythm.between) / 2)
    own_mean = pl.col("total") / pl.col("count")
    error = (pl.col("variance") / pl.col("count").clip(upper_bound=RECENT_GAPS)).sqrt()
    few = (pl.col("purchase_days") < FEW_DAYS) & (pl.col("tenure_days") <= FEW_DAYS * usual)
    long = pl.col("count") >= LONG_GAPS
    regular = pl.col("variance") <= rhythm.within
    held = pl.col("recent") <= own_mean + SLOWER * error
    back = pl.col("returned_days") <= RETURN_RHYTHMS * pl.col("rhythm_days")
    return judged.with_columns(
        stage=pl.when(few)
        .then(pl.lit(str(Stage.NEW)))
        .when(pl.col("late") < LAPSED)
        .then(pl.lit(str(Stage.LAPSED)))
        .when(pl.col("late") < COOLING)
        .then(pl.lit(str(Stage.COOLING)))
        .when(back)
        .then(pl.lit(str(Stage.WON_BACK)))
        .when(long & regular & held)
        .then(pl.lit(str(Stage.LOYAL)))
        .otherwise(pl.lit(str(Stage.ACTIVE)))
    )


def _returns(days: pl.DataFrame, rhythm: Rhythm, as_of: datetime) -> pl.DataFrame:
    """user, returned_days: since the latest purchase that ended a silence which counted as lapsed by the
    rhythm before it."""
    gap = pl.col("gap")
    before = days.with_columns(
        count=gap.cum_count().over("user") - 1,
        total=gap.cum_sum().over("user") - gap,
        squares=(gap**2).cum_sum().over("user") - gap**2,
    ).drop_nulls("gap")
    sums = _sums(before)
    late = rhythm.late(*sums, np.exp(before["gap"].to_numpy()))
    ended = before.filter(pl.Series(late < LAPSED))
    return ended.group_by("user").agg(_since("began", as_of).min().alias("returned_days"))


def _days(purchases: pl.DataFrame, as_of: datetime, zone: ZoneInfo) -> pl.DataFrame:
    """One row a user × purchase day, in order: user, began and at (first and last purchase of the day),
    gap (log of days since the purchase day before; NULL for the first)."""
    day = pl.col("at").dt.convert_time_zone(str(zone)).dt.date().alias("day")
    return (
        purchases.lazy()
        .filter(pl.col("at") <= as_of)
        .group_by("user", day)
        .agg(pl.col("at").min().alias("began"), pl.col("at").max())
        .sort("user", "day")
        .with_columns(gap=pl.col("day").diff().over("user").dt.total_days().cast(pl.Float64).log())
        .collect()
    )


def _sums(frame: pl.DataFrame) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Count, sum and sum of squares of log gaps."""
    count, total, squares = (
        frame[name].cast(pl.Float64).to_numpy() for name in ("count", "total", "squares")
    )
    return count, total, squares


def _since(column: str, as_of: datetime) -> pl.Expr:
    return (pl.lit(as_of) - pl.col(column)).dt.total_microseconds() / 86_400_000_000


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value by Newton's method (Smyth 2004, appendix); large where value ≤ 0."""
    if value <= 0:
        return MOST_PRIOR
    x: Any = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / polygamma(2, x)
        x += step
        if -step / x < 1e-8:
            break
    return float(x)
