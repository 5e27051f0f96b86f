"""Features as hashed keys with sizes: what linear policies make their columns of.

Weinberger and others, Feature Hashing for Large Scale Multitask Learning, 2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kernel.ids import stable_hash
from realtime.tokens import terms

Keys = NDArray[np.uint64]
Sizes = NDArray[np.float64]
#: odd numbers that stir the bits of a key (Vigna, SplitMix64, 2015)
_SPREAD, _STIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def hashed(pairs: Iterable[tuple[object, object]]) -> list[tuple[str, float]]:
    """Numbers as ± log(1 + size): the model is linear, and one amount must not drown the rest."""
    return [
        (token, 1.0 if number is None else math.copysign(math.log1p(abs(number)), number))
        for token, number in terms(pairs)
    ]


def arrays(pairs: list[tuple[str, float]]) -> tuple[Keys, Sizes]:
    """A key and a size for each."""
    keys = np.array([_key(token) for token, _ in pairs], dtype=np.uint64)
    return keys, np.array([size for _, size in pairs], dtype=np.float64)


def crossed(some: Keys, others: Keys) -> Keys:
    """some × others: a key for each pair."""
    mixed = (some[:, None] * _SPREAD) ^ others[None, :]
    return np.asarray((mixed ^ (mixed >> np.uint64(29))) * _STIR, dtype=np.uint64)


@lru_cache(maxsize=1 << 15)
def _key(token: str) -> int:
    return stable_hash("feature", token)
