"""The catalog's users, fields and events as unbound Ibis expressions over one source each.

A row whose user, time or (where declared) id is NULL is no event. NaN is no number: it reads as NULL.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import ibis

from insight.catalog import Catalog, Labelled
from insight.sources.opening import unbound_table
from kernel.errors import BadInput, NotFound


def users(catalog: Catalog, as_of: datetime, every: int = 1) -> Any:
    """[user]: each key that exists at `as_of`, once. `every` = k keeps one user in k, by hash."""
    entity, place = catalog.entity, "entities.user"
    table = unbound_table(catalog, entity.source, entity.table, f"{place}.table")
    user = _identifier(catalog, table, entity.key, f"{place}.key")
    if entity.since is None:
        found = table.select(user=user).distinct()
    else:
        since = _instant(catalog, table, entity.since, f"{place}.since")
        seen = table.select(user=user, since=since)
        first = seen.group_by("user").agg(since=seen.since.min())
        found = first.filter(first.since <= ibis.literal(as_of)).select("user")
    return _sampled(found.filter(found.user.notnull()), every)


def user_rows(catalog: Catalog) -> Any:
    """[user, since if the entity has it]: every row of the entity's table, in its order."""
    entity, place = catalog.entity, "entities.user"
    table = unbound_table(catalog, entity.source, entity.table, f"{place}.table")
    columns = {"user": _identifier(catalog, table, entity.key, f"{place}.key")}
    if entity.since is not None:
        columns["since"] = _instant(catalog, table, entity.since, f"{place}.since")
    return table.select(**columns)


def fields(catalog: Catalog, names: Iterable[str], every: int = 1) -> Any:
    """[user, each name]: rows of the one table that holds all `names`, under their catalog names.

    `user` is the id of whichever entity the fields are of, never NULL.
    """
    found = field_rows(catalog, names)
    return _sampled(found.filter(found.user.notnull()), every)


def field_rows(catalog: Catalog, names: Iterable[str]) -> Any:
    """The same with those rows whose user is NULL: every row of the table, in its order."""
    names = list(names)
    source, table_name, key = catalog.field_place(names[0])
    table = unbound_table(catalog, source, table_name, f"fields.{names[0]}.table")
    id_of = _user if names[0].startswith("user.") else _identifier
    user = id_of(catalog, table, key, f"fields.{names[0]}.key")
    columns = {
        name: _typed(catalog, table, catalog.fields[name].column, catalog.fields[name], f"fields.{name}")
        for name in names
    }
    return table.select(user=user, **columns)


def event_lines(catalog: Catalog, name: str, wanted: Iterable[str], every: int = 1) -> Any:
    """[user, at, event_id if the event has an id, each wanted field]: one row a line, all of time."""
    event, place = catalog.event(name), f"events.{name}"
    own = unbound_table(catalog, event.source, event.table, f"{place}.table")
    lookups = {
        table: unbound_table(catalog, event.source, table, f"{place}.join.{table}") for table in event.join
    }
    wanted = list(wanted)
    homes = {
        short: _home(
            catalog,
            own,
            lookups,
            event.fields[short].column,
            f"{place}.fields.{short}.column",
            event.fields[short].table,
        )
        for short in wanted
    }
    time_home = _home(catalog, own, lookups, event.time, f"{place}.time", None)
    joined = own
    for table in dict.fromkeys([*homes.values(), time_home]):
        if table is None:
            continue
        columns = {event.fields[short].column for short in wanted if homes[short] == table}
        columns |= {event.time} if time_home == table else set()
        key, at = event.join[table].key, f"{place}.join.{table}.key"
        lookup = lookups[table].select(
            _column(catalog, lookups[table], key, at).name(f"{table}//key"),
            *(lookups[table][column].name(f"{table}/{column}") for column in sorted(columns)),
        )
        joined = joined.left_join(lookup, _matching(catalog, joined, lookup, key, table, at))

    def find(column: str, home: str | None) -> str:
        return column if home is None else f"{home}/{column}"

    selected = {
        "user": _user(catalog, joined, event.user, f"{place}.user"),
        "at": _instant(catalog, joined, find(event.time, time_home), f"{place}.time"),
    }
    if event.id is not None:
        selected["event_id"] = _identifier(catalog, joined, event.id, f"{place}.id")
    for short in wanted:
        route = event.fields[short]
        column = find(route.column, homes[short])
        selected[short] = _typed(catalog, joined, column, route, f"{place}.fields.{short}")
    lines = joined.select(**selected)
    known = [lines[column].notnull() for column in ("user", "at", "event_id") if column in lines.columns]
    return _sampled(lines.filter(*known), every)


def offer_items(catalog: Catalog) -> Any:
    """[offer, item], each pair once; None when the catalog has no offers."""
    route = catalog.offers
    if route is None:
        return None
    table = unbound_table(catalog, route.source, route.table, "offers.table")
    pairs = table.select(
        offer=_identifier(catalog, table, route.offer, "offers.offer"),
        item=_identifier(catalog, table, route.item, "offers.item"),
    ).distinct()
    return pairs.filter(pairs.offer.notnull(), pairs.item.notnull())


def dated_links(catalog: Catalog, name: str) -> Any:
    """[from, to, and since, until where the mapping has them]: every link of all time, both ids known."""
    route, place = catalog.mappings[name], f"mappings.{name}"
    table = unbound_table(catalog, route.source, route.table, f"{place}.table")

    def ids(entity: str, column: str, side: str) -> Any:
        return (_user if entity == "user" else _identifier)(catalog, table, column, f"{place}.{side}_column")

    columns = {
        "from": ids(route.from_, route.from_column, "from"),
        "to": ids(route.to, route.to_column, "to"),
    }
    if route.since is not None:
        columns["since"] = _instant(catalog, table, route.since, f"{place}.since")
    if route.until is not None:
        columns["until"] = _instant(catalog, table, route.until, f"{place}.until")
    links = table.select(**columns)
    return links.filter(links["from"].notnull(), links["to"].notnull()).distinct()


def mapping_links(catalog: Catalog, name: str, as_of: datetime) -> Any:
    """[from, to]: the links of a mapping that hold at `as_of` (aware), each once, both ids known."""
    links, at, tests = dated_links(catalog, name), ibis.literal(as_of), []
    if "since" in links.columns:
        tests.append(links.since <= at)
    if "until" in links.columns:
        tests.append(links.until.isnull() | (links.until > at))
    return (links.filter(*tests) if tests else links).select("from", "to").distinct()


def _home(
    catalog: Catalog, own: Any, lookups: dict[str, Any], column: str, at: str, stated: str | None
) -> str | None:
    """The joined table in which a column is found; None when it is the event's own."""
    if column in own.columns and stated in (None, own.get_name()):
        return None
    for table, lookup in lookups.items():
        if column in lookup.columns and stated in (None, table):
            return table
    known = {*own.columns, *(each for lookup in lookups.values() for each in lookup.columns)}
    raise NotFound("column", column, known, where=catalog.file, field=at)


def _matching(catalog: Catalog, joined: Any, lookup: Any, key: str, table: str, at: str) -> Any:
    left, right = _column(catalog, joined, key, at), lookup[f"{table}//key"]
    alike = left.type() == right.type() or (left.type().is_integer() and right.type().is_integer())
    if not alike:
        raise BadInput(
            f"is {left.type()} in the event's table and {right.type()} in the joined one",
            where=catalog.file,
            field=at,
            value=key,
        )
    return left == right


def _sampled(table: Any, every: int) -> Any:
    return table if every == 1 else table.filter(table.user.hash() % every == 0)


def _column(catalog: Catalog, table: Any, column: str, field: str) -> Any:
    if column not in table.columns:
        known = [each for each in table.columns if "/" not in each]
        raise NotFound("column", column, known, where=catalog.file, field=field)
    return table[column]


def _user(catalog: Catalog, table: Any, column: str, field: str) -> Any:
    """A column of user ids, of the same type as the entity's own key."""
    entity = catalog.entity
    own = unbound_table(catalog, entity.source, entity.table, "entities.user.table")
    wanted = _identifier(catalog, own, entity.key, "entities.user.key").type()
    found = _identifier(catalog, table, column, field)
    if found.type() != wanted:
        raise BadInput(
            f"is {found.type()}, but the entity's key {entity.key!r} is {wanted}",
            where=catalog.file,
            field=field,
            value=column,
        )
    return found


def _identifier(catalog: Catalog, table: Any, column: str, field: str) -> Any:
    """A column of ids: whole numbers or text."""
    found = _column(catalog, table, column, field)
    kind = found.type()
    if kind.is_integer():
        return found.cast("int64")
    if kind.is_string() or kind.is_uuid():
        return found.cast("string")
    raise BadInput(f"is {kind}, not whole numbers or text", where=catalog.file, field=field, value=column)


def _instant(catalog: Catalog, table: Any, column: str, field: str) -> Any:
    """A column of times as instants; naive ones are read in the session's zone, the source's own."""
    found = _column(catalog, table, column, field)
    if not (found.type().is_timestamp() or found.type().is_date()):
        raise BadInput(f"is {found.type()}, not a time", where=catalog.file, field=field, value=column)
    if found.type().is_date():
        found = found.cast("timestamp")
    return found.cast("timestamp('UTC')")


def _typed(catalog: Catalog, table: Any, column: str, route: Labelled, field: str) -> Any:
    """A column as its declared type. Raises BadInput when the source has something else."""
    found = _column(catalog, table, column, field)
    kind, declared = found.type(), route.type
    if declared == "string" and (kind.is_string() or kind.is_uuid()):
        return found.cast("string")
    if declared == "integer" and kind.is_integer():
        return found.cast("int64")
    if declared == "decimal" and (kind.is_numeric() and not kind.is_boolean()):
        number = found.cast("float64")
        return number.isnan().ifelse(ibis.null("float64"), number) if kind.is_floating() else number
    if declared == "boolean" and kind.is_boolean():
        return found
    if declared == "date" and (kind.is_date() or kind.is_timestamp()):
        return found.cast("date")
    if declared == "datetime" and (kind.is_timestamp() or kind.is_date()):
        return _instant(catalog, table, column, field)
    raise BadInput(
        f"is declared {declared}, but the column is {kind}",
        where=catalog.file,
        field=field,
        value=column.rpartition("/")[2],
    )
