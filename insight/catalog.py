"""The catalog: where each user, field and event lives, of which type, and what it plays for us.

A source is a DuckDB file (`duckdb://shop.duckdb`) or a folder of Parquet or CSV files
(`parquet://data`, `csv://data`), relative to the catalog's own folder; a folder's tables are its
file names; other addresses are those of `insight.sources`, and `elasticsearch://HOST:PORT`, whose tables
are indices. Naive times in a source are in its `timezone`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from insight.observed import Profile, load_profile
from kernel.clock import parse_window, parse_zone
from kernel.definitions import Frozen, Name, parse
from kernel.errors import BadInput, NotFound
from kernel.events import EVENT_COLUMNS, OFFER, PURCHASE_ROLES
from kernel.ids import fingerprint

Type = Literal["string", "integer", "decimal", "boolean", "date", "datetime"]
EventRole = Literal["purchase", "treatment", "response"]
#: how soon the source knows: with its next load, or as it happens
Freshness = Literal["batch", "real_time"]
#: what an entity field may say for us: the user's IANA zone; whether the user may be contacted
FieldRole = Literal["timezone", "consent"]
#: role of an event → roles that its fields may have, and those that it must have
EVENT_FIELD_ROLES: dict[str | None, tuple[tuple[str, ...], tuple[str, ...]]] = {
    None: ((), ()),
    "purchase": (PURCHASE_ROLES, ("amount",)),
    "treatment": ((OFFER,), (OFFER,)),
    "response": ((OFFER,), (OFFER,)),
}
#: what addresses of Elasticsearch begin with; it has a compiler of its own (insight.elastic)
ELASTIC = "elasticsearch://"
#: the entity that is the unit of choice and of caps; others are reached by mappings
USER = "user"


#: lowest and highest value
Span = tuple[int | float | datetime | date, int | float | datetime | date]


class SourceRoute(Frozen):
    url: str = Field(min_length=1)
    #: IANA zone of naive times in it
    timezone: str = "UTC"
    #: how long a copy is good; for sources that are copied (`ibis+…`)
    refresh: str = "10m"


class EntityRoute(Frozen):
    source: str
    table: str
    key: str
    #: time column of the table; who first appears there after T does not exist at T
    since: str | None = None


class Labelled(Frozen):
    type: Type
    label: str = ""
    description: str = ""
    #: the only values it has, where that is known: a test for another is refused
    values: tuple[str | int | float | bool, ...] | None = None
    #: lowest and highest that it may be, for whoever writes a condition; nothing is refused for it
    range: Span | None = None
    #: what its numbers are in, such as EUR or days
    unit: str = ""


class FieldRoute(Labelled):
    table: str
    column: str
    #: source and key column, when they differ from the entity's
    source: str | None = None
    key: str | None = None
    role: FieldRole | None = None
    freshness: Freshness = "batch"


class EventFieldRoute(Labelled):
    column: str
    #: table that it is read from; absent: the event's own, else the first joined one that has it
    table: str | None = None
    role: str | None = None


class LookupRoute(Frozen):
    """A many-to-one table joined left on a column of the same name in both."""

    key: str


class EventRoute(Frozen):
    source: str
    table: str
    user: str
    time: str
    #: rows that share it are lines of one event; absent: each row is an event
    id: str | None = None
    role: EventRole | None = None
    label: str = ""
    description: str = ""
    freshness: Freshness = "batch"
    #: rows come at most so long after they happened, such as 2d; absent: nothing is known about it
    late: str | None = None
    #: Elasticsearch: the nested field of the table's documents that holds the events; `time`, `id` and
    #: columns are then below it. Absent: each document of the table is an event
    nested: str | None = None
    join: dict[str, LookupRoute] = {}
    fields: dict[Name, EventFieldRoute] = {}

    @property
    def lateness(self) -> timedelta | None:
        """`late` as time; None: rows may come however late."""
        return None if self.late is None else parse_window(self.late, "late")


class MappingRoute(Frozen):
    """Which ids of one entity belong to which of another: a table of links."""

    source: str
    table: str
    #: entity and column on the one side, such as user
    from_: Name = Field(alias="from")
    from_column: str
    #: entity and column on the other side, such as household
    to: Name
    to_column: str
    #: columns of times between which a link holds: since ≤ T < until
    since: str | None = None
    until: str | None = None
    #: most different `from` that one `to` may have; an id with more is shared, and links nobody
    most: int = Field(default=8, ge=1)
    #: most different `to` that one `from` may have; absent: as `most`
    most_to: int | None = Field(default=None, ge=1)


class OfferRoute(Frozen):
    """Which items each offer is for."""

    source: str
    table: str
    offer: str
    item: str


class Catalog(Frozen):
    """The whole routing. Make it with `load_catalog` or `parse_catalog`, which check its references."""

    sources: dict[Name, SourceRoute] = Field(min_length=1)
    entities: dict[Name, EntityRoute]
    fields: dict[str, FieldRoute] = {}
    events: dict[Name, EventRoute] = {}
    mappings: dict[Name, MappingRoute] = {}
    offers: OfferRoute | None = None
    #: folder that relative addresses start from, and the file's name for messages
    folder: Path = Field(default=Path(), exclude=True)
    file: str = Field(default="catalog", exclude=True)
    #: what `growth catalog profile --write` saw; None when nobody looked
    observed: Profile | None = Field(default=None, exclude=True)

    @property
    def entity(self) -> EntityRoute:
        return self.entities[USER]

    @property
    def fingerprint(self) -> str:
        """Of what the file says and where it stands: 16 digits."""
        return fingerprint([str(self.folder.resolve()), self.model_dump(mode="json")])

    def field(self, name: str, where: str = "", at: str = "field") -> FieldRoute:
        if name not in self.fields:
            raise NotFound("field", name, self.fields, where=where, field=at)
        return self.fields[name]

    def event(self, name: str, where: str = "", at: str = "event") -> EventRoute:
        if name not in self.events:
            raise NotFound("event", name, self.events, where=where, field=at)
        return self.events[name]

    def event_field(self, event: str, name: str, where: str = "", at: str = "field") -> str:
        """The short name of `amount` or `order.amount`. Raises NotFound when the event has none."""
        fields = self.event(event, where).fields
        short = name.removeprefix(f"{event}.")
        if short not in fields:
            raise NotFound(f"field of event {event}", name, fields, where=where, field=at)
        return short

    def event_of_role(self, role: str) -> str | None:
        return next((name for name, event in self.events.items() if event.role == role), None)

    def field_of_role(self, role: FieldRole) -> str | None:
        return next((name for name, field in self.fields.items() if field.role == role), None)

    def field_place(self, name: str) -> tuple[str, str, str]:
        """Source, table and key column of an entity field."""
        route, entity = self.field(name), self.entities[name.partition(".")[0]]
        return route.source or entity.source, route.table, route.key or entity.key

    @property
    def user_fields(self) -> tuple[str, ...]:
        """Names of the fields that are the user's own."""
        return tuple(name for name in self.fields if name.startswith(f"{USER}."))

    def tables(self, source: str) -> tuple[str, ...]:
        """The tables that this catalog uses of a source, sorted."""
        return tuple(sorted({table for name, table, _ in self._uses() if name == source}))

    def _uses(self) -> Iterator[tuple[str, str, str]]:
        """Each (source, table, place in the file) that is named."""
        for name, entity in self.entities.items():
            yield entity.source, entity.table, f"entities.{name}"
        for name, mapping in self.mappings.items():
            yield mapping.source, mapping.table, f"mappings.{name}"
        for name in self.fields:
            source, table, _ = self.field_place(name)
            yield source, table, f"fields.{name}"
        for name, event in self.events.items():
            for table in (event.table, *event.join):
                yield event.source, table, f"events.{name}"
        if self.offers:
            yield self.offers.source, self.offers.table, "offers"


def load_catalog(path: Path) -> Catalog:
    """The catalog in a YAML file. Raises BadInput naming file, field and value."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput("does not exist", field="catalog", value=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", where=path.name, field="file") from None
    except RecursionError:
        raise BadInput("nests too deeply to be read", where=path.name, field="file") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise BadInput(
            f"is not YAML: {getattr(error, 'problem', error)}", where=path.name, field=f"line {line}"
        ) from None
    catalog = parse_catalog(raw, folder=path.parent, where=path.name)
    return catalog.model_copy(update={"observed": load_profile(path)})


def parse_catalog(raw: object, *, folder: Path, where: str = "catalog") -> Catalog:
    """The catalog in parsed YAML, relative addresses starting from `folder`. Raises BadInput."""
    if isinstance(raw, Mapping):
        for name in ("folder", "file", "observed"):
            if name in raw:
                raise BadInput("is not a known field here", where=where, field=name, value=str(raw[name]))
        raw = {**raw, "folder": folder, "file": where}
    catalog = parse(Catalog, raw, where)
    _check_references(catalog)
    return catalog


def _check_references(catalog: Catalog) -> None:
    where = catalog.file
    if USER not in catalog.entities:
        value = ", ".join(catalog.entities) or None
        raise BadInput(f"must have one named {USER!r}", where=where, field="entities", value=value)
    for name, mapping in catalog.mappings.items():
        if mapping.from_ == mapping.to:
            raise BadInput(
                "is an entity linked to itself", where=where, field=f"mappings.{name}.to", value=mapping.to
            )
    for name, source in catalog.sources.items():
        try:
            parse_zone(source.timezone)
            parse_window(source.refresh, "refresh")
        except BadInput as error:
            raise BadInput(
                error.problem, where=where, field=f"sources.{name}.{error.field}", value=error.value
            ) from None
    for name in catalog.fields:
        entity, _, short = name.partition(".")
        if entity not in catalog.entities or not short:
            names = " or ".join(f"{each}.SOMETHING" for each in catalog.entities)
            raise BadInput(f"is not named {names}", where=where, field="fields", value=name)
        if catalog.fields[name].role and entity != USER:
            raise BadInput(f"is for fields of {USER}", where=where, field=f"fields.{name}.role")
        _check_range(catalog, catalog.fields[name], f"fields.{name}")
    for name, _, place in catalog._uses():
        if name not in catalog.sources:
            raise NotFound("source", name, catalog.sources, where=where, field=f"{place}.source")
    roles = [field.role for field in catalog.fields.values() if field.role]
    for role in roles:
        if roles.count(role) > 1:
            raise BadInput("is the role of two fields", where=where, field="fields role", value=role)
    for name in catalog.events:
        _check_event(catalog, name)


def _check_event(catalog: Catalog, name: str) -> None:
    where, place, event = catalog.file, f"events.{name}", catalog.events[name]
    if event.role and catalog.event_of_role(event.role) != name:
        raise BadInput("is the role of two events", where=where, field=f"{place}.role", value=event.role)
    _check_event_route(catalog, event, place)
    may, must = EVENT_FIELD_ROLES[event.role]
    taken: set[str] = set()
    for short, field in event.fields.items():
        at = f"{place}.fields.{short}"
        _check_range(catalog, field, at)
        if short in EVENT_COLUMNS:
            raise BadInput("is a name that every such event uses itself", where=where, field=at)
        if field.table is not None and field.table not in (event.table, *event.join):
            raise NotFound(
                "table of the event", field.table, (event.table, *event.join), where=where, field=at
            )
        if field.role is None:
            continue
        if field.role not in may:
            raise NotFound(f"role in a {event.role or 'plain'} event", field.role, may, where=where, field=at)
        if field.role in taken:
            raise BadInput("is the role of two fields", where=where, field=f"{at}.role", value=field.role)
        taken.add(field.role)
        if field.role in ("amount", "discount") and field.type not in ("integer", "decimal"):
            raise BadInput(
                f"is not a number, as role {field.role} must be", where=where, field=at, value=field.type
            )
    for short, field in event.fields.items():
        if short in taken and field.role != short:
            problem = f"is the name of the role that another field has in this {event.role} event"
            raise BadInput(problem, where=where, field=f"{place}.fields.{short}")
    for role in must:
        if role not in taken:
            raise BadInput(
                f"has role {event.role}, so one of its fields needs role {role}", where=where, field=place
            )


def _check_event_route(catalog: Catalog, event: EventRoute, place: str) -> None:
    try:
        _ = event.lateness
    except BadInput as error:
        raise BadInput(error.problem, where=catalog.file, field=f"{place}.late", value=event.late) from None
    elastic = event.source in catalog.sources and catalog.sources[event.source].url.startswith(ELASTIC)
    if event.nested is not None and not elastic:
        raise BadInput(
            "is for Elasticsearch only", where=catalog.file, field=f"{place}.nested", value=event.nested
        )
    if elastic and event.join:
        raise BadInput(
            "Elasticsearch joins nothing",
            where=catalog.file,
            field=f"{place}.join",
            value=", ".join(event.join),
        )


def _check_range(catalog: Catalog, field: Labelled, at: str) -> None:
    """The ends of a range are of the field's type, and in order."""
    if field.range is None:
        return
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,), "decimal": (int, float), "date": (date,), "datetime": (datetime,),
    }  # fmt: skip
    wanted = kinds.get(field.type)
    low, high = field.range
    shown = f"{low} … {high}"
    if wanted is None:
        raise BadInput(
            f"is for numbers and times, and the field is {field.type}",
            where=catalog.file, field=f"{at}.range", value=shown,
        )  # fmt: skip
    for end in (low, high):
        if not isinstance(end, wanted) or (field.type == "date" and isinstance(end, datetime)):
            raise BadInput(f"is not {field.type}", where=catalog.file, field=f"{at}.range", value=shown)
    if field.type == "datetime" and None in (getattr(end, "tzinfo", None) for end in (low, high)):
        raise BadInput("needs a time zone", where=catalog.file, field=f"{at}.range", value=shown)
    if low > high:  # type: ignore[operator]  # both ends are of one kind by now
        raise BadInput(
            "has its low end above its high end", where=catalog.file, field=f"{at}.range", value=shown
        )
