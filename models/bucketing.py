"""Who gets which variant: stable, the same one by one and in bulk, independent across experiments.

Three draws by hash, each with its own salt, so that none tells of another: the global holdout, the place in
the experiment's layer, the variant. A wider holdout or slice only adds users. The variant is a race: of
−log(u) / share the least wins, with one u a user and variant (rendezvous hashing, Thaler & Ravishankar 1998;
with weights, Schindelhauer & Schomaker 2005). A variant's time does not depend on the other variants, so when
one share changes against the rest, users move only to or from it; for any change at most 2 d / (1 + d) of
them move, where d is the total variation between old and new shares, and no rule that knows only the new
shares can promise less (Bavarian et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import polars as pl

from kernel.randomness import unit
from models.experiments import Experiment, Holdout, shares_of
from models.hashing import Floats, units

#: why a user has no variant
HELD_OUT, ELSEWHERE = "global holdout", "not in slice"
_LEAST = 2.0**-64


def bucket_users(users: pl.Series, experiment: Experiment, holdout: Holdout | None = None) -> pl.DataFrame:
    """[user, variant, why]: one row a user, in order; `variant` is null for who is not in the experiment,
    and `why` then says so. Linear in users; a quarter of a microsecond a hash, of
    which there are one a variant and two more.

    Raises BadInput for ids that are neither whole numbers nor text, or missing.
    """
    shares = shares_of(experiment)
    names = list(shares)
    best = np.full(len(users), np.inf)
    chosen = np.zeros(len(users), np.int64)
    for place, (name, share) in enumerate(shares.items()):
        _race(units(users, f"{experiment.key}:{name}"), share, place, best, chosen)
    inside = _inside(users, experiment)
    held = held_out(users, holdout).to_numpy() if holdout is not None else np.zeros(len(users), bool)
    frame = pl.DataFrame({"user": users, "_chosen": chosen, "_inside": inside, "_held": held})
    named = pl.col("_chosen").replace_strict(range(len(names)), names, return_dtype=pl.String)
    reached = pl.col("_inside") & ~pl.col("_held")
    why = pl.when("_held").then(pl.lit(HELD_OUT)).when(~pl.col("_inside")).then(pl.lit(ELSEWHERE))
    return frame.select("user", variant=pl.when(reached).then(named), why=why.otherwise(None))


def bucket_user(user: object, experiment: Experiment, holdout: Holdout | None = None) -> str | None:
    """The variant of one user; None for who is not in the experiment. `bucket_users` says the same."""
    if holdout is not None and unit(user, holdout.key) < holdout.share:
        return None
    low, high = experiment.slice
    if not low <= min(unit(user, experiment.seats), 1 - 2**-53) < high:
        return None
    race = {
        name: -math.log(max(unit(user, f"{experiment.key}:{name}"), _LEAST)) / share
        for name, share in shares_of(experiment).items()
    }
    return min(race, key=race.__getitem__)


def held_out(users: pl.Series, holdout: Holdout) -> pl.Series:
    """Whether each user is in the global holdout: nobody may treat them. Raises as `bucket_users`."""
    return pl.Series("held_out", units(users, holdout.key) < holdout.share)


def _inside(users: pl.Series, experiment: Experiment) -> Any:
    low, high = experiment.slice
    if (low, high) == (0.0, 1.0):
        return np.ones(len(users), bool)
    place = np.minimum(units(users, experiment.seats), 1 - 2**-53)
    return (place >= low) & (place < high)


def _race_python(drawn: Floats, share: float, place: int, best: Floats, chosen: Any) -> None:
    # the C library's logarithm, as in `bucket_user`: NumPy's own differs in the last digit
    for row in range(len(drawn)):
        time = -math.log(max(drawn[row], _LEAST)) / share
        if time < best[row]:
            best[row], chosen[row] = time, place


_race: Callable[..., None] = numba.njit(nogil=True, cache=True)(_race_python)
