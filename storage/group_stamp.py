"""Whether anything was published, asked cheaply and often."""

from __future__ import annotations

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError

from kernel.errors import Unavailable
from storage.groups import group_versions


def published_stamp(engine: Engine) -> tuple[int, int]:
    """Another value whenever a version was published or taken away. Raises Unavailable."""
    counted = select(func.count(), func.max(group_versions.c.calculated_at)).select_from(group_versions)
    try:
        with engine.connect() as connection:
            number, newest = connection.execute(counted).one()
    except DBAPIError as error:
        raise Unavailable(f"the store of groups does not answer: {error.orig}") from error
    return int(number), int(newest or 0)
