"""Logs of uniform offers: who was offered what at random, and what it brought."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.learning import Action

Floats = NDArray[np.float64]

#: not part of the project; its logs are left out where it is absent
HILLSTROM = Path(__file__).parents[2] / "shared" / "data" / "hillstrom.parquet"
#: what a visit is worth, and what a mail costs, in the unit of account
VISIT, MAIL = 1.0, 0.06


@dataclass(frozen=True, kw_only=True, eq=False)
class Offers:
    """n offers, each drawn alike from k actions."""

    actions: tuple[Action, ...]
    #: n contexts, as a decision is asked with
    contexts: list[dict[str, Any]]
    #: n × d: the same in numbers, categories as 0 and 1, numbers with mean 0 and deviation 1
    matrix: Floats
    #: n positions of what was offered
    chosen: NDArray[np.int64]
    #: n: value of what came − cost of the action
    rewards: Floats


def hillstrom(count: int, seed: int) -> Offers | None:
    """A mail or none, by a retailer (MineThatData, 2008): `count` of 64,000 people in random order."""
    if not HILLSTROM.exists():
        return None
    frame = pl.read_parquet(HILLSTROM).sample(min(count, 64_000), seed=seed, shuffle=True)
    names = ["Mens E-Mail", "Womens E-Mail", "No E-Mail"]
    chosen = frame["segment"].replace_strict({name: place for place, name in enumerate(names)})
    costs = np.array([MAIL, MAIL, 0.0])
    known = frame.drop("segment", "visit", "conversion", "spend")
    positions = chosen.to_numpy().astype(np.int64)
    return _offers(
        tuple(Action(id=name, cost=cost) for name, cost in zip(names, costs.tolist(), strict=True)),
        known,
        positions,
        VISIT * frame["visit"].to_numpy() - costs[positions],
    )


def open_bandit(count: int, seed: int) -> Offers | None:
    """Clothes on a shop's page (Saito and others, Open Bandit Dataset, 2021): the campaign `men` as it
    was offered at random, each third of the page counted as one place; a click is worth 1."""
    spec = find_spec("obp")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "dataset" / "obd" / "random" / "men"
    frame = pl.read_csv(folder / "men.csv").sample(min(count, 10_000), seed=seed, shuffle=True)
    users = [f"user_feature_{each}" for each in range(4)]
    known = frame.select(*users, pl.col("position").cast(pl.String))
    items = pl.read_csv(folder / "item_context.csv").sort("item_id")
    actions = tuple(
        Action(
            id=str(row["item_id"]), features={f"f{each}": row[f"item_feature_{each}"] for each in range(4)}
        )
        for row in items.iter_rows(named=True)
    )
    return _offers(
        actions,
        known,
        frame["item_id"].to_numpy().astype(np.int64),
        frame["click"].to_numpy().astype(np.float64),
    )


def simulated(count: int, seed: int) -> Offers:
    """Six offers of different worth and cost; who likes which depends on three of nine things known."""
    rng, planted = np.random.default_rng([seed, 1]), np.random.default_rng(20)
    labels = rng.integers(0, [3, 5, 8, 12], size=(count, 4))
    numbers = rng.normal(size=(count, 5))
    likes = [planted.normal(scale=0.8, size=(size, 6)) for size in (3, 5)]
    slopes = planted.normal(scale=0.4, size=6)
    scores = -1.6 + likes[0][labels[:, 0]] + likes[1][labels[:, 1]] + numbers[:, :1] * slopes
    chosen = rng.integers(0, 6, size=count)
    chance = 1 / (1 + np.exp(-scores[np.arange(count), chosen]))
    values, costs = np.array([1.0, 1.0, 1.5, 2.0, 3.0, 1.0]), np.array([0.0, 0.05, 0.1, 0.3, 0.6, 0.0])
    known = pl.DataFrame(
        {f"label_{each}": [f"v{one}" for one in labels[:, each].tolist()] for each in range(4)}
        | {f"number_{each}": numbers[:, each] for each in range(5)}
    )
    rewards = values[chosen] * (rng.random(count) < chance) - costs[chosen]
    return _offers(
        tuple(Action(id=f"offer_{each}", cost=float(costs[each])) for each in range(6)),
        known,
        chosen,
        rewards,
    )


#: name → (rows at most, seed) → a log, or None where its data are not at hand
LOGS = {"hillstrom": hillstrom, "open bandit": open_bandit, "simulated": simulated}


def _offers(
    actions: tuple[Action, ...], known: pl.DataFrame, chosen: NDArray[np.int64], rewards: Floats
) -> Offers:
    texts = known.select(pl.selectors.string())
    columns = [] if not texts.width else [texts.to_dummies().to_numpy().astype(np.float64)]
    numbers = known.select(pl.selectors.numeric()).to_numpy().astype(np.float64)
    if numbers.shape[1]:
        columns.append((numbers - numbers.mean(axis=0)) / np.maximum(numbers.std(axis=0), 1e-9))
    return Offers(
        actions=actions,
        contexts=known.to_dicts(),
        matrix=np.hstack(columns),
        chosen=chosen,
        rewards=rewards,
    )
