"""What the next purchase of a user is expected to come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models.api import History, expected_baskets

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = timedelta(days=56)


def history(rows: list[tuple[int, float, int, float]]) -> History:
    """user, days ago, event, amount."""
    frame = pl.DataFrame(rows, schema=["user", "ago", "event_id", "amount"], orient="row")
    at = (pl.lit(NOW) - pl.duration(hours=24 * pl.col("ago"))).cast(pl.Datetime("us", "UTC")).alias("at")
    return History(purchases=frame.select("user", at, "event_id", "amount"))


def test_lines_of_one_purchase_are_one_basket_and_old_or_later_ones_do_not_count() -> None:
    known = history(
        [(1, 1, 1, 4.0), (1, 1, 1, 6.0), (1, 60, 2, 90.0), (1, -1, 3, 90.0), (2, 2, 4, 10.0), (2, 3, 5, 10.0)]
    )
    found = expected_baskets(known, NOW, WINDOW)
    assert found.users.rows() == [(1, 10.0), (2, 10.0)]
    assert found.mean == 10.0


def test_a_regular_is_believed_and_one_purchase_hardly() -> None:
    rng = np.random.default_rng(7)
    own, rows, event = rng.normal(50, 20, 400), [], 0
    for user, mean in enumerate(own):
        for _ in range(1 if user % 2 else 40):
            event += 1
            rows.append((user, 5, event, float(mean + rng.normal(0, 40))))
    found = expected_baskets(history(rows), NOW, WINDOW)
    told = found.users.sort("user")["basket"].to_numpy()
    seen = pl.DataFrame(rows, schema=["user", "ago", "event", "amount"], orient="row")
    means = seen.group_by("user").agg(pl.col("amount").mean()).sort("user")["amount"].to_numpy()
    # planted: k = 40² / 20² = 4 purchases
    kept = (told - found.mean) / (means - found.mean)
    assert kept[1::2] == pytest.approx(1 / (1 + 4), abs=0.07)
    assert kept[::2] == pytest.approx(40 / (40 + 4), abs=0.04)
    assert np.square(told - own).mean() < np.square(means - own).mean()


def test_users_who_differ_by_chance_alone_are_all_expected_to_spend_the_same() -> None:
    turns = [(user, turn) for user in range(9) for turn in (0, 1)]
    known = history([(user, 1, 2 * user + turn, 10.0 * (1 + turn)) for user, turn in turns])
    found = expected_baskets(known, NOW, WINDOW)
    assert found.users["basket"].unique().to_list() == [15.0]


def test_where_nobody_bought_nothing_is_expected() -> None:
    found = expected_baskets(history([(1, 90, 1, 5.0)]), NOW, WINDOW)
    assert found.users.is_empty()
    assert found.users.columns == ["user", "basket"]
    assert found.mean == 0.0
