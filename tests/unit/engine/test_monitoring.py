"""What `growth monitor` sees in a small shop whose prices double, and that it sees nothing before."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engine.monitoring import (
    CALIBRATION,
    FEATURE,
    UPLIFT,
    Monitoring,
    monitor,
    newest,
    standing,
    watched_days,
)
from engine.monitoring_metrics import watch
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import train_once

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: user_id}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
LEARNED, QUIET, DOUBLED = date(2025, 6, 1), date(2025, 9, 15), date(2025, 12, 15)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root, rng, users = tmp_path_factory.mktemp("monitor") / "shop", np.random.default_rng(2), 300
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    weeks = np.arange(52)
    user, week = np.nonzero(rng.random((users, len(weeks))) < rng.uniform(0.1, 0.6, users)[:, None])
    days = 7 * week + rng.integers(0, 7, len(week))
    lines = {
        "user_id": user,
        "ordered_at": [datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(days=int(day)) for day in days],
        "total": (rng.gamma(4, 5, len(week)) * np.where(week >= 40, 2.0, 1.0)).round(2),
    }
    pl.DataFrame({"user_id": range(users)}).write_parquet(root / "data" / "users.parquet")
    pl.DataFrame(lines).write_parquet(root / "data" / "orders.parquet")
    (root / "spend.yaml").write_text(
        "kind: model\nname: spend\npredicts: spend\nwithin: 28d\nhistory: [28d]\n", encoding="utf-8"
    )
    made = open_workspace(root)
    told = {"name": "spend", "predicts": "spend", "within": "28d", "history": ("28d",)}
    made.store.apply([("model", "spend", {"kind": "model", **told})], at=made.clock.now(), by="test")
    at = plan_instant(made, LEARNED)
    recipe = ModelRecipe.model_validate(told)
    train_once(read_history(made, at), at, recipe, made.registry, data="test", seed=1)
    return made


def look(space: Workspace, day: date) -> Monitoring:
    return monitor(space, day, lambda _: None)


def test_doubled_prices_are_found_with_what_moved(space: Workspace) -> None:
    found = look(space, DOUBLED)
    named = {(each.what, each.name) for each in found.alarms}
    assert {(FEATURE, "amount_28d"), (FEATURE, "basket_28d"), (CALIBRATION, "spend")} <= named
    assert not any(name.startswith("purchases") for _, name in named)
    (calibration,) = (each for each in found.alarms if each.what == CALIBRATION)
    assert "more comes than it foretells" in calibration.said
    assert calibration.size > calibration.threshold
    with pytest.raises(BadInput, match=r"2025-12-15: spend: .* has moved"):
        standing(space)


def test_before_nothing_was_foretold_wrong(space: Workspace) -> None:
    found = look(space, QUIET)
    assert not [each for each in found.alarms if each.what == CALIBRATION]
    assert "basket_28d" not in {each.name for each in found.alarms}
    (model,) = found.models
    # windows of 28 days that end by then and begin when the model was there
    assert model.windows == (QUIET - LEARNED).days // 28
    assert model.looks > 5


def test_what_was_seen_is_kept_once_and_told(space: Workspace) -> None:
    look(space, QUIET)
    first = look(space, DOUBLED)
    assert look(space, DOUBLED) == first
    assert watched_days(space) == [QUIET, DOUBLED]
    assert newest(space) == json.loads(json.dumps(first.as_json()))

    registry = CollectorRegistry()
    watch(registry, lambda: newest(space))
    text = generate_latest(registry).decode()
    assert 'growth_monitoring_alarms{model="spend",what="calibration"} 1.0' in text
    assert 'growth_monitoring_psi{model="spend",what="feature"}' in text
    assert UPLIFT not in text


def test_a_model_of_the_very_day_has_nothing_to_be_compared_with(space: Workspace) -> None:
    (model,) = look(space, LEARNED).models
    assert (model.looks, model.feature_psi, model.windows) == (0, None, 0)
    assert "learned as of this very day" in model.without


def test_nothing_watched_says_how_to(tmp_path: Any) -> None:
    init_workspace(tmp_path / "new")
    empty = open_workspace(tmp_path / "new")
    assert "growth monitor --as-of DAY" in standing(empty)
    registry = CollectorRegistry()
    watch(registry, lambda: newest(empty))
    assert generate_latest(registry) == b""
