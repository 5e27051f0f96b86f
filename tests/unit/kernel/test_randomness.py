"""Draws that belong to a user for ever, in the shares that were asked for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from kernel.randomness import bucket, derive_seed, unit

SHARES = {"holdout": 0.1, "a": 0.3, "b": 0.6}


def test_shares_come_out() -> None:
    found = Counter(bucket(user, "experiment", SHARES) for user in range(20_000))
    for name, share in SHARES.items():
        # four standard errors
        assert found[name] / 20_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)


def test_a_user_keeps_the_bucket_in_every_process() -> None:
    code = "from kernel.randomness import *; print([bucket(u, 's', {'a': .5, 'b': .5}) for u in range(50)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([bucket(user, "s", {"a": 0.5, "b": 0.5}) for user in range(50)])


def test_buckets_are_pinned() -> None:
    """These values may never change: whoever is in a holdout stays there after an upgrade."""
    assert unit("u1", "s") == 0.11790946139918598
    assert derive_seed(1, "a") == 1202895687


def test_widening_the_first_share_moves_nobody_out_of_it() -> None:
    for user in range(500):
        if bucket(user, "s", {"a": 0.2, "b": 0.8}) == "a":
            assert bucket(user, "s", {"a": 0.5, "b": 0.5}) == "a"


def test_salts_are_independent() -> None:
    both = Counter((unit(user, "one") < 0.5, unit(user, "two") < 0.5) for user in range(8000))
    assert all(count / 8000 == pytest.approx(0.25, abs=0.02) for count in both.values())
    assert len(both) == 4


def test_shares_that_do_not_quite_sum_to_one_lose_nobody() -> None:
    thirds = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3 - 1e-12}
    assert {bucket(user, "s", thirds) for user in range(100)} == {"a", "b", "c"}
    assert {bucket(user, "s", {"a": 0.0, "b": 1.0}) for user in range(100)} == {"b"}


def test_seeds_are_named() -> None:
    seeds = {
        derive_seed(seed, *labels) for seed in (1, 2) for labels in ((), ("a",), ("b",), ("a", "b"), ("ab",))
    }
    assert len(seeds) == 10
    assert all(0 <= seed < 2**32 for seed in seeds)
