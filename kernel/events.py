"""Events and fields as they pass between rooms: Polars frames with these first columns.

An event frame has one row a line of an event: `user`, `at`, `event_id`, then the event's own
fields under their catalog names. Rows that share an `event_id` are lines of one event (the
products of one basket): counting events counts distinct ids, sums run over lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kernel.errors import BadInput

#: columns that every event frame begins with
EVENT_COLUMNS = ("user", "at", "event_id")
#: what a purchase frame may say besides, under these role names; `amount` is always there:
#: amount (money), discount (money off), category, place (of purchase), item (what was bought)
PURCHASE_ROLES = ("amount", "discount", "category", "place", "item")
#: in treatment and response frames: the offer that was received, or responded to. Every other
#: field of a treatment event is a trait of the offer, under its catalog name.
OFFER = "offer"
#: how an instant is held everywhere
INSTANT = pl.Datetime("us", "UTC")

#: numbers of events are below it: their sums are exact
MOST = 9e15


def check_event_frame(frame: pl.LazyFrame, name: str, fields: Sequence[str] = ()) -> pl.LazyFrame:
    """The frame itself. Raises BadInput when a column is missing or `at` is not an instant in UTC."""
    schema = frame.collect_schema()
    for column in (*EVENT_COLUMNS, *fields):
        if column not in schema:
            raise BadInput("is missing from the event", where=f"event {name}", field=column)
    if schema["at"] != INSTANT:
        raise BadInput("is not a time in UTC", where=f"event {name}", field="at", value=str(schema["at"]))
    return frame


def check_numbers(frame: pl.DataFrame, name: str) -> None:
    """Raises BadInput, naming the column, for a number that cannot be added up exactly: infinite, or 9e15 and
    more. What is no number (NaN) counts as missing."""
    floats = [column for column, kind in frame.schema.items() if kind.is_float()]
    far = frame.select((pl.col(column).fill_nan(None).abs() >= MOST).any() for column in floats)
    for column in far.columns:
        if far[column][0]:
            worst = frame.filter(pl.col(column).fill_nan(None).abs() >= MOST)[column][0]
            said = f"is infinite, or {MOST:g} and more"
            raise BadInput(said, where=f"event {name}", field=column, value=worst)
