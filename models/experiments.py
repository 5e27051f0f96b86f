"""Experiments and the global holdout as a person writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen, Name
from kernel.errors import BadInput
from kernel.work import Share, Window

#: how far shares may be from summing to one
_SLACK = 1e-9


class Metric(Frozen):
    """A number a user, made of the outcomes in the window; the first metric of an experiment decides."""

    name: Name
    #: column of the outcomes → weight; absent: whether there was any outcome (1 or 0)
    sum: dict[str, float] = {}
    #: value of the column `event` of outcomes that count; absent: all
    event: str | None = None
    #: of a ratio: what it is divided by, over all users of the variant
    per: dict[str, float] = {}
    #: values beyond ± this count as this, decided before the first look (winsorising); absent: as they are
    cap: float | None = Field(default=None, gt=0)
    better: Literal["more", "less"] = "more"

    @model_validator(mode="after")
    def _consistent(self) -> Metric:
        if self.per and not self.sum:
            raise ValueError("per needs sum: a ratio of two sums")
        if self.cap is not None and not self.sum:
            raise ValueError("cap needs sum: whether there was an outcome is 1 at most")
        if self.per and self.cap is not None:
            raise ValueError("cap does not go with per: one part of a ratio would be cut, not the other")
        return self


class Experiment(Definition):
    """Variants that users are bucketed to, and how the outcome is read. The unit is the user."""

    kind: Literal["experiment"] = "experiment"
    #: variant → share of the users in the experiment; they sum to one
    variants: dict[Name, Share] = Field(min_length=2)
    #: the untreated variant, that all others are compared with
    holdout: Name
    #: experiments of one layer share no user while both run; absent: a layer of its own
    layer: Name | None = None
    #: part of the layer's users that it takes, [from, to) within 0 and 1
    slice: tuple[Share, Share] = (0.0, 1.0)
    #: another salt deals the same users anew; absent: the name
    salt: str = Field(default="", max_length=200)
    #: first day, and the first on which it does not run any more, in UTC
    starts: date
    ends: date | None = None
    #: how long after being bucketed or exposed an outcome counts for a user
    within: Window = "14d"
    #: how long before it the same metrics are looked at, to explain what was there already (CUPED)
    before: Window | None = None
    #: users of all variants at which the always-valid reading is sharpest: as many as are expected
    planned: int = Field(ge=200)
    #: accepted probability of a false finding on the first metric, whatever the looks and variants
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    metrics: tuple[Metric, ...] = Field(min_length=1)
    #: variant → benefit that a plan gives to no other user of the experiment, from the first day until the
    #: last window is over; absent: the plan takes no notice of it
    gives: dict[Name, Name] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if abs(sum(self.variants.values()) - 1) > _SLACK:
            raise ValueError(f"shares of variants sum to {sum(self.variants.values()):g}, not 1")
        if self.holdout not in self.variants:
            raise ValueError(f"holdout {self.holdout!r} is not among the variants")
        for name, share in self.variants.items():
            if not share:
                raise ValueError(f"variant {name!r} has no share; leave it out")
        for name in self.gives:
            if name not in self.variants or name == self.holdout:
                raise ValueError(f"gives names {name!r}, which is no treated variant")
        low, high = self.slice
        if low >= high:
            raise ValueError("slice is not [from, to) with from below to")
        if self.slice != (0.0, 1.0) and self.layer is None and low > 0:
            raise ValueError("slice of a layer of its own begins at 0")
        if self.ends is not None and self.ends <= self.starts:
            raise ValueError("ends is not after starts")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("two metrics have one name")
        return self

    @property
    def key(self) -> str:
        """The salt that variants are drawn with."""
        return f"experiment:{self.salt or self.name}"

    @property
    def seats(self) -> str:
        """The salt that places in the layer are drawn with."""
        return f"layer:{self.layer}" if self.layer else f"alone:{self.salt or self.name}"

    @property
    def window(self) -> timedelta:
        return parse_window(self.within)

    def runs_at(self, at: datetime) -> bool:
        """Whether it runs at an instant."""
        day = at.astimezone(UTC).date()
        return self.starts <= day and (self.ends is None or day < self.ends)

    def withholds_at(self, at: datetime) -> bool:
        """Whether benefits are kept from users of other variants: while it runs, and while anyone's window
        is open."""
        if not self.gives or at.astimezone(UTC).date() < self.starts:
            return False
        return self.ends is None or at < datetime.combine(self.ends, time(0), UTC) + self.window


class Holdout(Definition):
    """Users whom no experiment, rule or activity reaches: what all of them together are measured against."""

    kind: Literal["holdout"] = "holdout"
    #: part of all users
    share: float = Field(gt=0, le=0.5)
    #: another salt chooses other users; absent: the name
    salt: str = Field(default="", max_length=200)

    @property
    def key(self) -> str:
        return f"holdout:{self.salt or self.name}"


def check_experiments(experiments: Iterable[Experiment], holdouts: Iterable[Holdout] = ()) -> None:
    """Raises BadInput when two experiments of a layer would share users, or draw with one salt, or when
    there is more than one global holdout."""
    known = [each.name for each in holdouts]
    if len(known) > 1:
        raise BadInput(f"more than one is defined: {', '.join(known)}", field="holdout", value=known[1])
    for one, other in combinations(experiments, 2):
        where = f"experiment {other.name}"
        if one.key == other.key:
            raise BadInput(f"is that of experiment {one.name}", where=where, field="salt", value=other.salt)
        together = one.layer is not None and one.layer == other.layer and _overlap(one, other)
        if together and one.slice[0] < other.slice[1] and other.slice[0] < one.slice[1]:
            raise BadInput(
                f"overlaps that of experiment {one.name} in layer {one.layer}", where=where, field="slice",
                value=list(other.slice),
            )  # fmt: skip


def _overlap(one: Experiment, other: Experiment) -> bool:
    return (other.ends is None or one.starts < other.ends) and (one.ends is None or other.starts < one.ends)


def shares_of(experiment: Experiment) -> Mapping[str, float]:
    """Variant → share, in order of their names: the order of writing decides nothing."""
    return dict(sorted(experiment.variants.items()))
