"""Definitions as code: YAML documents of known kinds, read whole, applied all or none, written back."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from engine.feature_names import check_features
from insight.api import (
    Catalog,
    Group,
    Schedule,
    Tag,
    check_belonging,
    check_condition,
    check_tags_and_needs,
    in_order,
    resolve,
)
from kernel.choices import DailyLimits
from kernel.contact import Cap, QuietHours
from kernel.definitions import Definition, parse
from kernel.errors import BadInput, NotFound
from kernel.learning import ModelRecipe
from kernel.people import CellRecipe, Stage
from kernel.work import Benefit, Content, Goal, Touchpoint
from models.api import (
    Experiment,
    Exploration,
    FeatureSet,
    Holdout,
    UpliftRecipe,
    check_experiments,
    check_uplift,
)
from planner.api import (
    Activity,
    ActivityTemplate,
    MadeActivity,
    Planning,
    Resources,
    Rule,
    check_activities,
    check_promotions,
    check_rules,
    make,
)
from realtime.api import BudgetDefinition, MomentDefinition, RewardRule, rewards
from storage.definitions import DefinitionStore
from storage.lake import write_text
from touchpoint.api import (
    AudienceSync,
    Channel,
    CouponPool,
    Frequency,
    Provider,
    check_caps,
    check_channels,
    check_frequencies,
    check_pools,
    check_syncs,
)

#: kind → model, in the order in which `export` writes them
KINDS: dict[str, type[Definition]] = {
    "group": Group,
    "tag": Tag,
    "cells": CellRecipe,
    "features": FeatureSet,
    "model": ModelRecipe,
    "goal": Goal,
    "benefit": Benefit,
    "touchpoint": Touchpoint,
    "content": Content,
    "limits": DailyLimits,
    "cap": Cap,
    "coupon_pool": CouponPool,
    "quiet_hours": QuietHours,
    "frequency": Frequency,
    "audience_sync": AudienceSync,
    "provider": Provider,
    "channel": Channel,
    "reward": RewardRule,
    "experiment": Experiment,
    "holdout": Holdout,
    "exploration": Exploration,
    "uplift": UpliftRecipe,
    "activity_template": ActivityTemplate,
    "activity": Activity,
    "rule": Rule,
    "planning": Planning,
    "moment": MomentDefinition,
    "budget": BudgetDefinition,
}
Kind = TypeVar("Kind", bound=Definition)


def read_definitions(path: Path) -> list[Definition]:
    """Every document of a file, or of all `.yaml` files below a folder, checked one by one.

    Raises BadInput naming file, line or field, and value; two documents of one kind and name are one error.
    """
    if not path.exists():
        raise BadInput("no such file or folder", field="-f", value=str(path))
    files = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    found: dict[tuple[str, str], tuple[str, Definition]] = {}
    for file in files:
        for number, raw in enumerate(_documents(file), 1):
            where = f"{file}" if number == 1 else f"{file} (document {number})"
            definition = parse_definition(raw, where)
            key = (definition.kind, definition.name)
            if key in found:
                raise BadInput(
                    f"is also in {found[key][0]}", where=where, field="name", value=definition.name
                )
            found[key] = (where, definition)
    if not found:
        raise BadInput("holds no definitions", field="-f", value=str(path))
    return [definition for _, definition in found.values()]


def parse_definition(raw: object, where: str) -> Definition:
    """A document as the model of its `kind`."""
    if not isinstance(raw, dict):
        raise BadInput("is not a mapping with a kind", where=where, field="document", value=str(raw)[:80])
    kind = raw.get("kind")
    if kind not in KINDS:
        raise NotFound("kind", kind, KINDS, where=where, field="kind")
    if kind == "activity" and "template" in raw:
        return parse(MadeActivity, raw, where)
    return parse(KINDS[kind], raw, where)


def made_whole(definitions: Iterable[Definition]) -> list[Definition]:
    """With the activities that templates make in place of what was said of them. Raises BadInput."""
    every = list(definitions)
    templates = {each.name: each for each in _only(ActivityTemplate, every)}
    return [make(each, templates) if isinstance(each, MadeActivity) else each for each in every]


def _documents(file: Path) -> Iterable[object]:
    try:
        return [raw for raw in yaml.safe_load_all(file.read_text(encoding="utf-8")) if raw is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput(
            f"does not parse: {error.problem}", where=str(file), field="line", value=line
        ) from None
    except RecursionError:
        raise BadInput("nests too deeply to be read", where=str(file), field="document") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"does not parse: {error}", where=str(file), field="document") from None


def body(definition: Definition) -> dict[str, Any]:
    """What is stored and exported: everything that was said, nothing that is a default."""
    raw = definition.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    return {"kind": definition.kind, "name": definition.name, **raw}


class Definitions:
    """All definitions in force in a workspace."""

    def __init__(self, store: DefinitionStore) -> None:
        #: as they were written
        self.written = [parse_definition(each.body, f"{each.kind} {each.name}") for each in store.current()]
        self._all = made_whole(self.written)

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        return _only(kind, self._all)

    def one(self, kind: type[Kind]) -> Kind | None:
        """The only definition of its kind, or none. Raises BadInput for several."""
        found = self.of(kind)
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise BadInput(f"more than one is defined: {names}", field="kind", value=found[0].kind)
        return found[0] if found else None

    @property
    def groups(self) -> dict[str, Group]:
        """Every group, its tags written out."""
        tags = self.tags
        return {group.name: resolve(group, tags) for group in self.of(Group)}

    @property
    def tags(self) -> dict[str, Tag]:
        return {tag.name: tag for tag in self.of(Tag)}

    def resources(self) -> Resources:
        return Resources(
            goals=self.of(Goal),
            benefits=self.of(Benefit),
            touchpoints=self.of(Touchpoint),
            contents=self.of(Content),
        )

    def recipe(self, predicts: str) -> ModelRecipe:
        """The model definition that predicts this, or the one that everyone starts from."""
        found = [each for each in self.of(ModelRecipe) if each.predicts == predicts]
        if not found:
            return ModelRecipe.model_validate({"name": predicts, "predicts": predicts})
        if not isinstance(found[0].features, str):
            return found[0]
        # with the set itself: a model scores by what it was learned from, whatever is applied later
        return found[0].model_copy(update={"features": body(self.feature_set(found[0].features))})

    def feature_set(self, name: str) -> FeatureSet:
        """Raises NotFound."""
        known = {each.name: each for each in self.of(FeatureSet)}
        if name not in known:
            raise NotFound("features", name, known)
        return known[name]

    @property
    def cells(self) -> CellRecipe:
        return self.one(CellRecipe) or CellRecipe(name="cells")

    def audiences(self) -> set[str]:
        """Every name that a goal may call an audience."""
        return set(self.groups) | {f"stage:{stage}" for stage in Stage}

    def as_json(self) -> list[dict[str, Any]]:
        return [body(each) for each in self._all]


def check_together(
    definitions: Iterable[Definition],
    store: DefinitionStore,
    catalog: Catalog | None,
    *,
    without: Collection[tuple[str, str]] = (),
) -> None:
    """Raises BadInput for the first of the definitions, new and in force, that does not fit the others.
    `without`: (kind, name) of those that are to go."""
    written = {(each.kind, each.name): each for each in Definitions(store).written}
    written |= {(each.kind, each.name): each for each in definitions}
    for gone in without:
        written.pop(gone, None)
    merged = {(each.kind, each.name): each for each in made_whole(written.values())}
    tags = {name: each for (_, name), each in merged.items() if isinstance(each, Tag)}
    asked = {name: each for (_, name), each in merged.items() if isinstance(each, Group)}
    check_tags_and_needs(asked, tags, catalog)
    groups = {name: resolve(each, tags) for name, each in asked.items()}
    if catalog is not None:
        for group in groups.values():
            check_condition(group.condition, catalog, f"group {group.name}")
            in_order(group.condition, groups, f"group {group.name}")
    check_frequencies(
        _only(Frequency, merged.values()),
        groups=groups,
        goals={each.name for each in _only(Goal, merged.values())},
        channels={each.channel for each in _only(Touchpoint, merged.values())},
        events=None if catalog is None else {name: each.fields for name, each in catalog.events.items()},
    )
    check_syncs(
        _only(AudienceSync, merged.values()),
        groups=groups,
        goals={each.name for each in _only(Goal, merged.values())},
        frequencies={each.name for each in _only(Frequency, merged.values())},
        events=None if catalog is None else {name: each.fields for name, each in catalog.events.items()},
        fields=None if catalog is None else catalog.fields,
    )
    rewards(_only(RewardRule, merged.values()), _only(MomentDefinition, merged.values()), groups=groups)
    check_experiments(_only(Experiment, merged.values()), _only(Holdout, merged.values()))
    sets = {each.name: each for each in _only(FeatureSet, merged.values())}
    check_features(sets, _only(ModelRecipe, merged.values()), catalog)
    check_uplift(
        _only(UpliftRecipe, merged.values()),
        _only(Experiment, merged.values()),
        _only(Goal, merged.values()),
        _only(Benefit, merged.values()),
        _only(Holdout, merged.values()),
        _only(Exploration, merged.values()),
    )
    check_channels(
        _only(Channel, merged.values()),
        _only(Provider, merged.values()),
        _only(Content, merged.values()),
        _only(Touchpoint, merged.values()),
        None if catalog is None else catalog.user_fields,
    )
    check_activities(
        _only(Activity, merged.values()),
        goals={each.name for each in _only(Goal, merged.values())},
        groups=groups,
        benefits={each.name for each in _only(Benefit, merged.values())},
        touchpoints={each.name for each in _only(Touchpoint, merged.values())},
        contents={each.name for each in _only(Content, merged.values())},
        pools={each.name for each in _only(CouponPool, merged.values())},
        events=None if catalog is None else {name: each.fields for name, each in catalog.events.items()},
        fields=None if catalog is None else catalog.fields,
    )
    check_pools(_only(CouponPool, merged.values()), _only(Benefit, merged.values()), groups)
    check_caps(_only(Cap, merged.values()))
    for cap in _only(Cap, merged.values()) if catalog is not None else ():
        if cap.by != "user" and catalog is not None:
            check_belonging(catalog, cap.by, f"cap {cap.name}")
    names = set(groups) | {f"stage:{stage}" for stage in Stage}
    resources = Resources(
        goals=_only(Goal, merged.values()),
        benefits=_only(Benefit, merged.values()),
        touchpoints=_only(Touchpoint, merged.values()),
        contents=_only(Content, merged.values()),
    )
    resources.check(names)
    check_promotions(_only(Activity, merged.values()), resources)
    rules = _only(Rule, merged.values())
    check_rules(rules, resources, groups)
    for rule in rules:
        _check_cron(f"rule {rule.name}", "cron", rule.cron)
    for rhythm in _only(Planning, merged.values()):
        _check_cron(f"planning {rhythm.name}", "cron", rhythm.cron)
        _check_cron(f"planning {rhythm.name}", "learn", rhythm.learn or rhythm.cron)
        events = rhythm.fresh if catalog is None else catalog.events
        for event in sorted(set(rhythm.fresh) - set(events)):
            raise NotFound("event", event, events, where=f"planning {rhythm.name}", field="fresh")


def _check_cron(where: str, field: str, cron: str) -> None:
    try:
        parse(Schedule, {"cron": cron}, where)
    except BadInput as error:
        raise BadInput(error.problem, where=where, field=field, value=cron) from None


def _only(kind: type[Kind], definitions: Iterable[Definition]) -> tuple[Kind, ...]:
    return tuple(each for each in definitions if isinstance(each, kind))


def write_definitions(store: DefinitionStore, out: Path) -> list[Path]:
    """One file a definition, `KIND/NAME.yaml`; applying them again changes nothing."""
    paths = []
    for each in store.current():
        path = out / each.kind / f"{each.name}.yaml"
        write_text(path, yaml.safe_dump(each.body, sort_keys=False, allow_unicode=True))
        paths.append(path)
    return paths
