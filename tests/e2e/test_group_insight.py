"""`growth profile`, `overlap`, `history`, `migration` and their routes, on one workspace."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from engine.http.app import create_app
from engine.serve import services
from engine.wiring import open_workspace

AT = datetime(2017, 10, 16, tzinfo=UTC)
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {user.city: {table: users, column: city, type: string}}
events:
  order:
    {source: shop, table: orders, user: uid, time: at, role: purchase,
     fields: {amount: {column: total, type: decimal, role: amount}}}
"""
GROUPS = """
kind: group
name: buyers
where: {event: order, agg: count, within: 7d, op: ge, value: 1}
---
kind: group
name: parisians
where: {field: user.city, op: eq, value: Paris}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, growth: Any) -> Path:
    """Users 0 … 399, the even ones in Paris; 0 … 99 bought yesterday and, all but 60 … 99, the day before."""
    root: Path = tmp_path_factory.mktemp("insight")
    (root / "data").mkdir()
    (root / "growth.toml").write_text('name = "insight"\n')
    (root / "catalog.yaml").write_text(CATALOG)
    (root / "groups.yaml").write_text(GROUPS)
    users = pl.DataFrame({"uid": range(400), "city": ["Paris", "Rome"] * 200})
    users.write_parquet(root / "data" / "users.parquet")
    bought = [(n, AT - timedelta(hours=h), 2.0) for h, most in ((12, 100), (36, 60)) for n in range(most)]
    schema = {"uid": pl.Int64, "at": pl.Datetime("us", "UTC"), "total": pl.Float64}
    pl.DataFrame(bought, schema=schema, orient="row").write_parquet(root / "data" / "orders.parquet")
    growth.well("apply", "-f", root / "groups.yaml", "--dir", root)
    return root


class Client:
    """The application itself, asked in this process."""

    def __init__(self, root: Path) -> None:
        self._app = create_app(services(open_workspace(root)))

    def get(self, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
        return self._ask("GET", path, params=params)

    def post(self, path: str, json: object) -> httpx.Response:
        return self._ask("POST", path, json=json)

    def _ask(self, method: str, path: str, **words: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            through = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=through, base_url="http://here", timeout=60) as client:
                return await client.request(method, path, **words)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def client(root: Path) -> Client:
    return Client(root)


def test_a_profile_by_command_and_over_http(growth: Any, root: Path, client: Client) -> None:
    by_command = growth.well("profile", "parisians", "--dir", root, "--json").json
    assert client.get("/v1/groups/parisians/profile").json() == by_command
    assert (by_command["count"], by_command["base"], by_command["against"]) == (200, 400, None)
    paris = next(row for row in by_command["rows"] if row["label"] == "Paris")
    assert (paris["count"], paris["share"], paris["base_share"], paris["index"]) == (200, 1.0, 0.5, 200.0)
    assert paris["q"] < 1e-6 < 0.5 < next(r for r in by_command["rows"] if r["label"] == "any in 7 d")["q"]
    asked = {"against": "buyers", "fields": "user.city", "within": "30d", "least": 5}
    other = client.get("/v1/groups/parisians/profile", params=asked).json()
    assert (other["base"], other["both"], {row["feature"] for row in other["rows"]}) == (
        100,
        50,
        {"user.city"},
    )
    shown = growth.well("profile", "parisians", "--against", "buyers", "--dir", root).out
    assert "parisians (200 users) against buyers (100)" in shown


def test_overlap_by_command_and_over_http(growth: Any, root: Path, client: Client) -> None:
    by_command = growth.well("overlap", "--dir", root, "--json").json
    assert by_command["groups"] == [{"name": "buyers", "count": 100}, {"name": "parisians", "count": 200}]
    assert by_command["both"] == [[100, 50], [50, 200]]
    assert by_command["jaccard"][0][1] == 0.2
    assert by_command["share"] == [[1.0, 0.5], [0.25, 1.0]]
    assert client.post("/v1/groups/overlap", json={}).json() == by_command
    assert "25.0%" in growth.well("overlap", "parisians", "buyers", "--dir", root).out


def test_history_by_command_and_over_http(growth: Any, root: Path, client: Client) -> None:
    for day in ("2017-10-15", "2017-10-16"):
        growth.well("run", "selections", "--date", day, "--dir", root)
    found = growth.well("history", "buyers", "--dir", root, "--json").json
    assert [(each["count"], each["added"], each["removed"]) for each in found["versions"]] == [
        (60, None, None), (100, 40, 0),
    ]  # fmt: skip
    assert client.get("/v1/groups/buyers/history").json() == found
    assert client.get("/v1/groups/buyers/history?last=1").json()["versions"][0]["added"] is None


def test_migration_by_command_and_over_http(growth: Any, root: Path, client: Client) -> None:
    space = open_workspace(root)
    for day, stages in ((15, ["new", "new", "loyal"]), (16, ["new", "loyal", "loyal"])):
        folder = root / "plans" / f"2017-10-{day}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user": [1, 2, 3], "stage": stages}).write_parquet(folder / "cells.parquet")
        space.plans.add(AT.date().replace(day=day), "x", str(folder), {}, AT)
    words = ("migration", "2017-10-15", "2017-10-16", "--by", "stage", "--dir", root)
    found = growth.well(*words, "--json").json
    assert found["flows"] == [{"from": "new", "to": "loyal", "users": 1, "share": 0.5}]
    assert found["stayed"] == pytest.approx(2 / 3)
    asked = {"from": "2017-10-15", "to": "2017-10-16", "by": "stage"}
    assert client.get("/v1/cells/migration", params=asked).json() == found
    assert "3 users on both days, 66.7% stayed in their stage; 0 new, 0 gone" in growth.well(*words).out


def test_what_cannot_be_answered_is_one_sentence(growth: Any, root: Path, client: Client) -> None:
    for words, sentence in [
        (("profile", "parisian"), "did you mean 'parisians'?"),
        (("profile", "parisians", "--fields", "user.town"), "unknown field or event"),
        (("profile", "parisians", "--within", "soon"), "--within = 'soon'"),
        (("profile", "parisians", "--least", "0"), "least = 0: must be at least 1"),
        (("overlap", "parisians"), "groups = 1: are not 2 to 500"),
        (("history", "nobody"), "unknown published group"),
        (("migration", "2017-10-15", "2016-01-01"), "unknown plan"),
        (("migration", "2017-10-15", "2017-10-16", "--by", "colour"), "unknown side"),
    ]:
        ran = growth(*words, "--dir", root)
        assert ran.code == 2, (words, ran.err)
        assert sentence in ran.err, (words, ran.err)
        assert ran.err.count("\n") == 1
    assert client.get("/v1/groups/nobody/profile").status_code == 404
    assert client.get("/v1/groups/parisians/profile?within=soon").status_code == 422
