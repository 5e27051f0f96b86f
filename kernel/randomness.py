"""Randomness that can be repeated: every draw is named, so adding one moves no other."""

from __future__ import annotations

from kernel.ids import stable_hash


def derive_seed(seed: int, *labels: object) -> int:
    """A 32-bit seed for the draw that `labels` name, under one master seed."""
    return stable_hash("seed", seed, *labels) & 0xFFFFFFFF


def unit(user: object, salt: str) -> float:
    """A number in [0, 1) that belongs to the user and the salt."""
    return stable_hash(salt, user) / 2**64


def bucket(user: object, salt: str, shares: dict[str, float]) -> str:
    """The variant of a user: `shares` sum to one, in order. Stable for ever."""
    point, edge = unit(user, salt), 0.0
    for name, share in shares.items():
        edge += share
        if point < edge:
            return name
    return list(shares)[-1]
