"""What features are made of: lines of events, fields of the entity, and when each became known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import polars as pl

from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT, check_event_frame
from models.feature_definitions import OF, Aggregate, FeatureSet, Label, OfEvent, Slope, Test

DAY = 86_400_000_000
#: the entity that events, plans and models speak of; features of others are joined to it
USER = "user"


@dataclass(frozen=True, kw_only=True)
class Belonging:
    """To which household, or other entity, each user belongs."""

    #: as_of → user, entity (text): one row a user who belongs to one at that instant
    at: Callable[[datetime], pl.DataFrame]
    #: of all that `at` answers from
    fingerprint: str
    #: user (the entity's id, text), then the entity's fields as they are now; None when none are asked for
    fields: pl.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Lazy frames; nothing is read before a feature is asked for.

    `user` is the entity's id in all of them: of a household where the features are of households.
    """

    #: event → user, at, event_id, and its fields
    events: Mapping[str, pl.LazyFrame]
    #: user, then fields as they are now, one row each; None when there are none
    fields: pl.LazyFrame | None = None
    #: events of which every line is an event of its own
    whole: frozenset[str] = frozenset()
    #: of features of another entity: events are of users, and count for what they belong to at the instant
    belongs: Callable[[datetime], pl.DataFrame] | None = None
    _begins: dict[tuple[str, datetime | None], datetime | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, frame in self.events.items():
            check_event_frame(frame, name)

    def known(self, features: FeatureSet, event: str, as_of: datetime) -> pl.LazyFrame:
        """Lines of an event that had happened, and were known, by the instant: with `age` in microseconds."""
        lines, at = self.event(event, features), pl.lit(as_of).cast(INSTANT)
        heard = features.known_at.get(event)
        if heard is not None:
            lines = lines.filter(pl.col(heard) <= at)
        if self.belongs is not None:
            lines = lines.join(self.belongs(as_of).lazy(), on="user").drop("user").rename({"entity": "user"})
        return lines.filter(pl.col("at") <= at).with_columns(age=(at - pl.col("at")).dt.total_microseconds())

    def begin(self, features: FeatureSet, event: str, as_of: datetime) -> datetime | None:
        """When the records of an event begin, by what was known; None when nothing was."""
        heard = features.known_at.get(event)
        key = (event, None if heard is None else as_of)
        if key not in self._begins:
            lines = self.event(event, features) if heard is None else self.known(features, event, as_of)
            found = lines.select(pl.col("at").min()).collect(engine="streaming")["at"][0]
            self._begins[key] = found
        first = self._begins[key]
        return first if first is not None and first <= as_of else None

    def covered(self, features: FeatureSet, event: str, as_of: datetime) -> float:
        """Days that the records of an event go back, at least one."""
        first = self.begin(features, event, as_of)
        return 1.0 if first is None else max((as_of - first).total_seconds() / 86_400, 1.0)

    def event(self, name: str, features: FeatureSet) -> pl.LazyFrame:
        if name not in self.events:
            raise NotFound("event", name, self.events, where=f"features {features.name}")
        return self.events[name]

    def part(self, number: int, of: int) -> Facts:
        """The same of one in `of` users, chosen by hash; how far records go back stays as it is."""
        mine = pl.col("user").hash(0) % of == number
        fields = None if self.fields is None else self.fields.filter(mine)
        if (belongs := self.belongs) is not None:
            theirs = pl.col("entity").hash(0) % of == number
            return replace(self, belongs=lambda at: belongs(at).filter(theirs), fields=fields)
        return replace(
            self, events={name: frame.filter(mine) for name, frame in self.events.items()}, fields=fields
        )


def check_facts(features: FeatureSet, facts: Facts) -> None:
    """Raises BadInput, naming feature set and field, for what is not there or of another type."""
    where = f"features {features.name}"
    schemas = {name: facts.event(name, features).collect_schema() for name in features.events}
    for event, known in features.known_at.items():
        if event not in schemas:
            continue
        if known not in schemas[event]:
            raise NotFound(f"field of event {event}", known, schemas[event], where=where, field="known_at")
        if schemas[event][known] != INSTANT:
            kind = str(schemas[event][known])
            raise BadInput(f"is not a time in UTC but {kind}", where=where, field=f"known_at.{event}")
    for each in features.features:
        if not isinstance(each, OfEvent):
            continue
        schema = schemas[each.event]
        for name in each.fields:
            if name not in schema:
                raise NotFound(f"field of event {each.event}", name, schema, where=where, field="features")
        number = (
            each.of if isinstance(each, Slope) or (isinstance(each, Aggregate) and _number(each)) else None
        )
        if number is not None and not (schema[number].is_numeric() or schema[number] == pl.Boolean):
            said = f"is {schema[number]}, not a number"
            raise BadInput(said, where=where, field=f"{each.event}.{number}")
        for name, test in each.where.items():
            fits(schema[name], test, where, f"{each.event}.{name}")
        if isinstance(each, Aggregate) and each.by is not None:
            fits(schema[each.by], each.labels, where, f"{each.event}.{each.by}")
    if features.fields:
        there = () if facts.fields is None else facts.fields.collect_schema().names()
        for name in features.fields:
            if name not in there:
                raise NotFound("field", name, there, where=where, field="field")


def _number(each: Aggregate) -> bool:
    return each.agg in OF and each.agg not in ("distinct", "last")


def fits(kind: pl.DataType, test: Test | tuple[Label, ...], where: str, field: str) -> None:
    """Raises BadInput when a column can never be what it is tested for."""
    text = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
    if isinstance(test, Test):
        if not kind.is_numeric():
            raise BadInput(
                f"is {kind}, and compared with a number", where=where, field=field, value=str(test)
            )
        return
    for label in test:
        right = isinstance(label, str) if text else isinstance(label, bool) == (kind == pl.Boolean)
        if not right or (not text and isinstance(label, str)):
            raise BadInput(f"is {kind}, which no such label is", where=where, field=field, value=label)
