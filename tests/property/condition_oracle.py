"""What a condition means, said as plainly as Python can: one user, lists of dicts, no library.

It shares no code with `insight`. A world is

    {"users": [{"id", "since"}], "fields": {id: {name: value}}, "events": {name: [line]}}

where a line is {"user", "at", "id" (or absent), each field}. Times are aware. For `via` it also has

    {"mappings": {name: {"from", "to", "most", "most_to", "links": [{"from", "to", "since", "until"}]}},
     "others": {entity: {id: {field: value}}}}

and for merged users {"merged": {id: survivor}}, each survivor merged into nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

UNITS = {"h": timedelta(hours=1), "d": timedelta(hours=24)}


def members(world: dict[str, Any], groups: dict[str, Any], at: datetime, condition: Any) -> set[Any]:
    universe = everybody(world, at)
    return {user for user in universe if fulfils(world, groups, at, condition, user)}


def everybody(world: dict[str, Any], at: datetime) -> set[Any]:
    return {person(world, row["id"]) for row in world["users"] if row["id"] is not None and _since(row, at)}


def person(world: dict[str, Any], user: Any) -> Any:
    return world.get("merged", {}).get(user, user)


def _since(row: dict[str, Any], at: datetime) -> bool:
    return row["since"] is not None and row["since"] <= at


def fulfils(world: dict[str, Any], groups: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    if "via" in condition:
        return _via(world, groups, at, condition, user)
    if "all" in condition:
        return all(fulfils(world, groups, at, part, user) for part in condition["all"])
    if "any" in condition:
        return any(fulfils(world, groups, at, part, user) for part in condition["any"])
    if "not" in condition:
        return not fulfils(world, groups, at, condition["not"], user)
    if "group" in condition:
        return fulfils(world, groups, at, groups[condition["group"]], user)
    if "field" in condition:
        return compare(world["fields"].get(user, {}).get(condition["field"]), condition)
    if "sequence" in condition:
        return _sequence(world, at, condition, user)
    if "not_followed_by" in condition:
        return _not_followed(world, at, condition, user)
    if "last" in condition or "first" in condition:
        return _age(world, at, condition, user)
    return _number(world, at, condition, user)


def compare(found: Any, test: dict[str, Any]) -> bool:
    op, value = test["op"], test.get("value")
    if found is None or found != found:  # NULL, or NaN
        return op in ("ne", "not_in", "is_null")
    return {
        "eq": lambda: found == value,
        "ne": lambda: found != value,
        "in": lambda: found in value,
        "not_in": lambda: found not in value,
        "lt": lambda: found < value,
        "le": lambda: found <= value,
        "gt": lambda: found > value,
        "ge": lambda: found >= value,
        "between": lambda: value[0] <= found <= value[1],
        "contains": lambda: value in found,
        "is_null": lambda: False,
        "not_null": lambda: True,
    }[op]()


def lines(
    world: dict[str, Any], at: datetime, step: dict[str, Any], user: Any, within: str | None
) -> list[Any]:
    """A user's lines of an event, up to `at`, in the window, that pass the step's filter."""
    found = []
    for line in world["events"][step["event"]]:
        if line["at"] is None or line["at"] > at or line.get("id", 0) is None:
            continue
        if person(world, line["user"]) != user:
            continue
        if within is not None and line["at"] <= at - span(within):
            continue
        if "where" in step and not _line_passes(line, step["where"]):
            continue
        found.append(line)
    return found


def span(window: str) -> timedelta:
    return int(window[:-1]) * UNITS[window[-1]]


def _line_passes(line: dict[str, Any], where: Any) -> bool:
    if "all" in where:
        return all(_line_passes(line, part) for part in where["all"])
    if "any" in where:
        return any(_line_passes(line, part) for part in where["any"])
    if "not" in where:
        return not _line_passes(line, where["not"])
    return compare(line[where["field"].split(".")[-1]], where)


def _number(world: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    kept = lines(world, at, condition, user, condition.get("within"))
    agg = condition["agg"]
    if agg == "count":
        number: Any = len({line["id"] for line in kept} if kept and "id" in kept[0] else kept)
        return compare(number, condition)
    values = [line[condition["of"].split(".")[-1]] for line in kept]
    values = [value for value in values if value is not None and value == value]
    if agg == "distinct":
        return compare(len(set(values)), condition)
    if agg == "sum":
        return compare(sum((Decimal(str(value)) for value in values), Decimal(0)), _exact(condition))
    if not values:
        return False
    exact = [Decimal(str(value)) for value in values]
    number = {"avg": sum(exact) / len(exact), "min": min(exact), "max": max(exact)}[agg]
    return compare(round(number, 6), _exact(condition))


def _exact(condition: dict[str, Any]) -> dict[str, Any]:
    value = condition["value"]
    exact = [Decimal(str(each)) for each in value] if isinstance(value, list) else Decimal(str(value))
    return {**condition, "value": exact}


def _age(world: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    times = [line["at"] for line in lines(world, at, condition, user, None)]
    if not times:
        return False
    edge = max(times) if "last" in condition else min(times)
    older = "older_than" not in condition or edge <= at - span(condition["older_than"])
    newer = "newer_than" not in condition or edge > at - span(condition["newer_than"])
    return older and newer


def _sequence(world: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    """By trying every way: is there a strictly rising choice of one time a step?"""
    steps = [
        {line["at"] for line in lines(world, at, step, user, condition["within"])}
        for step in condition["sequence"]
    ]

    def rising(i: int, after: datetime | None) -> bool:
        if i == len(steps):
            return True
        return any(rising(i + 1, time) for time in steps[i] if after is None or time > after)

    return rising(0, None)


def _not_followed(world: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    by = condition["not_followed_by"]
    by = by if isinstance(by, dict) else {"event": by}
    given = span(condition["within"])
    after = [line["at"] for line in lines(world, at, by, user, None)]
    for line in lines(world, at, condition, user, condition.get("during")):
        begun = line["at"]
        if begun + given <= at and not any(begun < time <= begun + given for time in after):
            return True
    return False


def _via(world: dict[str, Any], groups: dict[str, Any], at: datetime, condition: Any, user: Any) -> bool:
    """Walk from her to the entities; then either look at them, or walk back to users."""
    via = condition["via"] if isinstance(condition["via"], list) else [condition["via"]]
    quantifier = next(name for name in ("any", "all", "count") if name in condition)
    part = condition[quantifier]
    reached = _far(world, at, via, user)
    entity = _entity(part)
    if entity == "user":
        circle = {other for other in everybody(world, at) if _far(world, at, via, other) & reached}
        if condition.get("others"):
            circle -= {user}
        answers = [fulfils(world, groups, at, part, other) for other in circle]
    else:
        answers = [_entity_fulfils(world["others"][entity].get(target, {}), part) for target in reached]
    if quantifier == "count":
        return compare(sum(answers), condition)
    return any(answers) if quantifier == "any" else bool(answers) and all(answers)


def _far(world: dict[str, Any], at: datetime, via: list[str], user: Any) -> set[Any]:
    found, entity = {user}, "user"
    for name in via:
        mapping = world["mappings"][name]
        links = _good_links(world, mapping, at)
        if entity == mapping["from"]:
            found, entity = {far for near, far in links if near in found}, mapping["to"]
        else:
            found, entity = {near for near, far in links if far in found}, mapping["from"]
    return found


def _good_links(world: dict[str, Any], mapping: dict[str, Any], at: datetime) -> set[tuple[Any, Any]]:
    """Links that hold now, without those of ids that have too many."""
    holding = set()
    for link in mapping["links"]:
        if link["from"] is None or link["to"] is None or link["since"] is None or link["since"] > at:
            continue
        if link["until"] is not None and link["until"] <= at:
            continue
        near = person(world, link["from"]) if mapping["from"] == "user" else link["from"]
        far = person(world, link["to"]) if mapping["to"] == "user" else link["to"]
        holding.add((near, far))
    return {
        (near, far)
        for near, far in holding
        if len([1 for link in holding if link[1] == far]) <= mapping["most"]
        and len([1 for link in holding if link[0] == near]) <= mapping["most_to"]
    }


def _entity(part: Any) -> str:
    """Whose fields a condition speaks of: another entity's, or (users) anything else."""
    for name in ("all", "any"):
        if name in part and "via" not in part:
            return _entity(part[name][0])
    if "not" in part:
        return _entity(part["not"])
    return part["field"].split(".")[0] if "field" in part and "via" not in part else "user"


def _entity_fulfils(row: dict[str, Any], part: Any) -> bool:
    if "all" in part:
        return all(_entity_fulfils(row, each) for each in part["all"])
    if "any" in part:
        return any(_entity_fulfils(row, each) for each in part["any"])
    if "not" in part:
        return not _entity_fulfils(row, part["not"])
    return compare(row.get(part["field"]), part)
