"""Whatever the schema allows, and what it does not, is answered without a 5xx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance

from engine.http.app import create_app
from engine.serve import services
from engine.wiring import open_workspace

CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {user.city: {table: users, column: city, type: string}}
events:
  order: {source: shop, table: orders, user: uid, time: t, role: purchase,
          fields: {amount: {column: total, type: decimal, role: amount}}}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root: Path = tmp_path_factory.mktemp("fuzzed")
    (root / "data").mkdir()
    (root / "growth.toml").write_text("name = 'fuzzed'")
    (root / "catalog.yaml").write_text(CATALOG)
    pl.DataFrame({"uid": ["a", "b"], "city": ["x", "y"]}).write_parquet(root / "data" / "users.parquet")
    at = pl.datetime(2017, 10, 1, time_zone="UTC")
    orders = pl.DataFrame({"uid": ["a"], "total": [1.0]}).with_columns(t=at)
    orders.write_parquet(root / "data" / "orders.parquet")
    made = services(open_workspace(root))
    app = create_app(made)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using `httpx` with")
        yield schemathesis.openapi.from_asgi("/openapi.json", app)
    made.realtime.close()


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/outcomes"])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_decisions_and_outcomes_never_break(api: Any, path: str, mode: GenerationMode) -> None:
    operation = api[path]["POST"]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def answered(case: Any) -> None:
        answer = case.call()
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=[response_schema_conformance])

    answered()
