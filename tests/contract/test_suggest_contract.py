"""A catalog drafted from a database: the same users, fields, events and joins are found on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from insight.api import Population, check_catalog, parse_catalog, parse_condition, suggest_catalog
from insight.sources.clickhouse import _IDLE

AT = datetime(2024, 3, 1, tzinfo=UTC)
TABLES = {
    "members": pl.DataFrame(
        {"member_id": range(1, 41), "town": [["Paris", "Rome", "Oslo"][n % 3] for n in range(40)]}
    ),
    "orders": pl.DataFrame(
        {
            "order_id": range(1000, 1120),
            "member_id": [1 + n % 40 for n in range(120)],
            "ordered_at": [AT - timedelta(hours=n) for n in range(120)],
            "product_id": [n % 7 for n in range(120)],
            "total": [n / 4 for n in range(120)],
        }
    ),
    "visits": pl.DataFrame(
        {
            "member_id": [1 + n % 13 for n in range(60)],
            "visited_at": [AT - timedelta(minutes=n) for n in range(60)],
            "page": [["home", "cart"][n % 2] for n in range(60)],
        }
    ),
    "products": pl.DataFrame({"product_id": range(7), "brand": [f"b{n}" for n in range(7)]}),
}


def in_postgres(request: pytest.FixtureRequest, folder: Path) -> str:
    from adbc_driver_postgresql import dbapi

    server: Any = request.getfixturevalue("postgres_server")
    server.psql("CREATE DATABASE suggested;")
    uri: str = server.get_uri().replace("/postgres?", "/suggested?")
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for name, frame in TABLES.items():
            cursor.adbc_ingest(name, frame.to_arrow(), mode="create")
    return uri


def in_chdb(request: pytest.FixtureRequest, folder: Path) -> str:
    if find_spec("chdb") is None:
        pytest.skip("chdb is not installed")
    import clickhouse_connect

    moment = "DateTime64(6, 'UTC')"
    kinds: dict[Any, str] = {pl.Int64: "Int64", pl.String: "String", pl.Float64: "Float64"}
    with clickhouse_connect.get_client(interface="chdb", path=str(folder / "ch")) as client:
        for name, frame in TABLES.items():
            columns = ", ".join(
                f"{column} {kinds.get(kind.base_type(), moment)}" for column, kind in frame.schema.items()
            )
            client.command(f"CREATE TABLE {name} ({columns}) ENGINE MergeTree ORDER BY tuple()")
            client.insert_arrow(name, frame.to_arrow())
    return f"chdb://{folder}/ch"


@pytest.mark.parametrize("made", [in_postgres, in_chdb])
def test_a_database_is_understood(made: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = made(request, tmp_path)
    drafted = yaml.safe_load(suggest_catalog(url, folder=tmp_path))
    entity, events = drafted["entities"]["user"], drafted["events"]
    assert (entity["table"], entity["key"]) == ("members", "member_id")
    assert {each["table"]: each["time"] for each in events.values()} == {
        "orders": "ordered_at",
        "visits": "visited_at",
    }
    order, ordered = next((name, each) for name, each in events.items() if each["table"] == "orders")
    assert "products" in ordered["join"]
    catalog = parse_catalog(drafted, folder=tmp_path)
    assert check_catalog(catalog) == []
    people = Population(catalog, AT)
    assert len(people.universe) == 40
    often = {"event": order, "agg": "count", "within": "2d", "op": "ge", "value": 2}
    assert people.users(people.members(parse_condition(often))).to_list() == list(range(1, 9))
    town = next(name for name in catalog.user_fields if name.endswith("town"))
    assert len(people.members(parse_condition({"field": town, "op": "eq", "value": "Oslo"}))) == 13
    _IDLE.clear()
