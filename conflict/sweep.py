"""The curve of gain against a bound: the same problem at several bounds of one limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conflict.solve import PROVEN
from conflict.whatif import WhatIf, changed_limits
from kernel.choices import Limits
from kernel.errors import BadInput, NotFound

#: most points of a curve
_MOST = 1_000
_FORM = "is not NAME=FROM:TO:POINTS, such as coupon_budget=5000:50000:10"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which bounds to try."""

    limit: str
    #: at_most or at_least
    side: str
    values: tuple[float, ...]


def parse_sweep(text: str, limits: Limits, where: str = "--sweep") -> Sweep:
    """`[at_most:|at_least:]NAME=FROM:TO:POINTS`; the side may be left out where the limit has only one.

    Raises BadInput naming the text.
    """
    spec, _, numbers = text.partition("=")
    named, _, name = spec.rpartition(":")
    parts = numbers.split(":")
    try:
        first, last, points = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise BadInput(_FORM, field=where, value=text) from None
    if len(parts) != 3 or not name:
        raise BadInput(_FORM, field=where, value=text)
    if not (math.isfinite(first) and math.isfinite(last)):
        raise BadInput("must go from one finite number to another", field=where, value=text)
    if not 2 <= points <= _MOST:
        raise BadInput(f"must have 2 to {_MOST} points", field=where, value=text)
    known = {limit.name: limit for limit in limits.limits}
    if name not in known:
        raise NotFound("limit", name, known, field=where)
    sides = [side for side in ("at_most", "at_least") if getattr(known[name], side) is not None]
    if named and named not in sides:
        raise BadInput(f"limit {name} has no {named}, but {' and '.join(sides)}", field=where, value=text)
    if not named and len(sides) > 1:
        raise BadInput(f"say which bound: at_most:{name} or at_least:{name}", field=where, value=text)
    side = named or sides[0]
    step = (last - first) / (points - 1)
    values = (*(first + step * each for each in range(points - 1)), last)
    for value in (first, last):
        changed_limits(limits, {name: {side: value}}, where)
    return Sweep(limit=name, side=side, values=values)


def sweep(
    asked: WhatIf, curve: Sweep, *, time_limit: float = 10.0, gap: float = PROVEN
) -> Iterator[dict[str, Any]]:
    """What each of several bounds would bring, each from the prices of the last one.

    A row a point: `limit`, `side`, `at`, `status`, `objective`, `bound`, `gap`, `price`, `used`, `seconds`;
    numbers that are not known, as where the status is INFEASIBLE, are None.
    """
    place = [each.name for each in asked.limits.limits].index(curve.limit)
    for value in curve.values:
        asked = asked.moved({curve.limit: {curve.side: value}}, time_limit=time_limit, gap=gap, rows=False)
        found = asked.allocation
        use = found.limits[place]
        known = found.objective is not None
        yield {
            "limit": curve.limit,
            "side": curve.side,
            "at": value,
            "status": str(found.status),
            "objective": found.objective,
            "bound": found.bound,
            "gap": found.gap,
            "price": use.price if known else None,
            "used": use.used if known else None,
            "seconds": round(found.seconds, 3),
        }
