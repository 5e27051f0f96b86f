"""Users, fields, events and roles as frames: values, instants, order, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from insight.api import (
    Catalog,
    event_range,
    parse_catalog,
    read_events,
    read_fields,
    read_offer_items,
    read_role,
    read_users,
    source_fingerprint,
)
from kernel.errors import BadInput, Unavailable
from kernel.events import INSTANT, check_event_frame

LATE = datetime(2020, 1, 1, tzinfo=UTC)
ORDER: dict[str, Any] = {
    "source": "shop",
    "table": "lines",
    "user": "uid",
    "time": "t",
    "id": "basket",
    "role": "purchase",
    "join": {"products": {"key": "sku"}},
    "fields": {
        "kind": {"column": "kind", "type": "string", "role": "category"},
        "total": {"column": "total", "type": "decimal", "role": "amount"},
        "day": {"column": "t", "type": "date"},
    },
}
LINES = pl.DataFrame(
    {
        "uid": [2, 1, 1, None, 1, 2],
        "t": ["2017-01-03 23:00", *["2017-01-02 00:00"] * 3, None, "2017-01-02 00:00"],
        "basket": [9, 5, 5, 5, 6, None],
        "total": [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0],
        "sku": [7, 8, 7, 7, 7, 7],
    }
).with_columns(pl.col("t").str.to_datetime("%Y-%m-%d %H:%M"))


def catalog(folder: Path, url: str = "parquet://.", zone: str = "UTC", **more: Any) -> Catalog:
    raw = {
        "sources": {"shop": {"url": url, "timezone": zone}},
        "entities": {"user": {"source": "shop", "table": "lines", "key": "uid", "since": "t"}},
        "events": {"order": ORDER},
        **more,
    }
    return parse_catalog(raw, folder=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LINES.write_parquet(tmp_path / "lines.parquet")
    pl.DataFrame({"sku": [7, 9], "kind": ["tea", "milk"]}).write_parquet(tmp_path / "products.parquet")
    return tmp_path


def test_a_user_exists_from_the_first_row_on(folder: Path) -> None:
    known = catalog(folder)
    assert read_users(known, datetime(2017, 1, 1, 23, 59, tzinfo=UTC))["user"].to_list() == []
    assert read_users(known, datetime(2017, 1, 2, tzinfo=UTC))["user"].to_list() == [1, 2]
    assert read_users(known, LATE).schema == {"user": pl.Int64}


def test_a_naive_instant_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="needs a time zone"):
        read_users(catalog(folder), datetime(2017, 1, 2))  # noqa: DTZ001  that is the point


def test_lines_have_their_fields_and_no_null_user_time_or_id(folder: Path) -> None:
    frame = read_events(catalog(folder), "order", LATE)
    check_event_frame(frame.lazy(), "order", ["kind", "total"])
    assert frame.columns == ["user", "at", "event_id", "kind", "total", "day"]
    assert frame.drop("at").rows() == [
        (1, 5, None, 2.0, date(2017, 1, 2)),
        (1, 5, "tea", None, date(2017, 1, 2)),
        (2, 9, "tea", 1.0, date(2017, 1, 3)),
    ]


def test_the_span_of_events_is_half_open(folder: Path) -> None:
    known, first, last = (
        catalog(folder),
        datetime(2017, 1, 2, tzinfo=UTC),
        datetime(2017, 1, 3, 23, tzinfo=UTC),
    )
    assert event_range(known, "order") == (first, last)
    assert read_events(known, "order", last, first).height == 1
    assert read_events(known, "order", last - timedelta(microseconds=1)).height == 2


def test_naive_times_are_in_the_zone_of_their_source(folder: Path) -> None:
    frame = read_events(catalog(folder, zone="Asia/Shanghai"), "order", LATE)
    assert frame.schema["at"] == INSTANT
    assert frame["at"].max() == datetime(2017, 1, 3, 15, tzinfo=UTC)
    assert frame["day"].max() == date(2017, 1, 3)


@pytest.mark.parametrize("kind", ["duckdb", "csv"])
def test_every_kind_of_source_reads_alike(kind: str, folder: Path) -> None:
    other = folder / kind
    other.mkdir()
    lines, products = folder / "lines.parquet", folder / "products.parquet"
    with duckdb.connect(str(other / "shop.duckdb")) as made:
        made.read_parquet(str(lines)).create("lines")
        made.read_parquet(str(products)).create("products")
    pl.read_parquet(lines).write_csv(other / "lines.csv")
    pl.read_parquet(products).write_csv(other / "products.csv")
    url = "duckdb://duckdb/shop.duckdb" if kind == "duckdb" else "csv://csv"
    found, expected = catalog(folder, url), catalog(folder)
    assert read_events(found, "order", LATE).equals(read_events(expected, "order", LATE))
    assert read_users(found, LATE).equals(read_users(expected, LATE))


def test_leading_zeros_in_a_csv_are_text(tmp_path: Path) -> None:
    (tmp_path / "lines.csv").write_text("uid,t\n007,2017-01-02 00:00:00\n7,2017-01-02 00:00:00\n")
    known = catalog(tmp_path, "csv://.", events={})
    assert read_users(known, LATE)["user"].to_list() == ["007", "7"]


def test_rows_without_an_id_are_an_event_each_in_a_stable_order(folder: Path) -> None:
    plain = {name: value for name, value in ORDER.items() if name != "id"}
    frame = read_events(catalog(folder, events={"order": plain}), "order", LATE)
    assert frame["event_id"].to_list() == [0, 1, 2, 3]
    assert frame.schema["event_id"] == pl.Int64
    LINES.reverse().write_parquet(folder / "lines.parquet")
    assert read_events(catalog(folder, events={"order": plain}), "order", LATE).equals(frame)


def test_roles_have_their_own_names(folder: Path) -> None:
    mail = {
        **{name: ORDER[name] for name in ("source", "table", "user", "time")},
        "role": "treatment",
        "fields": {
            "deal": {"column": "sku", "type": "integer", "role": "offer"},
            "cost": {"column": "total", "type": "decimal"},
        },
    }
    known = catalog(folder, events={"order": ORDER, "mail": mail})
    purchases, treatments = read_role(known, "purchase", LATE), read_role(known, "treatment", LATE)
    assert purchases is not None
    assert treatments is not None
    assert purchases.columns == ["user", "at", "event_id", "amount", "category", "day"]
    assert treatments.columns == ["user", "at", "event_id", "offer", "cost"]
    assert read_role(known, "response", LATE) is None


def test_offers_and_their_items(folder: Path) -> None:
    assert read_offer_items(catalog(folder)) is None
    offers = {"source": "shop", "table": "lines", "offer": "basket", "item": "sku"}
    frame = read_offer_items(catalog(folder, offers=offers))
    assert frame is not None
    assert frame.rows() == [(5, 7), (5, 8), (6, 7), (9, 7)]


def test_fields_of_several_tables_meet_in_one_frame(folder: Path) -> None:
    pl.DataFrame({"uid": [1, 3], "age": [20, 30]}).write_parquet(folder / "ages.parquet")
    pl.DataFrame({"who": [1, 2], "city": ["A", "B"]}).write_parquet(folder / "cities.parquet")
    fields = {
        "user.age": {"table": "ages", "column": "age", "type": "integer"},
        "user.city": {"table": "cities", "column": "city", "key": "who", "type": "string"},
    }
    assert read_fields(catalog(folder, fields=fields)).rows() == [(1, 20, "A"), (2, None, "B"), (3, 30, None)]


def test_two_rows_of_one_user_are_refused_by_name(folder: Path) -> None:
    fields = {"user.total": {"table": "lines", "column": "total", "type": "decimal"}}
    with pytest.raises(BadInput, match=r"fields\.user\.total: table lines has more than one row for uid 1"):
        read_fields(catalog(folder, fields=fields))


def test_a_folder_with_odd_characters_is_one_folder(folder: Path) -> None:
    odd = folder / "a[1]*'s"
    odd.mkdir()
    for name in ("lines", "products"):
        (odd / f"{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
    assert read_events(catalog(folder, f"parquet://{odd.name}"), "order", LATE).height == 3


def test_a_broken_file_is_one_sentence(folder: Path) -> None:
    (folder / "lines.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(BadInput, match=r"lines\.parquet.*cannot be read") as caught:
        read_users(catalog(folder), LATE)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_unavailable(folder: Path) -> None:
    (folder / "shop.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(Unavailable, match="source 'shop' cannot be opened"):
        read_users(catalog(folder, "duckdb://shop.duckdb"), LATE)


def test_the_fingerprint_follows_the_content_of_what_is_used(folder: Path) -> None:
    known = catalog(folder)
    before = source_fingerprint(known)
    (folder / "unused.parquet").write_bytes(b"x")
    assert source_fingerprint(known) == before
    LINES.head(2).write_parquet(folder / "lines.parquet")
    assert source_fingerprint(known) != before
