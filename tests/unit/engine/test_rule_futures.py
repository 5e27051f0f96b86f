"""Days to come of a workspace's own users: what is written, what stays, and what cannot be played."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from engine.blocked import not_today
from engine.simulate.copying import copy_workspace
from engine.simulate.future import Future
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import Cap
from kernel.errors import BadInput
from kernel.exposure import Reservation

FIRST = date(2026, 11, 21)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop") / "shop"
    init_workspace(root, example=True)
    apply(open_workspace(root), root / "definitions" / "shop.yaml", by="test")
    return root


@pytest.fixture
def copy(shop: Path, tmp_path: Path) -> Workspace:
    copy_workspace(shop, tmp_path / "copy")
    return open_workspace(tmp_path / "copy", FixedClock(at=datetime(2026, 11, 21, tzinfo=UTC)))


def test_days_to_come_are_like_those_that_were(copy: Workspace) -> None:
    before = {name: pl.read_parquet(copy.root / "data" / f"{name}.parquet") for name in ("users", "orders")}
    future = Future.of(copy, "order", FIRST, 3)
    told = [future.live(FIRST + timedelta(days=number), []) for number in range(4)]
    users, orders = (pl.read_parquet(copy.root / "data" / f"{name}.parquet") for name in ("users", "orders"))
    assert users.head(before["users"].height).equals(before["users"])
    assert orders.head(before["orders"].height).equals(before["orders"])
    new = users.tail(users.height - before["users"].height)
    assert new.height == sum(each["registered"] for each in told) == pytest.approx(320, abs=70)
    assert users["user_id"].is_unique().all()
    assert set(new["city"]) <= set(before["users"]["city"])
    bought = orders.tail(orders.height - before["orders"].height)
    assert orders["order_id"].is_unique().all()
    week = before["orders"].filter(pl.col("ordered_at") >= datetime(2026, 11, 14))  # noqa: DTZ001  as in the file
    assert bought.height == pytest.approx(week.height * 4 / 7, rel=0.2)
    assert bought["ordered_at"].dt.date().unique().sort().to_list() == [
        FIRST + timedelta(days=number) for number in range(4)
    ]
    # first orders come soon after registration, as they did
    fresh = bought.join(new, on="user_id", how="semi")
    assert fresh.height > 10


def test_who_was_won_over_makes_one_purchase_more(copy: Workspace) -> None:
    future = Future.of(copy, "order", FIRST, 3)
    rows = future.orders.frame.height
    newcomer = 5390
    told = future.live(FIRST, [newcomer])
    assert told["more"] == 1
    mine = future.orders.frame.tail(future.orders.frame.height - rows).filter(pl.col("user_id") == newcomer)
    assert mine.height >= 1


def test_the_same_seed_plays_the_same_days(shop: Path, tmp_path: Path) -> None:
    frames = []
    for name in ("one", "other"):
        copy_workspace(shop, tmp_path / name)
        space = open_workspace(tmp_path / name)
        Future.of(space, "order", FIRST, 7).live(FIRST, [5])
        frames.append(pl.read_parquet(space.root / "data" / "orders.parquet"))
    assert frames[0].equals(frames[1])


def test_a_copy_keeps_holes_and_leaves_the_workspace_alone(shop: Path, tmp_path: Path) -> None:
    sparse = shop / "var" / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"here")
    copy_workspace(shop, tmp_path / "copy")
    made = tmp_path / "copy" / "var" / "sparse"
    assert made.stat().st_size == 1 << 30
    assert made.stat().st_blocks * 512 < 1 << 24
    with made.open("rb") as file:
        file.seek(1 << 29)
        assert file.read(4) == b"here"
    sparse.unlink()
    names = {path.relative_to(shop) for path in shop.rglob("*") if path.is_file()}
    assert names <= {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("catalog.yaml", "parquet://data", "parquet:///elsewhere", "below the workspace"),
        ("catalog.yaml", "parquet://data", "duckdb://shop.duckdb", "below the workspace"),
        ("growth.toml", "seed = 0", 'seed = 0\ndatabase = "postgresql+psycopg://x/y"', "database"),
        ("growth.toml", "seed = 0", 'seed = 0\nstore = "redis://x:1/0"', "store"),
    ],
)
def test_what_cannot_be_copied_is_named(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    root = tmp_path / "shop"
    init_workspace(root, example=True)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        copy_workspace(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_whom_a_cap_keeps_from_a_channel_all_day_is_known_before(copy: Workspace) -> None:
    (cap,) = copy.definitions().of(Cap)
    assert (cap.channel, cap.at_most, cap.within) == ("push", 2, "7d")
    at = datetime(2026, 11, 18, 10, tzinfo=UTC)
    early = datetime(2026, 11, 14, 20, tzinfo=UTC)
    wishes = [
        *(Reservation(touch_id=f"a{n}", user="1", channel="push", at=at) for n in range(2)),
        Reservation(touch_id="b0", user="2", channel="push", at=at),
        # by the evening of the 21st it is a week ago
        *(Reservation(touch_id=f"c{n}", user="3", channel="push", at=early) for n in range(2)),
        # an earlier plan of this day is replaced by the new one
        *(
            Reservation(touch_id=f"d{n}", user="4", channel="push", at=at, plan="plan/2026-11-21")
            for n in range(2)
        ),
    ]
    assert not copy.ledger.reserve_many(wishes, caps=(cap,), expires_at=None, replaces=None)
    users = pl.Series("user", [1, 2, 3, 4, 5])
    found = not_today(copy, copy.definitions().resources(), users, FIRST)
    assert found.rows() == [(1, "push")]
