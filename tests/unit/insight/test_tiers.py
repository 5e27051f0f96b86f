from __future__ import annotations

import polars as pl
import pytest

from insight.tiers import derive_tiers
from kernel.errors import BadInput
from kernel.people import Tier

SHARES = {Tier.TOP: 0.1, Tier.HIGH: 0.2, Tier.MIDDLE: 0.3, Tier.LOW: 0.4}


def tiers(
    spend: dict[str, float | None], others: tuple[str, ...] = (), shares: dict[Tier, float] = SHARES
) -> dict[str, str]:
    buyers = pl.DataFrame({"user": list(spend)}, schema={"user": pl.String})
    users = pl.DataFrame({"user": [*spend, *others]})
    predicted = pl.DataFrame(
        {"user": list(spend), "spend": list(spend.values())}, schema={"user": pl.String, "spend": pl.Float64}
    )
    found = derive_tiers(users=users, buyers=buyers, spend=predicted, shares=shares)
    return dict(found.select("user", "tier").rows())


def test_shares_are_of_buyers_by_falling_spend() -> None:
    found = tiers({f"u{i}": float(i) for i in range(10)}, others=("never1", "never2", "never3"))
    assert [found[f"u{i}"] for i in range(10)] == ["low"] * 4 + ["middle"] * 3 + ["high"] * 2 + ["top"]
    assert {found[f"never{i}"] for i in (1, 2, 3)} == {"low"}


def test_equal_spends_share_a_tier() -> None:
    found = tiers({**{f"zero{i}": 0.0 for i in range(7)}, "a": 5.0, "b": 5.0, "c": 9.0})
    assert len({found[f"zero{i}"] for i in range(7)}) == 1
    assert found["a"] == found["b"] == "high"
    assert found["c"] == "top"


def test_the_order_of_the_shares_does_not_matter() -> None:
    spend: dict[str, float | None] = {f"u{i}": float(i) for i in range(20)}
    assert tiers(spend) == tiers(spend, shares=dict(reversed(SHARES.items())))


def test_nobody_bought() -> None:
    assert tiers({}, others=("a", "b")) == {"a": "low", "b": "low"}


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf")])
def test_a_buyer_without_a_number_is_named(wrong: float | None) -> None:
    with pytest.raises(BadInput, match=r"spend: user = 'b': has bought and has no predicted spend"):
        tiers({"a": 1.0, "b": wrong})


def test_two_predictions_are_an_error() -> None:
    users = pl.DataFrame({"user": ["a"]})
    with pytest.raises(BadInput, match="'a': has two predictions"):
        derive_tiers(
            users=users,
            buyers=users,
            spend=pl.DataFrame({"user": ["a", "a"], "spend": [1.0, 2.0]}),
            shares=SHARES,
        )


@pytest.mark.parametrize("shares", [{Tier.TOP: 0.5, Tier.LOW: 0.4}, {Tier.TOP: 1.2, Tier.LOW: -0.2}])
def test_shares_that_are_none(shares: dict[Tier, float]) -> None:
    with pytest.raises(BadInput, match="tiers"):
        tiers({"a": 1.0}, shares=shares)
