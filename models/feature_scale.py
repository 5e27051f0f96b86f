"""Features of everybody as files: one share of the users after the other, so that memory is bounded.

Polars' streaming engine alone holds a table of all groups: ten million users × their sums. By hash of the
user into shares, each share is a query of its own over the same files, and its table is a share of that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from kernel.clock import aware
from kernel.errors import BadInput
from kernel.events import MOST
from models.feature_batch import derive
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts

#: users of a share, roughly
SHARE = 1_500_000


def sink_features(
    features: FeatureSet,
    facts: Facts,
    instants: Sequence[datetime],
    out: Path,
    *,
    shares: int | None = None,
    keep: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Writes [at, user, features] to `out`/INSTANT-SHARE.parquet; how many rows.

    `shares`: by default as many as the users need. `keep`: leaves out rows that nobody may have.
    Raises BadInput for a folder with something else in it, and for numbers that cannot be added up.
    """
    if out.exists() and (not out.is_dir() or any(path.suffix != ".parquet" for path in out.iterdir())):
        raise BadInput("is not an empty folder, nor one of features", field="--out", value=str(out))
    out.mkdir(parents=True, exist_ok=True)
    left, rows = set(out.iterdir()), 0
    count = shares or max(1, -(-_users(features, facts) // SHARE))
    for at in sorted({aware(each, "as_of") for each in instants}):
        for event in features.events:  # before it is cut in shares: how far records go back is not a share's
            facts.begin(features, event, at)
        for share in range(count):
            progress(f"features as of {at:%Y-%m-%d}, share {share + 1} of {count}")
            mine = facts.part(share, count) if count > 1 else facts
            found = derive(features, mine, at).with_columns(pl.lit(at).alias("at"))
            try:
                frame = found.select("at", "user", *features.columns).collect(engine="streaming").sort("user")
            except pl.exceptions.InvalidOperationError as error:
                said = f"adds up a number that is infinite, or {MOST:g} and more"
                raise BadInput(said, where=f"features {features.name}", field="features") from error
            frame = keep(frame)
            rows += frame.height
            path = out / f"{at:%Y%m%dT%H%M%S}-{share:04d}.parquet"
            fresh = path.with_suffix(f".{os.getpid()}")
            frame.write_parquet(fresh)
            fresh.replace(path)
            left.discard(path)
    for path in left:  # of an earlier run
        path.unlink()
    return rows


def _users(features: FeatureSet, facts: Facts) -> int:
    """Roughly how many have an event."""
    names = [features.among] if features.among else [name for name in features.events if name in facts.events]
    counts = [facts.event(name, features).select(pl.col("user").approx_n_unique()) for name in names]
    return max((int(each.item()) for each in pl.collect_all(counts)), default=0)
