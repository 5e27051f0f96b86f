"""Whether anything was published, amended or forgotten, asked cheaply and often."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, func, select

from storage.database import reading
from storage.group_tables import group_versions
from storage.identities import identity_log
from storage.tombstones import forgotten

#: what tells one state from another
Stamp = tuple[int, int, int, int, int]


def published_stamp(engine: Engine) -> Stamp:
    """Another value whenever a version was published, amended or taken away, or identities were merged.

    Raises Unavailable.
    """
    versions, identities = group_versions.c, identity_log.c
    counted = select(
        func.count(),
        func.max(versions.calculated_at),
        # who is forgotten is one fewer in both; a merge may change neither, and is in the log
        func.sum(versions.count),
        func.sum(versions.universe),
        select(func.max(identities.number)).scalar_subquery(),
    ).select_from(group_versions)
    number, newest, members, users, merges = _row(engine, counted)
    return int(number), int(newest or 0), int(members or 0), int(users or 0), int(merges or 0)


def forgotten_stamp(engine: Engine) -> tuple[int, datetime | None, datetime | None]:
    """Another value whenever forgetting somebody was begun or done, or she was readmitted."""
    begun, done = func.max(forgotten.c.begun_at), func.max(forgotten.c.done_at)
    number, first, last = _row(engine, select(func.count(), begun, done))
    return int(number), first, last


def _row(engine: Engine, query: Select[*tuple[Any, ...]]) -> tuple[Any, ...]:
    with reading(engine, "the store of groups") as connection:
        return tuple(connection.execute(query).one())
