"""Groups: saved conditions, and the order in which those that refer to others are worked out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from insight.condition_parse import parse_condition
from insight.conditions import Condition, InGroup, ends
from insight.readiness import Needs, Schedule
from insight.tag_mentions import MOST_DEEP_SAVED, shape
from kernel.definitions import Definition
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint


class Group(Definition):
    """A set of users with a name: whoever fulfils a condition (dynamic), or a pinned set (static)."""

    kind: Literal["group"] = "group"
    entity: Literal["user"] = "user"
    #: the condition as it was written
    where: dict[str, Any]
    mode: Literal["dynamic", "static"] = "dynamic"
    #: when a new version is due; absent: whenever all groups are selected
    schedule: Schedule | None = None
    #: what must be there first
    needs: Needs = Needs()

    @field_validator("where")
    @classmethod
    def _reads_as_a_condition(cls, where: dict[str, Any]) -> dict[str, Any]:
        try:
            parse_condition(shape(where), deepest=MOST_DEEP_SAVED)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return where

    @property
    def condition(self) -> Condition:
        return parse_condition(self.where, where=f"group {self.name}")

    @property
    def fingerprint(self) -> str:
        """Of what decides who belongs: 16 digits."""
        return fingerprint(self.model_dump(mode="json", include={"name", "entity", "mode", "where"}))


def named_groups(condition: Condition) -> tuple[str, ...]:
    """The groups that a condition refers to directly, each once."""
    return tuple(dict.fromkeys(end.group for end in ends(condition) if isinstance(end, InGroup)))


def in_order(condition: Condition, groups: Mapping[str, Group], where: str = "") -> dict[str, Condition]:
    """Every group below `condition` with its condition, each after those that it refers to.

    Raises NotFound for an unknown group, BadInput for groups that refer to themselves in a circle.
    """
    done: dict[str, Condition] = {}
    opened: dict[str, Condition] = {}
    waiting: list[tuple[str, str]] = [(name, where) for name in reversed(named_groups(condition))]
    while waiting:
        name, asker = waiting[-1]
        if name in done:
            waiting.pop()
        elif name in opened:
            done[name] = opened.pop(name)
            waiting.pop()
        else:
            if name not in groups:
                raise NotFound("group", name, groups, where=asker, field="group")
            opened[name] = groups[name].condition
            for child in named_groups(opened[name]):
                if child in opened:
                    circle = [*list(opened)[list(opened).index(child) :], child]
                    raise BadInput(
                        f"refers to itself: {' → '.join(circle)}",
                        where=f"group {child}",
                        field="group",
                        value=child,
                    )
                if child not in done:
                    waiting.append((child, f"group {name}"))
    return done
