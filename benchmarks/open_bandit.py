"""The Open Bandit Dataset's small sample, where the package `obp` is installed: its files, not its code.

Saito, Aihara, Matsutani, Narita, Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible
Off-Policy Evaluation, 2021. 10,000 impressions of each of two policies (uniform, Bernoulli Thompson
sampling) in each of three campaigns of a fashion shop; a reward is a click.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from kernel.randomness import derive_seed
from realtime.offpolicy import Floats, Integers, LoggedChoices

CAMPAIGNS, POLICIES = ("all", "men", "women"), ("random", "bts")
_POSITIONS = 3
#: draws of the Thompson sampler by which its probabilities are counted, as its authors do
_DRAWS = 100_000


def folder() -> Path | None:
    """Where the package lies; None where it is not installed. Never imports it."""
    found = importlib.util.find_spec("obp")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Impressions:
    """n impressions of k items under one policy."""

    clicks: Floats
    items: Integers
    #: 0, 1, 2: where in the row of three
    positions: Integers
    propensities: Floats
    #: n × d: the user's features and the position, each value a column of 0 and 1
    contexts: Floats

    def under(self, target: Floats) -> LoggedChoices:
        """This log, judged for a policy that gives `target`: positions × items."""
        return LoggedChoices(
            rewards=self.clicks,
            chosen=self.items,
            propensities=self.propensities,
            target=target[self.positions],
            contexts=self.contexts,
        )


@cache
def impressions(root: Path, policy: str, campaign: str) -> Impressions:
    frame = pl.read_csv(root / "dataset" / "obd" / policy / campaign / f"{campaign}.csv")
    names = [f"user_feature_{number}" for number in range(4)]
    told = frame.select(*names, pl.col("position").cast(pl.String)).to_dummies()
    return Impressions(
        clicks=frame["click"].cast(pl.Float64).to_numpy(),
        items=frame["item_id"].cast(pl.Int64).to_numpy(),
        positions=frame["position"].cast(pl.Int64).to_numpy() - 1,
        propensities=frame["propensity_score"].to_numpy(),
        contexts=told.cast(pl.Float64).to_numpy(),
    )


@cache
def target(root: Path, policy: str, campaign: str, seed: int) -> Floats:
    """positions × items: the policy's probabilities; those of the Thompson sampler by drawing from the
    published priors and counting which items come first, second and third."""
    prior = yaml.safe_load((root / "policy" / "conf" / "prior_bts.yaml").read_text(encoding="utf-8"))[
        campaign
    ]
    wins, losses = np.array(prior["alpha"]), np.array(prior["beta"])
    if policy == "random":
        return np.full((_POSITIONS, len(wins)), 1 / len(wins))
    rng = np.random.default_rng(derive_seed(seed, "thompson", campaign))
    counts = np.zeros((_POSITIONS, len(wins)))
    for _ in range(10):
        drawn = rng.beta(wins, losses, size=(_DRAWS // 10, len(wins)))
        best = np.argsort(-drawn, axis=1)[:, :_POSITIONS]
        for position in range(_POSITIONS):
            counts[position] += np.bincount(best[:, position], minlength=len(wins))
    return np.asarray(counts / _DRAWS)
