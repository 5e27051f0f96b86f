"""What groups and tags wait for: those that their conditions name, and those that they say they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce

from pyroaring import BitMap

from insight.catalog import Catalog
from insight.condition_check import check_condition
from insight.condition_parse import parse_condition
from insight.conditions import (
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InGroup,
    InOrder,
    Linked,
    LinkedFields,
    NotFollowed,
    ends,
    evaluate,
    parents_first,
)
from insight.evaluation import evaluation_mode
from insight.groups import Group, in_order, named_groups
from insight.population import Population
from insight.readiness import Job, Need, Needs, line_up
from insight.tag_mentions import mentions, shape
from insight.tags import TAG, Tag, resolve, tag_groups
from kernel.errors import BadInput, NotFound


def jobs(groups: Mapping[str, Group], tags: Mapping[str, Tag]) -> list[Job]:
    """One job a tag (`tag:NAME`) and a group, each after those that it uses or needs. `groups` as they were
    written, tags not written out. Raises BadInput for a circle."""
    found = [Job(key=f"{TAG}{name}", after=_after(tag.where, tag.needs)) for name, tag in tags.items()]
    found += [Job(key=name, after=_after(group.where, group.needs)) for name, group in groups.items()]
    return line_up(found)


def with_upstream(wanted: Iterable[str], all_jobs: Iterable[Job]) -> list[Job]:
    """Those jobs and everything that they wait for, in order. Raises NotFound."""
    known = {job.key: job for job in all_jobs}
    kept: set[str] = set()
    waiting = list(wanted)
    for key in waiting:
        if key not in known:
            kind = "tag" if key.startswith(TAG) else "group"
            raise NotFound(kind, key.removeprefix(TAG), known)
        if key not in kept:
            kept.add(key)
            waiting.extend(known[key].after)
    return [job for job in known.values() if job.key in kept]


def _after(where: object, needs: Needs) -> tuple[str, ...]:
    found = [f"{TAG}{name}" for name in mentions(where)]
    if isinstance(where, Mapping):
        found += named_groups(parse_condition(shape(dict(where))))
    for need in needs.each():
        if need.younger is None and need.group is not None:
            found.append(need.group)
        if need.younger is None and need.tag is not None:
            found.append(f"{TAG}{need.tag}")
    return tuple(dict.fromkeys(found))


def check_tags_and_needs(
    groups: Mapping[str, Group], tags: Mapping[str, Tag], catalog: Catalog | None
) -> None:
    """Raises BadInput for the first tag or need that does not fit the rest, or for a circle of them."""
    written_out = {name: resolve(group, tags) for name, group in groups.items()}
    parts = {name: tag_groups(tag, tags) for name, tag in tags.items()}
    for kind, definitions in (("group", groups), ("tag", tags)):
        for name, definition in definitions.items():
            for need in definition.needs.each():
                _check_need(need, groups, tags, catalog, f"{kind} {name}")
    if catalog is not None:
        for name, tag in tags.items():
            for part in parts[name].values():
                _check_part(tag, part, written_out, catalog)
    for name, group in written_out.items():
        in_order(group.condition, written_out, f"group {name}")
    for job in jobs(groups, tags):
        for key in job.after:
            if not key.startswith(TAG) and key not in groups:
                where = f"tag {job.key.removeprefix(TAG)}" if job.key.startswith(TAG) else f"group {job.key}"
                raise NotFound("group", key, groups, where=where, field="group")


def _check_part(tag: Tag, part: Group, groups: Mapping[str, Group], catalog: Catalog) -> None:
    where = f"tag {tag.name}"
    condition = parse_condition(part.where, where)
    check_condition(condition, catalog, where)
    in_order(condition, groups, where)
    if tag.freshness == "real_time" and evaluation_mode(condition, catalog, groups) != "real_time":
        problem = "but it looks at something that the catalog knows in batches only"
        raise BadInput(problem, where=where, field="freshness", value="real_time")


def _check_need(
    need: Need, groups: Mapping[str, Group], tags: Mapping[str, Tag], catalog: Catalog | None, where: str
) -> None:
    if need.group is not None and need.group not in groups:
        raise NotFound("group", need.group, groups, where=where, field="needs.group")
    if need.tag is not None and need.tag not in tags:
        raise NotFound("tag", need.tag, tags, where=where, field="needs.tag")
    if need.table is None or catalog is None:
        return
    source, _, table = need.table.partition(".")
    known = [f"{name}.{each}" for name in catalog.sources for each in catalog.tables(name)]
    if need.table not in known:
        raise NotFound("table", need.table, known, where=where, field="needs.table")
    timed = need.complete_through is not None or need.within is not None
    if timed and need.column is None and time_column(catalog, source, table) is None:
        problem = "has no time column that the catalog knows; name one with column"
        raise BadInput(problem, where=where, field="needs.table", value=need.table)


def time_column(catalog: Catalog, source: str, table: str) -> str | None:
    """The time column of the first event in the table, else that of when users first appear."""
    for event in catalog.events.values():
        if (event.source, event.table) == (source, table):
            return event.time
    entity = catalog.entity
    return entity.since if (entity.source, entity.table) == (source, table) else None


def tables_read(group: Group, groups: Mapping[str, Group], catalog: Catalog) -> tuple[str, ...]:
    """`source.table` of everything that decides who belongs, sorted: the users' table always. `groups` with
    their tags written out."""
    condition = parse_condition(group.where, f"group {group.name}")
    found = {f"{catalog.entity.source}.{catalog.entity.table}"}
    for each in (condition, *in_order(condition, groups).values()):
        for kind, name in names(each):
            if kind != "group":
                found.update(tables_of(kind, name, catalog))
    return tuple(sorted(found))


def names_below(group: Group, groups: Mapping[str, Group]) -> tuple[str, ...]:
    """Groups that it names, through others too. `groups` with their tags written out."""
    return tuple(in_order(parse_condition(group.where, f"group {group.name}"), groups))


def names(condition: Condition) -> tuple[tuple[str, str], ...]:
    """(`field` | `event` | `mapping` | `group`, name) of everything that a condition names, each once."""
    found: list[tuple[str, str]] = []
    for node in parents_first(condition):
        if isinstance(node, InGroup):
            found.append(("group", node.group))
        elif isinstance(node, FieldTest):
            found.append(("field", node.field))
        elif isinstance(node, InOrder):
            found += [("event", step.event) for step in node.steps]
        elif isinstance(node, NotFollowed):
            found += [("event", node.step.event), ("event", node.by.event)]
        elif isinstance(node, EventTest | EventAge):
            found.append(("event", node.step.event))
        elif isinstance(node, Linked | LinkedFields):
            found += [("mapping", name) for name in node.via]
            if isinstance(node, LinkedFields):
                found += [("field", end.field) for end in ends(node.part) if isinstance(end, FieldTest)]
    return tuple(dict.fromkeys(found))


def tables_of(kind: str, name: str, catalog: Catalog) -> tuple[str, ...]:
    """`source.table` of a field, an event or a mapping."""
    if kind == "field":
        source, table, _ = catalog.field_place(name)
        return (f"{source}.{table}",)
    if kind == "event":
        event = catalog.event(name)
        return tuple(f"{event.source}.{table}" for table in (event.table, *event.join))
    route = catalog.mappings[name]
    return (f"{route.source}.{route.table}",)


def leaves_in(group: Group) -> int:
    """How many leaves and groups its own condition names, tags written out."""
    return len(ends(parse_condition(group.where, f"group {group.name}")))


def members_over(population: Population, name: str, parents: Callable[[str], BitMap | None]) -> BitMap:
    """A group's members from those of the groups that it names, where `parents` knows all of them: so a chain
    of groups costs what its links cost, not what all below each link costs again."""
    condition = population.groups[name].condition
    direct = [node for node in parents_first(condition) if isinstance(node, InGroup | Linked)]
    known: dict[str, BitMap] = {}
    for node in direct:
        found = parents(node.group) if isinstance(node, InGroup) else None
        if found is None:
            return population.members(name)
        assert isinstance(node, InGroup)  # noqa: S101  (found is None otherwise)
        known[node.group] = found
    if not known:
        return population.members(name)
    return (
        evaluate(
            condition,
            end=lambda end: known[end.group] if isinstance(end, InGroup) else population.members(end),
            every=lambda parts: reduce(lambda a, b: a & b, parts),
            some=lambda parts: reduce(lambda a, b: a | b, parts),
            opposite=lambda part: population.universe - part,
        )
        & population.universe
    )


def used_tags(name: str, groups: Mapping[str, Group], tags: Mapping[str, Tag]) -> tuple[str, ...]:
    """Tags that a group uses, through other groups and tags too. `groups` as they were written."""
    below = with_upstream([name], jobs(groups, tags))
    return tuple(job.key.removeprefix(TAG) for job in below if job.key.startswith(TAG))
