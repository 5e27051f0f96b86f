from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import BadInput, NotFound, Unavailable
from realtime.pacing import Budget, Pacing, by_hour
from storage.budgets_lmdb import LmdbBudgets
from storage.online_lmdb import LmdbOnlineStore

DAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class Hands:
    """A clock that is set by hand."""

    at: datetime = DAY + timedelta(hours=6)

    def now(self) -> datetime:
        return self.at


def budget(**changes: Any) -> Budget:
    told = {"name": "coupons", "at_most": 100.0, "price": 2.0, "worth": 4.0, "opens": DAY}
    return Budget(**{**told, "closes": DAY + timedelta(days=1), **changes})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbBudgets]:
    opened = LmdbOnlineStore(tmp_path / "shared", keep=1, hold=1, idle=1)
    opened.ready()
    yield LmdbBudgets(opened)
    opened.close()


@pytest.fixture
def hands() -> Hands:
    return Hands()


def pacing(store: LmdbBudgets, hands: Hands, *budgets: Budget, **more: Any) -> Pacing:
    return Pacing(budgets or (budget(),), store=store, clock=hands, **more)


def test_on_the_path_the_price_is_the_plans() -> None:
    for share in (0.0, 0.3, 1.0):
        assert budget().price_at(100 * share, share, 1.0) == pytest.approx(2.0)


def test_the_price_rises_with_what_is_spent_and_falls_as_more_is_due() -> None:
    """worth / √(100 uses) = 0.4 for each unit off the path."""
    assert budget().price_at(30, 0.2, 1.0) == pytest.approx(2.0 + 4.0)
    assert budget().price_at(30, 0.2, 0.5) == pytest.approx(2.0 + 2.0)
    assert budget().price_at(18, 0.2, 1.0) == pytest.approx(2.0 - 0.8)
    assert budget().price_at(0, 1.0, 1.0) == 0.0
    assert budget(usual=4.0).price_at(30, 0.2, 1.0) == pytest.approx(2.0 + 2.0)


def test_below_a_floor_it_is_paid_to_use_it_and_never_more_than_the_subsidy() -> None:
    floored = budget(at_least=25.0, subsidy=1.0, price=0.0)
    assert floored.price_at(12.5, 0.5, 1.0) == 0.0
    assert floored.price_at(12, 0.5, 1.0) == pytest.approx(-0.5 * 4.0 / 5)
    assert floored.price_at(0, 1.0, 1.0) == -1.0
    assert floored.price_at(25, 1.0, 1.0) == 0.0


def test_what_is_due_follows_the_path() -> None:
    path = budget(path=(1.0, 3.0, 0.0, 4.0))
    shares = [path.share(each / 8) for each in range(9)]
    assert shares == pytest.approx([0, 1 / 16, 1 / 8, 5 / 16, 1 / 2, 1 / 2, 1 / 2, 3 / 4, 1])
    assert (path.share(-1.0), path.share(2.0)) == (0.0, 1.0)


def test_a_decider_sees_what_it_and_others_spent(store: LmdbBudgets, hands: Hands) -> None:
    mine, other = pacing(store, hands), pacing(store, hands)
    assert mine.prices() == {"coupons": 0.0}
    assert mine.spend("coupons", 30, "a")
    assert mine.prices()["coupons"] == pytest.approx(4.0)
    assert other.prices()["coupons"] == pytest.approx(4.0)
    assert other.spend("coupons", 5, "b")
    assert mine.prices()["coupons"] == pytest.approx(4.0)  # what others did is read again after a while
    hands.at += timedelta(milliseconds=50)
    assert mine.prices()["coupons"] == pytest.approx(6.0, abs=0.01)


def test_the_ceiling_holds_and_then_there_is_none_to_be_had(store: LmdbBudgets, hands: Hands) -> None:
    paced = pacing(store, hands)
    assert paced.spend("coupons", 99.5, "a")
    assert not paced.spend("coupons", 0.6, "b")
    assert paced.spend("coupons", 0.5, "c")
    assert paced.spend("coupons", 0.5, "c")
    assert paced.prices() == {"coupons": math.inf}
    assert paced.standing()["coupons"].spent == 100.0


def test_outside_its_time_nothing_is_spent(store: LmdbBudgets, hands: Hands) -> None:
    paced = pacing(store, hands)
    for at in (DAY - timedelta(microseconds=1), DAY + timedelta(days=1)):
        hands.at = at
        assert paced.prices() == {"coupons": math.inf}
        assert not paced.spend("coupons", 1, "a")
    hands.at = DAY
    assert paced.spend("coupons", 1, "a")


def test_another_day_is_another_budget(store: LmdbBudgets, hands: Hands) -> None:
    assert pacing(store, hands).spend("coupons", 100, "a")
    hands.at += timedelta(days=1)
    later = budget(opens=DAY + timedelta(days=1), closes=DAY + timedelta(days=2))
    assert pacing(store, hands, later).spend("coupons", 100, "a")


def test_the_path_can_be_followed_by_traffic(store: LmdbBudgets, hands: Hands) -> None:
    """All workers count together; the clock does not matter."""
    one, two = (pacing(store, hands, budget(expected=200), refresh=timedelta(0)) for _ in range(2))
    for _ in range(25):
        one.prices()
        two.prices()
    assert one.standing()["coupons"].due == pytest.approx(25.0, abs=1)
    assert two.standing()["coupons"].due == pytest.approx(25.0, abs=1)


def test_while_the_store_is_down_there_is_nothing_to_be_had(
    tmp_path: Path, hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    online = LmdbOnlineStore(tmp_path / "shared", keep=1, hold=1, idle=1)
    online.ready()
    paced = pacing(LmdbBudgets(online), hands, budget(expected=10))
    assert paced.prices() == {"coupons": 0.0}
    online.close()
    hands.at += timedelta(seconds=1)
    assert paced.prices() == paced.prices() == {"coupons": math.inf}
    assert caplog.text.count("budgets count as spent") == 1
    with pytest.raises(Unavailable):
        paced.spend("coupons", 1, "a")
    again = LmdbOnlineStore(tmp_path / "shared", keep=1, hold=1, idle=1)
    online.env = again.env  # the same store comes back
    assert paced.prices() == {"coupons": math.inf}  # not asked again at once
    hands.at += timedelta(seconds=1)
    assert paced.prices()["coupons"] < math.inf
    assert paced.standing()["coupons"].due == pytest.approx(50)  # and nobody who came meanwhile is lost
    again.close()


def test_what_others_give_back_is_seen_and_the_ceiling_opens_again(store: LmdbBudgets, hands: Hands) -> None:
    ours, theirs = pacing(store, hands), pacing(store, hands)
    for number in range(100):
        assert theirs.spend("coupons", 1.0, f"{number}")
    hands.at += timedelta(seconds=1)
    assert ours.prices()["coupons"] == math.inf
    assert not ours.spend("coupons", 1.0, "ours")
    theirs.give_back("coupons", 1.0, "7")
    theirs.give_back("coupons", 1.0, "7")
    theirs.give_back("coupons", 1.0, "ours")  # was never spent
    assert theirs.prices()["coupons"] < math.inf
    hands.at += timedelta(seconds=1)
    assert ours.prices()["coupons"] < math.inf
    assert ours.spend("coupons", 1.0, "ours")
    assert not theirs.spend("coupons", 1.0, "7")
    with pytest.raises(NotFound):
        ours.give_back("mails", 1.0, "7")


def test_history_makes_a_path() -> None:
    spent = [(DAY - timedelta(days=1) + timedelta(hours=hour, minutes=1), 1.0) for hour in (8, 8, 8, 20)]
    path = by_hour(spent, budget())
    assert sum(path) == pytest.approx(1.0)
    assert path[8] == pytest.approx(0.75 * 0.99 + 0.01 / 24)
    assert path[20] == pytest.approx(0.25 * 0.99 + 0.01 / 24)
    assert path[3] == pytest.approx(0.01 / 24)
    assert budget(path=path).share(9 / 24) == pytest.approx(0.75, abs=0.01)
    assert by_hour([], budget()) == pytest.approx((1 / 24,) * 24)
    with pytest.raises(BadInput, match="coupons: amount = nan"):
        by_hour([(DAY, math.nan)], budget())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"at_most": -1.0}, "at_most"),
        ({"at_most": math.nan}, "at_most"),
        ({"at_most": 1e10}, "at_most"),
        ({"price": -0.1}, "price"),
        ({"price": math.inf}, "price"),
        ({"worth": 0.0}, "worth"),
        ({"usual": 0.0}, "usual"),
        ({"at_least": 101.0}, "at_least"),
        ({"at_least": 10.0}, "subsidy"),
        ({"expected": 0}, "expected"),
        ({"closes": DAY}, "closes"),
        ({"opens": datetime(2026, 3, 2)}, "opens"),  # noqa: DTZ001 - that is what is refused
        ({"path": ()}, "path"),
        ({"path": (0.0, 0.0)}, "path"),
        ({"path": (1.0, -1.0, 2.0)}, "path"),
        ({"path": (math.nan,)}, "path"),
    ],
)
def test_a_budget_of_nonsense_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        budget(**changes)
    assert caught.value.field == field


def test_spending_of_nonsense_is_refused(store: LmdbBudgets, hands: Hands) -> None:
    paced = pacing(store, hands)
    with pytest.raises(NotFound, match="did you mean 'coupons'"):
        paced.spend("coupon", 1, "a")
    for amount in (0.0, -1.0, math.nan, math.inf, 1e-9):
        with pytest.raises(BadInput) as caught:
            paced.spend("coupons", amount, "a")
        assert caught.value.field == "amount"
    with pytest.raises(BadInput, match="is there twice"):
        pacing(store, hands, budget(), budget())
    with pytest.raises(BadInput, match="stiffness"):
        pacing(store, hands, stiffness=0.0)
