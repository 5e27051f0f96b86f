"""Labels come from the time after the features and never from after the instant of training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import Dataset, horizon_dataset, matrix, response_dataset
from models.history import History

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
USERS = 30
RESPONSE = ModelRecipe(name="response", predicts="response", within="20d", matured="10d", history=("28d",))
SPEND = ModelRecipe(name="spend", predicts="spend", within="20d", every="10d", history=("28d",))
CHURN = ModelRecipe(name="churn", predicts="churn", within="20d", every="10d", history=("28d",))


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def events(rows: Sequence[tuple[int, float, float]], value: str) -> pl.DataFrame:
    """(user, day, value) each."""
    return pl.DataFrame(
        {
            "user": [user for user, _, _ in rows],
            "at": pl.Series([day(at) for _, at, _ in rows], dtype=pl.Datetime("us", "UTC")),
            "event_id": range(len(rows)),
            value: [last for _, _, last in rows],
        }
    )


def purchases() -> pl.DataFrame:
    """Every user on day 0; even ones every ten days and a half, with the day as the amount."""
    again = [(user, at, float(at)) for user in range(0, USERS, 2) for at in np.arange(10.5, 100, 10)]
    return events([(user, 0.0, 1.0) for user in range(USERS)] + again, "amount")


def history(extra_responses: Sequence[tuple[int, float, float]] | None = None) -> History:
    received = [(user, at, offer) for offer, at in ((1, 40.0), (2, 60.0), (3, 80.0)) for user in range(USERS)]
    # two fifths answer within five days, one fifth of offer 1 only after its window
    answered = [(user, at + 5, offer) for user, at, offer in received if user % 5 < 2]
    late = [(user, 40 + 20.5, 1) for user in range(USERS) if user % 5 == 4]
    return History(
        purchases=purchases(),
        treatments=events(received, "offer").cast({"offer": pl.Int64}),
        responses=events([*answered, *late, *(extra_responses or [])], "offer").cast({"offer": pl.Int64}),
    )


def test_responses_count_from_the_start_of_the_offer_to_the_end_of_its_window() -> None:
    data = response_dataset(history(), day(89), RESPONSE)
    assert data.frame["offer"].unique().sort().to_list() == [1, 2]  # offer 3 is not yet ten days old
    assert data.frame.height == 2 * USERS
    assert data.frame.filter(pl.col("label") == 1)["user"].unique().sort().to_list() == [
        user for user in range(USERS) if user % 5 < 2
    ]
    assert data.frame.select("offer", "at").unique().sort("offer").rows() == [(1, day(40)), (2, day(60))]


def test_an_offer_matures_at_exactly_its_age() -> None:
    assert 3 in response_dataset(history(), day(90), RESPONSE).frame["offer"]
    assert 3 not in response_dataset(history(), day(90) - timedelta(microseconds=1), RESPONSE).frame["offer"]


def test_what_happens_after_the_instant_is_never_a_label() -> None:
    as_of = day(72)
    later = [(user, 72.001, 2) for user in range(USERS)]
    assert_frame_equal(
        response_dataset(history(), as_of, RESPONSE).frame,
        response_dataset(history(later), as_of, RESPONSE).frame,
    )
    # the same responses a little earlier are labels: the test above can fail
    earlier = response_dataset(history([(user, 71.9, 2) for user in range(USERS)]), as_of, RESPONSE)
    assert earlier.frame.filter(offer=2)["label"].sum() == USERS


def test_features_of_an_offer_know_nothing_after_it_began() -> None:
    data = response_dataset(history(), day(89), RESPONSE)
    first = data.frame.filter(offer=1)
    assert first["treatments_offers"].sum() == 0
    assert first["responses_offers"].sum() == 0
    second = data.frame.filter(offer=2)
    assert second["treatments_offers"].unique().to_list() == [1]


@pytest.mark.parametrize("recipe", [SPEND, CHURN])
def test_horizon_labels_are_what_happened_in_the_window(recipe: ModelRecipe) -> None:
    as_of = day(90)
    frame = horizon_dataset(history(), as_of, recipe).frame
    # back from twenty days before by ten, as long as twenty days lie before
    assert frame["at"].unique().sort().to_list() == [day(at) for at in range(20, 71, 10)]
    even, odd = (frame.filter(pl.col("user") % 2 == rest, at=day(70)) for rest in (0, 1))
    if recipe is SPEND:
        assert even["label"].unique().to_list() == [70.5 + 80.5]
        assert odd["label"].unique().to_list() == [0]
    else:
        assert (even["label"].sum(), odd["label"].sum()) == (0, odd.height)


def test_purchases_after_the_instant_are_in_no_horizon() -> None:
    known = history()
    more = events([(user, 90.001, 1e6) for user in range(USERS)], "amount")
    longer = History(purchases=pl.concat([known.purchases, more]))
    shorter = History(purchases=known.purchases)
    for recipe in (SPEND, CHURN):
        assert_frame_equal(
            horizon_dataset(shorter, day(90), recipe).frame, horizon_dataset(longer, day(90), recipe).frame
        )


def test_a_purchase_at_the_instant_is_a_feature_and_no_label() -> None:
    edge = events([(1, 70.0, 500.0)], "amount")
    known = History(purchases=pl.concat([purchases(), edge]))
    row = horizon_dataset(known, day(90), SPEND).frame.filter(user=1, at=day(70))
    assert (row["label"].item(), row["recency_days"].item()) == (0, 0)
    earlier = horizon_dataset(known, day(90), SPEND).frame.filter(user=1, at=day(50))
    assert earlier["label"].item() == 500  # the far edge of a window belongs to it


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9, 1.0])
def test_split_by_time_never_mixes(share: float) -> None:
    data = horizon_dataset(history(), day(90), SPEND)
    early, late = data.split(share)
    assert early.frame["at"].max() < late.frame["at"].min()  # type: ignore[operator]
    assert early.frame.height + late.frame.height == data.frame.height
    assert early.frame.height > 0
    if share < 0.9:
        assert late.frame.height >= share * data.frame.height


def test_one_instant_cannot_be_split() -> None:
    data = horizon_dataset(history(), day(90), SPEND)
    one = Dataset(frame=data.frame.filter(at=day(70)), as_of=data.as_of)
    with pytest.raises(BadInput, match="cannot be split by time"):
        one.split(0.25)


def test_too_little_is_said_in_a_sentence() -> None:
    known = history()
    with pytest.raises(BadInput, match="has no offers old enough"):
        response_dataset(known, day(45), RESPONSE)
    with pytest.raises(BadInput, match="has 30 examples; 50 are needed"):
        response_dataset(known, day(55), RESPONSE)
    with pytest.raises(BadInput, match=r"spend needs twice 20d of purchases"):
        horizon_dataset(known, day(39), SPEND)
    silent = History(
        purchases=known.purchases, treatments=known.treatments, responses=known.contacts()[1].clear()
    )
    with pytest.raises(BadInput, match="has 0 of 60 positive; 10 of each kind are needed"):
        response_dataset(silent, day(89), RESPONSE)
    everyone = [(user, at + 1, offer) for offer, at in ((1, 40.0), (2, 60.0)) for user in range(USERS)]
    with pytest.raises(BadInput, match="has 60 of 60 positive"):
        response_dataset(history(everyone), day(89), RESPONSE)


def test_matrix_has_nan_for_missing_and_names_what_is_not_there() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [True, False]})
    np.testing.assert_array_equal(matrix(frame, ["b", "a"]), [[1, 1], [0, np.nan]])
    with pytest.raises(BadInput, match="c: is a feature of the model and missing"):
        matrix(frame, ["c"])


def test_keys_are_no_features() -> None:
    data = response_dataset(history(), day(89), RESPONSE)
    assert not {"user", "offer", "at", "label"} & set(data.features)
    assert data.matrix(data.features).shape == (60, len(data.features))
    assert data.labels.dtype == np.float64
