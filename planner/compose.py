"""Audiences, resources and goals composed into tasks by their rules of compatibility."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from kernel.errors import BadInput, NotFound
from kernel.work import Benefit, Content, Goal, Task, Touchpoint


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Everything that an operator defined to act with."""

    goals: tuple[Goal, ...]
    benefits: tuple[Benefit, ...]
    touchpoints: tuple[Touchpoint, ...]
    contents: tuple[Content, ...]

    def check(self, audiences: Collection[str]) -> None:
        """Raises NotFound for the first name that a definition uses and nothing answers to."""
        goals = [goal.name for goal in self.goals]
        touchpoints = [each.name for each in self.touchpoints]
        for goal in self.goals:
            _known("audience", goal.audiences, audiences, f"goal {goal.name}", "audiences")
        carried: tuple[Benefit | Content, ...] = (*self.benefits, *self.contents)
        for resource in carried:
            where = f"{resource.kind} {resource.name}"
            _known("goal", resource.goals, goals, where, "goals")
            _known("touchpoint", resource.touchpoints, touchpoints, where, "touchpoints")


@dataclass(frozen=True, kw_only=True)
class Composed:
    """What could be done today, and what could not and why."""

    tasks: tuple[Task, ...]
    #: (resource, reason) for each that composes no task
    idle: tuple[tuple[str, str], ...]


def compose(resources: Resources, day: date, of_rules: Sequence[Task] = ()) -> Composed:
    """Every compatible audience × benefit × touchpoint × content × goal on that day, and the tasks of rules.

    Of several contents that fit, the first by name is taken; a rule's task whose benefit is not valid that
    day is left out. Raises BadInput when there is no task at all.
    """
    valid = {each.name for each in resources.benefits if not _not_today(each, day)}
    tasks: list[Task] = []
    idle: list[tuple[str, str]] = []
    for benefit in sorted(resources.benefits, key=lambda each: each.name):
        reason = _not_today(benefit, day)
        composed = [] if reason else list(_tasks_of(benefit, resources))
        tasks.extend(composed)
        if not composed:
            idle.append((benefit.name, reason or "no goal, touchpoint and content fit together"))
    tasks.extend(task for task in of_rules if task.benefit in valid)
    if not tasks:
        said = "; ".join(f"{name}: {reason}" for name, reason in idle) or "no benefit is defined"
        raise BadInput(f"composes no task ({said})", field="date", value=day.isoformat())
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(
                "is the name of two tasks; rename an audience or a resource", field="task", value=name
            )
    return Composed(tasks=tuple(tasks), idle=tuple(idle))


def _tasks_of(benefit: Benefit, resources: Resources) -> Iterable[Task]:
    for goal in resources.goals:
        if goal.name not in benefit.goals:
            continue
        for touchpoint in resources.touchpoints:
            content = _content(goal, touchpoint, resources.contents)
            if touchpoint.name not in benefit.touchpoints or content is None:
                continue
            for audience in goal.audiences:
                yield Task(
                    name=".".join((goal.name, benefit.name, touchpoint.name, audience.replace("stage:", ""))),
                    goal=goal.name,
                    audience=audience,
                    benefit=benefit.name,
                    touchpoint=touchpoint.name,
                    channel=touchpoint.channel,
                    content=content.name,
                )


def _content(goal: Goal, touchpoint: Touchpoint, contents: Sequence[Content]) -> Content | None:
    fit = [each for each in contents if goal.name in each.goals and touchpoint.name in each.touchpoints]
    return min(fit, key=lambda each: each.name, default=None)


def _not_today(benefit: Benefit, day: date) -> str:
    if benefit.valid_from and day < benefit.valid_from:
        return f"valid from {benefit.valid_from}"
    if benefit.valid_to and day > benefit.valid_to:
        return f"valid until {benefit.valid_to}"
    return ""


def _known(kind: str, names: Iterable[str], known: Collection[str], where: str, field: str) -> None:
    for name in names:
        if name not in known:
            raise NotFound(kind, name, known, where=where, field=field)
