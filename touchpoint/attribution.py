"""Who is given credit for an outcome: rules on each path, and what a chain of paths would lose.

Rules: last, first, linear, position (40 % first, 40 % last, the rest between), decay (half as much a
half-life earlier). `markov`: an absorbing chain of order k over the paths; a channel's removal effect is the
part of the outcomes that would be lost if every step into it ended in none, and outcomes are shared in
proportion to it (Anderl, Becker, von Wangenheim, Schumann, International Journal of Research in Marketing 33,
2016, pages 457-474; absorbing chains: Kemeny, Snell, Finite Markov Chains, 1960, chapter 3).

None of this says what a channel causes: it divides what happened. What exposures cause is learned from those
that were drawn (`touchpoint.hazard`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from scipy.sparse import csc_matrix, identity
from scipy.sparse.linalg import splu

from kernel.errors import BadInput, NotFound
from touchpoint.hazard import Floats
from touchpoint.paths import check_paths

#: of the position rule: first, last
_ENDS = 0.4
_START = -1


def attribute(
    paths: pl.DataFrame, rules: Sequence[str] | None = None, *, order: int = 1, half_life: float = 7.0
) -> pl.DataFrame:
    """rule, channel, conversions, value, share (of the conversions): one row a rule and channel, rules in the
    order asked for (all by default), most first.

    Of every rule the conversions sum to those of the paths, and the values to theirs, to the last digit (by
    `math.fsum`). `half_life` is in days where paths have ages, in steps where not. A channel that is in no
    converting path is given nothing, also by `markov`, whose chain would lend it others' outcomes. The order
    of rows does not matter. Raises BadInput for paths that are none, NotFound for an unknown rule.
    """
    wanted = list(rules or RULES)
    for rule in wanted:
        if rule not in RULES:
            raise NotFound("rule", rule, RULES)
    if order < 1:
        raise BadInput("is not 1 or more", field="order", value=order)
    if not 0 < half_life < math.inf:
        raise BadInput("is not above 0", field="half_life", value=half_life)
    known = check_paths(paths).sort("path", "conversions", "value", "nulls", maintain_order=True)
    channels = known["path"].explode(empty_as_null=False).unique().sort()
    sums = int(known["conversions"].sum()), math.fsum(known["value"])
    parts = []
    for rule in dict.fromkeys(wanted):
        if rule == "markov":
            credits = removal_effects(known, order)
        else:
            credits = _by_rule(known, _WEIGHTS[rule](half_life))
        both = channels.to_frame("channel").join(credits, on="channel", how="left", maintain_order="left")
        both = both.with_columns(pl.col("conversions", "value").fill_null(0.0))
        settled = both.with_columns(
            pl.lit(rule).alias("rule"),
            pl.Series("conversions", _settled(both["conversions"].to_list(), sums[0]), dtype=pl.Float64),
            pl.Series("value", _settled(both["value"].to_list(), sums[1]), dtype=pl.Float64),
        )
        parts.append(settled.sort(["conversions", "channel"], descending=[True, False]))
    whole = pl.concat(parts)
    share = pl.col("conversions") / sums[0] if sums[0] else pl.lit(0.0)
    return whole.select("rule", "channel", "conversions", "value", share.alias("share"))


def _settled(credits: list[float], total: float) -> list[float]:
    """Scaled to sum to `total`; the largest is what the others leave, so that they do to the last digit."""
    found = math.fsum(credits)
    if not credits or found == 0:
        return credits
    scaled = [each * (total / found) for each in credits]
    largest = max(range(len(scaled)), key=scaled.__getitem__)
    others = [-each for place, each in enumerate(scaled) if place != largest]
    scaled[largest] = math.fsum([total, *others])
    # what is left of rounding: half a unit in the last place that falls to the wrong side
    for place in sorted(range(len(scaled)), key=scaled.__getitem__, reverse=True):
        missing = total - math.fsum(scaled)
        if missing == 0:
            break
        if scaled[place]:
            scaled[place] = math.nextafter(scaled[place], math.copysign(math.inf, missing))
    return scaled


def _by_rule(paths: pl.DataFrame, weight: pl.Expr) -> pl.DataFrame:
    """Each converting path's outcomes over its steps, in proportion to `weight`."""
    paths = paths.filter(pl.col("conversions") > 0).with_row_index("row")
    ages = pl.when(pl.col("ages").is_null()).then(
        pl.col("path").list.len().map_elements(_back, pl.List(pl.Float64))
    )
    steps = paths.with_columns(ages=ages.otherwise(pl.col("ages"))).explode(
        "path", "ages", empty_as_null=False, keep_nulls=False
    )
    steps = steps.with_columns(
        place=pl.int_range(pl.len()).over("row"), length=pl.len().over("row").cast(pl.Int64)
    )
    steps = steps.with_columns(part=weight).with_columns(pl.col("part") / pl.col("part").sum().over("row"))
    credits = (pl.col("part") * pl.col(each) for each in ("conversions", "value"))
    return steps.group_by(pl.col("path").alias("channel")).agg(each.sum().alias(name) for each, name in zip(
        credits, ("conversions", "value"), strict=True))  # fmt: skip


def _back(length: int) -> list[float]:
    return [float(length - 1 - place) for place in range(length)]


def _position(_: float) -> pl.Expr:
    first, last = pl.col("place") == 0, pl.col("place") == pl.col("length") - 1
    middle = (1 - 2 * _ENDS) / (pl.col("length") - 2).cast(pl.Float64)
    long = pl.when(first | last).then(_ENDS).otherwise(middle)
    return pl.when(pl.col("length") <= 2).then(1.0).otherwise(long)


_WEIGHTS: dict[str, Callable[[float], pl.Expr]] = {
    "last": lambda _: (pl.col("place") == pl.col("length") - 1).cast(pl.Float64),
    "first": lambda _: (pl.col("place") == 0).cast(pl.Float64),
    "linear": lambda _: pl.lit(1.0),
    "position": _position,
    # relative to the path's own newest step: a path that is old as a whole keeps its weights
    "decay": lambda half_life: (
        -(pl.col("ages") - pl.col("ages").min().over("row")) / half_life * math.log(2)
    ).exp(),
}
RULES = (*_WEIGHTS, "markov")


def removal_effects(paths: pl.DataFrame, order: int) -> pl.DataFrame:
    """channel, conversions, value (removal effects, 0 … 1) of those in a converting path."""
    chain = _Chain(paths, order)
    won, worth = chain.absorbed(None)
    helped = set(paths.filter(pl.col("conversions") > 0)["path"].explode(empty_as_null=False).unique())
    rows = []
    for number, channel in enumerate(chain.channels):
        if channel not in helped:
            continue
        without, less = chain.absorbed(number)
        rows.append((channel, max(0.0, 1 - without / won), max(0.0, 1 - less / worth) if worth else 0.0))
    return pl.DataFrame(
        rows, schema={"channel": pl.String, "conversions": pl.Float64, "value": pl.Float64}, orient="row"
    )


class _Chain:
    """States are the last `order` channels, fewer at the beginning."""

    def __init__(self, paths: pl.DataFrame, order: int) -> None:
        rows = paths.with_row_index("row").with_columns(weight=pl.col("conversions") + pl.col("nulls"))
        steps = rows.drop("ages").explode("path", empty_as_null=False, keep_nulls=False)
        last = [pl.col("path").shift(back).over("row") for back in range(order - 1, -1, -1)]
        steps = steps.with_columns(state=pl.concat_list(last))
        states = steps.select("state").unique(maintain_order=True).with_row_index("number")
        states = states.with_columns(
            newest=pl.col("state").list.last(), number=pl.col("number").cast(pl.Int64)
        )
        steps = steps.join(
            states.select("state", "number"), on="state", how="left", maintain_order="left", nulls_equal=True
        )
        before = pl.col("number").shift().over("row").fill_null(_START)
        steps = steps.with_columns(before=before)
        ends = steps.group_by("row").last()
        self.channels: list[str] = states["newest"].unique().sort().to_list()
        place = {channel: number for number, channel in enumerate(self.channels)}
        self._newest = np.array([place[each] for each in states["newest"]])
        count = states.height
        moves = steps.group_by("before", "number").agg(pl.col("weight").sum())
        a, b, many = (moves[each].to_numpy() for each in ("before", "number", "weight"))
        out, won, worth = np.zeros(count), np.zeros(count), np.zeros(count)
        inner = a != _START
        np.add.at(out, a[inner], many[inner])
        at = ends["number"].to_numpy()
        np.add.at(out, at, ends["weight"].to_numpy())
        np.add.at(won, at, ends["conversions"].to_numpy())
        np.add.at(worth, at, ends["value"].to_numpy())
        share = many[inner] / out[a[inner]]
        self._moves = csc_matrix((share, (a[inner], b[inner])), shape=(count, count))
        self._ends = np.stack([won / out, worth / out], axis=1)
        self._starts = np.zeros(count)
        np.add.at(self._starts, b[~inner], many[~inner] / many[~inner].sum())

    def absorbed(self, without: int | None) -> tuple[float, float]:
        """P(a path ends in an outcome), and its expected value; `without` a channel: steps into it are
        lost."""
        stay = np.ones(len(self._newest)) if without is None else (self._newest != without).astype(float)
        kept = self._moves.multiply(stay[None, :]).tocsc()
        found: Floats = splu((identity(len(stay), format="csc") - kept).tocsc()).solve(self._ends)
        reached = (self._starts * stay) @ found
        return float(reached[0]), float(reached[1])
