from __future__ import annotations

import polars as pl

from insight.cell_profile import derive_profiles

LABELS = {"spend": "predicted spend", "kids": "kids", "per_week": "baskets a week"}


def profiles(sizes: dict[str, int], **columns: list[float | None]) -> dict[str, dict[str, object]]:
    names = [name for name, size in sizes.items() for _ in range(size)]
    count = len(names)
    cells = pl.DataFrame({"user": range(count), "cell": names}).with_columns(
        stage=pl.lit("active"), cluster=pl.lit("tea"), tier=pl.lit("low")
    )
    plain = {c: [1.0] * count for c in ("spend", "per_week", "basket", "rhythm_days", "recency_days")}
    traits = pl.DataFrame({"user": range(count), **plain, **columns})
    told = {column: words for column, words in LABELS.items() if column in traits.columns}
    return {row["cell"]: row for row in derive_profiles(cells, traits, told).iter_rows(named=True)}


def test_what_sets_a_cell_apart_is_a_ratio_to_the_rest_strongest_first() -> None:
    spend = [30.0, 34.0] * 25 + [10.0, 12.0] * 25
    kids = [2.0, 1.0] * 25 + [0.0, 2.0] * 25
    found = profiles({"rich": 50, "rest": 50}, spend=spend, kids=kids)
    assert found["rich"]["apart"] == "predicted spend 2.9x; kids 1.5x"
    assert found["rest"]["apart"] == "predicted spend 0.34x; kids 0.67x"
    assert (found["rich"]["size"], found["rich"]["share"]) == (50, 0.5)


def test_one_odd_user_is_not_a_story() -> None:
    kids = [1.3, *[0.0, 1.0] * 50]
    found = profiles({"one": 1, "rest": 100}, kids=kids)
    assert found["one"]["apart"] == "close to everybody else"
    many = profiles({"many": 60, "rest": 100}, kids=[1.3] * 60 + [0.0, 1.0] * 50)
    assert many["many"]["apart"] == "kids 2.6x"


def test_the_unknown_does_not_count() -> None:
    kids = [None] * 20 + [3.0] * 30 + [1.0] * 30 + [None] * 20
    assert profiles({"a": 50, "b": 50}, kids=kids)["a"]["apart"] == "kids 3.0x"


def test_the_sentence_says_who_how_many_and_how_late() -> None:
    found = profiles(
        {"late": 30, "rest": 70}, rhythm_days=[6.0] * 30 + [3.0] * 70, recency_days=[31.0] * 30 + [1.0] * 70
    )
    sentence = str(found["late"]["description"])
    assert "30 users (30.0%)" in sentence
    assert "usually every 6 days, last bought 31 days ago" in sentence


def test_one_cell_of_everybody_has_no_rest() -> None:
    assert profiles({"all": 10}, kids=[1.0, 2.0] * 5)["all"]["apart"] == "close to everybody else"
