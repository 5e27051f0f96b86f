"""What an outcome is worth: the declared function that makes one reward of a decision's outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen, Name
from kernel.errors import BadInput
from kernel.work import Window

#: stands for every moment that no rule names
ELSEWHERE = "*"


class Outcome(NamedTuple):
    """Something that came of a decision, as the journal has it."""

    decision_id: str
    outcome_id: str
    name: str
    #: in major units
    value: float
    #: microseconds since 1970, UTC
    occurred: int
    #: when it reached us; microseconds since 1970, UTC
    received: int


class Counted(Frozen):
    """How the outcomes of one name count."""

    #: each is worth this, in major units; absent: the value that it was reported with
    worth: float | None = Field(default=None, ge=-1e12, le=1e12)
    #: the value is multiplied by this
    times: float = Field(default=1.0, ge=-1e6, le=1e6)
    #: of several: their sum, the first or last that happened, or the largest
    combine: Literal["sum", "first", "last", "max"] = "sum"

    def total(self, outcomes: Sequence[Outcome]) -> float:
        """Of one or more, in the order in which they happened."""
        values = [self.times * (each.value if self.worth is None else self.worth) for each in outcomes]
        match self.combine:
            case "sum":
                return math.fsum(values)
            case "first":
                return values[0]
            case "last":
                return values[-1]
            case "max":
                return max(values)


_AS_REPORTED = Counted()


class RewardRule(Definition):
    """Reward = value of what came within the window − cost of the action; `default` when nothing came."""

    kind: Literal["reward"] = "reward"
    #: for decisions of these moments; empty: of all that no other rule names
    moments: tuple[Name, ...] = ()
    #: outcomes count that happen in (decision, decision + within]
    within: Window = "1d"
    #: and that are reported until so long after the window
    grace: Window = "5m"
    #: outcomes that count, by name; empty: all, by the value that they were reported with
    outcomes: dict[str, Counted] = Field(default={}, max_length=1000)
    #: value when no outcome counts, in major units
    default: float = Field(default=0.0, ge=-1e12, le=1e12)
    #: bounds of the value, in major units: one outlier teaches no more than this
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}")
        return self

    @property
    def window(self) -> timedelta:
        return parse_window(self.within)

    @property
    def delay(self) -> timedelta:
        """From a decision to the instant when its reward is final."""
        return self.window + parse_window(self.grace, "grace")

    @cached_property
    def _spans(self) -> tuple[int, int]:
        """Window and delay in microseconds."""
        return self.window // timedelta(microseconds=1), self.delay // timedelta(microseconds=1)

    def value(self, decided: int, outcomes: Iterable[Outcome]) -> tuple[float, int]:
        """In major units, and how many outcomes are in it; `decided` in microseconds since 1970, UTC.

        An outcome that is reported twice counts as it was reported first. One that is said to have
        happened before the decision (clocks differ) counts as well.
        """
        closes, final = decided + self._spans[0], decided + self._spans[1]
        once: dict[str, Outcome] = {}
        for each in sorted(outcomes, key=lambda each: (each.received, each.value)):
            if each.occurred <= closes and each.received <= final:
                once.setdefault(each.outcome_id, each)
        named: dict[str, list[Outcome]] = {}
        for each in sorted(once.values(), key=lambda each: (each.occurred, each.outcome_id)):
            if not self.outcomes or each.name in self.outcomes:
                named.setdefault(each.name, []).append(each)
        if not named:
            return self.default, 0
        value = math.fsum(
            self.outcomes.get(name, _AS_REPORTED).total(several) for name, several in named.items()
        )
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return max(low, min(high, value)), sum(map(len, named.values()))


#: in force where nothing else is defined
NET_VALUE = RewardRule(name="net_value")


def by_moment(rules: Iterable[RewardRule], moments: Iterable[str] | None = None) -> Mapping[str, RewardRule]:
    """Moment → its rule; `ELSEWHERE` → that of all others. Raises BadInput for two rules of one moment,
    and, when `moments` are given, for a rule of one that does not exist."""
    found: dict[str, RewardRule] = {}
    known = None if moments is None else set(moments)
    for rule in rules:
        for moment in rule.moments or (ELSEWHERE,):
            where = f"reward {rule.name}"
            if moment in found:
                named = "every other moment" if moment == ELSEWHERE else f"moment {moment!r}"
                raise BadInput(
                    f"{named} has its reward from {found[moment].name!r}", where=where, field="moments"
                )
            if known is not None and moment != ELSEWHERE and moment not in known:
                raise BadInput(
                    f"is none of the moments: {', '.join(sorted(known))}",
                    where=where,
                    field="moments",
                    value=moment,
                )
            found[moment] = rule
    return {ELSEWHERE: NET_VALUE, **found}
