"""Features by hand, and nothing after the instant in any of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import response_rows
from models.features import offer_features, user_features
from models.history import History

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=70)
WINDOWS = ("14d", "28d")
RECIPE = ModelRecipe(name="response", predicts="response", history=WINDOWS)
SOON = timedelta(microseconds=1)


def frame(rows: list[dict[str, Any]], at: str = "at") -> pl.DataFrame:
    return pl.DataFrame(rows).with_columns(pl.col(at).cast(pl.Datetime("us", "UTC")))


def buy(user: str, days: float, amount: float, event: int, item: int = 1, discount: float = 0.0) -> Any:
    at = BEGIN + timedelta(days=days)
    return {
        "user": user,
        "at": at,
        "event_id": event,
        "amount": amount,
        "discount": discount,
        "item": item,
        "place": "north",
    }


def contact(user: str, days: float, offer: int, event: int, **traits: object) -> dict[str, Any]:
    at = BEGIN + timedelta(days=days)
    return {"user": user, "at": at, "event_id": event, "offer": offer, **traits}


PURCHASES = [
    buy("a", 0, 10.0, 1, item=1),
    buy("a", 50, 6.0, 2, item=2),
    buy("a", 50, 4.0, 2, item=3, discount=2.0),  # the second line of one basket
    buy("a", 60, 20.0, 3, item=2),
    buy("b", 56, 8.0, 4, item=1),  # exactly as old as the short window is long
    buy("b", 42, 5.0, 5, item=3),  # exactly as old as the long window is long
]
TREATMENTS = [
    contact("a", 20, 100, 1, percent=10),
    contact("a", 40, 101, 2, percent=20),
    contact("b", 40, 101, 3, percent=20),
]
RESPONSES = [contact("a", 45, 101, 1)]
ITEMS = pl.DataFrame({"offer": [100, 101, 101], "item": [1, 2, 3]})


def history(
    purchases: list[dict[str, Any]] = PURCHASES,
    treatments: list[dict[str, Any]] = TREATMENTS,
    responses: list[dict[str, Any]] = RESPONSES,
) -> History:
    return History(
        purchases=frame(purchases),
        treatments=frame(treatments),
        responses=frame(responses),
        offer_items=ITEMS,
    )


def rows_of(known: History) -> pl.DataFrame:
    targets = pl.DataFrame({"user": ["a", "b", "b"], "offer": [101, 100, 101]})
    offers = pl.DataFrame({"offer": [100, 101], "percent": [10, 20]})
    return response_rows(known, targets, offers, AS_OF, RECIPE)


def test_user_features_by_hand() -> None:
    found = {row["user"]: row for row in user_features(history(), AS_OF, WINDOWS).iter_rows(named=True)}
    a = found["a"]
    assert a["recency_days"] == 10
    assert a["tenure_share"] == 1
    assert a["purchases_lived"] == pytest.approx(3 / (70 / 7))
    assert (a["item_distinct"], a["place_distinct"]) == (3, 1)
    # per week of the window: 14 days are 2 weeks, 28 are 4; the basket of two lines counts once
    assert (a["purchases_14d"], a["purchases_28d"]) == (0.5, 0.5)
    assert (a["amount_14d"], a["amount_28d"]) == (10, 7.5)
    assert (a["discount_14d"], a["discount_28d"]) == (0, 0.5)
    assert (a["discount_lines_14d"], a["discount_lines_28d"]) == (0, 0.25)
    assert a["discount_share_28d"] == pytest.approx(0.5 / (7.5 + 0.5 + 0.1))
    assert a["basket_28d"] == pytest.approx(15)
    # purchase days lie 10 and 50 days apart
    assert a["gap_mean_days"] == 30
    assert a["gap_spread_days"] == pytest.approx(800**0.5)
    assert a["lateness"] == pytest.approx(10 / 30)
    assert (a["treatments_offers"], a["treatments_count"], a["treatments_recency_days"]) == (2, 2, 30)
    assert (a["responses_offers"], a["responses_count"], a["responses_recency_days"]) == (1, 1, 25)
    assert a["responses_share"] == pytest.approx(1.1 / 3)
    b = found["b"]
    # windows are half-open: what is exactly as old as the window is long is outside
    assert (b["amount_14d"], b["amount_28d"]) == (0, 2)
    assert b["basket_14d"] is None
    assert (b["responses_offers"], b["responses_share"]) == (0, pytest.approx(0.1 / 2))


def test_sums_are_per_week_of_what_the_records_cover() -> None:
    young = user_features(history(), BEGIN + timedelta(days=7), WINDOWS)
    # one purchase of 10 in the one week on record, not in the two or four of the window
    assert young.select("amount_14d", "amount_28d").row(0) == (10, 10)


def test_offer_features_by_hand() -> None:
    found = offer_features(history(), [100, 101], AS_OF, "28d")
    # the first purchase of item 1 by `a` is too old; of item 3 by `b` exactly too old
    assert found.rows() == [("a", 101, 30.0, 3, 2), ("b", 100, 8.0, 1, 1)]


def test_offer_features_without_items_are_an_empty_frame_of_the_same_columns() -> None:
    known = history()
    bare = History(purchases=known.purchases, treatments=known.treatments, responses=known.responses)
    empty = offer_features(bare, [100], AS_OF, "28d")
    assert empty.schema == offer_features(known, [100], AS_OF, "28d").schema
    assert empty.is_empty()


def test_response_rows_join_people_affinity_and_traits() -> None:
    rows = rows_of(history())
    assert rows.select("user", "offer", "trait_percent", "offer_items").rows() == [
        ("a", 101, 20.0, 2),
        ("b", 100, 10.0, 1),
        ("b", 101, 20.0, 2),
    ]
    assert rows["affinity_amount"].to_list() == [30, 8, 0]
    assert rows["affinity_share"].to_list() == pytest.approx([30 / 7.6, 8 / 2.1, 0])
    assert rows["at"].unique().to_list() == [AS_OF]


def test_a_target_without_a_purchase_stays_with_missing_features() -> None:
    offers = pl.DataFrame({"offer": [100], "percent": [10]})
    targets = pl.DataFrame({"user": ["z"], "offer": [100]})
    rows = response_rows(history(), targets, offers, AS_OF, RECIPE)
    assert rows.select("recency_days", "affinity_amount").rows() == [(None, 0.0)]


@pytest.mark.parametrize(
    "later",
    [
        {"purchases": [*PURCHASES, buy("a", 0, 99.0, 9) | {"at": AS_OF + SOON}]},
        {"treatments": [*TREATMENTS, contact("a", 0, 102, 9, percent=30) | {"at": AS_OF + SOON}]},
        {"responses": [*RESPONSES, contact("b", 0, 101, 9) | {"at": AS_OF + SOON}]},
    ],
    ids=["purchase", "treatment", "response"],
)
def test_a_microsecond_later_changes_nothing(later: dict[str, Any]) -> None:
    before, after = history(), history(**later)
    assert_frame_equal(user_features(before, AS_OF, WINDOWS), user_features(after, AS_OF, WINDOWS))
    for known in (before, after):
        assert user_features(known, AS_OF, WINDOWS)["user"].to_list() == ["a", "b"]
    assert_frame_equal(
        offer_features(before, [100, 101], AS_OF, "28d"), offer_features(after, [100, 101], AS_OF, "28d")
    )
    assert_frame_equal(rows_of(before), rows_of(after))


def test_a_purchase_at_the_instant_counts_and_a_contact_does_not() -> None:
    purchases = [*PURCHASES, buy("a", 70, 99.0, 9)]
    found = user_features(history(purchases=purchases), AS_OF, WINDOWS)
    assert found.filter(user="a")["recency_days"].item() == 0
    for name, extra in (
        ("treatments", contact("a", 70, 102, 9, percent=1)),
        ("responses", contact("b", 70, 101, 9)),
    ):
        same = history(**{name: [*(TREATMENTS if name == "treatments" else RESPONSES), extra]})
        assert_frame_equal(user_features(same, AS_OF, WINDOWS), user_features(history(), AS_OF, WINDOWS))


def test_the_order_of_rows_means_nothing() -> None:
    known = history(PURCHASES[::-1], TREATMENTS[::-1], RESPONSES[::-1])
    assert_frame_equal(user_features(known, AS_OF, WINDOWS), user_features(history(), AS_OF, WINDOWS))
    assert_frame_equal(
        offer_features(known, [101, 100], AS_OF, "28d"), offer_features(history(), [100, 101], AS_OF, "28d")
    )
    assert_frame_equal(rows_of(known), rows_of(history()))


def test_history_names_what_is_missing_from_an_event() -> None:
    with pytest.raises(BadInput, match="event purchase: amount: is missing from the event"):
        History(purchases=frame(PURCHASES).drop("amount"))
    with pytest.raises(BadInput, match="event treatments: offer: is missing"):
        History(purchases=frame(PURCHASES), treatments=frame(TREATMENTS).drop("offer"))
    with pytest.raises(BadInput, match="is not a time in UTC"):
        History(purchases=pl.DataFrame(PURCHASES).with_columns(pl.col("at").dt.replace_time_zone(None)))
    with pytest.raises(BadInput, match="no event has role treatment"):
        History(purchases=frame(PURCHASES)).contacts()
    with pytest.raises(BadInput, match="has no purchases"):
        _ = History(purchases=frame(PURCHASES).clear()).begin


def test_the_fingerprint_of_a_history_follows_every_frame() -> None:
    known = history()
    others = [
        history(purchases=[*PURCHASES, buy("a", 1, 1.0, 9)]),
        history(treatments=TREATMENTS[:2]),
        history(responses=[contact("a", 46, 101, 1)]),
        History(purchases=known.purchases, treatments=known.treatments, responses=known.responses),
    ]
    assert known.fingerprint() == history().fingerprint()
    assert len({known.fingerprint(), *(other.fingerprint() for other in others)}) == 5
