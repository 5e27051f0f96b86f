"""What the cases of decisions ask, and how they tell what it took."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import numpy as np

from kernel.contact import Cap
from kernel.learning import Action

#: half of them have a budget, most a channel: every step has something to do
ACTIONS = tuple(
    Action(
        id=f"a{each}",
        features={"kind": f"k{each % 3}", "size": each / 10, "new": each % 2 == 0},
        value=2.0,
        cost=0.1,
        resource="coupons" if each % 2 else None,
        channel="web" if each % 3 else None,
    )
    for each in range(10)
)
CAPS = [
    Cap(name="web_week", channel="web", at_most=1000, within="7d"),
    Cap(name="all", at_most=2000, within="30d"),
]


def context(chance: random.Random) -> dict[str, str | float]:
    """Twenty features."""
    words = {f"f{each}": f"v{chance.randrange(20)}" for each in range(10)}
    return words | {f"n{each}": round(chance.random(), 3) for each in range(10)}


def quantiles(times: list[float]) -> dict[str, object]:
    return {
        name: round(float(np.quantile(times, share)) * 1e6, 1)
        for name, share in (("p50 µs", 0.5), ("p99 µs", 0.99), ("p99.9 µs", 0.999))
    }


def resident() -> float:
    """MiB that are ours alone: pages of the store's map are the system's to drop."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
