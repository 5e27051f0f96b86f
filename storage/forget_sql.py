"""A person taken out of a SQL database: every table of it, whoever made them, and the pages that she was on.

Rows that are hers go, with what refers to them. In other rows, text and JSON that names her is redacted.
Definitions are the operator's own words: they are told, not changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    cast,
    create_engine,
    or_,
    select,
)
from sqlalchemy import types as kinds
from sqlalchemy.exc import DBAPIError

from kernel.errors import Unavailable
from storage.database import chunks, transaction
from storage.redaction import GONE, Person

#: operators' own words
_DEFINITIONS = "definition_versions"
#: says where we are, not who anybody is
_OURS = ("forgotten", "alembic_version")
_SQLITE = b"SQLite format 3\0"


@dataclass
class SqlForgotten:
    """What was found in a database."""

    #: table → rows that went
    deleted: dict[str, int] = field(default_factory=dict)
    #: table → rows in which she was named, and is no more
    redacted: dict[str, int] = field(default_factory=dict)
    #: where she is named and was left, each a sentence
    left: list[str] = field(default_factory=list)


def forget_in_database(engine: Engine, person: Person, *, dry_run: bool = False) -> SqlForgotten:
    """All in one transaction, then the pages are written over. Again, it finds nothing.

    Raises Unavailable when the database does not answer, or its pages cannot be cleaned because somebody
    reads them all the time: then do it again.
    """
    found = SqlForgotten()
    try:
        with transaction(engine) as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
                connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            tables = _tables(connection)
            for table in tables.values():
                if table.name not in (*_OURS, _DEFINITIONS):
                    _delete_hers(connection, table, tables, person, found)
            for table in tables.values():
                if table.name not in _OURS:
                    _redact_others(connection, table, person, found)
            if dry_run:
                raise _DryRun
        _clean(engine, [*found.deleted, *found.redacted])
    except _DryRun:
        pass
    except DBAPIError as error:
        raise Unavailable(f"the database does not answer: {error.orig}") from error
    return found


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(_SQLITE)) == _SQLITE


@contextmanager
def sqlite_file(path: Path) -> Iterator[Engine]:
    """A database that is not ours, as it is."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        yield engine
    finally:
        engine.dispose()


class _DryRun(Exception):
    """Undoes what was only looked at."""


def _tables(connection: Connection) -> dict[str, Table]:
    known = MetaData()
    known.reflect(connection)
    return dict(known.tables)


def _delete_hers(
    connection: Connection, table: Table, tables: dict[str, Table], person: Person, found: SqlForgotten
) -> None:
    hers = [
        cast(column, String).in_(sorted(person.texts))
        for column in table.columns
        if person.is_key(column.name) and isinstance(column.type, String | Integer)
    ]
    if hers:
        _delete(connection, table, or_(*hers), tables, found)


def _delete(
    connection: Connection, table: Table, which: Any, tables: dict[str, Table], found: SqlForgotten
) -> None:
    """The rows, and before them those that refer to them."""
    for other in tables.values():
        for link in other.foreign_key_constraints:
            if link.referred_table.name != table.name:
                continue
            columns = [element.parent for element in link.elements]
            keys = select(*(element.column for element in link.elements)).where(which)
            rows = connection.execute(keys).all()
            for some in chunks(rows):
                same = [
                    and_(*(column == value for column, value in zip(columns, row, strict=True)))
                    for row in some
                ]
                _delete(connection, other, or_(*same), tables, found)
    gone = connection.execute(table.delete().where(which)).rowcount
    if gone:
        found.deleted[table.name] = found.deleted.get(table.name, 0) + gone


def _redact_others(connection: Connection, table: Table, person: Person, found: SqlForgotten) -> None:
    columns = [column for column in table.columns if _may_name(column)]
    if not columns:
        return
    likely = or_(*(cast(column, String).contains(text, autoescape=True)
                   for column in columns for text in _spellings(person)))  # fmt: skip
    keys = list(table.primary_key.columns)
    for row in connection.execute(select(table).where(likely)).all():
        changes = {}
        for column in columns:
            value = row._mapping[column]
            clean = _without(value, person)
            if clean != value:
                changes[column.name] = clean
        if not changes:
            continue
        if table.name == _DEFINITIONS:
            entry = row._mapping
            found.left.append(
                f"{entry['kind']} {entry['name']} (version {entry['version']}) names her;"
                " it is the operator's own text"
            )
            continue
        if not keys:
            found.left.append(f"table {table.name} names her in {', '.join(changes)}, and has no key")
            continue
        mine = and_(*(key == row._mapping[key] for key in keys))
        for key in keys:
            if key.name in changes and isinstance(changes[key.name], str):
                changes[key.name] = _unused(connection, table, key, changes[key.name])
        connection.execute(table.update().where(mine).values(changes))
        found.redacted[table.name] = found.redacted.get(table.name, 0) + 1


def _may_name(column: Column[Any]) -> bool:
    return isinstance(column.type, String | kinds.JSON | LargeBinary) and not isinstance(
        column.type, kinds.Enum
    )


def _spellings(person: Person) -> list[str]:
    """As text, and as JSON with everything beyond ASCII escaped writes it."""
    return sorted({form for text in person.texts for form in (text, json.dumps(text)[1:-1])})


def _without(value: Any, person: Person) -> Any:
    if isinstance(value, dict | list):
        return person.in_json(value)
    if isinstance(value, bytes):
        try:
            return person.in_text(value.decode()).encode()
        except UnicodeDecodeError:
            return value  # a state or a picture; the search for bytes at the end will tell
    if not isinstance(value, str):
        return value
    if value[:1] in "{[":
        try:
            parsed = json.loads(value)
        except ValueError:
            return person.in_text(value)
        clean = person.in_json(parsed)
        return value if clean == parsed else json.dumps(clean)
    return GONE if person.distinctive and person.is_her(value) else person.in_text(value)


def _unused(connection: Connection, table: Table, key: Column[Any], value: str) -> str:
    """A key may stand once only: the second `[forgotten]` gets a number."""
    number, fresh = 0, value
    while connection.execute(select(key).where(key == fresh)).first() is not None:
        number += 1
        fresh = f"{value}{number}"
    return fresh


def _clean(engine: Engine, changed: Iterable[str]) -> None:
    """No page, no log of writes holds what was deleted."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA busy_timeout=10000")
            connection.exec_driver_sql("VACUUM")
            busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            if busy:
                raise Unavailable("the database is being read without a pause; forget the same person again")
            return
        quick = connection.execution_options(isolation_level="AUTOCOMMIT")
        for name in changed:
            quick.exec_driver_sql(f'VACUUM FULL "{name}"')
