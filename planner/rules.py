"""Operational rules: a group, a channel, a benefit and a schedule, as one entry of the day's allocation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal

import polars as pl
from pydantic import Field, model_validator

from kernel.choices import Limit
from kernel.definitions import Definition, Frozen, Name
from kernel.errors import BadInput, NotFound
from kernel.randomness import bucket
from kernel.work import Money, Task, Window
from planner.compose import Resources

#: what stands before the name of a rule in the names of its audiences, and of its tasks
AUDIENCE, TASK = "rule:", "rule."


class Variant(Frozen):
    """One way in which a rule may act; what it does not say is as the rule says."""

    name: Name
    benefit: str | None = None
    touchpoint: str | None = None
    content: str | None = None


class Tuning(Frozen):
    """How far a rule may change itself: among its variants, by what each has brought."""

    #: least share of users that each variant keeps
    least: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    #: most by which a share moves in one day
    step: Annotated[float, Field(gt=0, le=1)] = 0.2


class Rule(Definition):
    """Group × channel × benefit on a schedule. Its firings are within that day's allocation, never beside
    it."""

    kind: Literal["rule"] = "rule"
    #: goal that says what an outcome is worth
    goal: str
    #: whom it is for, as of the day's beginning, or of the instant at which it fires by itself
    group: str
    touchpoint: str
    benefit: str
    #: absent: the first by name that fits
    content: str | None = None
    #: `minute hour day-of-month month day-of-week`: the days, or by itself the instants, at which it fires
    cron: str = "@daily"
    #: `with_plan`: as part of the day's plan; `by_itself`: at the instants of its cron, within what the plan
    #: and earlier firings of the day have left
    fires: Literal["with_plan", "by_itself"] = "with_plan"
    #: by itself: which of the firings that were missed while nothing ran are made up for
    catch_up: Literal["last", "all", "none"] = "last"
    starts: date | None = None
    #: last day
    ends: date | None = None
    #: most users at one firing
    at_most: Annotated[int, Field(ge=0)] | None = None
    #: most that one firing may be expected to cost, in major units
    budget: Money | None = None
    #: ways between which users are dealt out; without any, there is one
    variants: tuple[Variant, ...] = ()
    #: absent: shares stay equal
    tuning: Tuning | None = None
    #: how long an outcome counts after a firing
    within: Window = "14d"
    #: what happens once its interval says that it loses money
    losing: Literal["ask", "stop", "nothing"] = "ask"

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        names = [each.name for each in self.variants]
        if len(set(names)) != len(names):
            raise ValueError("variants has a name twice")
        if len(names) == 1:
            raise ValueError("one variant is no choice: give two, or none")
        if self.tuning is not None:
            if not names:
                raise ValueError("tuning is among variants, and there are none")
            if self.tuning.least * len(names) > 1:
                raise ValueError(f"least is more than {len(names)} variants can all have")
        if self.starts and self.ends and self.starts > self.ends:
            raise ValueError("starts is after ends")
        return self

    @property
    def ways(self) -> tuple[Variant, ...]:
        """Its variants, or itself as the only one."""
        return self.variants or (Variant(name="only"),)

    def live(self, day: date) -> bool:
        return not (self.starts and day < self.starts) and not (self.ends and day > self.ends)


@dataclass(frozen=True, kw_only=True)
class Firing:
    """A rule on a day, with the shares of its variants."""

    rule: Rule
    #: variant → share of users; sums to one
    shares: Mapping[str, float]
    #: whom it is for, where no group says so; None: the members of the rule's group
    users: pl.Series | None = field(default=None, compare=False)

    def audience(self, variant: str) -> str:
        return f"{AUDIENCE}{self.rule.name}:{variant}"

    def task(self, variant: str) -> str:
        return f"{TASK}{self.rule.name}.{variant}"

    def deal(self, user: object) -> str:
        """The audience of a user: the same one as long as the shares stay."""
        return self.audience(bucket(user, f"rule {self.rule.name}", dict(self.shares)))


def rule_of(task: str) -> tuple[str, str] | None:
    """(rule, variant) of a task by its name; None where no rule made it."""
    rule, _, variant = task.removeprefix(TASK).rpartition(".")
    return (rule, variant) if task.startswith(TASK) else None


def rule_tasks(firings: Sequence[Firing], resources: Resources) -> tuple[Task, ...]:
    """One task a rule and variant, over the audience `rule:NAME:VARIANT`."""
    channels = {each.name: each.channel for each in resources.touchpoints}
    tasks = []
    for firing in firings:
        for way in firing.rule.ways:
            touchpoint = way.touchpoint or firing.rule.touchpoint
            tasks.append(
                Task(
                    name=firing.task(way.name),
                    goal=firing.rule.goal,
                    audience=firing.audience(way.name),
                    benefit=way.benefit or firing.rule.benefit,
                    touchpoint=touchpoint,
                    channel=channels[touchpoint],
                    content=way.content
                    or firing.rule.content
                    or _content(firing.rule, touchpoint, resources),
                    rule=firing.rule.name,
                )
            )
    return tuple(tasks)


def rule_limits(firings: Sequence[Firing]) -> tuple[Limit, ...]:
    """What each rule may use of a day, as limits over its tasks."""
    limits = []
    for firing in firings:
        rule = firing.rule
        where: dict[str, str | int | float | bool | tuple[str | int | float | bool, ...]] = {
            "task": tuple(firing.task(way.name) for way in rule.ways)
        }
        if rule.at_most is not None:
            limits.append(Limit(name=f"{TASK}{rule.name}.volume", where=where, at_most=rule.at_most))
        if rule.budget is not None:
            limits.append(
                Limit(name=f"{TASK}{rule.name}.budget", sum="cost", where=where, at_most=rule.budget)
            )
    return tuple(limits)


def check_rules(rules: Collection[Rule], resources: Resources, groups: Collection[str]) -> None:
    """Raises BadInput for the first name that does not exist, or resource that does not fit another."""
    goals = {each.name for each in resources.goals}
    benefits = {each.name: each for each in resources.benefits}
    touchpoints = {each.name for each in resources.touchpoints}
    contents = {each.name: each for each in resources.contents}
    for rule in rules:
        where = f"rule {rule.name}"
        _known("goal", rule.goal, goals, where)
        _known("group", rule.group, groups, where)
        for way in rule.ways:
            place = f"variants.{way.name}." if rule.variants else ""
            benefit, touchpoint = way.benefit or rule.benefit, way.touchpoint or rule.touchpoint
            _known("benefit", benefit, benefits, where, place)
            _known("touchpoint", touchpoint, touchpoints, where, place)
            if rule.goal not in benefits[benefit].goals or touchpoint not in benefits[benefit].touchpoints:
                problem = f"does not serve goal {rule.goal} through {touchpoint}"
                raise BadInput(problem, where=where, field=f"{place}benefit", value=benefit)
            content = way.content or rule.content
            if content is None:
                _content(rule, touchpoint, resources)
                continue
            _known("content", content, contents, where, place)
            if rule.goal not in contents[content].goals or touchpoint not in contents[content].touchpoints:
                problem = f"does not speak for goal {rule.goal} through {touchpoint}"
                raise BadInput(problem, where=where, field=f"{place}content", value=content)


def _content(rule: Rule, touchpoint: str, resources: Resources) -> str:
    fit = [
        each.name for each in resources.contents if rule.goal in each.goals and touchpoint in each.touchpoints
    ]
    if not fit:
        raise BadInput(
            f"has no content that speaks for goal {rule.goal} through {touchpoint}",
            where=f"rule {rule.name}",
            field="content",
        )
    return min(fit)


def _known(kind: str, name: str, among: Collection[str], where: str, place: str = "") -> None:
    if name not in among:
        raise NotFound(kind, name, among, where=where, field=f"{place}{kind}")
