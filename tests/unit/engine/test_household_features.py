"""Features of households: made of all who live in one at the instant, joined to each, and online."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.definitions import check_together, parse_definition
from engine.features import check_set, derive_files
from engine.features_online import set_now
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import read_history
from kernel.clock import FixedClock
from kernel.errors import BadInput
from models.api import recipe_features, settled_recipe

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: user_id}
  household: {source: shop, table: homes, key: home}
  product: {source: shop, table: homes, key: home}
mappings:
  lives_in: {source: shop, table: lives, from: user, from_column: user_id, to: household, to_column: home,
             since: since, until: until, most: 3}
fields:
  household.size: {table: homes, column: size, type: integer}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
SET = """
kind: features
name: home
entity: household
among: purchase
features:
  - {event: purchase, agg: sum, of: amount, within: 28d, name: money}
  - {event: purchase, agg: count, within: 28d, name: bought}
  - {event: purchase, since: last}
  - {field: household.size, static: true}
---
kind: model
name: spend
predicts: spend
within: 28d
history: [28d]
features: home
"""
NOW = datetime(2025, 7, 1, tzinfo=UTC)
JUNE = datetime(2025, 6, 1, tzinfo=UTC)
#: user, home, since, until: user 3 moves from a to b in mid June; five in one hotel are too many
LIVES = [(1, "a", None, None), (2, "a", None, None), (3, "a", None, 15), (3, "b", 15, None),
         (4, "b", None, None), *((user, "hotel", None, None) for user in range(5, 10))]  # fmt: skip
#: user, days before July, amount
ORDERS = [(1, 5, 10.0), (2, 6, 20.0), (3, 7, 40.0), (4, 8, 80.0), (5, 3, 1.0), (10, 2, 3.0), (1, 40, 5.0),
          (3, 41, 7.0), (4, 50, 9.0)]  # fmt: skip


def day(number: int | None, none: datetime | None) -> datetime | None:
    return none if number is None else JUNE + timedelta(days=number)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root: Path = tmp_path_factory.mktemp("homes") / "shop"
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    data = root / "data"
    pl.DataFrame({"user_id": range(1, 11)}).write_parquet(data / "users.parquet")
    pl.DataFrame({"home": ["a", "b", "hotel"], "size": [4, 2, 90]}).write_parquet(data / "homes.parquet")
    begin, zoned = datetime(2020, 1, 1, tzinfo=UTC), pl.Datetime("us", "UTC")
    lives = [(user, home, day(since, begin), day(until, None)) for user, home, since, until in LIVES]
    kinds: Any = {"user_id": pl.Int64, "home": pl.String, "since": zoned, "until": zoned}
    pl.DataFrame(lives, schema=kinds, orient="row").write_parquet(data / "lives.parquet")
    orders = [(user, NOW - timedelta(days=back), amount) for user, back, amount in ORDERS]
    kinds = {"user_id": pl.Int64, "ordered_at": zoned, "total": pl.Float64}
    pl.DataFrame(orders, schema=kinds, orient="row").write_parquet(data / "orders.parquet")
    (root / "set.yaml").write_text(SET, encoding="utf-8")
    space = open_workspace(root, FixedClock(at=NOW))
    apply(space, root / "set.yaml", by="test")
    return space


def joined(space: Workspace, at: datetime) -> dict[int, dict[str, Any]]:
    history = read_history(space, NOW)
    recipe = settled_recipe(space.definitions().recipe("spend"), history, NOW)
    rows = recipe_features(history, at, recipe)
    names = ["user", *(name for name in rows.columns if name.startswith("household."))]
    return {row["user"]: row for row in rows.select(names).iter_rows(named=True)}


def test_everybody_of_a_home_has_its_features_as_of_the_instant(space: Workspace) -> None:
    now = joined(space, NOW)
    assert (now[1]["household.money_28d"], now[1]["household.bought_28d"]) == (30.0, 2)
    assert now[1] == now[2] | {"user": 1}
    # who has moved brings all that they ever bought, and takes it away
    assert now[3]["household.money_28d"] == now[4]["household.money_28d"] == 120.0
    assert (now[3]["household.purchase_last_days"], now[3]["household.size"]) == (7, 2)
    # too many in one home belong to none, and so does who lives nowhere
    for user in (5, 10):
        assert set(now[user].values()) == {user, None}


def test_before_the_move_it_was_the_other_home(space: Workspace) -> None:
    then = joined(space, JUNE + timedelta(days=1))
    assert then[1]["household.money_28d"] == then[3]["household.money_28d"] == 12.0
    assert then[4]["household.money_28d"] == 9.0


def test_files_hold_homes_and_shares_make_no_difference(space: Workspace, tmp_path: Path) -> None:
    told = []
    for shares in (1, 3):
        found = derive_files(space, "home", ["2025-07-01"], tmp_path / f"{shares}", shares, lambda _: None)
        assert found["rows"] == 2
        told.append(pl.read_parquet(tmp_path / f"{shares}" / "*.parquet").sort("user"))
    assert told[0].equals(told[1])
    assert told[0].select("user", "money_28d", "household.size").rows() == [
        ("a", 30.0, 4.0),
        ("b", 120.0, 2.0),
    ]


def test_one_user_is_told_of_her_home(space: Workspace) -> None:
    now = joined(space, NOW)
    for user in (1, 3, 4):
        found = set_now(space, "home", str(user), NOW)
        expected = {name.removeprefix("household."): value for name, value in now[user].items()}
        for name, value in found.features.items():
            assert value == pytest.approx(expected[name.removeprefix("household.")], rel=1e-9)
    alone = set_now(space, "home", "10", NOW)
    assert (alone.lines, set(alone.features.values())) == (0, {None})


def test_nothing_in_it_knows_the_future(space: Workspace) -> None:
    assert check_set(space, "home", "2025-06-10", None, "28d", lambda _: None)["leaks"] == []
    with pytest.raises(BadInput, match="--label = 'purchase': is an event of users"):
        check_set(space, "home", "2025-06-10", "purchase", "28d", lambda _: None)


def test_who_moves_changes_what_is_learned_from(space: Workspace) -> None:
    history = read_history(space, NOW)
    lives = space.root / "data" / "lives.parquet"
    before, kept = history.fingerprint(), pl.read_parquet(lives)
    try:
        kept.filter(pl.col("user_id") != 3).write_parquet(lives)
        assert read_history(space, NOW).fingerprint() != before
    finally:
        kept.write_parquet(lives)
    assert read_history(space, NOW).fingerprint() == before


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"entity": "product"}, "entity = 'product': is not linked to users by a mapping"),
        ({"entity": "hausehold"}, "did you mean 'household'"),
        ({"features": [{"cell": "stage", "labels": ["new"]}]}, "is of users, who are in cells"),
    ],
)
def test_what_cannot_be_made_is_refused_when_applied(
    space: Workspace, raw: dict[str, Any], said: str
) -> None:
    whole = {"kind": "features", "name": "f", "entity": "household",
             "features": [{"event": "purchase", "agg": "count"}], **raw}  # fmt: skip
    one = parse_definition(whole, "test")
    with pytest.raises(BadInput, match=said):
        check_together([one], space.store, space.catalog)


def test_the_forgotten_leave_their_home(space: Workspace) -> None:
    space.tombstones.begin(["2"], NOW)
    assert joined(space, NOW)[1]["household.money_28d"] == 10.0
    assert set_now(space, "home", "1", NOW).features["money_28d"] == 10.0
