"""`growth drift` on a small shop whose prices double: the features of money move, those of rhythm do not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.drift import SCORE, model_drift
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import train_once

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
LEARNED = date(2025, 9, 1)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root, rng, users = tmp_path_factory.mktemp("drift") / "shop", np.random.default_rng(2), 300
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    weeks = np.arange(52)
    buys = rng.random((users, len(weeks))) < rng.uniform(0.1, 0.6, users)[:, None]
    user, week = np.nonzero(buys)
    begin = datetime(2025, 1, 1, 12, tzinfo=UTC)
    doubled = np.where(week >= 40, 2.0, 1.0)
    days = 7 * week + rng.integers(0, 7, len(week))
    lines = {
        "user_id": user,
        "ordered_at": [begin + timedelta(days=int(day)) for day in days],
        "total": (rng.gamma(4, 5, len(week)) * doubled).round(2),
    }
    pl.DataFrame({"user_id": range(users)}).write_parquet(root / "data" / "users.parquet")
    pl.DataFrame(lines).write_parquet(root / "data" / "orders.parquet")
    made = open_workspace(root)
    at = plan_instant(made, LEARNED)
    told = {"name": "spend", "predicts": "spend", "within": "28d", "history": ("28d", "84d")}
    recipe = ModelRecipe.model_validate(told)
    train_once(read_history(made, at), at, recipe, made.registry, data="test", seed=1)
    return made


def test_nothing_has_moved_before_and_money_has_moved_after(space: Workspace) -> None:
    before = model_drift(space, "spend", LEARNED, date(2025, 9, 29), every=14)
    assert before.moved.filter(~pl.col("feature").str.contains("tenure|distinct")).is_empty()
    after = model_drift(space, "spend", date(2025, 12, 1), date(2025, 12, 1))
    moved = set(after.moved["feature"])
    assert {"amount_28d", "basket_28d"} <= moved
    assert not any(name.startswith("purchases_") for name in moved)
    assert SCORE in after.rows["feature"]


def test_the_command_says_the_same(space: Workspace) -> None:
    days = ("--from", "2025-12-01", "--to", "2025-12-01", "--dir", str(space.root))
    told = CliRunner().invoke(app, ["drift", "spend", *days, "--json"])
    found = model_drift(space, "spend", date(2025, 12, 1), date(2025, 12, 1))
    assert json.loads(told.stdout) == json.loads(json.dumps(found.as_json()))
    assert "basket_28d" in CliRunner().invoke(app, ["drift", "spend", *days]).stdout


@pytest.mark.parametrize(
    ("since", "until", "every", "said"),
    [
        (date(2025, 12, 1), date(2025, 11, 1), 1, "--to = '2025-11-01': is before --from"),
        (date(2025, 8, 1), date(2025, 8, 2), 1, "no model 'spend' is from before it"),
        (date(2026, 12, 1), date(2026, 12, 1), 1, "is outside the data"),
        (date(2025, 12, 1), date(2025, 12, 2), 0, "--every = 0"),
    ],
)
def test_days_that_do_not_fit_are_one_sentence(
    space: Workspace, since: date, until: date, every: int, said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        model_drift(space, "spend", since, until, every=every)
    assert said in str(caught.value)
