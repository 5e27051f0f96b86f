"""What the store of coupons promises, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from kernel.errors import BadInput, NotFound, Stale, Unavailable
from storage.coupons import Coupon, Coupons, Redemption
from storage.database import Engine

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOUR = 3_600_000_000
NUMBERS = count()


@pytest.fixture
def store(database: Engine) -> Coupons:
    return Coupons(database)


@pytest.fixture
def pool() -> str:
    """What a test leaves in PostgreSQL the next one finds, so each has a pool of its own."""
    return f"pool_{uuid4().hex[:8]}"


def once(coupon: Coupon, _used: int) -> None:
    if coupon.uses >= 1:
        raise Stale("used")


def code(pool: str, number: int = 0) -> str:
    return f"{pool}-{number}"


def redeem(
    store: Coupons,
    which: str,
    redemption: str,
    judge: Callable[[Coupon, int], None] = once,
    *,
    user_mark: str | None = None,
    order_id: str | None = None,
) -> Redemption:
    return store.redeem(
        which, redemption_id=redemption, user_mark=user_mark, order_id=order_id, amount=None, at=NOON,
        judge=judge,
    )  # fmt: skip


def test_a_code_is_issued_once_for_each_wish_and_the_same_again(store: Coupons, pool: str) -> None:
    assert store.add(pool, [code(pool, n) for n in range(3)], at=NOON, most=3) == 3
    assert store.add(pool, [code(pool, 2)], at=NOON, most=3) == 0
    wishes = [("t", "r", f"u{n}") for n in range(4)]
    first = store.issue(pool, wishes, at=NOON, ends=NOON + timedelta(days=1))
    assert [wish in first for wish in wishes] == [True, True, True, False]
    assert len({each.code for each in first.values()}) == 3
    again = store.issue(pool, wishes, at=NOON + timedelta(hours=1))
    assert {wish: each.code for wish, each in again.items()} == {w: c.code for w, c in first.items()}
    assert store.find(first[wishes[0]].code).ends == NOON + timedelta(days=1)


def test_a_pool_that_makes_codes_stops_at_its_size(store: Coupons, pool: str) -> None:
    def make(many: int) -> list[str]:
        return [f"{pool}-{next(NUMBERS) % 50}" for _ in range(many)]  # draws what is there already, too

    found = store.issue(pool, [("t", "r", f"u{n}") for n in range(8)], at=NOON, make=make, most=5)
    assert len(found) == len({each.code for each in found.values()}) == 5
    with pytest.raises(BadInput, match="size of 5"):
        store.add(pool, ["one more"], at=NOON, most=5)


def test_a_code_of_another_pool_is_refused_and_none_is_added(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool)], at=NOON, most=None)
    with pytest.raises(BadInput, match=f"is of pool '{pool}'"):
        store.add(f"{pool}_b", [f"{pool}-new", code(pool)], at=NOON, most=None)
    with pytest.raises(NotFound):
        store.find(f"{pool}-new")


def test_a_redemption_is_made_once_and_told_again(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool), code(pool, 1)], at=NOON, most=None)
    first = redeem(store, code(pool), f"{pool} a", user_mark="m", order_id="o")
    again = redeem(store, code(pool), f"{pool} a", user_mark="m")
    assert (first.new, again.new, again.order_id) == (True, False, "o")
    assert store.find(code(pool)).uses == 1
    with pytest.raises(Stale, match="used"):
        redeem(store, code(pool), f"{pool} b")
    with pytest.raises(BadInput, match="another code"):
        redeem(store, code(pool, 1), f"{pool} a", user_mark="m")
    with pytest.raises(NotFound, match="…hing"):
        redeem(store, "nothing", f"{pool} c")


def test_uses_by_one_user_are_counted_over_the_pool(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool, n) for n in range(3)], at=NOON, most=None)
    seen: list[int] = []

    def note(_coupon: Coupon, used: int) -> None:
        seen.append(used)

    redeem(store, code(pool), f"{pool} a", note, user_mark="m")
    redeem(store, code(pool, 1), f"{pool} b", note, user_mark="m")
    store.reverse(code(pool, 1), redemption_id=None, at=NOON, within=HOUR)
    redeem(store, code(pool, 2), f"{pool} c", note, user_mark="m")
    redeem(store, code(pool, 1), f"{pool} d", note, user_mark="other")
    assert seen == [0, 1, 1, 0]


def test_a_use_is_given_back_once_and_in_time(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool)], at=NOON, most=None)
    redeem(store, code(pool), f"{pool} a")
    with pytest.raises(Stale, match="too long ago"):
        store.reverse(code(pool), redemption_id=None, at=NOON + timedelta(hours=2), within=HOUR)
    back = store.reverse(code(pool), redemption_id=f"{pool} a", at=NOON, within=HOUR)
    again = store.reverse(code(pool), redemption_id=f"{pool} a", at=NOON, within=HOUR)
    assert (back.new, again.new, again.reversed) == (True, False, NOON)
    assert store.find(code(pool)).uses == 0
    with pytest.raises(NotFound):
        store.reverse(code(pool), redemption_id=None, at=NOON, within=HOUR)
    assert redeem(store, code(pool), f"{pool} a").reversed == NOON  # it stays taken back
    redeem(store, code(pool), f"{pool} b")
    assert [each.reversed for each in store.uses_of(code(pool))] == [NOON, None]


def test_what_was_redeemed_free_is_not_issued(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool)], at=NOON, most=None)
    redeem(store, code(pool), f"{pool} a")
    assert store.issue(pool, [("t", "r", "u")], at=NOON) == {}


def test_the_totals_add_up(store: Coupons, pool: str) -> None:
    store.add(pool, [code(pool, n) for n in range(10)], at=NOON, most=None)
    soon, late = NOON + timedelta(hours=1), NOON + timedelta(days=9)
    short = store.issue(pool, [("a", "r", f"u{n}") for n in range(3)], at=NOON, ends=soon)
    store.issue(pool, [("b", "r", f"u{n}") for n in range(4)], at=NOON, ends=late)
    used = sorted(each.code for each in short.values())
    redeem(store, used[0], f"{pool} a")
    redeem(store, used[1], f"{pool} b")
    store.reverse(used[1], redemption_id=None, at=NOON, within=HOUR)
    rows = {row["task"]: row for row in store.totals(soon) if row["pool"] == pool}
    names = ("codes", "free", "issued", "redeemed", "reversed", "expired", "outstanding")
    assert [rows["a"][name] for name in names] == [3, 0, 3, 1, 1, 2, 0]
    assert [rows["b"][name] for name in names] == [4, 0, 4, 0, 0, 0, 4]
    assert [rows[None][name] for name in names] == [3, 3, 0, 0, 0, 0, 0]
    assert store.redeemed_codes(pool) == {used[0]: 1}


def test_of_many_clients_at_once_one_redeems_and_each_gets_a_code_of_her_own(
    store: Coupons, pool: str
) -> None:
    store.add(pool, [code(pool, n) for n in range(20)], at=NOON, most=20)

    def issued(number: int) -> str | None:
        got = store.issue(pool, [("t", "r", f"u{number % 24}")], at=NOON)
        return next((each.code for each in got.values()), None)

    def redeemed(number: int) -> bool:
        try:
            return redeem(store, code(pool, number % 20), f"{pool} {number % 60}").new
        except Stale:
            return False

    with ThreadPoolExecutor(16) as clients:
        told = list(clients.map(issued, range(120)))
        new = list(clients.map(redeemed, range(180)))
    mine = told[:24]
    assert all(mine[number % 24] == each for number, each in enumerate(told))
    codes = [each for each in mine if each is not None]
    assert len(codes) == len(set(codes)) == 20
    assert sum(new) == 20
    assert [len(store.uses_of(code(pool, n))) for n in range(20)] == [1] * 20


def test_an_outage_does_nothing(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    store = Coupons(create_engine(f"sqlite:///{tmp_path / 'empty.db'}"))
    with pytest.raises(Unavailable, match="the store of coupons does not answer"):
        store.find("x")
    with pytest.raises(Unavailable):
        store.issue("p", [("t", "r", "u")], at=NOON)
