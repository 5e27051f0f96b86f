"""One user's id: as the sources have it, and whether anybody has it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from insight.catalog import Catalog
from insight.sources.opening import open_source
from insight.tables import users
from kernel.clock import SystemClock, aware
from kernel.errors import BadInput


def has_text_ids(catalog: Catalog) -> bool:
    """Whether users' ids are text; else they are whole numbers."""
    return bool(users(catalog, SystemClock().now()).schema()["user"].is_string())


def as_user(catalog: Catalog, text: str, field: str = "user") -> int | str:
    """An id as it was typed, as the sources have it. Raises BadInput for what cannot be one."""
    return typed_users(has_text_ids(catalog), [text], field)[0]


def typed_users(text_ids: bool, texts: Iterable[str], field: str = "user") -> list[int | str]:
    if text_ids:
        return list(texts)
    found: list[int | str] = []
    for text in texts:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and -(2**63) <= int(text) < 2**63):
            raise BadInput("is not a whole number, as users' ids are", field=field, value=text)
        found.append(int(text))
    return found


def existing_users(catalog: Catalog, wanted: Iterable[int | str], as_of: datetime) -> set[int | str]:
    """Those of `wanted` who exist as of `as_of` (aware), by a query for them alone."""
    everyone = users(catalog, aware(as_of, "as_of"))
    with open_source(catalog, catalog.entity.source) as reader:
        return set(reader.frame(everyone.filter(everyone.user.isin(list(wanted))))["user"])
