"""Declared features: what is refused, what columns are called, labels that are settled once, shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernel.definitions import parse
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.datasets import horizon_dataset
from models.feature_batch import derive, derive_at
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts
from models.feature_scale import sink_features
from models.feature_settle import settle
from models.features import definition_of, recipe_features, settled_recipe
from models.history import History

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
NOW = BEGIN + timedelta(days=100)
ORDER: dict[str, Any] = {"event": "order"}


def declared(*features: dict[str, Any], **more: Any) -> FeatureSet:
    return parse(FeatureSet, {"name": "mine", "features": list(features), **more}, "features mine")


def lines(users: int = 40) -> pl.DataFrame:
    """Each user every (number + 1) days, oldest first; tea, but milk for the odd ones."""
    rows = [
        {
            "user": user,
            "at": BEGIN + timedelta(days=day),
            "event_id": 1000 * user + day,
            "amount": float(day) + 0.1,
            "kind": "milk" if user % 2 else "tea",
        }
        for user in range(users)
        for day in range(0, 120, user + 1)
    ]
    return pl.DataFrame(rows).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


def facts(frame: pl.DataFrame | None = None, fields: pl.DataFrame | None = None) -> Facts:
    known = lines() if frame is None else frame
    return Facts(events={"order": known.lazy()}, fields=None if fields is None else fields.lazy())


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({**ORDER}, "is no feature: it says none of agg"),
        ({**ORDER, "agg": "sum"}, "agg sum needs a field in of"),
        ({**ORDER, "agg": "count", "of": "amount"}, "agg count takes no of"),
        ({**ORDER, "agg": "mean", "of": "amount", "per": "week"}, "per goes with count"),
        ({**ORDER, "agg": "count", "within": "7d", "per": "week of life"}, "goes without within"),
        ({**ORDER, "agg": "count", "labels": ["tea"]}, "need a field in by"),
        ({**ORDER, "agg": "count", "within": "7"}, "is not a window"),
        ({**ORDER, "agg": "lines", "where": {"amount": {}}}, "compares with nothing"),
        ({"ratio": "a", "over": "b"}, "ratio needs 'a', which is no feature before it"),
        ({**ORDER, "agg": "count", "surprise": 1}, "is not a known field here"),
        ({**ORDER, "agg": "count", "name": "label"}, "is the name of two columns"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(feature: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        declared(feature)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(BadInput, match="'n' is the name of two columns"):
        declared({**ORDER, "agg": "count", "name": "n"}, {**ORDER, "since": "last", "name": "n"})


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({"event": "visit", "agg": "count"}, "unknown event"),
        ({**ORDER, "agg": "sum", "of": "amuont"}, "did you mean 'amount'"),
        ({**ORDER, "agg": "sum", "of": "kind"}, r"order\.kind: is String, not a number"),
        ({**ORDER, "agg": "count", "where": {"kind": 3}}, "which no such label is"),
        ({**ORDER, "agg": "count", "where": {"kind": {"gt": 1}}}, "compared with a number"),
        ({"field": "user.age", "static": True}, "unknown field"),
        ({**ORDER, "agg": "count", "by": "kind"}, "labels that are still to be found"),
    ],
)
def test_what_the_data_does_not_have_is_named(feature: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        derive(declared(feature), facts(), NOW)


def test_a_time_of_hearing_must_be_a_time() -> None:
    with pytest.raises(BadInput, match="is not a time in UTC but Float64"):
        derive(declared({**ORDER, "agg": "count"}, known_at={"order": "amount"}), facts(), NOW)


def test_the_fingerprint_follows_the_meaning_and_not_the_name() -> None:
    one = declared({**ORDER, "agg": "count"})
    assert one.fingerprint == one.model_copy(update={"name": "other", "label": "Other"}).fingerprint
    others = [
        declared({**ORDER, "agg": "lines"}),
        declared({**ORDER, "agg": "count"}, version=2),
        declared({**ORDER, "agg": "count"}, known_at={"order": "heard"}),
    ]
    assert len({one.fingerprint, *(each.fingerprint for each in others)}) == 4


def test_labels_are_the_most_frequent_by_then_and_stay() -> None:
    mix = declared({**ORDER, "agg": "count", "by": "kind", "top": 1, "share": True, "name": "n"})
    settled = settle(mix, facts(), NOW)
    assert settled.columns == ("n_kind.tea",)
    assert settle(settled, facts(lines().with_columns(kind=pl.lit("new"))), NOW) == settled
    # only milk was known on the first user's second day if she is left out
    odd = lines().filter(pl.col("user") % 2 == 1)
    assert settle(mix, facts(odd), NOW).columns == ("n_kind.milk",)
    with pytest.raises(BadInput, match=r"order\.kind: has no value in any line known by then"):
        settle(mix, facts(), BEGIN - timedelta(days=1))
    found = derive(settled, facts(), NOW).sort("user").collect()["n_kind.tea"]
    assert found.to_list() == [1.0, 0.0] * 20


def test_labels_with_marks_make_names_that_learners_take() -> None:
    odd = lines().with_columns(kind=pl.lit('a "b": {c}, [d]'))
    settled = settle(declared({**ORDER, "agg": "count", "by": "kind", "name": "n"}), facts(odd), NOW)
    assert not set(settled.columns[0]) & set('"[]{}:, ')
    assert derive(settled, facts(odd), NOW).collect()[settled.columns[0]].min() > 0  # type: ignore[operator]


def test_shares_of_users_make_the_same_features(tmp_path: Path) -> None:
    features = declared(
        {**ORDER, "agg": "sum", "of": "amount", "within": ["7d", "28d"], "per": "week"},
        {**ORDER, "since": "first", "share": True},
        {**ORDER, "rhythm": True},
    )
    instants = [NOW, NOW - timedelta(days=30)]
    whole = derive_at(features, facts(), instants)
    for shares in (1, 3):
        assert sink_features(features, facts(), instants, tmp_path / "out", shares=shares) == whole.height
        read = pl.read_parquet(tmp_path / "out" / "*.parquet").sort("at", "user")
        assert_frame_equal(read, whole)
    assert len(list((tmp_path / "out").iterdir())) == 6  # what the first left is gone
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not an empty folder, nor one of features"):
        sink_features(features, facts(), instants, tmp_path / "out")


def test_sums_do_not_depend_on_the_order_of_lines() -> None:
    features = declared({**ORDER, "agg": "sum", "of": "amount"}, {**ORDER, "agg": "mean", "of": "amount"})
    many = pl.concat([lines(5).with_columns(amount=pl.col("amount") * 10.0**power) for power in (-7, 0, 9)])
    frames = [
        derive(features, facts(many.sample(fraction=1, shuffle=True, seed=seed)), NOW).sort("user").collect()
        for seed in range(5)
    ]
    assert all(frame.equals(frames[0]) for frame in frames)


def history(fields: pl.DataFrame | None = None) -> History:
    bought = lines().filter(pl.col("at") <= NOW)
    return History(purchases=bought, events={"order": bought}, fields=fields)


def recipe(*features: dict[str, Any], **more: Any) -> ModelRecipe:
    raw = {"name": "mine", "features": list(features), **more}
    told = {"name": "spend", "predicts": "spend", "within": "14d", "every": "7d", "history": ("14d",)}
    return ModelRecipe.model_validate({**told, "features": raw})


def test_a_recipe_learns_from_its_set_beside_the_usual_features_or_alone() -> None:
    own = {**ORDER, "agg": "count", "by": "kind", "within": "28d", "name": "n"}
    settled = settled_recipe(recipe(own), history(), NOW)
    assert settled_recipe(settled, history(), NOW) is settled
    data = horizon_dataset(history(), NOW, settled)
    assert {"n_kind.tea_28d", "n_kind.milk_28d", "recency_days"} <= set(data.features)
    alone = horizon_dataset(history(), NOW, settled_recipe(recipe(own, usual=False), history(), NOW))
    assert set(alone.features) == {"n_kind.tea_28d", "n_kind.milk_28d"}
    assert "amount_14d" in alone.frame.columns  # baselines look at it
    assert alone.split(0.3)[0].features == alone.features


def test_a_set_that_is_named_only_or_names_a_usual_feature_is_refused() -> None:
    named = recipe({**ORDER, "agg": "count"}).model_copy(update={"features": "shopper"})
    with pytest.raises(BadInput, match="which nobody has looked up"):
        recipe_features(history(), NOW, named)
    both = recipe({**ORDER, "since": "last", "name": "recency_days"})
    with pytest.raises(BadInput, match="recency_days: is one of the usual features"):
        recipe_features(history(), NOW, both)


def test_fields_are_learned_from_only_if_they_never_change() -> None:
    ages = pl.DataFrame({"user": range(40), "user.age": range(40)})
    with pytest.raises(BadInput, match=r"user\.age: is known as it is now only"):
        horizon_dataset(history(ages), NOW, recipe({"field": "user.age"}))
    data = horizon_dataset(history(ages), NOW, recipe({"field": "user.age", "static": True}))
    assert "user.age" in data.features
    with pytest.raises(BadInput, match="user = 3: is in more than one row"):
        history(pl.concat([ages, ages[3:4]]))


def test_few_rows_and_future_lines_are_no_surprise() -> None:
    three = lines(3)
    with pytest.raises(BadInput, match="examples; 50 are needed"):
        horizon_dataset(History(purchases=three.filter(pl.col("at") <= NOW)), NOW, recipe_without())
    later = lines().with_columns(pl.col("at") + timedelta(days=10_000))
    assert derive(declared({**ORDER, "agg": "count"}), facts(later), NOW).collect().is_empty()


def recipe_without() -> ModelRecipe:
    return recipe({**ORDER, "agg": "count"}).model_copy(update={"features": None, "within": "42d"})


def test_a_recipe_says_which_definition_it_means() -> None:
    told = definition_of(recipe({**ORDER, "agg": "count"}, version=3))
    assert (told["feature_set"], told["feature_version"]) == ("mine", "3")
    assert told != definition_of(recipe({**ORDER, "agg": "lines"}, version=3))
    assert definition_of(recipe_without()) == {"feature_set": "usual"}
