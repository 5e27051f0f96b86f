"""Users as the rooms speak of them: lifecycle stage, cluster, value tier, and the cell they make."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import dataframely as dy
from pydantic import Field

from kernel.definitions import Definition


class Stage(StrEnum):
    """Lifecycle stage, judged by each user's own rhythm of purchase."""

    PROSPECT = "prospect"  # known, never bought
    NEW = "new"  # bought too few times, too recently, to have a rhythm
    ACTIVE = "active"  # buys at the own rhythm
    LOYAL = "loyal"  # buys at the own rhythm, often and for long
    COOLING = "cooling"  # later than the own rhythm would have it
    LAPSED = "lapsed"  # so late that returning by itself is unlikely
    WON_BACK = "won back"  # bought again after having lapsed


class Tier(StrEnum):
    """Value tier by predicted spend."""

    TOP = "top"
    HIGH = "high"
    MIDDLE = "middle"
    LOW = "low"


class CellRecipe(Definition):
    """How users are laid out in cells."""

    kind: Literal["cells"] = "cells"
    #: most behavioural clusters; the number is chosen by a stated criterion
    max_clusters: int = Field(default=8, ge=2, le=256)
    #: exactly so many instead, whether they come back in resamples or not: their stability is told
    clusters: int | None = Field(default=None, ge=2, le=256)
    #: entity fields that tell sociology, such as `user.income`; used where known
    sociology: tuple[str, ...] = ()
    #: tier → share of buyers, top first; they sum to one
    tiers: dict[Tier, float] = {Tier.TOP: 0.1, Tier.HIGH: 0.25, Tier.MIDDLE: 0.35, Tier.LOW: 0.3}


class Cells(dy.Schema):
    """One row a user: exactly one cell each."""

    user = dy.Any()
    #: a `Stage`
    stage = dy.Enum([str(stage) for stage in Stage], nullable=False)
    #: name of the behavioural cluster, such as `fresh-food weekly`
    cluster = dy.String(nullable=False)
    #: a `Tier`
    tier = dy.Enum([str(tier) for tier in Tier], nullable=False)
    #: stable name of the cell: stage, cluster and tier
    cell = dy.String(nullable=False)


class CellProfiles(dy.Schema):
    """One row a cell."""

    cell = dy.String(nullable=False, primary_key=True)
    stage = dy.String(nullable=False)
    cluster = dy.String(nullable=False)
    tier = dy.String(nullable=False)
    #: users in it
    size = dy.Int64(nullable=False, min=1)
    #: its part of all users
    share = dy.Float64(nullable=False, min=0, max=1)
    #: one sentence: who they are
    description = dy.String(nullable=False)
    #: what sets it apart from the rest, most first, such as `spend 3.1x; kids 1.8x`
    apart = dy.String(nullable=False)
