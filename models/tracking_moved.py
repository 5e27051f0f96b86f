"""A workspace that was moved or copied: MLflow's file database keeps absolute addresses of its artifacts.

Without this, models of a copy would be read from, and written to, the folder that it was copied from.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from kernel.errors import Unavailable

_FILE = "sqlite:///"
#: table → columns that hold addresses of artifacts
_ADDRESSES = {
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
}


def follow_artifacts(uri: str, artifacts: Path, experiment: str) -> int:
    """Addresses that were changed: those of the experiment's artifacts that lie in `artifacts` by now.

    Nothing where the database is no file, knows this folder already, or where none of its artifacts is in it:
    then they are still where they were. Raises Unavailable when the file cannot be written.
    """
    path = Path(uri.removeprefix(_FILE))
    if not uri.startswith(_FILE) or not path.is_file() or not artifacts.is_dir():
        return 0
    here = artifacts.resolve().as_uri()
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            return _follow(connection, artifacts, here, experiment)
    except sqlite3.Error as error:
        raise Unavailable(f"MLflow's database cannot be told where its artifacts lie now: {error}") from error


def _follow(connection: sqlite3.Connection, artifacts: Path, here: str, experiment: str) -> int:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"experiments", *_ADDRESSES} <= tables:
        return 0
    known = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,))
    there = next((address for (address,) in known), None)
    if there is None or there == here:
        return 0
    changed = 0
    for table, columns in _ADDRESSES.items():
        for column in columns:
            rows = connection.execute(f"SELECT DISTINCT {column} FROM {table}")  # noqa: S608  our own words only
            for (address,) in rows.fetchall():
                rest = str(address).removeprefix(f"{there}/")
                if rest == address or not (artifacts / rest).exists():
                    continue
                told = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608
                changed += connection.execute(told, (f"{here}/{rest}", address)).rowcount
    if changed:
        place = "UPDATE experiments SET artifact_location = ? WHERE name = ?"
        connection.execute(place, (here, experiment))
    return changed
