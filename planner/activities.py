"""Activities as they are written: bounded programmes with an audience, metrics, rewards and an account.

An activity has a life of its own (`planner.activity_life`); what stands here is what a person says of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kernel.clock import aware, parse_window
from kernel.definitions import Definition, Frozen, Name
from kernel.work import Money, Share, Window
from planner.registration import check_schema

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


#: characters of the name of an activity with a promotion plan, whose tasks are named after it
_LONGEST_PROMOTED = 80


class Period(StrEnum):
    """Over what a ranking runs: the whole activity, or each day, week (from Monday) or month of it."""

    ALL = "all"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Holiday(Frozen):
    """A public holiday, as the package `holidays` knows it."""

    #: ISO 3166 code, such as `CN`
    country: str
    #: its name there, in English where the package has one; part of it is enough
    name: str
    #: first day that it may fall on: the one on or after it is meant
    not_before: datetime

    @model_validator(mode="after")
    def _aware(self) -> Holiday:
        aware(self.not_before, "not_before")
        return self


class When(Frozen):
    """From when to when: two instants, days around a holiday, or days around a date of each user's own."""

    #: [start, end); with `around`, the season in which users' own days must lie
    start: datetime | None = None
    end: datetime | None = None
    holiday: Holiday | None = None
    #: a date field of users, such as `user.birthday`: each has days of her own, year by year
    around: str | None = None
    #: with `holiday` or `around`: from so long before the day begins to so long after it began
    before: Window | None = None
    after: Window = "1d"

    @model_validator(mode="after")
    def _one_way(self) -> When:
        for name in ("start", "end"):
            if (at := getattr(self, name)) is not None:
                aware(at, name)
        if self.holiday is not None and (self.start or self.end or self.around):
            raise ValueError("holiday goes without start, end and around")
        if self.holiday is None and (self.start is None or self.end is None):
            raise ValueError("start and end are required, or a holiday")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("end is not after start")
        return self

    @property
    def lead(self) -> timedelta:
        return parse_window(self.before) if self.before else timedelta(0)

    @property
    def lasts(self) -> timedelta:
        """From the beginning of the day."""
        return parse_window(self.after)


class Registration(Frozen):
    """How users come to take part. Without it, whoever of the audience does something that counts does."""

    #: how long before the start it opens
    opens: Window | None = None
    #: how long before the end it closes
    closes: Window | None = None
    #: most participants; absent: no limit
    places: Positive | None = None
    #: JSON Schema of an object: what is asked of each
    fields: dict[str, Any] = {}

    @model_validator(mode="after")
    def _sound(self) -> Registration:
        check_schema(self.fields)
        return self


class Metric(Frozen):
    """A number of each participant, from events in the activity's time."""

    name: Name
    agg: Literal["count", "sum", "distinct", "rate"] = "count"
    #: event of the catalog that it is counted over
    event: str | None = None
    #: its field that is summed or told apart; for `rate` the metric above the line
    of: str | None = None
    #: for `rate`: the metric below the line
    per: str | None = None
    #: only lines with this value, or one of these, in each of these fields
    where: dict[str, str | int | float | bool | tuple[str | int | float | bool, ...]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Metric:
        if self.agg == "rate":
            if self.of is None or self.per is None or self.event is not None or self.where:
                raise ValueError("a rate is `of` one metric `per` another, and nothing else")
            return self
        if self.event is None or self.per is not None:
            raise ValueError(f"{self.agg} needs an event, and goes without per")
        if (self.of is None) != (self.agg == "count"):
            raise ValueError("of is for sum and distinct, which need it")
        return self


class Ranking(Frozen):
    """Who is first. Equal values share a rank, and the next rank is skipped: 1, 2, 2, 4."""

    by: str
    periods: tuple[Period, ...] = Field(default=(Period.ALL,), min_length=1)
    #: `most`: the largest value is first
    order: Literal["most", "least"] = "most"


class Reward(Frozen):
    """What a participant gets, once, for a rank or for reaching something."""

    name: Name
    #: benefit that it gives; absent: something outside the engine, told to whoever reads the rewards
    benefit: str | None = None
    #: coupon pool from which each gets a code of her own; absent: the benefit's, if that names one
    pool: str | None = None
    #: first and last rank that get it
    rank: tuple[Positive, Positive] | None = None
    #: with `rank`: of each such period; of `all`, when the activity is over
    period: Period = Period.ALL
    #: metric → value that must be reached
    reach: dict[str, float] = {}
    #: most that can be given; absent: no limit
    stock: Count | None = None
    #: cost to us of one, in major units
    cost: Money = 0.0

    @model_validator(mode="after")
    def _for_something(self) -> Reward:
        if (self.rank is None) == (not self.reach):
            raise ValueError("a reward is for a rank or for reaching something: give one of rank and reach")
        if self.rank and self.rank[0] > self.rank[1]:
            raise ValueError("rank is not [first, last]")
        return self


class Cost(Frozen):
    """A line of what the activity costs besides its rewards."""

    name: Name
    kind: Literal["people", "material", "media", "other"] = "other"
    #: what `amount` is for
    per: Literal["activity", "day", "participant"] = "activity"
    amount: Money


class Revenue(Frozen):
    """What a metric is worth: its sum over participants × margin."""

    metric: str
    #: profit in one unit of the metric
    margin: Annotated[float, Field(ge=0)]


class Promotion(Frozen):
    """A step of the promotion plan: a task of that day's plan, in the same allocation as everything."""

    #: days from the start, or from each user's own day; negative: before it
    day: int
    touchpoint: str
    content: str
    #: what it brings, such as an invitation that costs nothing: how likely a response is, is said there.
    #: Absent: it stands in the calendar, for people to do
    benefit: str | None = None
    #: `invited`: those it is meant for who do not take part yet; `participants`: those who do
    to: Literal["invited", "participants"] = "invited"


class Contingency(Frozen):
    """What happens when something runs out. Each fires once."""

    name: Name
    #: `stock`: of reward `of`, given ≥ share × stock, or its coupon pool is at its end;
    #: `budget`: spent ≥ share × budget; `participants`: there are ≥ at_least
    when: Literal["stock", "budget", "participants"]
    of: str | None = None
    share: Share = 1.0
    at_least: Positive | None = None
    then: Literal["tell", "close_registration", "pause", "complete", "switch_reward"]
    #: for `switch_reward`: the reward given in place of `of`
    to: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Contingency:
        if (self.when == "stock") != (self.of is not None):
            raise ValueError("of names the reward whose stock is meant, and is for that only")
        if (self.when == "participants") != (self.at_least is not None):
            raise ValueError("at_least is for participants, which need it")
        if (self.then == "switch_reward") != (self.to is not None) or (self.to and self.of is None):
            raise ValueError("to is for switch_reward of a reward's stock, which needs it")
        return self


class Activity(Definition):
    """A bounded programme for some users: what it asks of them, what they get, and what it must bring."""

    kind: Literal["activity"] = "activity"
    #: goal that it serves
    goal: str
    when: When
    #: groups that it is meant for; absent: everybody
    audience: tuple[str, ...] = ()
    #: group that a user must be in when she registers, asked in that second; absent: the audience decides
    admits: str | None = None
    registration: Registration | None = None
    metrics: tuple[Metric, ...] = Field(min_length=1)
    ranking: Ranking | None = None
    rewards: tuple[Reward, ...] = ()
    costs: tuple[Cost, ...] = ()
    revenue: tuple[Revenue, ...] = ()
    #: most that rewards may cost together; absent: what their stocks come to
    budget: Money | None = None
    promotion: tuple[Promotion, ...] = ()
    contingency: tuple[Contingency, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Activity:
        metrics = _unique("metrics", [each.name for each in self.metrics])
        counted = {each.name for each in self.metrics if each.agg != "rate"}
        rewards = _unique("rewards", [each.name for each in self.rewards])
        _unique("contingency", [each.name for each in self.contingency])
        _unique("costs", [each.name for each in self.costs])
        if self.promotion and len(self.name) > _LONGEST_PROMOTED:
            raise ValueError(f"name is longer than {_LONGEST_PROMOTED}, and its promotion is named after it")
        for metric in self.metrics:
            if metric.agg == "rate" and not {metric.of, metric.per} <= counted:
                raise ValueError(f"metric {metric.name} is a rate of metrics that are not counted here")
        if self.ranking and self.ranking.by in set(metrics) - counted:
            raise ValueError(f"ranking is by {self.ranking.by}, a rate: one purchase would beat a hundred")
        wanted = [("ranking", self.ranking.by)] if self.ranking else []
        wanted += [(f"reward {each.name}", name) for each in self.rewards for name in each.reach]
        wanted += [("revenue", each.metric) for each in self.revenue]
        for place, name in wanted:
            if name not in metrics:
                raise ValueError(f"{place} names metric {name}, which is not among {', '.join(metrics)}")
        for each in self.rewards:
            if each.rank and (self.ranking is None or each.period not in self.ranking.periods):
                raise ValueError(f"reward {each.name} is for a rank that no ranking of this activity has")
        for plan in self.contingency:
            for named in (plan.of, plan.to):
                if named is not None and named not in rewards:
                    raise ValueError(f"contingency {plan.name} names reward {named}, which is not there")
            reward = self.reward(str(plan.of)) if plan.when == "stock" else None
            if reward is not None and reward.stock is None and not (reward.pool or reward.benefit):
                raise ValueError(f"contingency {plan.name} waits for the end of {plan.of}, which has none")
            if plan.when == "budget" and self.budget is None:
                raise ValueError(f"contingency {plan.name} waits for a budget, and there is none")
        return self

    def reward(self, name: str) -> Reward:
        return next(each for each in self.rewards if each.name == name)

    def metric(self, name: str) -> Metric:
        return next(each for each in self.metrics if each.name == name)

    @property
    def events(self) -> tuple[str, ...]:
        """Events that its metrics are counted over."""
        return tuple(dict.fromkeys(each.event for each in self.metrics if each.event is not None))


def _unique(field: str, names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{field} has {twice[0]} twice")
    return names
