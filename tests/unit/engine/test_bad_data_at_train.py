"""What `growth train` says of bad data: one sentence that names it, or a model that says what it left out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.usecases import init_workspace
from engine.wiring import open_workspace
from kernel.errors import BadInput

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: user_id}}
fields: {user.city: {table: users, column: city, type: string}}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields:
      amount: {column: total, type: decimal, role: amount}
      points: {column: points, type: decimal}
      fee: {column: fee, type: decimal}
"""
MODELS = """
kind: model
name: spend
predicts: spend
within: 14d
history: [14d]
every: 14d
segments: [user.city]
---
kind: model
name: churn
predicts: churn
within: 14d
history: [14d]
every: 14d
"""
BEGIN, AS_OF, USERS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 5, 1, tzinfo=UTC), 60
Change = Callable[[pl.DataFrame], pl.DataFrame]


def orders() -> pl.DataFrame:
    """Everybody buys at a rate of their own; nobody ever got points, and the fee is always the same."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(USERS), rng.poisson(np.linspace(1, 25, USERS)) + 1)
    days = rng.uniform(0, 120, len(user))
    return pl.DataFrame(
        {
            "user_id": user,
            "ordered_at": [BEGIN + timedelta(days=float(day)) for day in days],
            "total": rng.gamma(4, 5, len(user)).round(2),
            "points": pl.Series([None] * len(user), dtype=pl.Float64),
            "fee": 1.0,
        }
    ).with_columns(pl.col("ordered_at").cast(pl.Datetime("us", "UTC")))


def shop(root: Path, change: Change = lambda frame: frame, users: Change = lambda frame: frame) -> Path:
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    people = pl.DataFrame({"user_id": range(USERS), "city": ["Rome", "Oslo"] * (USERS // 2)})
    users(people).write_parquet(root / "data" / "users.parquet")
    change(orders()).write_parquet(root / "data" / "orders.parquet")
    (root / "models.yaml").write_text(MODELS, encoding="utf-8")
    told = CliRunner().invoke(app, ["apply", "-f", str(root / "models.yaml"), "--dir", str(root)])
    assert told.exit_code == 0, told.output
    return root


def refused(root: Path) -> str:
    told = CliRunner().invoke(app, ["train", "--as-of", f"{AS_OF:%Y-%m-%d}", "--dir", str(root)])
    assert isinstance(told.exception, BadInput), told.output
    return str(told.exception)


def test_all_null_and_constant_columns_are_named_and_the_future_is_not_seen(tmp_path: Path) -> None:
    root, later = tmp_path / "shop", AS_OF + timedelta(days=365 * 100)
    # a day of a hundred years on, and of next week: nothing that is known when the day begins
    ahead = pl.DataFrame({"user_id": [0, 1], "ordered_at": [later, AS_OF + timedelta(days=7)]})
    ahead = ahead.with_columns(pl.lit(1e6).alias("total"), points=pl.lit(5.0), fee=pl.lit(2.0))
    ahead = ahead.with_columns(pl.col("ordered_at").cast(pl.Datetime("us", "UTC")))
    shop(root, lambda frame: pl.concat([frame, ahead.select(frame.columns)]))
    told = CliRunner().invoke(app, ["train", "--as-of", f"{AS_OF:%Y-%m-%d}", "--dir", str(root)])
    assert told.exit_code == 0, told.output
    space = open_workspace(root)
    version = space.registry.versions("spend")[0]
    final, _ = space.registry.load("spend", version.version)
    assert final.features
    assert not any(name.startswith("points") for name in final.features)
    assert version.params["unused"].startswith("points_14d")
    # a fee that is always the same is one in every order: its share of the money varies, its mean does not
    assert float(version.metrics["mae"]) < 1e5  # a million would show


def test_three_rows_are_too_few(tmp_path: Path) -> None:
    def few(frame: pl.DataFrame) -> pl.DataFrame:
        at = [BEGIN + timedelta(days=day) for day in (0, 60, 121)]
        return frame.head(3).with_columns(pl.Series("ordered_at", at, dtype=pl.Datetime("us", "UTC")))

    said = refused(shop(tmp_path / "shop", few))
    assert "dataset spend" in said
    assert "50 are needed" in said


def test_one_class_is_named(tmp_path: Path) -> None:
    def daily(frame: pl.DataFrame) -> pl.DataFrame:
        days = pl.DataFrame({"day": range(0, 121, 5)})
        whole = frame.unique("user_id").join(days, how="cross")
        at = pl.lit(BEGIN) + pl.duration(days=pl.col("day"), hours=pl.col("user_id") % 24)
        return whole.with_columns(at.cast(pl.Datetime("us", "UTC")).alias("ordered_at")).select(frame.columns)

    assert "dataset churn: has 0 of" in refused(shop(tmp_path / "shop", daily))


def test_a_user_in_two_rows_is_named(tmp_path: Path) -> None:
    twice = shop(tmp_path / "shop", users=lambda people: pl.concat([people, people.head(1)]))
    said = refused(twice)
    assert "user" in said
    assert "more than one row" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.with_columns(pl.lit("12,50").alias("total")), "total"),
        (lambda frame: frame.with_columns(pl.col("ordered_at").cast(pl.String)), "ordered_at"),
        (lambda frame: frame.with_columns(pl.lit(None, pl.Float64).alias("total")), "amount"),
        (lambda frame: frame.with_columns(pl.lit(float("inf")).alias("total")), "amount"),
    ],
    ids=["amount is text", "time is text", "amount is missing", "amount is infinite"],
)
def test_an_amount_or_time_that_is_none_is_named(tmp_path: Path, change: Change, said: str) -> None:
    assert said in refused(shop(tmp_path / "shop", change))
