"""One runner at a time: whoever holds this lock works on runs. It goes when its process does, however."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kernel.errors import Unavailable

#: PostgreSQL's advisory locks are known by a number: any, as long as it stays
_NUMBER = 0x67726F7774680001


class RunnerLock:
    """With PostgreSQL the database's own advisory lock, across machines; with SQLite a lock on a file."""

    def __init__(self, engine: Engine, file: Path, number: int = _NUMBER) -> None:
        """`number`: of the advisory lock; another work has another one."""
        self._engine, self._file, self._number = engine, file, number
        self._held: Connection | IO[str] | None = None

    def take(self) -> bool:
        """Whether it is ours now. Raises Unavailable when the database does not answer."""
        if self._held is not None:
            return True
        if self._engine.dialect.name != "postgresql":
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle = self._file.open("a")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                return False
            self._held = handle
            return True
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            got = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._number})").scalar_one()
        except DBAPIError as error:
            raise Unavailable(f"the database does not answer: {error.orig}") from error
        if got:
            self._held = connection
        else:
            connection.close()
        return bool(got)

    def give_back(self) -> None:
        held, self._held = self._held, None
        if isinstance(held, Connection):
            held.exec_driver_sql(f"SELECT pg_advisory_unlock({self._number})")
        if held is not None:
            held.close()
