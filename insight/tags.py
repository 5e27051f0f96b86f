"""Tags: named statements about users, and what they come to in a condition.

An *atomic* tag is a value: a field of the user, or a number made of events in a window. Labels may cut it
into named parts; who fits several gets the first, who fits none has no value. A *composite* tag is a
condition, true or false. A tag says what it says as of the instant of the condition that uses it.

`{tag: city, op: eq, value: Shanghai}` tests the value and `{tag: vip}` that a composite tag is true. A test
means what it means for a field: a user without a value fulfils `is_null`, `ne` and `not_in` and nothing else.
Counts, sums and distinct numbers of users without events are 0; averages, least and most do not exist.
`resolve` writes the tag out, so every backend knows what it means, and a group's fingerprint changes with the
tags that it uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from insight.condition_parse import MOST_NODES, parse_condition
from insight.groups import Group
from insight.readiness import Needs, Schedule
from insight.tag_mentions import MOST_DEEP_SAVED, mentions, nodes, replaced, shape, test_of
from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint

#: what a published tag's name begins with
TAG = "tag:"
#: aggregates that a user without events has none of
_MAY_LACK = ("avg", "min", "max")
_EQUALITY = ("eq", "ne", "in", "not_in", "is_null", "not_null")
_COMPLEMENT = {"ne": "eq", "not_in": "in", "is_null": "not_null"}


class TagLabel(Frozen):
    """A named part of a tag's values."""

    label: str = Field(min_length=1, max_length=100)
    #: test of the value; absent: everyone whom no label before fits
    op: str | None = None
    value: Any = None

    @property
    def test(self) -> dict[str, Any]:
        return {"op": self.op} if self.value is None else {"op": self.op, "value": self.value}


class Tag(Definition):
    """A statement about users, with a name, an owner and an end."""

    kind: Literal["tag"] = "tag"
    entity: Literal["user"] = "user"
    #: who answers for it
    owner: str = ""
    #: atomic: `{field: …}` or `{event, agg, of, within, where}`
    source: dict[str, Any] | None = Field(default=None, alias="from")
    #: composite: a condition
    where: dict[str, Any] | None = None
    #: named parts of the values, the first that fits wins
    labels: tuple[TagLabel, ...] = ()
    #: how long after the instant that it was produced as of it may be used
    expires: str | None = None
    freshness: Literal["batch", "real_time"] = "batch"
    schedule: Schedule | None = None
    needs: Needs = Needs()

    @field_validator("expires")
    @classmethod
    def _a_window(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_window(text)
            except BadInput as error:
                raise ValueError(error.problem) from None
        return text

    @model_validator(mode="after")
    def _says_one_thing(self) -> Tag:
        if (self.source is None) == (self.where is None):
            raise ValueError("needs either from (a field or events) or where (a condition)")
        if self.where is not None and self.labels:
            raise ValueError("labels are for values; a condition is true or false")
        names = [each.label for each in self.labels]
        for i, each in enumerate(self.labels):
            if names.index(each.label) != i:
                raise ValueError(f"label {each.label!r} is named twice")
            if each.op is None and (each.value is not None or i + 1 < len(names) or i == 0):
                raise ValueError(f"label {each.label!r} has no op, so it can only be the last of several")
        try:
            if self.where is not None:
                parse_condition(shape(self.where, f"tag {self.name}"), deepest=MOST_DEEP_SAVED)
            else:
                self._check_source()
        except BadInput as error:
            raise ValueError(str(error)) from None
        return self

    def _check_source(self) -> None:
        assert self.source is not None  # noqa: S101  (says_one_thing)
        forms = {"field"} if "field" in self.source else {"event", "agg", "of", "within", "where"}
        for name in self.source:
            if name not in forms:
                raise BadInput("is not a known field here", field=f"from.{name}")
        if not {"field", "event"} & set(self.source):
            raise BadInput("names neither a field nor an event", field="from")
        for each in self.labels or (TagLabel(label="any", op="eq", value=0),):
            if each.op is not None:
                parse_condition({**self.source, **each.test}, at=f"labels.{each.label}")

    @property
    def type(self) -> Literal["yes_no", "label", "value"]:
        """What its values are."""
        if self.where is not None:
            return "yes_no"
        return "label" if self.labels else "value"

    @property
    def fingerprint(self) -> str:
        """Of what decides whom it is said of: 16 digits."""
        said = self.model_dump(mode="json", include={"name", "entity", "source", "where", "labels"})
        return fingerprint(said)


def parts(tag: Tag) -> dict[str, dict[str, Any]]:
    """Name under which it is published → condition: `tag:NAME` who has it (or has a value at all), and
    `tag:NAME=LABEL` for each label. Tags that it uses are not written out yet."""
    name = f"{TAG}{tag.name}"
    if tag.where is not None:
        return {name: tag.where}
    found = {name: _condition(tag, {"op": "not_null"}, "")}
    return found | {f"{name}={each.label}": _fits(tag, i) for i, each in enumerate(tag.labels)}


def write_out(
    raw: dict[str, Any], tags: Mapping[str, Tag], where: str = "", within: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The condition with every tag as what it says. Raises NotFound for an unknown tag, BadInput for tags
    that refer to themselves in a circle, or for a test that does not suit the tag."""
    return _written(raw, tags, where, within, count())


def _written(
    raw: dict[str, Any], tags: Mapping[str, Tag], where: str, within: tuple[str, ...], parts: Iterator[int]
) -> dict[str, Any]:
    """`parts` counts what all of it comes to."""

    def say(node: Mapping[str, Any]) -> dict[str, Any]:
        name, test = test_of(node, where)
        if name not in tags:
            raise NotFound("tag", name, tags, where=where, field="tag")
        if name in within:
            circle = " → ".join([*within[within.index(name) :], name])
            raise BadInput(f"refers to itself: {circle}", where=f"tag {name}", field="tag", value=name)
        said = _condition(tags[name], test, where)
        for _ in nodes(said):
            if next(parts) >= MOST_NODES:
                raise BadInput(f"has more than {MOST_NODES} parts", where=where, field="where")
        return _written(said, tags, f"tag {name}", (*within, name), parts)

    return replaced(raw, say, where)


def resolve(group: Group, tags: Mapping[str, Tag]) -> Group:
    """The group with its tags written out; the same group when it uses none."""
    if not mentions(group.where):
        return group
    return group.model_copy(update={"where": write_out(group.where, tags, f"group {group.name}")})


def tag_groups(tag: Tag, tags: Mapping[str, Tag]) -> dict[str, Group]:
    """Name under which it is published → a group of those users."""
    where = f"tag {tag.name}"
    return {
        name: Group.model_construct(name=name, where=write_out(raw, tags, where, (tag.name,)))
        for name, raw in parts(tag).items()
    }


def _condition(tag: Tag, test: dict[str, Any], where: str) -> dict[str, Any]:
    """What `{tag, op, value}` comes to."""
    if tag.where is not None:
        return _of_yes_no(tag, test, where)
    if not test:
        raise BadInput("is a value, so it needs op and value", where=where, field="tag", value=tag.name)
    if tag.labels:
        return _of_labels(tag, test, where)
    return _of_value(tag, test)


def _of_yes_no(tag: Tag, test: dict[str, Any], where: str) -> dict[str, Any]:
    assert tag.where is not None  # noqa: S101  (its caller looked)
    if not test:
        return tag.where
    op, value = test["op"], test.get("value")
    if op in ("is_null", "not_null"):
        nobody = {"all": [tag.where, {"not": tag.where}]}
        return nobody if op == "is_null" else {"not": nobody}
    if op not in ("eq", "ne") or not isinstance(value, bool):
        problem = "is true or false: test it with eq or ne, true or false"
        raise BadInput(problem, where=where, field="tag", value=tag.name)
    return tag.where if value == (op == "eq") else {"not": tag.where}


def _of_labels(tag: Tag, test: dict[str, Any], where: str) -> dict[str, Any]:
    op, value = test["op"], test.get("value")
    names = [each.label for each in tag.labels]
    if op == "contains":
        wanted = [name for name in names if str(value) in name]
    elif op not in _EQUALITY:
        raise BadInput(f"has labels, which have no order for {op}", where=where, field="tag", value=tag.name)
    elif op in ("is_null", "not_null"):
        wanted = names
    else:
        wanted = [str(each) for each in (value if isinstance(value, list | tuple) else [value])]
    for each in wanted:
        if each not in names:
            raise NotFound(f"label of tag {tag.name}", each, names, where=where, field="value")
    fits = [_fits(tag, names.index(each)) for each in wanted]
    somebody = {"any": fits} if fits else {"all": [_fits(tag, 0), {"not": _fits(tag, 0)}]}
    return {"not": somebody} if op in _COMPLEMENT else somebody


def _fits(tag: Tag, place: int) -> dict[str, Any]:
    """Those whose first fitting label is the one in this place."""
    own = tag.labels[place]
    before = [_of_value(tag, each.test) for each in tag.labels[:place]]
    first = [{"not": {"any": before}}] if before else []
    return {"all": [*([_of_value(tag, own.test)] if own.op else []), *first]}


def _of_value(tag: Tag, test: dict[str, Any]) -> dict[str, Any]:
    """A test of the value itself."""
    source = dict(tag.source or {})
    if "field" in source:
        return {**source, **test}
    op = test["op"]
    if source.get("agg") not in _MAY_LACK:
        everyone = {**source, "op": "ge", "value": 0} if source.get("agg") != "sum" else None
        if op in ("is_null", "not_null"):
            known = everyone or {
                "any": [{**source, "op": "ge", "value": 0}, {**source, "op": "lt", "value": 0}]
            }
            return known if op == "not_null" else {"not": known}
        return {**source, **test}
    if op in ("is_null", "not_null"):
        known = {**source, "agg": "distinct", "op": "ge", "value": 1}
        return known if op == "not_null" else {"not": known}
    if op in _COMPLEMENT:
        return {"not": {**source, **test, "op": _COMPLEMENT[op]}}
    return {**source, **test}
