"""The SQL database: SQLite in the workspace by default, PostgreSQL behind a URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from kernel.errors import Unavailable

__all__ = ["MIGRATIONS", "Engine", "chunks", "migrate", "open_database", "reading", "transaction", "writing"]

Value = TypeVar("Value")
#: bound values in one statement: SQLite allows 32,766, and long lists plan slowly
_CHUNK = 500
MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(url: str) -> Engine:
    """An engine on the newest schema. Raises Unavailable when the database does not answer."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _durable_sqlite)
    try:
        migrate(engine)
    except OperationalError as error:
        raise Unavailable(
            f"the database {engine.url.render_as_string()} does not answer: {error.orig}"
        ) from error
    return engine


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest version; does nothing when it is."""
    if _version(engine) == newest():
        return
    from alembic import command  # with its migrations, takes longer to load than most commands take
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def newest() -> str:
    """The version of the schema after the last migration."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """All or nothing. On SQLite the write lock is taken at once, so check-then-write is atomic."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
        else:
            with connection.begin():
                yield connection


@contextmanager
def writing(engine: Engine, what: str, *, lock: str | None = None) -> Iterator[Connection]:
    """A transaction. With `lock`, a table's name, one writer at a time on PostgreSQL too; readers go on.

    Raises Unavailable when the database does not answer, calling it `what`; a broken key stays what it is.
    """
    with _translated(what), transaction(engine) as connection:
        if lock is not None and connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"LOCK TABLE {lock} IN SHARE ROW EXCLUSIVE MODE")
        yield connection


@contextmanager
def reading(engine: Engine, what: str) -> Iterator[Connection]:
    """Raises Unavailable when the database does not answer, calling it `what`."""
    with _translated(what), engine.connect() as connection:
        yield connection


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise Unavailable(f"{what} does not answer: {error.orig}") from error


def chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """So many as fit in one statement."""
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))


def _durable_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by hand, above
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
