"""What the sources and the log know together: nothing twice, nothing lost."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from insight import conditions
from insight.catalog import Catalog, parse_catalog
from insight.comparing import rounded
from insight.fresh_batch import Batch, Lines, micros
from insight.fresh_events import EventDoor, Fresh
from insight.fresh_history import read_lines
from insight.fresh_leaves import Line
from insight.fresh_lines import Known, Sent, merged
from kernel.errors import BadInput, NotFound

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    pl.DataFrame({"uid": [1, 2], "town": ["Paris", None]}).write_parquet(tmp_path / "users.parquet")
    times = [AT - timedelta(days=day) for day in (1, 2, 40)]
    lines = pl.DataFrame(
        {"uid": [1, 1, 2], "t": times, "basket": [7, 7, 8], "total": [1.0, 2.0, float("nan")]}
    )
    lines.write_parquet(tmp_path / "order.parquet")
    lines.drop("basket").write_parquet(tmp_path / "tap.parquet")
    amount = {"amount": {"column": "total", "type": "decimal"}}
    event = {"source": "shop", "user": "uid", "time": "t", "fields": amount, "freshness": "real_time"}
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "events": {"order": {**event, "table": "order", "id": "basket"}, "tap": {**event, "table": "tap"}},
    }
    return parse_catalog(raw, folder=tmp_path)


def fresh(number: int, name: str, event_id: object, at: datetime, *amounts: float | None) -> Fresh:
    lines = tuple(Line(at, event_id, {} if each is None else {"amount": each}) for each in amounts)
    return Fresh(
        number=number, event_id=str(number), user=1, name=name, occurred_at=at, received_at=AT, lines=lines
    )


def test_lines_are_read_by_user_and_by_time(catalog: Catalog) -> None:
    found = read_lines(catalog, {"order": None, "tap": AT - timedelta(days=30)}, [1, 2, 3])
    rows = found["order"].sort("user", "amount").select("user", "event_id", "amount").rows()
    assert rows == [(1, 7, 1.0), (1, 7, 2.0), (2, 8, None)] or rows[0] == (2, 8, None)  # NaN is no number
    assert sorted(found["tap"]["user"]) == [1, 1]
    assert found["order"].filter(user=2)["at"].to_list() == [micros(AT - timedelta(days=40))]


def together(catalog: Catalog, name: str, *events: Fresh) -> list[float | None]:
    """Amounts of user 1, by the sources and by the log."""
    known, sent = Known(catalog, 1000, {}), Sent(catalog)
    sent.add([(0, each) for each in events])
    history = known.of([1], np.array([0]), {"order": None, "tap": None})
    both = merged(catalog, name, history[name], sent.of(name, np.array([True])))
    assert both is not None
    return sorted(both["amount"].to_list(), key=lambda each: (each is not None, each))


def test_an_event_that_both_know_counts_once(catalog: Catalog) -> None:
    day = AT - timedelta(days=1)
    assert together(catalog, "order", fresh(1, "order", 7, day, 1.0, 2.0), fresh(2, "order", 9, AT, 5.0)) == [
        1.0,
        2.0,
        5.0,
    ]
    assert together(catalog, "tap", fresh(1, "tap", None, day, 1.0)) == [1.0, 2.0]
    # without an id: as often as it was sent, and what was sent without a value is the same as with one
    twice = [fresh(1, "tap", None, day, 1.0), fresh(2, "tap", None, day, 1.0)]
    assert together(catalog, "tap", *twice) == [1.0, 1.0, 2.0]
    assert together(catalog, "tap", fresh(1, "tap", None, day, None)) == [1.0, 2.0]
    assert together(catalog, "tap", fresh(1, "tap", None, day, 3.0)) == [1.0, 2.0, 3.0]
    both = [fresh(1, "tap", None, day, None), fresh(2, "tap", None, day, 1.0)]  # one of them is another
    assert together(catalog, "tap", *both) == [None, 1.0, 2.0]


def test_lines_are_forgotten_above_the_most_and_read_again(catalog: Catalog) -> None:
    known, asked = Known(catalog, 1, {}), {"order": None}
    known.of([1], np.array([0]), asked)
    known.of([2], np.array([1]), asked)
    (catalog.folder / "order.parquet").rename(catalog.folder / "gone.parquet")
    assert known.of([2], np.array([1]), asked)["order"]["id"].to_list() == [8]
    with pytest.raises(NotFound):
        known.of([1], np.array([0]), asked)


def test_sums_are_rounded_as_everywhere(catalog: Catalog) -> None:
    """Half a unit goes up, where Python's own rounding goes to the even digit or to the nearest decimal."""
    values = [0.1, 0.2, 2.5e-6, -2.5e-6, 1e300, -1e300]
    for amounts in ([values[0], values[1]], [values[2]], [values[3]], [4e-7, 1e-7], values):
        frame = pl.DataFrame(
            {"place": [0] * len(amounts), "at": [micros(AT)] * len(amounts), "amount": amounts}
        )
        batch = Batch({"tap": Lines(frame)}, 1, AT)
        for agg, number in (("sum", math.fsum(amounts)), ("avg", math.fsum(amounts) / len(amounts))):
            for op, holds in (("eq", True), ("gt", False), ("le", True)):
                test = conditions.Test(op=op, value=rounded(number))
                leaf = conditions.EventTest(
                    step=conditions.Step(event="tap"), agg=agg, of="amount", within=None, test=test
                )
                assert batch.holds(leaf).tolist() == [holds], (amounts, agg, op)


def sent(**changes: Any) -> dict[str, Any]:
    return {"event_id": "7", "user_id": "1", "name": "order", "occurred_at": AT.isoformat(), **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"event_id": "x"}, "event_id = 'x': is not a whole number, as ids of order are"),
        ({"event_id": True}, "event_id"),
        ({"user_id": True}, "user_id"),
        ({"user_id": "1.0"}, "user_id"),
        ({"user_id": "01"}, "user_id"),
        ({"name": 7}, "name = '7': unknown event"),
        ({"occurred_at": 7}, "occurred_at"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": (AT + timedelta(minutes=6)).isoformat()}, "has not happened yet"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"properties": []}, "properties"),
        ({"properties": "x"}, "properties"),
        ({"properties": [{"amount": 1}, 7]}, "properties.1"),
        ({"properties": {"amount": True}}, "properties.amount"),
        ({"properties": {"amount": 10**400}}, "properties.amount"),
        ({"properties": {"amount": {"a": 1}}}, "properties.amount"),
        ({"properties": {"x" * 5000: 1}}, "properties"),
    ],
)
def test_what_no_event_can_be_is_named(catalog: Catalog, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        EventDoor(catalog).read(sent(**changes), AT)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_ids_of_several_events_are_kept_apart_by_their_name(catalog: Catalog) -> None:
    door = EventDoor(catalog)
    read = door.read(sent(event_id="order:7", properties=[{"amount": 1}, {"amount": None}]), AT)
    assert (read.event_id, read.user_id, read.lines) == ("order:7", "1", ({"amount": 1}, {}))
    assert door.source_id("order", "order:7") == 7
    assert door.source_id("tap", "tap:x") == "x"
    assert door.read(sent(user_id=2, event_id=7), AT).user_id == "2"
