"""A day's decision: for every user of a frequency whether she is touched, up to how many, and why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from touchpoint.exposure_states import RECENCY, Seen
from touchpoint.frequency import Frequency
from touchpoint.frequency_control import Chosen, Truths, choose, draw, first_then, follow
from touchpoint.frequency_curves import Curves, value_states
from touchpoint.frequency_value import Values, rising, targets
from touchpoint.hazard import Floats

Ints = NDArray[np.int64]

#: how often the first day's price is looked for, and by how much it moves each time
_LOOKS, _MOVES = 8, 0.5
#: most that a touch counts beside the first one
_MOST = 10.0
REACHED = "the target is reached"
PRICED_OUT = "a touch adds less than it would elsewhere"
HARMS = "a touch would cost more in opt-outs than it adds"
RESTS = "rests after an outcome"
LEFT = "has opted out"
DRAWN_OUT = "the number of touches is drawn, and none is due"


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """What a day comes to."""

    curves: Curves
    chosen: Chosen
    #: of a touch, that was looked ahead with, major units
    price: float
    #: mean target of those who have had no exposure yet and are begun
    wanted: float | None
    #: user, segment, k, r, n, drawn, target, propensity (of the target, of drawn users), gain, touched,
    #: factor (of the next touch, in units of the first), reason (where factor is 0)
    users: pl.DataFrame


def decide(
    definition: Frequency, seen: Seen, curves: Curves, *, before: tuple[float, float] | None, day: int
) -> Decided:
    """`before`: the last day's price to look ahead with, and its ceiling's price; None on the first day.
    `day`: its number, by which drawn users' targets and coins differ. Touches go by what is believed most;
    what the budget leaves over, by the mean of what is believed, so that who is uncertain is tried."""
    states, worth = seen.states, definition.worth
    place = states["place"].to_numpy()
    k, n = (states[name].to_numpy() for name in ("k", "n"))
    k = np.minimum(k, definition.at_most)
    r = np.where(k > 0, np.minimum(states["r"].to_numpy(), RECENCY - 1), RECENCY - 1)
    free = ~(states["left"] | states["rests"]).to_numpy()
    drawn = states["randomised"].to_numpy()
    budget = definition.touches(states.height)
    draws = [
        draw(user, definition.name, definition.at_most, day, worth.window)
        for user in states.filter(pl.col("randomised"))["user"]
    ]
    due = np.zeros(states.height, bool)
    due[drawn] = [each.touched(had) for each, had in zip(draws, k[drawn], strict=True)]
    due &= free
    due &= np.cumsum(due) <= budget
    left = budget - int(due.sum())

    def gains(values: Values) -> Floats:
        found = values.gain[place, k, r, np.minimum(n, values.gain.shape[3] - 1)]
        return np.asarray(np.where(free & ~drawn, found, -np.inf), float)

    price = definition.price if before is None else follow(*before)
    values = value_states(curves, worth, price)
    if before is None:
        for _ in range(_LOOKS):
            ceiling = choose(gains(values), free, budget=left).ceiling
            price += _MOVES * (ceiling - price)
            values = value_states(curves, worth, price, start=values.worth)
    gain, up = gains(values), rising(curves.hazards()[0])[place, k]
    if (gain > 0).sum() < left:  # what would be left over finds out about those who may be underrated
        hoped = value_states(curves, worth, price, expected=True, start=values.worth)
        gain = first_then(gain, gains(hoped))
    chosen = choose(gain, up, budget=left, floor=min(definition.floor, left))
    touched = chosen.touched | due
    target = targets(values, price)[place, k]
    target[drawn] = [each.target for each in draws]
    first = values.gain[:, 0, -1, 0]
    usual = float(first[first > 0].mean()) if (first > 0).any() else 1.0
    beside = np.where(first > 0, first, usual)[place]
    known = values.gain[place, k, r, np.minimum(n, values.gain.shape[3] - 1)]
    # a user is tried whose touch is not believed to add anything: then it counts as the first
    factor = np.where(known > 0, np.minimum(known / beside, _MOST), 1.0)
    propensity = np.full(states.height, np.nan)
    propensity[drawn] = [each.propensity for each in draws]
    begun = (target > 0) & (k == 0) & ~drawn
    users = states.select("user", "segment", "k", "r", "n", pl.col("randomised").alias("drawn")).with_columns(
        pl.Series("target", target),
        pl.Series("propensity", propensity).fill_nan(None),
        pl.Series("gain", np.where(np.isfinite(gain), gain, np.nan)).fill_nan(None),
        pl.Series("touched", touched),
        pl.Series("factor", np.where(touched, np.where(drawn, 1.0, factor), 0.0)),
        pl.Series("reason", _reasons(states, touched, drawn, target, k, gain)),
    )
    return Decided(
        curves=curves, chosen=chosen, price=price,
        wanted=float(target[begun].mean()) if begun.any() else None, users=users,
    )  # fmt: skip


def _reasons(
    states: pl.DataFrame, touched: Truths, drawn: Truths, target: Ints, k: Ints, gain: Floats
) -> pl.Series:
    """The first that holds."""
    frame = states.select("left", "rests").with_columns(
        touched=pl.Series(touched), drawn=pl.Series(drawn), reached=pl.Series(k >= target),
        harms=pl.Series(~(gain > 0)),
    )  # fmt: skip
    told = (
        pl.when("touched").then(pl.lit(""))
        .when("left").then(pl.lit(LEFT))
        .when("rests").then(pl.lit(RESTS))
        .when("drawn").then(pl.lit(DRAWN_OUT))
        .when("harms").then(pl.lit(HARMS))
        .when("reached").then(pl.lit(REACHED))
        .otherwise(pl.lit(PRICED_OUT))
    )  # fmt: skip
    return frame.select(told.alias("reason"))["reason"]
