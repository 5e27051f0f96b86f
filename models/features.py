"""Point-in-time features of users and of user × offer: nothing after `as_of` reaches one.

Those of users are declared (`models.feature_default`, and whatever a recipe adds); those of user × offer say
how close an offer is to what a user buys.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from kernel.clock import parse_window
from kernel.definitions import parse
from kernel.errors import BadInput
from kernel.events import OFFER
from kernel.learning import ModelRecipe
from models.exact_sums import exact_sum
from models.feature_batch import STEADY, derive
from models.feature_default import usual_features
from models.feature_definitions import FeatureSet
from models.feature_facts import USER
from models.feature_settle import settle
from models.history import History


def user_features(
    history: History, as_of: datetime, windows: Sequence[str], declared: FeatureSet | None = None
) -> pl.DataFrame:
    """One row a user who bought by `as_of`: user, then features (days, money, counts, shares).

    The usual ones, and those of `declared` beside them. Raises BadInput for one that both have.
    """
    key = ("user", as_of, tuple(windows), None if declared is None else declared.fingerprint)
    return history.remember(key, lambda: _user_features(history, as_of, windows, declared))


def _user_features(
    history: History, as_of: datetime, windows: Sequence[str], declared: FeatureSet | None
) -> pl.DataFrame:
    usual, facts = usual_of(history, windows), history.facts()
    found = derive(usual, facts, as_of)
    if declared is not None and declared.entity != USER:
        found = _joined(found, history, as_of, declared)
    elif declared is not None:
        both = sorted(set(usual.columns) & set(declared.columns))
        if both:
            raise BadInput(
                "is one of the usual features; give it a name",
                where=f"features {declared.name}",
                field=both[0],
            )
        people = found.select("user")
        found = found.join(derive(declared, facts, as_of, people), on="user", how="left")
    return found.sort("user").collect()


def _joined(users: pl.LazyFrame, history: History, as_of: datetime, declared: FeatureSet) -> pl.LazyFrame:
    """Features of what each user belongs to at the instant; missing for who belongs to none."""
    theirs = derive(declared, history.facts(declared.entity), as_of)
    theirs = theirs.rename({name: of_entity(declared, name) for name in declared.columns})
    belongs = history.belonging(declared.entity).at(as_of).lazy()
    found = users.join(belongs, on="user", how="left")
    return found.join(theirs, left_on="entity", right_on="user", how="left").drop("entity")


def of_entity(features: FeatureSet, column: str) -> str:
    """What a feature is called beside those of users: `household.amount_28d`."""
    mark = f"{features.entity}."
    return column if features.entity == USER or column.startswith(mark) else f"{mark}{column}"


def usual_of(history: History, windows: Sequence[str]) -> FeatureSet:
    """The usual features, as far as the history has what they are made of."""
    labels = [each for each in ("item", "place", "category") if each in history.purchases.columns]
    contacts = [
        name.removesuffix("s") for name in ("treatments", "responses") if getattr(history, name) is not None
    ]
    return usual_features(windows, history.numbers, labels, contacts)


def declared_in(recipe: ModelRecipe) -> FeatureSet | None:
    """The feature set that a recipe carries. Raises BadInput where it is only named: nobody looked it up."""
    told = recipe.features
    if told is None:
        return None
    if isinstance(told, str):
        said = "is the name of a feature set, which nobody has looked up"
        raise BadInput(said, where=f"model {recipe.name}", field="features", value=told)
    return parse(FeatureSet, told, f"model {recipe.name}")


def definition_of(recipe: ModelRecipe) -> dict[str, str]:
    """Which features a recipe means: name, version and fingerprint of its set; the usual ones are defined by
    their windows."""
    declared = declared_in(recipe)
    if declared is None:
        return {"feature_set": "usual"}
    return {
        "feature_set": declared.name,
        "feature_version": str(declared.version),
        "feature_fingerprint": declared.fingerprint,
    }


def settled_recipe(recipe: ModelRecipe, history: History, as_of: datetime) -> ModelRecipe:
    """The recipe with the labels of its features found in what was known at `as_of`: what is learned from it
    keeps them. Raises BadInput as `models.feature_settle.settle`."""
    declared = declared_in(recipe)
    if declared is None or declared.settled:
        return recipe
    found = settle(declared, history.facts(declared.entity), as_of)
    return recipe.model_copy(update={"features": found.model_dump(mode="json", exclude_defaults=True)})


def recipe_features(history: History, as_of: datetime, recipe: ModelRecipe) -> pl.DataFrame:
    """`user_features` as a recipe has them."""
    return user_features(history, as_of, recipe.history, declared_in(recipe))


def offer_features(history: History, offers: Sequence[object], as_of: datetime, window: str) -> pl.DataFrame:
    """How close each offer is to what each user buys: one row a user × offer with any item in common.

    user, offer, affinity_amount, affinity_purchases, affinity_items; absent rows mean zero.
    """
    columns = {"affinity_amount": pl.Float64, "affinity_purchases": pl.Int64, "affinity_items": pl.Int64}
    user = history.purchases.schema["user"]
    if history.offer_items is None or "item" not in history.purchases.columns:
        kind = pl.Int64 if history.treatments is None else history.treatments.schema[OFFER]
        return pl.DataFrame(schema={"user": user, OFFER: kind, **columns})
    bought = history.remember(("items", as_of, window), lambda: _items(history, as_of, window))
    wanted = history.offer_items.filter(pl.col(OFFER).is_in(list(offers))).unique()
    return (
        bought.join(wanted, on="item")
        .group_by("user", OFFER)
        .agg(
            exact_sum(pl.col("amount")).alias("affinity_amount"),
            pl.col("purchases").sum().cast(pl.Int64).alias("affinity_purchases"),
            pl.len().cast(pl.Int64).alias("affinity_items"),
        )
        .with_columns(STEADY)
        .sort("user", OFFER)
    )


def _items(history: History, as_of: datetime, window: str) -> pl.DataFrame:
    since = as_of - parse_window(window)
    return (
        history.purchases.lazy()
        .filter((pl.col("at") <= as_of) & (pl.col("at") > since))
        .group_by("user", "item")
        .agg(exact_sum(pl.col("amount")).alias("amount"), pl.col("event_id").n_unique().alias("purchases"))
        .collect()
    )
