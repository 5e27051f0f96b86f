"""What one more touch is worth in each state of a user, looking ahead over all that may follow it.

A user is in state (k, r, n): k exposures since counting began, r days since the last, n in the last
`tires_within` days. A Markov decision process at a price for each touch, one for each segment: because the
touches share one budget only through that price, users are independent (Whittle, Restless Bandits, 1988, as
a Lagrangian relaxation). Looking ahead is what brings a user whose curve first rises up to the useful number,
or does not begin: the first touch pays for the ones that it makes possible, or it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What the decision is about, in major units and days."""

    #: of an outcome
    value: float
    #: lost with a user who opts out
    kept: float
    #: most exposures since counting began
    at_most: int
    #: without an exposure for so many days, counting begins anew
    window: int
    #: days that exposures tire for
    tires: int
    #: days after an outcome in which nobody is touched
    rest: int
    #: days that are looked ahead; what comes later counts less by 1 − 1/horizon a day
    horizon: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """Arrays [segments, 1 + at_most, days, 1 + tiring]: state (k, r, n) on a day before it is decided."""

    #: expected worth from here on, at the price
    worth: Floats
    #: what a touch today adds to that, itself not paid for; −inf where none is allowed
    gain: Floats


def tiring_states(worth: Worth) -> int:
    """How many counts within the tiring window are told apart, besides none."""
    return max(1, min(worth.at_most, worth.tires))


def evaluate(
    hazards: Floats, leaves: Floats, worth: Worth, price: float, *, start: Floats | None = None,
    close: float = 1e-3, rounds: int = 400,
) -> Values:  # fmt: skip
    """`hazards` [segments, 1 + at_most, days]: P(outcome) on a day; r = 0 is the day of the k-th exposure,
    the last r stands for that and more. `leaves` [segments, 1 + n]: P(opts out | the n-th exposure within the
    tiring window); index 0 is not used. `start`: worth to begin with, such as yesterday's. Value iteration
    until nothing moves by `close` × the value of an outcome."""
    days, top = hazards.shape[2], worth.at_most
    counts = np.arange(leaves.shape[1])
    fall = np.minimum(counts / worth.tires, 1.0)
    keep = 1.0 - 1.0 / worth.horizon
    renews = 1.0 / max(worth.window - days, 1)
    shape = (hazards.shape[0], top + 1, days, len(counts))
    found = np.zeros(shape) if start is None or start.shape != shape else start
    quiet = hazards[:, :, :, None]
    after = np.minimum(np.arange(days) + 1, days - 1)
    touched = hazards[:, 1:, 0][:, :, None]
    more = np.minimum(counts + 1, len(counts) - 1)
    opted = leaves[:, more][:, None, :]
    gain = np.full(shape, -np.inf)
    for _ in range(rounds):
        aged = found.copy()
        aged[..., 1:] = (1 - fall[1:]) * found[..., 1:] + fall[1:] * found[..., :-1]
        begun = found[:, 0, -1, 0]
        won = (worth.value + keep ** max(worth.rest, 1) * begun)[:, None, None]
        waits = aged[:, :, after, :]
        waits[:, :, -1, :] = (1 - renews) * waits[:, :, -1, :] + renews * aged[:, :1, -1, :]
        waits = quiet * won[..., None] + (1 - quiet) * keep * waits
        then = aged[:, 1:, 1, :][:, :, more] if days > 1 else aged[:, 1:, 0, :][:, :, more]
        reached = touched * won + (1 - touched) * keep * then
        acts = -opted * worth.kept + (1 - opted) * reached
        gain[:, :-1] = acts[:, :, None, :] - waits[:, :-1]
        newer = np.maximum(waits, waits + gain - price)
        moved = np.abs(newer - found).max()
        found = newer
        if moved < close * worth.value:
            break
    return Values(worth=found, gain=gain)


def targets(values: Values, price: float) -> NDArray[np.int64]:
    """[segments, 1 + at_most]: up to how many exposures a user who has had k is brought at this price: the
    first count from k on at which no touch is worth it, however long one waits."""
    worth_it = (values.gain[..., 0].max(axis=2) > price).astype(np.int64)
    segments, counts = worth_it.shape
    found = np.empty((segments, counts), np.int64)
    found[:, -1] = counts - 1
    for k in range(counts - 2, -1, -1):
        found[:, k] = np.where(worth_it[:, k] == 1, found[:, k + 1], k)
    return found


def rising(hazards: Floats) -> NDArray[np.bool_]:
    """[segments, 1 + at_most]: whether after k exposures the next one's own hazard is above the last
    one's."""
    on_the_day = hazards[:, :, 0]
    up = np.zeros(on_the_day.shape, bool)
    up[:, :-1] = on_the_day[:, 1:] > on_the_day[:, :-1] * (1 + 1e-9)
    return up
