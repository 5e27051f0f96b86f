"""How many clusters there are when there may be dozens: a ladder of numbers, fitted by mini-batches.

Trying every number with every resample takes hours. So each number of a ladder is fitted once (D. Sculley,
"Web-scale k-means clustering", 2010), and numbers between the neighbours of the best are tried too. Of those
that are nearly as well separated as the best (silhouette, as in cluster_choice) the largest is taken for
which nine in ten users are in clusters that come back in bootstrap samples (Jaccard above 0.75, less one
standard error). With dozens of clusters the weakest of all is too strict a judge: two of sixty that swap a
border would forbid the other fifty-eight. Where no number passes, cluster_choice's own rule decides among
a few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import silhouette_score

from kernel.randomness import derive_seed

#: numbers that are tried first
LADDER = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
#: users that the choice looks at, of them for the silhouette; bootstrap samples; users of a mini-batch
CHOICE_USERS, SILHOUETTE_USERS, RESAMPLES, BATCH = 20_000, 3_000, 4, 4_096
#: part of users who must be in clusters that come back
MOST_USERS = 0.9
#: a cluster holds at least this part of the users
LEAST_PART = 0.001

_Numbers = NDArray[np.float64]
_Found = NDArray[np.int64]
Nearest = Callable[[_Numbers, _Numbers], _Found]
Overlaps = Callable[[_Found, _Found, int], _Numbers]


def fit(points: _Numbers, k: int, seed: int, start: _Numbers | None = None) -> _Numbers:
    """Centres by mini-batches, from `start` or the best of ten starts on a part of the points."""
    learner = MiniBatchKMeans(
        n_clusters=k,
        init="k-means++" if start is None else start,
        n_init=10 if start is None else 1,
        batch_size=BATCH,
        max_iter=20,
        random_state=seed,
    )
    return np.asarray(learner.fit(points).cluster_centers_, dtype=np.float64).round(6)


def find_many(
    points: _Numbers,
    most: int,
    seed: int,
    nearest: Nearest,
    overlaps: Overlaps,
    *,
    reproduced: float,
    separated: float,
) -> tuple[_Numbers | None, list[dict[str, object]]]:
    """Centres of the finest sound clustering (None: none passes) and a row for each number tried.

    In a row `stability` is what the clusters of nine in ten users reach at least; it is None where a
    coarser or worse separated number was not put to the test.
    """
    rng = np.random.default_rng(derive_seed(seed, "many"))
    some = points[np.sort(rng.choice(len(points), min(CHOICE_USERS, len(points)), replace=False))]
    few = some[:SILHOUETTE_USERS] if len(some) > SILHOUETTE_USERS else some
    centres: dict[int, _Numbers] = {}
    rows: dict[int, dict[str, object]] = {}

    def look(k: int) -> float:
        if k not in rows:
            centres[k] = fit(some, k, derive_seed(seed, "many", k))
            found, seen = nearest(some, centres[k]), nearest(few, centres[k])
            apart = float(silhouette_score(few, seen)) if 1 < len(np.unique(seen)) < len(few) else -1.0
            smallest = float(np.bincount(found, minlength=k).min() / len(some))
            rows[k] = {"clusters": k, "stability": None, "error": None, "silhouette": apart,
                       "smallest": smallest}  # fmt: skip
        return float(str(rows[k]["silhouette"]))

    ladder = [k for k in LADDER if k < most] + [most]
    best = max(ladder, key=look)
    place = ladder.index(best)
    low, high = ladder[max(place - 1, 0)], ladder[min(place + 1, len(ladder) - 1)]
    for k in np.unique(np.linspace(low, high, 7).round().astype(int)).tolist():
        look(k)
    top = max(look(k) for k in list(rows))
    for k in sorted(rows, reverse=True):
        if look(k) < separated * top or float(str(rows[k]["smallest"])) < LEAST_PART:
            continue
        stability, error = reached_by_most(some, centres[k], seed, nearest, overlaps)
        rows[k] |= {"stability": stability, "error": error}
        if stability - error > reproduced:
            return centres[k], [rows[each] for each in sorted(rows)]
    return None, [rows[each] for each in sorted(rows)]


def reached_by_most(
    points: _Numbers, centres: _Numbers, seed: int, nearest: Nearest, overlaps: Overlaps
) -> tuple[float, float]:
    """The Jaccard index that the clusters of nine in ten users reach in resamples, and its standard error."""
    k, found = len(centres), nearest(points, centres)
    part = np.bincount(found, minlength=k) / len(points)
    reached = []
    for i in range(RESAMPLES):
        chosen = np.random.default_rng(derive_seed(seed, "resample", i)).integers(0, len(points), len(points))
        again = fit(points[chosen], k, derive_seed(seed, i, k))
        alike = overlaps(found, nearest(points, again), k)
        order = np.argsort(alike)
        reached.append(alike[order][np.searchsorted(part[order].cumsum(), 1 - MOST_USERS)])
    return float(np.mean(reached)), float(np.std(reached, ddof=1) / RESAMPLES**0.5)
