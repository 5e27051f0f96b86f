"""The catalog file: what it says, and one sentence for each way to get it wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from insight.api import Catalog, check_catalog, load_catalog, parse_catalog
from kernel.errors import BadInput

RAW: dict[str, Any] = {
    "sources": {"shop": {"url": "parquet://shop"}},
    "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
    "fields": {"user.city": {"table": "users", "column": "city", "type": "string", "values": ["A", "B"]}},
    "events": {
        "order": {
            "source": "shop",
            "table": "orders",
            "user": "uid",
            "time": "t",
            "role": "purchase",
            "join": {"products": {"key": "sku"}},
            "fields": {
                "amount": {"column": "total", "type": "decimal", "role": "amount"},
                "kind": {"column": "kind", "type": "string", "role": "category"},
            },
        },
        "mailed": {
            "source": "shop",
            "table": "mail",
            "user": "uid",
            "time": "t",
            "role": "treatment",
            "fields": {"what": {"column": "offer", "type": "integer", "role": "offer"}},
        },
    },
    "offers": {"source": "shop", "table": "deals", "offer": "offer", "item": "sku"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shop = tmp_path / "shop"
    shop.mkdir()
    day = pl.Series(["2017-01-01"]).str.to_datetime()
    pl.DataFrame({"uid": [1, 2], "city": ["A", None]}).write_parquet(shop / "users.parquet")
    pl.DataFrame({"uid": [1], "t": day, "total": [2.5], "sku": [7]}).write_parquet(shop / "orders.parquet")
    pl.DataFrame({"sku": [7], "kind": ["tea"]}).write_parquet(shop / "products.parquet")
    pl.DataFrame({"uid": [1], "t": day, "offer": [3]}).write_parquet(shop / "mail.parquet")
    pl.DataFrame({"offer": [3, 3], "sku": [7, 8]}).write_parquet(shop / "deals.parquet")
    return tmp_path


def changed(path: str, value: Any) -> dict[str, Any]:
    """RAW with one place set to `value`, or removed when it is None."""
    raw = copy.deepcopy(RAW)
    *way, last = path.split("/")
    place = raw
    for name in way:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return raw


def parsed(raw: object, folder: Path) -> Catalog:
    return parse_catalog(raw, folder=folder, where="catalog.yaml")


def test_a_file_reads_and_fits_its_sources(folder: Path) -> None:
    (folder / "catalog.yaml").write_text(yaml.safe_dump(RAW))
    catalog = load_catalog(folder / "catalog.yaml")
    assert check_catalog(catalog) == []
    assert catalog.event_of_role("purchase") == "order"
    assert catalog.event_of_role("response") is None
    assert catalog.tables("shop") == ("deals", "mail", "orders", "products", "users")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("sources/shop/timezone", "Mars/Base", "sources.shop.timezone = 'Mars/Base': is not an IANA"),
        (
            "entities/user/source",
            "shpo",
            "entities.user.source = 'shpo': unknown source; did you mean 'shop'",
        ),
        ("entities/user/key", None, "entities.user.key: is required and missing"),
        ("entities", {"customer": RAW["entities"]["user"]}, "must have one named 'user'"),
        ("fields/city", RAW["fields"]["user.city"], "fields = 'city': is not named user.SOMETHING"),
        ("fields/user.city/type", "text", "fields.user.city.type = 'text'"),
        ("fields/user.city/colour", "red", "colour = 'red': is not a known field here"),
        ("events/order/role", "sale", "events.order.role = 'sale'"),
        ("events/mailed/role", "purchase", "role = 'purchase': is the role of two events"),
        ("events/order/fields/amount/role", "price", "events.order.fields.amount = 'price': unknown role"),
        ("events/order/fields/amount/role", None, "so one of its fields needs role amount"),
        ("events/order/fields/kind/role", "amount", "'amount': is the role of two fields"),
        ("events/order/fields/amount/type", "string", "is not a number, as role amount must be"),
        ("events/mailed/fields/what/role", None, "so one of its fields needs role offer"),
        (
            "events/order/fields/at",
            RAW["events"]["order"]["fields"]["kind"],
            "events.order.fields.at: is a name",
        ),
        (
            "events/order/fields/category",
            {"column": "x", "type": "string"},
            "category: is the name of the role",
        ),
        ("events/mailed/fields/offer", {"column": "x", "type": "string"}, "offer: is the name of the role"),
        ("events/order/fields/kind/table", "brands", "'brands': unknown table of the event"),
        ("events/order/source", "web", "events.order.source = 'web': unknown source"),
        ("folder", "/tmp", "folder = '/tmp': is not a known field here"),  # noqa: S108  a value, not a file
    ],
)
def test_what_contradicts_itself_is_one_sentence(path: str, value: Any, sentence: str, folder: Path) -> None:
    with pytest.raises(BadInput) as caught:
        parsed(changed(path, value), folder)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("catalog.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            "sources/shop/url",
            "parquet://nowhere",
            "sources.shop.url = 'parquet://nowhere': leads to no folder",
        ),
        ("sources/shop/url", "duckdb://shop.duckdb", "leads to no file"),
        ("sources/shop/url", "ftp://shop", "is not one of duckdb://FILE"),
        (
            "entities/user/table",
            "user",
            "entities.user.table = 'user': unknown table of source shop; did you mean",
        ),
        ("entities/user/key", "id", "entities.user.key = 'id': unknown column"),
        ("fields/user.city/column", "town", "fields.user.city = 'town': unknown column"),
        ("fields/user.city/type", "integer", "is declared integer, but the column is string"),
        ("fields/user.city/table", "deals", "fields.user.city"),
        ("events/order/user", "kind", "events.order.user = 'kind': unknown column"),
        ("events/order/time", "total", "events.order.time = 'total': is float64, not a time"),
        ("events/order/id", "total", "events.order.id = 'total': is float64, not whole numbers or text"),
        ("events/order/fields/kind/column", "knd", "events.order.fields.kind.column = 'knd': unknown column"),
        (
            "events/order/fields/kind/table",
            "orders",
            "events.order.fields.kind.column = 'kind': unknown column",
        ),
        (
            "events/order/join/products/key",
            "offer",
            "events.order.join.products.key = 'offer': unknown column",
        ),
        ("offers/item", "thing", "offers.item = 'thing': unknown column"),
    ],
)
def test_what_the_sources_contradict_is_found(path: str, value: Any, sentence: str, folder: Path) -> None:
    problems = [str(each) for each in check_catalog(parsed(changed(path, value), folder))]
    assert any(sentence in each for each in problems), problems
    assert all("\n" not in each for each in problems)


def test_a_user_column_of_another_type_is_found(folder: Path) -> None:
    pl.DataFrame(
        {"uid": ["1"], "t": [None], "offer": [3]}, schema_overrides={"t": pl.Datetime}
    ).write_parquet(folder / "shop" / "mail.parquet")
    problems = [str(each) for each in check_catalog(parsed(RAW, folder))]
    assert problems == [
        "catalog.yaml: events.mailed.user = 'uid': is string, but the entity's key 'uid' is int64"
    ]


def test_a_lookup_that_would_double_lines_is_found(folder: Path) -> None:
    pl.DataFrame({"sku": [7, 7], "kind": ["tea", "milk"]}).write_parquet(folder / "shop" / "products.parquet")
    problems = [str(each) for each in check_catalog(parsed(RAW, folder))]
    assert problems == [
        "catalog.yaml: events.order.join.products: table products has more than one row for sku 7"
    ]


@pytest.mark.parametrize("text", ["sources: [", "\t- x", "[]", "", "just text"])
def test_a_file_that_is_no_mapping_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"^catalog\.yaml: ") as caught:
        load_catalog(tmp_path / "catalog.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_catalog(tmp_path / "catalog.yaml")
