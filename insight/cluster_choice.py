"""How many clusters there are: the finest clustering that surely comes back.

The largest k whose clustering of bootstrap samples agrees with that of the whole by a mean adjusted Rand
index that is above 0.8 by more than one standard error, so that in doubt there are fewer (stability as in
Ben-Hur et al., "A stability based method", 2002, and prediction strength of Tibshirani and Walther, 2005,
whose 0.8 it is). The silhouette is reported beside it: people are a continuum, and it hardly tells one k
from another.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from kernel.randomness import derive_seed

#: agreement of resampled clusterings from which clusters count as the same ones come back …
REPRODUCED = 0.8
#: … and below which the most stable clustering is no better than none: everybody is one cluster
LEAST_REPRODUCED = 0.5
#: bootstrap samples, and users that choice and fit look at (the others are assigned)
RESAMPLES, FIT_USERS, SILHOUETTE_USERS = 10, 10_000, 2_000
#: a cluster holds at least this part of the buyers and this many of them
LEAST_PART, LEAST_USERS = 0.02, 10

_Numbers = NDArray[np.float64]

#: columns of what was tried
TRIED = {
    "clusters": pl.Int64,
    "stability": pl.Float64,
    "error": pl.Float64,
    "silhouette": pl.Float64,
    "smallest": pl.Float64,
    "chosen": pl.Boolean,
}


def nearest(points: _Numbers, centres: _Numbers) -> NDArray[np.int64]:
    """Index of the nearest centre of each point."""
    if not centres.shape[1]:
        return np.zeros(len(points), dtype=np.int64)
    distance = (centres**2).sum(axis=1) - 2 * points @ centres.T
    # rounded, so that an exact tie is not decided by the last bit
    index: NDArray[np.int64] = np.argmin(distance.round(9), axis=1).astype(np.int64)
    return index


def find_clusters(
    points: _Numbers, most: int, seed: int
) -> tuple[tuple[tuple[float, ...], ...], pl.DataFrame]:
    """Centres of the chosen clustering, in order of their coordinates, and what was tried."""
    rng = np.random.default_rng(derive_seed(seed, "clusters"))
    if len(points) > FIT_USERS:
        points = points[np.sort(rng.choice(len(points), FIT_USERS, replace=False))]
    one = (tuple(points.mean(axis=0).tolist()) if len(points) else (0.0,) * points.shape[1],)
    most = min(most, len(points) // LEAST_USERS, _distinct(points))
    samples = [rng.integers(0, len(points), len(points)) for _ in range(RESAMPLES)] if most >= 2 else []
    some = rng.permutation(len(points))[:SILHOUETTE_USERS] if most >= 2 else np.empty(0, dtype=np.int64)
    rows, centres = [], {}
    for k in range(2, most + 1):
        centres[k] = _centres(points, k, derive_seed(seed, "clusters", k), starts=10)
        found = nearest(points, centres[k])
        agreement = [
            adjusted_rand_score(
                found, nearest(points, _centres(points[each], k, derive_seed(seed, i, k), starts=3))
            )
            for i, each in enumerate(samples)
        ]
        distinct = 1 < len(np.unique(found[some])) < len(some)
        rows.append(
            {
                "clusters": k,
                "stability": float(np.mean(agreement)),
                "error": float(np.std(agreement, ddof=1) / np.sqrt(RESAMPLES)),
                "silhouette": float(silhouette_score(points[some], found[some])) if distinct else None,
                "smallest": float(np.bincount(found, minlength=k).min() / len(points)),
            }
        )
    tried = pl.DataFrame(rows, schema={name: kind for name, kind in TRIED.items() if name != "chosen"})
    sound = tried.filter(pl.col("smallest") >= max(LEAST_PART, LEAST_USERS / max(len(points), 1)))
    back = sound.filter(pl.col("stability") - pl.col("error") > REPRODUCED)
    best = (
        back.sort("clusters")
        if back.height
        else sound.sort(["stability", "clusters"], descending=[False, True])
    )
    best = best.filter(pl.col("stability") >= LEAST_REPRODUCED)
    chosen = int(best["clusters"][-1]) if best.height else 1
    tried = tried.with_columns(chosen=pl.col("clusters") == chosen)
    if chosen == 1:
        return one, tried
    return tuple(sorted(tuple(row) for row in centres[chosen].tolist())), tried


def _centres(points: _Numbers, k: int, seed: int, starts: int) -> _Numbers:
    # rounded: sums in threads differ in the last bits
    k = min(k, _distinct(points))
    fitted = KMeans(n_clusters=k, n_init=starts, random_state=seed).fit(points)
    return np.asarray(fitted.cluster_centers_, dtype=np.float64).round(6)


def _distinct(points: _Numbers) -> int:
    """Different points, counted on a line through them in a fixed direction."""
    direction = np.random.default_rng(0).normal(size=points.shape[1])
    return len(np.unique((points @ direction).round(9)))
