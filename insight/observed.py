"""What `growth catalog profile --write` saw in the sources, kept beside the catalog.

`catalog.yaml` is written by people and says what may be; `catalog.profile.yaml` is written by the command
and says what was there. Nothing is refused because it was not seen, and no fingerprint changes with it:
it fills the lists and ends of ranges that a condition panel offers.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import yaml

from kernel.definitions import Frozen, parse
from kernel.errors import BadInput

Value = bool | int | float | datetime | date | str


class Observed(Frozen):
    """A field of the user or of an event, as its source had it."""

    #: rows that it was read from
    rows: int
    #: those of them without a value
    nulls: int
    #: different values
    distinct: int
    #: most frequent first; empty where they are too many to choose from
    values: tuple[Value, ...] = ()
    #: lowest and highest; None where there is no order, or no value
    range: tuple[Value, Value] | None = None


class ObservedEvent(Frozen):
    """An event, as its source had it."""

    #: lines
    rows: int
    #: of the first and of the last line; None without any
    first: datetime | None = None
    last: datetime | None = None


class Profile(Frozen):
    """The whole file."""

    #: when it was read
    at: datetime
    fields: dict[str, Observed] = {}
    events: dict[str, ObservedEvent] = {}


def profile_path(catalog: Path) -> Path:
    """`catalog.yaml` → `catalog.profile.yaml` beside it."""
    return catalog.with_name(f"{catalog.stem}.profile.yaml")


def load_profile(catalog: Path) -> Profile | None:
    """What was seen of the catalog in this file; None when nobody looked. Raises BadInput."""
    path = profile_path(catalog)
    if not path.is_file():
        return None
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise BadInput(
            "cannot be read; write it again with: growth catalog profile --write",
            where=path.name,
            field="file",
        ) from None
    return parse(Profile, raw, path.name)
