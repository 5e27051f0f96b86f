"""The yardstick of customer value: BG/NBD for how often users buy, Gamma–Gamma for how much.

Fader, Hardie & Lee, "Counting your customers the easy way: an alternative to the Pareto/NBD model",
Marketing Science 2005 (the likelihood is their equation 6, the expectation equation 10); Fader & Hardie,
"The Gamma-Gamma model of monetary value", 2013; Fader, Hardie & Lee, "RFM and CLV", 2005.

A user's record is three numbers, in one unit of time: `x` repeat purchases, the last of them `tx` after the
first, and `t`: how long after the first the record ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, gammaln, hyp2f1

from kernel.errors import BadInput

Floats = NDArray[np.float64]
_WEEK = 7 * 86_400_000_000
_STRICT = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9}


@dataclass(frozen=True, kw_only=True)
class BetaGeoNbd:
    """Purchases at a rate ~ Gamma(r, alpha) until, after any one with probability ~ Beta(a, b), the last."""

    r: float
    alpha: float
    a: float
    b: float
    #: log-likelihood of a user, mean
    fit: float

    def expected(self, x: Floats, tx: Floats, t: Floats, ahead: float) -> Floats:
        """Expected purchases of each user within `ahead` after the record's end (equation 10)."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        z = ahead / (alpha + t + ahead)
        grown = ((alpha + t) / (alpha + t + ahead)) ** (r + x) * hyp2f1(r + x, b + x, a + b + x - 1, z)
        # at a = 1 the formula is 0 / 0; next to it, it is exact enough
        less = a - 1 if abs(a - 1) > 1e-6 else 1e-6
        return np.asarray((a + b + x - 1) / less * (1 - grown) * self.alive(x, tx, t))

    def alive(self, x: Floats, tx: Floats, t: Floats) -> Floats:
        """P(the user has not stopped); one who never came back is taken to be there."""
        odds = np.log(self.a / (self.b + np.maximum(x, 1) - 1)) + (self.r + x) * np.log(
            (self.alpha + t) / (self.alpha + tx)
        )
        return np.where(x > 0, expit(-odds), 1.0)


def fit_bg_nbd(x: Floats, tx: Floats, t: Floats) -> BetaGeoNbd:
    """Most likely parameters, by L-BFGS on their logarithms with exact derivatives.

    Raises BadInput for records that cannot be, or when nobody came back.
    """
    _check(x, tx, t)
    if not (x > 0).any():
        raise BadInput("nobody bought a second time", where="BG/NBD", field="x")
    # in units of the mean record: the search is the same for days and years
    unit = float(t.mean())
    x, tx, t = x.astype(np.float64), tx / unit, t / unit
    records, count = np.unique(np.column_stack([x, tx, t]), axis=0, return_counts=True)
    begin = np.log([1.0, 1.0, 0.7, 1.5])
    found = min(
        (
            minimize(
                _unlikely,
                begin + shift,
                args=(*records.T, count),
                jac=True,
                method="L-BFGS-B",
                bounds=[(-12, 12)] * 4,
                options=_STRICT,
            )
            for shift in (0.0, np.array([-1.5, 1.0, -1.0, 1.0]))
        ),
        key=lambda each: each.fun,
    )
    r, alpha, a, b = np.exp(found.x).tolist()
    return BetaGeoNbd(r=r, alpha=alpha * unit, a=a, b=b, fit=-float(found.fun))


def _unlikely(
    logs: Floats, x: Floats, tx: Floats, t: Floats, count: NDArray[np.int64]
) -> tuple[float, Floats]:
    """−log-likelihood, a user (equation 6), and its derivatives by the logarithms of the parameters."""
    r, alpha, a, b = np.exp(logs)
    more = x > 0
    y = np.maximum(x, 1)
    first = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + betaln(a, b + x) - betaln(a, b)
    stays = -(r + x) * np.log(alpha + t)
    stops = np.where(more, np.log(a / (b + y - 1)) - (r + x) * np.log(alpha + tx), -np.inf)
    total = first + np.logaddexp(stays, stops)
    w = np.where(more, np.exp(stops - np.logaddexp(stays, stops)), 0.0)
    by_r = digamma(r + x) - digamma(r) + np.log(alpha) - (1 - w) * np.log(alpha + t) - w * np.log(alpha + tx)
    by_alpha = r / alpha - (r + x) * ((1 - w) / (alpha + t) + w / (alpha + tx))
    both = digamma(a + b) - digamma(a + b + x)
    by_a = both + w / a
    by_b = both + digamma(b + x) - digamma(b) - w / (b + y - 1)
    share = count / count.sum()
    slope = np.array([share @ by_r * r, share @ by_alpha * alpha, share @ by_a * a, share @ by_b * b])
    return -float(share @ total), -slope


@dataclass(frozen=True, kw_only=True)
class GammaGamma:
    """A purchase's money ~ Gamma(p, v_i) with v_i ~ Gamma(q, v)."""

    p: float
    q: float
    v: float

    def expected(self, x: Floats, mean: Floats) -> Floats:
        """Expected money of a purchase for users with `x` purchases of `mean` money (x = 0: everyone's)."""
        return np.asarray(self.p * (self.v + x * mean) / np.maximum(self.p * x + self.q - 1, 1e-9))


def fit_gamma_gamma(x: Floats, mean: Floats) -> GammaGamma:
    """From users with at least one purchase and money above 0. Raises BadInput when there is none."""
    kept = (x > 0) & (mean > 0)
    if not kept.any():
        raise BadInput("no purchase has money", where="Gamma-Gamma", field="amount")
    x, unit = x[kept].astype(np.float64), float(mean[kept].mean())
    m = mean[kept] / unit

    def unlikely(logs: Floats) -> tuple[float, Floats]:
        p, q, v = np.exp(logs)
        both = np.log(v + x * m)
        total = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(v) - np.log(m)
        total += p * x * np.log(x * m) - (p * x + q) * both
        top = digamma(p * x + q)
        by_p = x * (top - digamma(p * x) + np.log(x * m) - both)
        by_q = top - digamma(q) + np.log(v) - both
        by_v = q / v - (p * x + q) / (v + x * m)
        return -float(total.mean()), -np.array([by_p.mean() * p, by_q.mean() * q, by_v.mean() * v])

    begin = np.log([2.0, 3.0, 2.0])
    found = minimize(unlikely, begin, jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * 3, options=_STRICT)
    p, q, v = np.exp(found.x).tolist()
    return GammaGamma(p=p, q=q, v=v * unit)


def purchase_records(purchases: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """user, x, tx, t (weeks), spent (money of the repeat purchases, mean a purchase), for buyers by `as_of`.

    Purchases of one calendar day (UTC) count as one, as in the papers.
    """
    days = (
        purchases.lazy()
        .filter(pl.col("at") <= as_of)
        .group_by("user", pl.col("at").dt.truncate("1d").alias("day"))
        .agg(pl.col("amount").sum().cast(pl.Float64))
    )
    first = pl.col("day") == pl.col("day").min()
    return (
        days.group_by("user")
        .agg(
            (pl.len() - 1).cast(pl.Float64).alias("x"),
            ((pl.col("day").max() - pl.col("day").min()).dt.total_microseconds() / _WEEK).alias("tx"),
            ((pl.lit(as_of) - pl.col("day").min()).dt.total_microseconds() / _WEEK).alias("t"),
            pl.col("amount").filter(~first).mean().fill_null(0.0).round_sig_figs(12).alias("spent"),
        )
        .sort("user")
        .collect()
    )


def _check(x: Floats, tx: Floats, t: Floats) -> None:
    if not len(x) == len(tx) == len(t) or not len(x):
        raise BadInput("needs x, tx and t of each user", where="BG/NBD", field="records", value=len(x))
    for name, wrong in (
        ("x", ~np.isfinite(x) | (x < 0)),
        ("tx", ~np.isfinite(tx) | (tx < 0) | (tx > t) | ((x == 0) & (tx != 0))),
        ("t", ~np.isfinite(t) | (t < 0)),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = (float(x[row]), float(tx[row]), float(t[row]))
            raise BadInput("cannot be: x, tx, t", where=f"BG/NBD, row {row}", field=name, value=value)
