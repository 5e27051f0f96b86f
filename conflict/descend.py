"""Prices of a lower bound inside a box, by L-BFGS-B (Byrd, Lu, Nocedal and Zhu, 1995): one pass a step."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from conflict.problem import Floats, Mask, Problem
from conflict.reply import Box, worth

#: passes of one descent
_PASSES = 16


def descend(problem: Problem, box: Box) -> tuple[Floats, Mask]:
    """Prices of a lower bound within the box, and which would go on past its edge, [L].

    Inside, both ends of a limit have a price ≥ 0 of their own.
    """
    rules = problem.rules
    up, down = np.isfinite(rules.at_most), np.isfinite(rules.at_least)
    limit = np.r_[np.flatnonzero(up), np.flatnonzero(down)]
    sign = np.r_[np.ones(int(up.sum())), -np.ones(int(down.sum()))]
    room = np.r_[rules.at_most[up], -rules.at_least[down]]
    half = np.maximum((box.high - box.low)[limit] / 2, 1e-300)
    low = np.r_[np.maximum(box.low[up], 0), np.maximum(-box.high[down], 0)]
    high = np.r_[np.maximum(box.high[up], 0), np.maximum(-box.low[down], 0)]
    high = np.maximum(low, high)
    at = np.clip(np.r_[np.maximum(box.at[up], 0), np.maximum(-box.at[down], 0)], low, high)
    scale = 0.0

    def value(z: Floats) -> tuple[float, Floats]:
        nonlocal scale
        side = z * half
        prices = np.bincount(limit, weights=sign * side, minlength=rules.limits).astype(np.float64)
        here = worth(problem, prices)
        slope = (room - sign * here.use[limit]) * half
        if not scale:
            scale = float(np.max(np.abs(slope))) or 1.0
        return (here.net + float(side @ room)) / scale, slope / scale

    found = minimize(
        value, at / half, jac=True, method="L-BFGS-B", bounds=list(zip(low / half, high / half, strict=True)),
        options={"maxfun": _PASSES, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-7},
    )  # fmt: skip
    prices = np.bincount(limit, weights=sign * found.x * half, minlength=rules.limits).astype(np.float64)
    use = worth(problem, prices).use
    rising = np.where(prices >= 0, rules.at_most - use, rules.at_least - use) > 0
    return prices, np.where(prices > box.at, ~rising, rising).astype(np.bool_)
