"""Trials inside the daily plan: every day a few users, drawn anew, are treated by chance.

Without them a plan learns only from whom it would have chosen anyway, and never hears that another benefit
has become the better one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from kernel.definitions import Definition, Frozen, Name
from kernel.work import Money, Share, Window
from models.hashing import units

#: columns of what was drawn
EXPLORED = ("user", "benefit", "touchpoint")
#: part of the audience that promises most
PROMISING = 0.1


class Way(Frozen):
    """One treatment that a drawn user may get."""

    benefit: Name
    touchpoint: Name


class Exploration(Definition):
    """A small part of a goal's audience gets, each day, what chance says: one of the ways, or nothing."""

    kind: Literal["exploration"] = "exploration"
    #: goal whose audiences are drawn from
    goal: Name
    #: part of them drawn on one day; of those, who rests or may not be touched is left out
    share: float = Field(gt=0, le=0.5)
    #: part drawn of the tenth for whom a way promises most that day, by the plan's own values; absent: as of
    #: everyone
    promising: float | None = Field(default=None, gt=0, le=0.5)
    #: equally likely
    ways: tuple[Way, ...] = Field(min_length=1)
    #: of the drawn, the part that gets nothing, and that the others are compared with
    nothing: Share = 0.3
    #: for how long nothing else reaches a drawn user, so that one touch is what is measured
    rest: Window = "7d"
    #: what one more trial is worth, in money: it is made if that and its own gain pay for what it uses
    worth: Money = 10.0

    @model_validator(mode="after")
    def _sound(self) -> Exploration:
        if len(set(self.ways)) < len(self.ways):
            raise ValueError("ways has one twice")
        if not 0 < self.nothing < 1:
            raise ValueError("nothing is not between 0 and 1: without both sides nothing can be compared")
        if self.promising is not None and self.promising < self.share:
            raise ValueError("promising is less than share, which is of everyone")
        return self

    def chance(self, benefit: str, touchpoints: tuple[str, ...] | None) -> float:
        """P(the benefit), given nothing or any of the ways through these touchpoints (None: all)."""
        mine = [each for each in self.ways if touchpoints is None or each.touchpoint in touchpoints]
        one = (1 - self.nothing) / len(self.ways)
        return one * sum(each.benefit == benefit for each in mine) / (self.nothing + one * len(mine))


def draw(exploration: Exploration, users: pl.Series, day: str) -> pl.DataFrame:
    """[user, benefit, touchpoint, if_promising] of those drawn on the day, nulls for nothing; always the
    same ones. `if_promising`: drawn only if they promise most, which is not known here."""
    salt = f"exploration {exploration.name} {day}"
    luck = units(users, salt)
    kept = luck < (exploration.promising or exploration.share)
    drawn = users.filter(pl.Series(kept))
    point = units(drawn, f"{salt} way")
    place = np.floor((point - exploration.nothing) / (1 - exploration.nothing) * len(exploration.ways))
    chosen = np.clip(place, -1, len(exploration.ways) - 1).astype(np.int64)
    ways: list[Way | None] = [*exploration.ways, None]
    rows = {
        "user": drawn,
        "benefit": [None if (each := ways[at]) is None else each.benefit for at in chosen],
        "touchpoint": [None if (each := ways[at]) is None else each.touchpoint for at in chosen],
        "if_promising": luck[kept] >= exploration.share,
    }
    return pl.DataFrame(rows, schema_overrides={"benefit": pl.String, "touchpoint": pl.String})
