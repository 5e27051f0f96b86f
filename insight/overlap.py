"""How much groups have in common, and how a group grew: bitmaps against bitmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from kernel.audiences import GroupVersion

#: most groups that are compared at once
MOST_GROUPS = 500


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Groups against each other; every matrix has a row and a column for each, in the order of `names`."""

    names: tuple[str, ...]
    #: users who are in both; the group's own size on the diagonal
    both: NDArray[np.int64]
    #: users in both by users in either, 0 to 1; 0 for two empty groups
    jaccard: NDArray[np.float64]
    #: part of the row's group that is also in the column's, 0 to 1; 0 for an empty one
    share: NDArray[np.float64]


def derive_overlap(groups: Mapping[str, BitMap]) -> Overlap:
    """Every pair, counted once without making a new set."""
    names, sets = tuple(groups), list(groups.values())
    both = np.zeros((len(sets), len(sets)), np.int64)
    for i, one in enumerate(sets):
        both[i, i] = len(one)
        for j in range(i + 1, len(sets)):
            both[i, j] = both[j, i] = one.intersection_cardinality(sets[j])
    size = both.diagonal().astype(np.float64)
    either = size[:, None] + size[None, :] - both
    return Overlap(
        names=names,
        both=both,
        jaccard=np.divide(both, either, out=np.zeros_like(either), where=either > 0),
        share=np.divide(both, size[:, None], out=np.zeros_like(either), where=size[:, None] > 0),
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """A published version against the one before it."""

    version: int
    as_of: datetime
    calculated_at: datetime
    #: users who belong, and users that existed
    count: int
    universe: int
    #: users who were in the version before and are (kept) or are not (removed), and who were not; None for
    #: the first version
    added: int | None
    removed: int | None
    kept: int | None
    #: whether the definition is another than that of the version before
    redefined: bool


def derive_history(versions: Sequence[tuple[GroupVersion, BitMap]]) -> list[Change]:
    """In the order in which versions are given, each against the one before."""
    changes: list[Change] = []
    before: tuple[GroupVersion, BitMap] | None = None
    for version, members in versions:
        kept = None if before is None else members.intersection_cardinality(before[1])
        changes.append(
            Change(
                version=version.version,
                as_of=version.as_of,
                calculated_at=version.calculated_at,
                count=len(members),
                universe=version.universe,
                added=None if kept is None else len(members) - kept,
                removed=None if before is None or kept is None else len(before[1]) - kept,
                kept=kept,
                redefined=before is not None and before[0].fingerprint != version.fingerprint,
            )
        )
        before = version, members
    return changes
