"""Responses by the day of the offer and uplift by the day of the intention, with planted drifts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.monitoring import ALPHA, CALIBRATION, monitor
from engine.monitoring_foretold import effect_days
from engine.usecases import init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.learning import ModelRecipe
from models.api import CONTROL, effect_drift, train_once

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: user_id}}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
  offered: {source: shop, table: offers, user: user_id, time: at, role: treatment,
            fields: {offer: {column: offer, type: integer, role: offer}}}
  redeemed: {source: shop, table: redeemed, user: user_id, time: at, role: response,
             fields: {offer: {column: offer, type: integer, role: offer}}}
"""
BEGIN, USERS, OFFERS, EVERY = datetime(2025, 1, 1, tzinfo=UTC), 400, 22, 14
#: from this offer on twice as many respond
CHANGED = 16
RECIPE = ModelRecipe.model_validate(
    {"name": "response", "predicts": "response", "within": "13d", "matured": "14d", "history": ("28d",)}
)


def day(number: int) -> date:
    """The day on which the answers to that offer are final."""
    return (BEGIN + timedelta(days=EVERY * (number + 1))).date()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root: Path = tmp_path_factory.mktemp("responses") / "shop"
    rng = np.random.default_rng(11)
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    pl.DataFrame({"user_id": range(USERS)}).write_parquet(root / "data" / "users.parquet")
    keen = np.where(np.arange(USERS) % 2 == 0, 0.22, 0.02)  # buys a lot and responds, or neither
    user = np.repeat(np.arange(USERS), np.where(keen > 0.1, 60, 6))
    bought = [BEGIN + timedelta(days=float(each)) for each in rng.uniform(-60, EVERY * OFFERS, len(user))]
    orders = pl.DataFrame({"user_id": user, "at": bought, "total": rng.gamma(2, 5, len(user))})
    orders.write_parquet(root / "data" / "orders.parquet")
    sent, answered = [], []
    for offer in range(OFFERS):
        at = BEGIN + timedelta(days=EVERY * offer)
        for each in rng.choice(USERS, 240, replace=False).tolist():
            sent.append((each, at, offer))
            if rng.random() < keen[each] * (2.0 if offer >= CHANGED else 1.0):
                answered.append((each, at + timedelta(days=float(rng.uniform(0.1, 12))), offer))
    for name, rows in (("offers", sent), ("redeemed", answered)):
        kinds: dict[str, Any] = {"user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "offer": pl.Int64}
        pl.DataFrame(rows, schema=kinds, orient="row").write_parquet(root / "data" / f"{name}.parquet")
    made = open_workspace(root)
    told = {"kind": "model", **RECIPE.model_dump(mode="json", exclude_defaults=True)}
    made.store.apply([("model", "response", told)], at=made.clock.now(), by="test")
    at = plan_instant(made, day(9))
    version, _ = train_once(read_history(made, at), at, RECIPE, made.registry, data="test", seed=1)
    assert version.trusted, version.reason
    return made


def test_responses_are_calibrated_until_they_double(space: Workspace) -> None:
    quiet = monitor(space, day(CHANGED - 1), lambda _: None)
    (model,) = quiet.models
    # offers sent from the day of learning on, whose window is over
    assert model.windows == CHANGED - 1 - 9
    assert not [each for each in quiet.alarms if each.what == CALIBRATION]
    (alarm,) = (each for each in monitor(space, day(CHANGED + 4), lambda _: None).alarms
                if each.what == CALIBRATION)  # fmt: skip
    assert alarm.model == "response"
    assert "more comes than it foretells" in alarm.said
    assert "moved of its features: " in alarm.said
    # who responded more often lately is told by what the model sees
    assert alarm.features
    assert set(alarm.features) & {"responses_share", "responses_offers", "responses_count"}


def intended(days: int, users: int, effect: float, seed: int) -> pl.DataFrame:
    """First intentions with a foreseen effect of 1, a quarter held out."""
    rng, rows = np.random.default_rng(seed), days * users
    held = rng.random(rows) < 0.25
    at = pl.Series([BEGIN + timedelta(days=int(each) // users, hours=4) for each in range(rows)])
    y = rng.normal(5, 2, rows) + effect * ~held
    return pl.DataFrame({"at": at, "treatment": np.where(held, CONTROL, "coupon"), "y": y, "p_foreseen": 1.0})


def test_uplift_is_told_day_by_day_and_small_days_wait() -> None:
    wide = effect_days(intended(10, 400, 1.0, 1))
    assert wide["day"].to_list() == [(BEGIN + timedelta(days=each)).date() for each in range(10)]
    assert wide["rows"].to_list() == [400] * 10
    small = effect_days(intended(10, 60, 1.0, 1))  # some 15 held out a day
    assert 3 <= small.height <= 6
    assert small["rows"].sum() <= 600
    assert (small["rows"] >= 60).all()
    assert effect_days(intended(1, 60, 1.0, 1)).is_empty()


def test_an_effect_that_wears_off_is_found_and_one_that_holds_is_not() -> None:
    def alarms(effect: float) -> int:
        found = [effect_days(intended(40, 200, effect, seed)) for seed in range(20)]
        return sum(effect_drift(days, alpha=ALPHA, horizon=365).alarm for days in found)

    assert alarms(1.0) <= 2
    assert alarms(0.4) >= 18
