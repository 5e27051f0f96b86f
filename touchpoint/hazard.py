"""Hazards that depend on a count, on time since, and on the kind of user: a Poisson additive model.

    log hazard(s, k, r) = level + level_s + 2^(−r / half_life) · (curve(k) + curve_s(k)) [+ drawn(k)]

`curve` is a random walk over k that begins at zero, so it may rise, fall, or do one after the other; each
segment departs from it by a random walk of its own (hierarchical shrinkage). `drawn` is what rows that were
not randomised differ by: the randomised ones ground the curve, the others sharpen it as far as they agree
(after Kallus, Puli, Shalit: Removing Hidden Confounding by Experimental Grounding, NeurIPS 2018).

Mode by Newton steps over counts, in which each segment is a block of its own, so the cost is linear in
segments; variances of the walks by expectation maximisation, the half-life by the Laplace approximation of
the evidence (Wood, Generalized Additive Models, 2nd ed., 2017, sections 6.2 and 6.6); posterior Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput

Floats = NDArray[np.float64]

#: of the walks' variances: what is begun with, and between which they stay
_BEGUN, _LEAST, _MOST = 0.3, 1e-3, 4.0
#: priors on them, worth one observation each: of a step of the common curve, of a segment's, of what rows
#: that were not randomised differ by, and of a level. Wide, so that who was never touched often may yet
#: answer
_PRIOR = (0.25, 0.25, 0.01, 0.25)
_ROUNDS, _NEWTON, _CLOSE = 25, 3, 1e-3
HALF_LIVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: octaves by which neighbours differ
_NEARER: Sequence[float] = (0.5, 0.25, 0.125)
_NEAR: Sequence[float] = (0.125,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What was seen, as counts; arrays of one shape [segments, 2, k, r]: the second axis is 0 for rows that
    were not randomised and 1 for those that were. r = 0 is the day of the k-th exposure itself."""

    #: days (or exposures) at risk; ≥ 0, may be weighted
    at_risk: Floats
    #: of them, those with the event
    events: Floats

    def __post_init__(self) -> None:
        if self.at_risk.shape != self.events.shape or self.at_risk.ndim != 4 or self.at_risk.shape[1] != 2:
            raise BadInput("are not both [segments, 2, k, r]", field="counts", value=str(self.at_risk.shape))
        if not (np.isfinite(self.at_risk).all() and (self.events >= 0).all()):
            raise BadInput("are not finite and ≥ 0", field="counts")
        if (self.events > self.at_risk + 1e-9).any():
            raise BadInput("has more events than there were days at risk", field="counts")

    def __add__(self, other: Counts) -> Counts:
        return Counts(at_risk=self.at_risk + other.at_risk, events=self.events + other.events)

    def faded(self, share: float) -> Counts:
        """As if only `share` of it had been seen: how a posterior is carried over to a world that changes."""
        return Counts(at_risk=share * self.at_risk, events=share * self.events)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hazards:
    """The posterior: for each segment a Gaussian over (level, curve(1) … curve(K)), on the log scale."""

    #: [segments, 1 + K]
    mean: Floats
    #: [segments, 1 + K, 1 + K]
    covariance: Floats
    #: days in which what an exposure adds to the log hazard halves
    half_life: float
    #: standard deviations of a step of: the common curve, a segment's, rows not randomised; of levels
    walks: tuple[float, float, float, float]
    #: log evidence by Laplace's approximation, up to a constant
    evidence: float
    #: what rows that were not randomised differ by at each k, log scale: mean and standard deviation, [K]
    drawn: Floats
    drawn_deviation: Floats

    def log_hazards(self, r: Sequence[float]) -> Floats:
        """[segments, 1 + K, len(r)] at the mean."""
        curve = np.concatenate([np.zeros((len(self.mean), 1)), self.mean[:, 1:]], 1)
        fades = _fading(np.asarray(r, float), self.half_life)
        return np.asarray(self.mean[:, :1, None] + curve[:, :, None] * fades, float)

    def hazards(self, r: Sequence[float]) -> Floats:
        """P(event on that day) at the mean, as `log_hazards`; never above 0.95."""
        return np.asarray(np.minimum(np.exp(self.log_hazards(r)), 0.95), float)

    def deviations(self) -> Floats:
        """Standard deviations of the log hazards on the day of the k-th exposure, [segments, 1 + K]."""
        level = self.covariance[:, 0, 0][:, None]
        curve = np.diagonal(self.covariance, axis1=1, axis2=2)[:, 1:]
        both = level + curve + 2 * self.covariance[:, 0, 1:]
        return np.asarray(np.sqrt(np.maximum(np.concatenate([level, both], 1), 0.0)), float)

    def expected(self, r: Sequence[float]) -> Floats:
        """Means of P(event on that day), as `log_hazards`; never above 0.95. Above `hazards` by as much as is
        not known: exp(mean + variance / 2)."""
        fades = _fading(np.asarray(r, float), self.half_life)
        own, beside = np.diagonal(self.covariance, axis1=1, axis2=2).copy(), self.covariance[:, 0].copy()
        level = own[:, :1, None].copy()
        own[:, 0] = beside[:, 0] = 0.0
        variance = level + 2 * beside[:, :, None] * fades + own[:, :, None] * fades**2
        return np.asarray(np.minimum(np.exp(self.log_hazards(r) + variance / 2), 0.95), float)


def fit_hazards(
    counts: Counts, *, half_lives: Sequence[float] = HALF_LIVES, start: Hazards | None = None
) -> Hazards:
    """The posterior from counts, at the half-life of most evidence: the best of `half_lives`, then looked
    for more closely around it. One alone is taken as it is. `start`, an earlier posterior of as many
    segments and k, saves time: then only the neighbours of its half-life are tried. Raises BadInput for
    counts that are none."""
    if not counts.at_risk.any():
        raise BadInput("nobody was ever at risk", field="counts")
    steps: Sequence[float] = _NEARER
    if start is not None and start.mean.shape[0] == counts.at_risk.shape[0]:
        best, steps = _fit(counts, start.half_life, start), _NEAR
    else:
        best = max((_fit(counts, each, start) for each in half_lives), key=lambda each: each.evidence)
    if len(half_lives) > 1:
        for step in steps:
            around = (_fit(counts, best.half_life * 2.0**each, best) for each in (-step, step))
            best = max((best, *around), key=lambda each: each.evidence)
    return best


def _fading(r: Floats, half_life: float) -> Floats:
    return np.asarray(2.0 ** (-r / half_life), float)


def _walk(size: int) -> Floats:
    """Precision of a random walk from zero with steps of variance one."""
    steps = np.eye(size) - np.eye(size, k=-1)
    return np.asarray(steps.T @ steps, float)


def _fit(counts: Counts, half_life: float, start: Hazards | None) -> Hazards:
    segments, _, ks, rs = counts.at_risk.shape
    top = ks - 1
    n, y = counts.at_risk, counts.events
    fades = _fading(np.arange(rs, dtype=float), half_life)
    width, whole = ks, 2 * ks - 1
    walk = _walk(top)
    common, own = np.zeros(whole), np.zeros((segments, width))
    common[0] = np.log((y.sum() + 0.5) / (n.sum() + 1.0))
    variance = np.full(4, _BEGUN)
    if start is not None and start.mean.shape == own.shape:
        common[:width] = start.mean.mean(axis=0)
        own = start.mean - common[:width]
        common[width:] = start.drawn
        variance = np.array(start.walks) ** 2
    solved = _Step(n, y, fades, common, own, variance, walk)
    for _ in range(_ROUNDS):
        before = variance.copy()
        for _ in range(_NEWTON):
            solved = _Step(n, y, fades, common, own, variance, walk)
            moved = max(np.abs(solved.common).max(), np.abs(solved.own).max())
            scale = min(1.0, 2.0 / max(moved, 1e-12))
            common, own = common + scale * solved.common, own + scale * solved.own
            if moved < _CLOSE:
                break
        variance = solved.variances(common, own, walk, width)
        if np.abs(np.log(variance / before)).max() < 0.02:
            break
    solved = _Step(n, y, fades, common, own, variance, walk)
    return Hazards(
        mean=common[:width] + own,
        covariance=solved.theta_covariance(width),
        half_life=half_life,
        walks=(
            float(np.sqrt(variance[0])), float(np.sqrt(variance[1])),
            float(np.sqrt(variance[2])), float(np.sqrt(variance[3])),
        ),
        evidence=solved.evidence(),
        drawn=common[width:],
        drawn_deviation=np.sqrt(np.maximum(np.diag(solved.common_covariance)[width:], 0.0)),
    )  # fmt: skip


class _Step:
    """One Newton step from (common, own), with what is needed of the curvature there."""

    def __init__(
        self, n: Floats, y: Floats, fades: Floats, common: Floats, own: Floats, variance: Floats, walk: Floats
    ) -> None:
        """`n`, `y` [segments, 2, 1 + K, r]; `fades` [r]. A row of them touches a level and, faded, one k:
        so the curvature is sums over r, and never a product of designs."""
        top = len(walk)
        width, whole = 1 + top, 1 + 2 * top
        curve, other = common[1:width] + own[:, 1:], common[width:]
        bend = np.zeros((len(n), 2, width))
        bend[:, :, 1:] = curve[:, None]
        bend[:, 0, 1:] += other
        log_rate = (common[0] + own[:, 0])[:, None, None, None] + bend[..., None] * fades
        log_rate = np.clip(log_rate, -30.0, 3.0)
        rate = n * np.exp(log_rate)
        self._likelihood = float((y * log_rate - rate).sum())
        prior = np.zeros((whole, whole))
        prior[0, 0] = 1e-6
        prior[1:width, 1:width] = walk / variance[0]
        prior[width:, width:] = walk / variance[2]
        mine = np.zeros((width, width))
        mine[0, 0] = 1.0 / variance[3]
        mine[1:, 1:] = walk / variance[1]
        rest, ks = y - rate, np.arange(1, width)
        slope, first, second = (rest @ fades)[..., 1:], (rate @ fades)[..., 1:], (rate @ fades**2)[..., 1:]
        each = np.concatenate([rest.sum(axis=(1, 2, 3))[:, None], slope.sum(axis=1)], 1)
        ahead = np.concatenate([each.sum(axis=0), slope[:, 0].sum(axis=0)]) - prior @ common
        each = each - own @ mine
        d = np.zeros((len(n), width, width))
        d[:, 0, 0] = rate.sum(axis=(1, 2, 3))
        d[:, 0, 1:] = d[:, 1:, 0] = first.sum(axis=1)
        d[:, ks, ks] = second.sum(axis=1)
        b = np.concatenate([d, np.zeros((len(n), width, top))], 2)
        b[:, 0, width:] = first[:, 0]
        b[:, ks, top + ks] = second[:, 0]
        a = np.zeros((whole, whole))
        a[:width] = b.sum(axis=0)
        a[width:, :width] = a[:width, width:].T
        a[top + ks, top + ks] = second[:, 0].sum(axis=0)
        a, d = a + prior, d + mine
        inverse: Floats = np.asarray(np.linalg.inv(d), float)
        pulled: Floats = np.asarray(inverse @ b, float)
        schur = a - np.tensordot(b, pulled, axes=((0, 1), (0, 1)))
        self.common_covariance: Floats = np.asarray(np.linalg.inv(schur), float)
        self.common = self.common_covariance @ (ahead - np.einsum("sij,si->j", pulled, each))
        self.own = np.einsum("sij,sj->si", inverse, each) - pulled @ self.common
        self._inverse, self._pulled = inverse, pulled
        penalty = common @ prior @ common + np.einsum("si,ij,sj->", own, mine, own)
        walked = len(n) * top * np.log(variance[1]) + len(n) * np.log(variance[3])
        walked += top * (np.log(variance[0]) + np.log(variance[2]))
        bent = np.linalg.slogdet(d)[1].sum() + np.linalg.slogdet(schur)[1]
        self._evidence = self._likelihood - 0.5 * (penalty + walked + bent)

    def evidence(self) -> float:
        return float(self._evidence)

    def _own_covariance(self) -> Floats:
        spread = self._pulled @ self.common_covariance @ self._pulled.transpose(0, 2, 1)
        return np.asarray(self._inverse + spread, float)

    def theta_covariance(self, width: int) -> Floats:
        """Of common + own, each segment: both parts, and that they lean against each other."""
        shared = self.common_covariance[:width]
        cross = -np.einsum("ij,slj->sil", shared, self._pulled)
        total = shared[:, :width][None] + self._own_covariance() + cross + cross.transpose(0, 2, 1)
        return np.asarray((total + total.transpose(0, 2, 1)) / 2, float)

    def variances(self, common: Floats, own: Floats, walk: Floats, width: int) -> Floats:
        """Those that the posterior expects: of the common walk, the segments', the drawn one, levels."""
        mine, top = self._own_covariance(), len(walk)

        def steps(values: Floats, covariance: Floats) -> float:
            return float(values @ walk @ values + (walk * covariance).sum())

        segments = len(own)
        curves = np.einsum("si,ij,sj->", own[:, 1:], walk, own[:, 1:])
        curves += (walk * mine[:, 1:, 1:].sum(axis=0)).sum()
        levels = (own[:, 0] ** 2).sum() + mine[:, 0, 0].sum()
        found = [
            (steps(common[1:width], self.common_covariance[1:width, 1:width]), top),
            (float(curves), segments * top),
            (steps(common[width:], self.common_covariance[width:, width:]), top),
            (float(levels), segments),
        ]
        return np.clip(
            [(total + prior) / (count + 1) for (total, count), prior in zip(found, _PRIOR, strict=True)],
            _LEAST, _MOST,
        )  # fmt: skip
