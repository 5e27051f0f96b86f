"""Workers that share a budget: whatever their order, one ceiling and one price."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.clock import FixedClock
from realtime.pacing import Budget, Pacing
from storage.budgets_lmdb import LmdbBudgets
from storage.online_lmdb import LmdbOnlineStore

DAY = datetime(2026, 3, 2, tzinfo=UTC)
CLOCK = FixedClock(at=DAY + timedelta(hours=12))
WISHES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.25, 1.0, 1.5, 7.0]), st.integers(0, 25)), max_size=40
)


def budget(at_most: float) -> Budget:
    return Budget(
        name="coupons", at_most=at_most, price=1.0, worth=2.0, opens=DAY, closes=DAY + timedelta(days=1),
        at_least=at_most / 4, subsidy=0.5,
    )  # fmt: skip


def granted(wishes: list[tuple[int, float, int]], at_most: float) -> tuple[dict[int, float], list[float]]:
    """What was spent by id, and the price as each of three workers sees it in the end."""
    with TemporaryDirectory() as folder:
        online = LmdbOnlineStore(Path(folder) / "shared", keep=1, hold=1, idle=1)
        online.ready()
        store = LmdbBudgets(online)
        workers = [
            Pacing([budget(at_most)], store=store, clock=CLOCK, refresh=timedelta(0)) for _ in range(3)
        ]
        spent: dict[int, float] = {}
        for worker, amount, number in wishes:
            if workers[worker].spend("coupons", amount, f"{number}"):
                spent.setdefault(number, amount)
            prices = [each.prices()["coupons"] for each in workers]
            assert len(set(prices)) == 1
            assert prices[0] >= -0.5
        standing = workers[0].standing()["coupons"]
        assert standing.spent == math.fsum(spent.values()) <= at_most
        prices = [each.prices()["coupons"] for each in workers]
        online.close()
        return spent, prices


@settings(max_examples=20, deadline=None)
@given(wishes=WISHES, at_most=st.sampled_from([0.0, 1.0, 12.5, 60.0]))
def test_never_more_than_there_is_and_one_price_for_all(
    wishes: list[tuple[int, float, int]], at_most: float
) -> None:
    granted(wishes, at_most)


@settings(max_examples=20, deadline=None)
@given(wishes=WISHES, data=st.data())
def test_in_any_order_the_price_is_the_same(
    wishes: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    """As long as there is enough for all, and an id means one amount."""
    meant = [(worker, (0.25, 1.5)[number % 2], number) for worker, _, number in wishes]
    spent, prices = granted(meant, 60.0)
    again, others = granted(data.draw(st.permutations(meant)), 60.0)
    assert spent == again
    assert prices == others
