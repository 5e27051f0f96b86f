"""What one unit more of an uplift model's outcome is worth, user by user and touchpoint by touchpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engine.definitions import Definitions
from kernel.work import Goal, Touchpoint
from models.api import Baskets, Exploration, History, UpliftRecipe, expected_baskets, treated_by


@dataclass(frozen=True, kw_only=True)
class EffectMoney:
    """Of one recipe, as of one instant."""

    #: money in one unit of the outcome, or in each unit of money in a basket
    profit: float
    #: None: a unit is worth the same of everyone
    baskets: Baskets | None
    #: (benefit, touchpoint) → what its effect is of the one that was learned; others: 1
    factors: Mapping[tuple[str, str], float]

    @property
    def typical(self) -> float:
        """Of a unit, of a user of whom nothing is known."""
        return self.profit * (1.0 if self.baskets is None else self.baskets.mean)

    def worth(self, users: pl.DataFrame) -> pl.DataFrame:
        """`users` with a column more, `worth`: of one unit of the outcome, of this user."""
        if self.baskets is None:
            return users.with_columns(worth=pl.lit(self.profit))
        told = users.join(self.baskets.users, on="user", how="left", maintain_order="left")
        return told.with_columns(worth=pl.col("basket").fill_null(self.baskets.mean) * self.profit).drop(
            "basket"
        )

    def factor(self, benefit: str, touchpoint: str) -> float:
        return self.factors.get((benefit, touchpoint), 1.0)


def effect_money(
    definitions: Definitions, recipe: UpliftRecipe, goal: Goal, history: History, as_of: datetime
) -> EffectMoney:
    """`history` may know more than was known at `as_of`; that is not used."""
    by_basket = recipe.worth == "basket"
    return EffectMoney(
        profit=recipe.profit(goal),
        baskets=expected_baskets(history, as_of, recipe.longest) if by_basket else None,
        factors=_factors(definitions, recipe) if recipe.by_reach else {},
    )


def _factors(definitions: Definitions, recipe: UpliftRecipe) -> dict[tuple[str, str], float]:
    """What was learned is of a touch that is seen."""
    reach = {each.name: each.reach for each in definitions.of(Touchpoint)}
    exploration = next(each for each in definitions.of(Exploration) if each.name == recipe.exploration)
    benefits = treated_by(recipe, {}, {exploration.name: exploration})
    return {(benefit, name): told for benefit in benefits for name, told in reach.items()}
