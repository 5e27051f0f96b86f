"""What is there of what is needed: tables by version and completeness, files by address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import ibis

from insight.addresses import system_of
from insight.catalog import Catalog
from insight.dependencies import time_column
from insight.readiness import FileFact, Need, TableFact, address
from insight.sources.opening import open_source, table_version, unbound_table
from insight.tables import _instant
from kernel.clock import parse_window
from kernel.errors import BadInput, GrowthError

_PIECE = 2**20


def look_at_tables(catalog: Catalog, needs: Iterable[Need], as_of: datetime) -> dict[Need, TableFact | str]:
    """Each need of a table → the table as it is, or why it cannot be looked at."""
    found: dict[Need, TableFact | str] = {}
    for need in needs:
        if need.table is None or need in found:
            continue
        try:
            found[need] = _table(catalog, need, as_of)
        except GrowthError as error:
            found[need] = str(error)
    return found


def _table(catalog: Catalog, need: Need, as_of: datetime) -> TableFact:
    source, _, name = str(need.table).partition(".")
    version = table_version(catalog, source, name)
    timed = need.complete_through is not None or need.within is not None
    if not timed and need.rows is None:
        return TableFact(version=version)
    at = f"needs.table {need.table}"
    table = unbound_table(catalog, source, name, at)
    asked: dict[str, Any] = {}
    column = need.column or time_column(catalog, source, name)
    if timed and column is None:
        raise BadInput("has no time column", field=at)
    if need.complete_through is not None:
        asked["newest"] = _instant(catalog, table, str(column), at).max()
    if need.rows is not None:
        kept = None
        if need.within is not None:
            when = _instant(catalog, table, str(column), at)
            kept = (when > ibis.literal(as_of - parse_window(need.within))) & (when <= ibis.literal(as_of))
        asked["rows"] = table.count(where=kept)
    with open_source(catalog, source) as reader:
        row = reader.frame(table.aggregate(**asked)).row(0, named=True)
    return TableFact(version=version, newest=row.get("newest"), rows=row.get("rows"))


def look_at_files(needs: Iterable[Need], as_of: datetime, zone: ZoneInfo) -> dict[Need, FileFact | str]:
    """Each need of a file → the file as it is, or why it cannot be looked at."""
    found: dict[Need, FileFact | str] = {}
    for need in needs:
        if need.file is None or need in found:
            continue
        try:
            found[need] = _file(address(need, as_of, zone), checked=need.sha256 is not None)
        except Exception as error:  # noqa: BLE001  every kind of store has errors of its own
            said = str(error).strip().splitlines()
            found[need] = f"cannot be looked at: {said[0] if said else type(error).__name__}"
    return found


def _file(url: str, *, checked: bool) -> FileFact:
    system, path = system_of(url)
    system.invalidate_cache()
    if not system.exists(path):
        return FileFact(there=False)
    modified = None
    with suppress(NotImplementedError, KeyError):
        modified = system.modified(path)
        modified = modified.replace(tzinfo=UTC) if modified.tzinfo is None else modified.astimezone(UTC)
    digest = None
    if checked:
        hashed = hashlib.sha256()
        with system.open(path, "rb") as handle:
            while piece := handle.read(_PIECE):
                hashed.update(piece)
        digest = hashed.hexdigest()
    return FileFact(there=True, modified=modified, size=system.size(path), sha256=digest)
