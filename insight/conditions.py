"""Conditions: a tree of statements about a user as of an instant, and what each of them means.

All meaning is two-valued: at every instant every existing user either fulfils a condition or not.

- **Universe**: users that exist as of T. `not x` is the universe less x, never SQL's NOT.
- **Window** `within: Nd`: the half-open (T − N × 24 h, T]. Nothing after T counts, with or without it.
- **Field** tests on a value that is NULL, or of a user without a row: `is_null`, `ne` and `not_in` are
  true (an unknown city is not Shanghai), every other test is false. `between` includes both ends.
  `contains` minds case. Text is ordered by code point.
- **Events**: a row whose user, time or id is NULL is no event. `where` keeps the lines that fulfil it,
  by the same rules for NULL. `count` counts events (distinct ids where the event has an id, else
  rows), `distinct` the different non-NULL values of `of`, `sum`, `avg`, `min`, `max` run over lines.
  Without any line, count, sum and distinct are 0 (so `count le 0` includes those who did nothing);
  avg, min and max do not exist and fail every test, `ne` included. Sums and averages of decimals
  are compared to a millionth, so that 0.1 + 0.2 is 0.3.
- **Time since**: `{event, last: true, older_than: 7d}`: has such an event, and the last one is at or
  before T − 7 d. `newer_than` is its opposite: after T − 7 d. `first: true` looks at the first one.
- **Sequence**: events in this order at strictly increasing times, all within (T − N, T].
- **Not followed**: `{event: A, not_followed_by: B, within: 7d}`: some A at t ≤ T − 7 d, so that the
  time to follow has passed, without any B in (t, t + 7 d]. `during: 30d` keeps A within (T − 30 d, T].
- **Group**: membership in another group as of the same instant.
- **Via** `{via: household, any: C}`: a mapping links users to entities; her circle is every user of the
  universe who shares one of them with her, herself included, or not with `others: true`. `any`: somebody in
  it fulfils C. `all`: there is somebody in it, and everybody fulfils C. `{count: C, op: ge, value: 2}`: so
  many different ones fulfil C. Without a link the circle is empty: `any` and `all` fail, the count is 0.
  Where C speaks of an entity's own fields (`device.os`), it is asked of the entities that she is linked to
  instead; one without a row there has NULLs. `via: [bought, sold_by]` goes through one mapping after the
  other. A link holds at T when since ≤ T < until (no `until`: not ended; no `since` where the mapping has
  that column: never). An id with more different partners than the mapping's `most` (`most_to` on its `to`
  side) is a shared device, not a person: none of its links counts, and that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from kernel.errors import BadInput
from kernel.ids import short_id

FIELD_OPS = (
    "eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "between", "contains", "is_null", "not_null",
)  # fmt: skip
NUMBER_OPS = ("eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "between")
#: a test that NULL fulfils → the one whose complement it is
OPPOSITE = {"ne": "eq", "not_in": "in", "is_null": "not_null"}
AGGREGATES = ("count", "sum", "avg", "min", "max", "distinct")
QUANTIFIERS = ("any", "all", "count")


@dataclass(frozen=True, kw_only=True)
class Test:
    """A comparison with a stated value."""

    op: str
    #: one value; a tuple for in, not_in (members) and between (low, high); None for is_null, not_null
    value: object = None


@dataclass(frozen=True, kw_only=True)
class FieldTest:
    """A field of the user or, inside `where`, of the event."""

    field: str
    test: Test


@dataclass(frozen=True, kw_only=True)
class Step:
    """Events of one name, of which only those lines that fulfil `where` count."""

    event: str
    where: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class EventTest:
    """A number made of a user's events."""

    step: Step
    agg: str
    #: field of the event; None for count
    of: str | None
    #: None: all of time up to T
    within: timedelta | None
    test: Test


@dataclass(frozen=True, kw_only=True)
class EventAge:
    """How long ago the first or the last event was."""

    step: Step
    #: `first` or `last`
    which: str
    older_than: timedelta | None
    newer_than: timedelta | None


@dataclass(frozen=True, kw_only=True)
class InOrder:
    """The contract's `sequence`."""

    steps: tuple[Step, ...]
    within: timedelta


@dataclass(frozen=True, kw_only=True)
class NotFollowed:
    step: Step
    by: Step
    #: time that it had to follow
    within: timedelta
    #: how far back the first of the two may lie; None: for ever
    during: timedelta | None


@dataclass(frozen=True, kw_only=True)
class InGroup:
    group: str


@dataclass(frozen=True, kw_only=True)
class AllOf:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, kw_only=True)
class AnyOf:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, kw_only=True)
class Not:
    part: Condition


@dataclass(frozen=True, kw_only=True)
class Linked:
    """What the users say who share a linked entity with her."""

    #: mappings, from the user outwards
    via: tuple[str, ...]
    #: one of QUANTIFIERS
    quantifier: str
    #: asked of each user of the circle
    part: Condition
    #: without herself
    others: bool = False
    #: of how many fulfil it; for count only
    test: Test | None = None


@dataclass(frozen=True, kw_only=True)
class LinkedFields:
    """What the entities that she is linked to say by their own fields."""

    via: tuple[str, ...]
    quantifier: str
    #: field tests of that one entity, with all, any and not
    part: Condition
    test: Test | None = None


Leaf = FieldTest | EventTest | EventAge | InOrder | NotFollowed | LinkedFields
Condition = Leaf | InGroup | AllOf | AnyOf | Not | Linked
Value = TypeVar("Value")


def leaf_id(leaf: Leaf) -> str:
    """The same for leaves that say the same: 16 digits."""
    return short_id(repr(leaf))


def branches(condition: Condition) -> tuple[Condition, ...]:
    """The conditions directly below one; none below a leaf or a group."""
    if isinstance(condition, AllOf | AnyOf):
        return condition.parts
    return (condition.part,) if isinstance(condition, Not | Linked) else ()


def parents_first(condition: Condition) -> list[Condition]:
    """Every node of the tree, each before those below it. No recursion: depth costs nothing."""
    nodes: list[Condition] = [condition]
    for node in nodes:
        nodes.extend(branches(node))
    return nodes


def ends(condition: Condition) -> list[Leaf | InGroup]:
    """The leaves and group references of the tree."""
    return [node for node in parents_first(condition) if not isinstance(node, AllOf | AnyOf | Not | Linked)]


def evaluate(
    condition: Condition,
    *,
    end: Callable[[Leaf | InGroup], Value],
    every: Callable[[Sequence[Value]], Value],
    some: Callable[[Sequence[Value]], Value],
    opposite: Callable[[Value], Value],
    through: Callable[[Linked, Value], Value] | None = None,
) -> Value:
    """The tree's value from its ends' values, by all (`every`), any (`some`), not (`opposite`) and via
    (`through`; without it, BadInput for a tree that has one)."""
    values: dict[int, Value] = {}
    for node in reversed(parents_first(condition)):
        below = [values[id(part)] for part in branches(node)]
        if isinstance(node, AllOf):
            values[id(node)] = every(below)
        elif isinstance(node, AnyOf):
            values[id(node)] = some(below)
        elif isinstance(node, Not):
            values[id(node)] = opposite(below[0])
        elif isinstance(node, Linked):
            if through is None:
                raise BadInput("cannot be asked here", field="via", value=", ".join(node.via))
            values[id(node)] = through(node, below[0])
        else:
            values[id(node)] = end(node)
    return values[id(condition)]
