"""What the sources and the log know together: nothing twice, nothing lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.catalog import Catalog, parse_catalog
from insight.fresh_events import EventDoor, Fresh
from insight.fresh_history import Histories, merged, read_histories
from insight.fresh_leaves import Line
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


def fresh(name: str, event_id: object, at: datetime, *amounts: float | None) -> Fresh:
    lines = tuple(Line(at, event_id, {} if each is None else {"amount": each}) for each in amounts)
    return Fresh(user=1, name=name, occurred_at=at, received_at=AT, lines=lines)


def test_histories_are_read_by_user_and_by_time(catalog: Catalog) -> None:
    found = read_histories(catalog, {"order": None, "tap": AT - timedelta(days=30)}, [1, 2, 3])
    assert sorted(line.values["amount"] for line in found[1]["order"]) == [1.0, 2.0]
    assert {line.event_id for line in found[1]["order"]} == {7}
    assert [line.values for line in found[2]["order"]] == [{}]  # NaN is no number
    assert "tap" not in found[2]
    assert len({line.event_id for line in found[1]["tap"]}) == 2
    assert found[3] == {}


def test_an_event_that_both_know_counts_once(catalog: Catalog) -> None:
    history = read_histories(catalog, {"order": None, "tap": None}, [1])[1]
    day = AT - timedelta(days=1)
    again = [fresh("order", 7, day, 1.0, 2.0), fresh("order", 9, AT, 5.0), fresh("tap", (1, 0), day, 1.0)]
    both = merged(history, again, catalog)
    assert sorted(line.values["amount"] for line in both["order"]) == [1.0, 2.0, 5.0]
    assert len(both["tap"]) == 2
    # without an id: as often as it was sent, and what was sent without a value is the same as with one
    twice = [fresh("tap", (1, 0), day, 1.0), fresh("tap", (2, 0), day, 1.0)]
    assert len(merged(history, twice, catalog)["tap"]) == 3
    assert len(merged(history, [fresh("tap", (1, 0), day, None)], catalog)["tap"]) == 2
    assert len(merged(history, [fresh("tap", (1, 0), day, 3.0)], catalog)["tap"]) == 3
    assert len(history["tap"]) == 2


def test_histories_are_forgotten_above_the_most_lines_and_read_again(catalog: Catalog) -> None:
    histories = Histories(catalog, most=3)
    first = histories.of([1], {"order": None})
    histories.of([2], {"order": None})
    (catalog.folder / "order.parquet").rename(catalog.folder / "gone.parquet")
    assert histories.of([2], {"order": None})[2] == {"order": [Line(first[1]["order"][0].at.replace(
        year=2017, month=9, day=6), 8, {})]}  # fmt: skip
    with pytest.raises(NotFound):
        histories.of([1], {"order": None})


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
