"""Worlds whose effects are planted: what a learner should find is known for every user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class UpliftWorld:
    """n users of six features."""

    users: pl.DataFrame
    #: 1 treated, 0 control
    treatment: NDArray[np.int64]
    y: Floats
    #: n planted effects
    effect: Floats
    #: treatment → P(treated), where the experimenter would know it
    propensity: Mapping[str, float] | None


def _world(
    effect: Callable[[Floats], Floats], odds: Callable[[Floats], Floats] | None
) -> Callable[[int, int], UpliftWorld]:
    """`odds`: log-odds of being treated; absent: a coin."""

    def draw(count: int, seed: int) -> UpliftWorld:
        rng = np.random.default_rng([seed, 11])
        x = rng.normal(size=(count, 6))
        chance = np.full(count, 0.5) if odds is None else expit(odds(x))
        treated = (rng.random(count) < chance).astype(np.int64)
        truth = effect(x)
        y = 0.8 * x[:, 4] + np.maximum(x[:, 1], 0) + truth * treated + rng.normal(size=count)
        return UpliftWorld(
            users=pl.DataFrame(x, schema=[f"f{each}" for each in range(6)], orient="row"),
            treatment=treated,
            y=y,
            effect=truth,
            propensity={"1": 0.5} if odds is None else None,
        )

    return draw


#: name → (users, seed) → world
WORLDS: Mapping[str, Callable[[int, int], UpliftWorld]] = {
    "linear": _world(lambda x: 0.4 + 0.3 * x[:, 0] - 0.2 * x[:, 2], None),
    "interacting": _world(lambda x: 1.0 * (x[:, 2] > 0) * (x[:, 3] > 0), None),
    "no heterogeneity": _world(lambda x: np.full(len(x), 0.3), None),
    "confounded": _world(lambda x: 0.4 + 0.3 * x[:, 2], lambda x: 0.8 * x[:, 4] + 0.5 * x[:, 1]),
    "partly overlapping": _world(lambda x: 0.4 + 0.3 * x[:, 2], lambda x: 2.5 * x[:, 4]),
}
