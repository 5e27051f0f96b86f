"""How many clusters there are: the finest clustering of which every cluster surely comes back.

A cluster comes back in a bootstrap sample as the cluster there that overlaps it most; the overlap is the
Jaccard index, members of both over members of either (C. Hennig, "Cluster-wise assessment of cluster
stability", 2007). The stability of k clusters is that of the weakest of them, and the largest k is taken
whose stability is above 0.75 (his bound) by more than one standard error, so that in doubt there are
fewer. A mean over clusters, or over pairs of users, would let sound clusters carry arbitrary halves of
others. And it must be nearly as well separated (silhouette) as the best of those: halves of what is
plainly one thing come back too, if it is cut across the same line.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from insight.cluster_many import CHOICE_USERS, find_many, fit, reached_by_most
from kernel.randomness import derive_seed

#: overlap from which a cluster of a resample is the same cluster …
REPRODUCED = 0.75
#: … and below which who belongs is anybody's guess: if that is the best there is, everybody is one cluster
LEAST_REPRODUCED = 0.6
#: part of the best silhouette that a finer clustering keeps
SEPARATED = 0.85
#: bootstrap samples, and users that choice and fit look at (the others are assigned)
RESAMPLES, FIT_USERS, SILHOUETTE_USERS = 10, 10_000, 2_000
#: more clusters than this are looked for by cluster_many, where there are more users than FIT_USERS
FEW = 12
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
    points: _Numbers, most: int, seed: int, exactly: int | None = None
) -> tuple[tuple[tuple[float, ...], ...], pl.DataFrame]:
    """Centres of the chosen clustering, in order of their coordinates, and what was tried.

    `exactly` so many, as far as there are different points, or at most `most`.

    On one thread: the samples are too small to share, and waiting threads take fifteen times as long.
    """
    with threadpool_limits(1):
        return _find(points, most, seed) if exactly is None else _so_many(points, exactly, seed)


def _so_many(points: _Numbers, k: int, seed: int) -> tuple[tuple[tuple[float, ...], ...], pl.DataFrame]:
    k = min(k, _distinct(points))
    if k < 2:
        return _find(points, 1, seed)
    rng = np.random.default_rng(derive_seed(seed, "so many"))
    if len(points) > FIT_USERS:
        centres = fit(points, k, derive_seed(seed, "all"))
        some = points[np.sort(rng.choice(len(points), min(CHOICE_USERS, len(points)), replace=False))]
    else:
        centres, some = _centres(points, k, derive_seed(seed, "clusters", k), starts=10), points
    found = nearest(some, centres)
    few = rng.permutation(len(some))[:SILHOUETTE_USERS]
    distinct = 1 < len(np.unique(found[few])) < len(few)
    stability, error = reached_by_most(some, centres, seed, nearest, _overlaps)
    row = {
        "clusters": k,
        "stability": stability,
        "error": error,
        "silhouette": float(silhouette_score(some[few], found[few])) if distinct else None,
        "smallest": float(np.bincount(found, minlength=k).min() / len(some)),
        "chosen": True,
    }
    return _ordered(centres), pl.DataFrame([row], schema=TRIED)


def _find(points: _Numbers, most: int, seed: int) -> tuple[tuple[tuple[float, ...], ...], pl.DataFrame]:
    if most > FEW and len(points) > FIT_USERS:
        many, rows_of_many = find_many(
            points, most, seed, nearest, _overlaps, reproduced=REPRODUCED, separated=SEPARATED
        )
        if many is not None:
            final = fit(points, len(many), derive_seed(seed, "all"), many)
            tried = pl.DataFrame(
                rows_of_many, schema={name: kind for name, kind in TRIED.items() if name != "chosen"}
            )
            return _ordered(final), tried.with_columns(chosen=pl.col("clusters") == len(many))
        most = FEW
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
        overlaps = np.array(
            [
                _overlaps(
                    found, nearest(points, _centres(points[each], k, derive_seed(seed, i, k), starts=3)), k
                )
                for i, each in enumerate(samples)
            ]
        )
        weakest = overlaps[:, overlaps.mean(axis=0).argmin()]
        distinct = 1 < len(np.unique(found[some])) < len(some)
        rows.append(
            {
                "clusters": k,
                "stability": float(weakest.mean()),
                "error": float(weakest.std(ddof=1) / np.sqrt(RESAMPLES)),
                "silhouette": float(silhouette_score(points[some], found[some])) if distinct else None,
                "smallest": float(np.bincount(found, minlength=k).min() / len(points)),
            }
        )
    tried = pl.DataFrame(rows, schema={name: kind for name, kind in TRIED.items() if name != "chosen"})
    sound = tried.filter(pl.col("smallest") >= max(LEAST_PART, LEAST_USERS / max(len(points), 1)))
    back = sound.filter(pl.col("stability") - pl.col("error") > REPRODUCED)
    back = back.filter(pl.col("silhouette") >= SEPARATED * pl.col("silhouette").max())
    best = (
        back.sort("clusters")
        if back.height
        else sound.sort(["stability", "clusters"], descending=[False, True])
    )
    best = best.filter(pl.col("stability") - pl.col("error") >= LEAST_REPRODUCED)
    chosen = int(best["clusters"][-1]) if best.height else 1
    tried = tried.with_columns(chosen=pl.col("clusters") == chosen)
    if chosen == 1:
        return one, tried
    return _ordered(centres[chosen]), tried


def _ordered(centres: _Numbers) -> tuple[tuple[float, ...], ...]:
    return tuple(sorted(tuple(row) for row in centres.tolist()))


def _overlaps(found: NDArray[np.int64], other: NDArray[np.int64], k: int) -> _Numbers:
    """Largest Jaccard index of each cluster of `found` with any of `other`."""
    both = np.bincount(found * k + other, minlength=k * k).reshape(k, k).astype(np.float64)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    overlaps: _Numbers = np.divide(both, either, out=np.zeros_like(both), where=either > 0).max(axis=1)
    return overlaps


def _centres(points: _Numbers, k: int, seed: int, starts: int) -> _Numbers:
    # rounded: sums in threads differ in the last bits
    k = min(k, _distinct(points))
    fitted = KMeans(n_clusters=k, n_init=starts, random_state=seed).fit(points)
    return np.asarray(fitted.cluster_centers_, dtype=np.float64).round(6)


def _distinct(points: _Numbers) -> int:
    """Different points, counted on a line through them in a fixed direction."""
    direction = np.random.default_rng(0).normal(size=points.shape[1])
    return len(np.unique((points @ direction).round(9)))
