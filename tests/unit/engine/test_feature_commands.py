"""`growth features` on a small shop: listed, derived, checked, told of one user with what came since."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import polars as pl
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine.cli.main import app
from engine.definitions import check_together, parse_definition
from engine.features import derive_files
from engine.features_online import set_now
from engine.http import problems
from engine.http.feature_routes import feature_routes
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import read_history
from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound
from models.api import recipe_features, settled_recipe, train_once
from storage.events import EventLog, NewEvent

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: user_id}
fields:
  user.city: {table: users, column: city, type: string}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    id: order_id
    role: purchase
    fields:
      amount: {column: total, type: decimal, role: amount}
      kind: {column: kind, type: string, role: category}
      returned_at: {column: returned_at, type: datetime}
  visit: {source: shop, table: visits, user: user_id, time: at, fields: {page: {column: page, type: string}}}
"""
SET = """
kind: features
name: shopper
among: purchase
features:
  - {event: purchase, agg: sum, of: amount, within: [28d, 84d], name: money}
  - {event: purchase, agg: lines, by: category, share: true, top: 2, name: mix}
  - {event: visit, agg: count, within: 28d, where: {page: [home, cart]}, name: visits}
  - {event: visit, since: last}
  - {field: user.city, static: true}
---
kind: features
name: settled
among: purchase
features:
  - {event: purchase, agg: sum, of: amount, within: [28d, 84d], name: money}
  - {event: purchase, agg: lines, by: category, share: true, labels: [tea, milk], name: mix}
  - {event: visit, agg: count, within: 28d, where: {page: [home, cart]}, name: visits}
  - {event: visit, since: last}
  - {field: user.city, static: true, labels: [Rome, Oslo]}
---
kind: model
name: spend
predicts: spend
within: 28d
history: [28d, 84d]
features: shopper
"""
NOW = datetime(2025, 7, 1, tzinfo=UTC)
USERS = 60


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root, rng = tmp_path_factory.mktemp("features") / "shop", np.random.default_rng(5)
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")

    def times(count: int) -> list[datetime]:
        return [NOW - timedelta(days=float(day)) for day in rng.uniform(-20, 170, count)]

    orders = {
        "user_id": rng.integers(0, USERS, 900),
        "order_id": range(900),
        "ordered_at": times(900),
        "total": rng.gamma(4, 5, 900).round(2),
        "kind": rng.choice(["tea", "milk", "bread"], 900, p=[0.5, 0.3, 0.2]),
    }
    data = root / "data"
    bought = pl.DataFrame(orders)
    # who returns something does so three days later, and it is written into the line
    returned = pl.when(pl.col("user_id") % 2 == 0).then(pl.col("ordered_at") + timedelta(days=30))
    bought.with_columns(returned_at=returned).write_parquet(data / "orders.parquet")
    visits = {"user_id": rng.integers(0, USERS, 500), "at": times(500)}
    pages = rng.choice(["home", "cart", "help"], 500)
    pl.DataFrame(visits).with_columns(page=pl.Series(pages)).write_parquet(data / "visits.parquet")
    people = {"user_id": range(USERS), "city": ["Rome", "Oslo", None] * (USERS // 3)}
    pl.DataFrame(people).write_parquet(data / "users.parquet")
    (root / "set.yaml").write_text(SET, encoding="utf-8")
    told = CliRunner().invoke(app, ["apply", "-f", str(root / "set.yaml"), "--dir", str(root)])
    assert told.exit_code == 0, told.output
    return open_workspace(root, FixedClock(at=NOW))


def run(space: Workspace, *words: str) -> Any:
    return CliRunner().invoke(app, ["features", *words, "--dir", str(space.root)])


def test_sets_are_listed_with_the_models_that_learn_from_them(space: Workspace) -> None:
    found = next(e for e in json.loads(run(space, "list", "--json").stdout) if e["name"] == "shopper")
    assert (found["name"], found["version"], found["models"]) == ("shopper", 1, ["spend"])
    assert found["unsettled"] == ["category"]
    assert "money_28d" in run(space, "list").stdout


def test_files_hold_what_a_model_learns_from(space: Workspace, tmp_path: Path) -> None:
    told = run(space, "derive", "shopper", "--as-of", "2025-07-01", "--out", str(tmp_path / "f"), "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    frame = pl.read_parquet(tmp_path / "f" / "*.parquet").sort("user")
    assert frame.columns == ["at", "user", *found["columns"]]
    assert {"mix_category.tea", "mix_category.milk", "user.city.Oslo", "user.city.Rome"} <= set(frame.columns)
    history = read_history(space, NOW)
    recipe = settled_recipe(space.definitions().recipe("spend"), history, NOW)
    learned = recipe_features(history, NOW, recipe).sort("user")
    for name in found["columns"]:
        assert frame[name].equals(learned[name]), name
    assert list((space.root / "var" / "scratch").iterdir()) == []


def test_one_user_is_told_with_what_came_since_and_nothing_twice(space: Workspace) -> None:
    later = NOW + timedelta(days=30)
    before = set_now(space, "settled", "7", later).features
    orders = pl.read_parquet(space.root / "data" / "orders.parquet").filter(user_id=7)
    fresh = [("order", later, {"amount": 5.0, "kind": "tea"}, "9001"),
             ("order", orders["ordered_at"][0], {"amount": orders["total"][0], "kind": orders["kind"][0]},
              str(orders["order_id"][0])),
             ("visit", later - timedelta(days=1), {"page": "cart"}, "v1")]  # fmt: skip
    log = EventLog(space.database, space.tombstones)
    for name, at, line, key in fresh:
        one = NewEvent(event_id=key, user_id="7", name=name, occurred_at=at, lines=(line,))
        log.append([[one]], received_at=later)
    after = set_now(space, "settled", "7", later).features
    assert after["money_28d"] == pytest.approx((before["money_28d"] or 0) + 5)
    assert after["visits_28d"] == (before["visits_28d"] or 0) + 1
    assert after["visit_last_days"] == 1
    assert after["user.city.Rome"] == before["user.city.Rome"]
    with pytest.raises(BadInput, match="user_id = 'x': is not a whole number"):
        set_now(space, "settled", "x", later)


def ask(space: Workspace, path: str) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using `httpx` with")
        from fastapi.testclient import TestClient
    app = FastAPI()
    problems.install(app)
    app.include_router(feature_routes(space))
    return TestClient(app, raise_server_exceptions=False).get(path)


@pytest.mark.parametrize("path", ["set=settled", "model=spend"])
def test_the_route_tells_what_the_batch_has_and_the_plan_scores(space: Workspace, path: str) -> None:
    history, at = read_history(space, NOW), NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    recipe = settled_recipe(space.definitions().recipe("spend"), history, NOW)
    if path == "model=spend" and not space.registry.names():
        train_once(history, NOW, recipe, space.registry, data=history.fingerprint(), seed=1)
    predictor = space.registry.usable("spend", NOW)[0] if space.registry.names() else None
    batch = recipe_features(history, NOW, recipe)
    scores = None if predictor is None else dict(zip(batch["user"], predictor.predict(batch), strict=True))
    for user in (3, 7, 41):
        told = ask(space, f"/v1/users/{user}/features?{path}&at={at}")
        assert told.status_code == 200, told.text
        found = told.json()
        expected = batch.row(by_predicate=pl.col("user") == user, named=True)
        assert found["lines"] > 0
        for name, value in found["features"].items():
            assert (value is None) == (expected[name] is None), name
            assert value is None or value == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
        if path == "model=spend":
            assert scores is not None
            assert set(found["features"]) == set(batch.columns) - {"user"}
            assert found["score"] == pytest.approx(scores[user], rel=1e-9)
            assert predictor is not None
            ends = [float(end[0]) for end in predictor.interval(batch.filter(user=user))]
            assert found["interval"] == pytest.approx(ends, rel=1e-9)
    nobody = ask(space, f"/v1/users/777/features?{path}&at={at}").json()
    assert (nobody["lines"], nobody["score"]) == (0, None if path == "set=settled" else 0.0)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("7/features", 422, "give either set or model"),
        ("7/features?set=a&model=b", 422, "give either set or model"),
        ("7/features?set=settld", 404, "did you mean 'settled'"),
        ("7/features?model=spent", 404, "unknown model"),
        ("x/features?set=settled", 422, "is not a whole number"),
        ("7/features?set=settled&at=soon", 422, "at = 'soon'"),
        ("7/features?set=shopper", 422, "labels that are still to be found"),
        ("8/features?set=settled", 404, "unknown user"),
    ],
)
def test_the_route_refuses_in_one_sentence(space: Workspace, path: str, status: int, said: str) -> None:
    if path.startswith("8/"):
        space.tombstones.begin(["8"], NOW)
    told = ask(space, f"/v1/users/{path}")
    assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
    assert said in told.json()["detail"]


@given(user=st.text(max_size=12), at=st.one_of(st.none(), st.text(max_size=12)), rest=st.text(max_size=12))
@settings(max_examples=40, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
def test_whatever_is_asked_is_answered_without_a_5xx(
    space: Workspace, user: str, at: str | None, rest: str
) -> None:
    told = {"set": "settled"} | ({} if at is None else {"at": at})
    for asked in (told, {"set": rest}, {"model": rest}):
        query = urlencode(asked, errors="replace")
        answer = ask(space, f"/v1/users/{quote(user, safe='', errors='replace')}/features?{query}")
        assert answer.status_code < 500, (user, asked, answer.text)


def test_the_check_names_what_knows_the_future(space: Workspace) -> None:
    found = run(space, "check", "shopper", "--as-of", "2025-07-01", "--label", "purchase", "--within", "14d")
    assert found.exit_code == 2
    assert "purchase.returned_at: holds later times" in found.stdout
    assert "changes with the future" not in found.stdout
    bad = run(space, "check", "shopper", "--within", "soon")
    assert isinstance(bad.exception, BadInput)


def test_labels_are_needed_for_one_user_and_files_go_where_they_may(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="labels that are still to be found"):
        set_now(space, "shopper", "7", NOW)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not an empty folder"):
        derive_files(space, "shopper", [], tmp_path, None, lambda _: None)
    with pytest.raises(NotFound, match="did you mean 'shopper'"):
        derive_files(space, "shoper", [], tmp_path / "f", None, lambda _: None)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"kind": "model", "name": "churn", "predicts": "churn", "features": "shoper"}, "mean 'shopper'"),
        ({"features": [{"event": "vist", "agg": "count"}]}, "mean 'visit'"),
        ({"features": [{"event": "treatment", "agg": "count"}]}, "is the role of no event"),
        ({"features": [{"event": "visit", "agg": "distinct", "of": "pag"}]}, "mean 'page'"),
        ({"features": [{"field": "user.town"}]}, "unknown field"),
        ({"entity": "house", "features": [{"event": "visit", "agg": "count"}]}, "unknown entity"),
    ],
)
def test_what_does_not_fit_is_refused_when_applied(space: Workspace, raw: dict[str, Any], said: str) -> None:
    one = parse_definition({"kind": "features", "name": "f", **raw}, "test")
    with pytest.raises(BadInput, match=said):
        check_together([one], space.store, space.catalog)
