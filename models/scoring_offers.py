"""P(responds) of many users to many offers in one go."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from kernel.events import OFFER
from models.datasets import trait_features
from models.features import offer_features, recipe_features
from models.history import History
from models.predictor import Predictor
from models.scoring import Floats, Scorer, score_blocks

_AFFINITY = ("affinity_amount", "affinity_purchases", "affinity_items")


def score_offers(
    predictor: Predictor,
    history: History,
    users: pl.Series,
    offers: pl.DataFrame,
    as_of: datetime,
    *,
    threads: int = 2,
) -> pl.DataFrame:
    """user, place, response: P(responds | reached) of each of `users` (different ones) to each row of
    `offers` (offer, which may be missing, and its traits); `place` is the row's number, from 0. By place.
    """
    recipe, numbered = predictor.recipe, offers.with_row_index("place")
    people = pl.DataFrame({"user": users}).join(
        recipe_features(history, as_of, recipe), on="user", how="left", maintain_order="left"
    )
    traits = trait_features(history, numbered, as_of)
    scorer = Scorer(predictor, traits, (*_AFFINITY, "affinity_share"))
    near = _near(history, people, numbered, as_of, recipe.history[-1])
    usual = people[f"amount_{recipe.history[-1]}"].fill_null(0.0).to_numpy() + 0.1
    columns = {name: at for at, name in enumerate(scorer.pairs)}

    def pairs(begin: int, end: int) -> Floats:
        """Nothing in common is 0. Affinity is a sum, the usual amount a weekly rate: only order matters."""
        found = np.zeros((offers.height, len(columns), end - begin))
        low, high = (int(near["row"].search_sorted(edge)) for edge in (begin, end))
        mine = near[low:high]
        place, row = mine["place"].to_numpy(), mine["row"].to_numpy() - begin
        for name, at in columns.items():
            if name == "affinity_share":
                found[place, at, row] = mine["affinity_amount"].to_numpy() / usual[begin + row]
            else:
                found[place, at, row] = mine[name].to_numpy()
        return found

    response = np.empty((offers.height, people.height))
    for begin, block in score_blocks(scorer, people, pairs, threads=threads):
        response[:, begin : begin + block.shape[1]] = block
    return pl.DataFrame(
        {
            "user": pl.concat([people["user"]] * offers.height) if offers.height else people["user"].clear(),
            "place": np.repeat(np.arange(offers.height), people.height),
            "response": response.ravel(),
        }
    )


def _near(
    history: History, people: pl.DataFrame, numbered: pl.DataFrame, as_of: datetime, window: str
) -> pl.DataFrame:
    """[row, place, affinity…] of users × offers with anything in common, by row."""
    rows = people.select("user").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    known = numbered[OFFER].drop_nulls().unique().to_list()
    found = offer_features(history, known, as_of, window)
    places = numbered.select(OFFER, pl.col("place").cast(pl.Int64))
    return (
        found.join(rows, on="user")
        .join(places, on=OFFER)
        .select("row", "place", *_AFFINITY)
        .sort("row", "place")
    )
