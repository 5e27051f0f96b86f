"""Moments as definitions: what a person wrote, as what decisions are made by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kernel.definitions import Definition, Name
from kernel.errors import NotFound
from kernel.learning import Action
from realtime.moments import MOMENTS, Moment
from realtime.rewards import ELSEWHERE, RewardRule, by_moment


class MomentDefinition(Definition):
    """A moment of ours, or a built-in one (`guidance`, `conversion`, `exit-intercept`) made over."""

    kind: Literal["moment"] = "moment"
    #: what is shown when no action is left or something is down: an id, or an action that costs nothing
    safe_default: Action
    #: what is chosen among when a request names no actions
    actions: tuple[Action, ...] = Field(default=(), max_length=1000)
    #: who may be shown an action: members of any of these; empty: everyone. Others get the safe default
    groups: tuple[Name, ...] = ()
    #: name of the reward that judges its decisions; absent: the one that names this moment, or is for all
    reward: Name | None = None

    @field_validator("safe_default", mode="before")
    @classmethod
    def _an_id_is_an_action(cls, given: Any) -> Any:
        return {"id": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [action.id for action in self.actions]
        for each in ids:
            if ids.count(each) > 1:
                raise ValueError(f"action {each!r} is there twice")
        self.moment  # noqa: B018 - raises for a default that costs something
        return self

    @property
    def moment(self) -> Moment:
        return Moment(default=self.safe_default, actions=self.actions, groups=self.groups)


def moments(definitions: Iterable[MomentDefinition]) -> Mapping[str, Moment]:
    """Name → moment: the built-in ones, and those defined in their place or beside them."""
    return MappingProxyType({**MOMENTS, **{each.name: each.moment for each in definitions}})


def rewards(
    rules: Iterable[RewardRule],
    definitions: Iterable[MomentDefinition],
    *,
    groups: Collection[str] | None = None,
) -> Mapping[str, RewardRule]:
    """Moment → the rule that judges it, as `by_moment`; what a moment names goes before what is for all.

    Raises BadInput for two rules of one moment, for a rule of a moment that does not exist, and NotFound for
    a reward, or, when `groups` are given, a group that a moment names and nobody defined.
    """
    told, defined = {rule.name: rule for rule in rules}, list(definitions)
    extra: dict[str, list[str]] = {}
    for each in defined:
        where = f"moment {each.name}"
        for group in each.groups:
            if groups is not None and group not in groups:
                raise NotFound("group", group, groups, where=where, field="groups")
        if each.reward is None:
            continue
        if each.reward not in told:
            raise NotFound("reward", each.reward, told, where=where, field="reward")
        if each.name not in told[each.reward].moments:
            extra.setdefault(each.reward, []).append(each.name)
    return by_moment(_with(told, extra), moments(defined))


def _with(told: Mapping[str, RewardRule], extra: Mapping[str, list[str]]) -> list[RewardRule]:
    """A rule for all stays that, and is one for those that name it as well."""
    found = []
    for name, rule in told.items():
        more = tuple(extra.get(name, ()))
        if more and not rule.moments:
            more = (ELSEWHERE, *more)
        found.append(rule.model_copy(update={"moments": (*rule.moments, *more)}) if more else rule)
    return found
