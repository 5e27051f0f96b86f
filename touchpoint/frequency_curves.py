"""What was learned of a frequency: how outcomes and opt-outs answer to exposures, with how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from touchpoint.exposure_states import RECENCY, Seen
from touchpoint.frequency_value import Values, Worth, evaluate
from touchpoint.hazard import Counts, Floats, Hazards, fit_hazards

_RECENCIES = tuple(float(r) for r in range(RECENCY))
#: standard deviations to the ends of a 95 % interval
_NORMAL = 1.959964


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Posterior of outcomes, and of opt-outs where they are known, by segment."""

    segments: tuple[str, ...]
    outcomes: Hazards
    #: by the number of exposures within the tiring window; None: nobody opts out
    leaves: Hazards | None

    def hazards(self, *, expected: bool = False) -> tuple[Floats, Floats]:
        """P(outcome) [segments, 1 + at_most, RECENCY] and P(opts out) [segments, 1 + n]: what is believed
        most, or, `expected`, means of what is believed: higher by as much as is not known."""
        outcomes = _hazards(self.outcomes, _RECENCIES, expected)
        if self.leaves is None:
            return outcomes, np.zeros((len(outcomes), 1))
        return outcomes, _hazards(self.leaves, (0.0,), expected)[..., 0]

    def table(self) -> pl.DataFrame:
        """One row a segment, curve (`outcome`, `opt_out`) and k: hazard on the day of the k-th exposure (for
        opt-outs, of the k-th within the tiring window), low, high (95 %)."""
        parts = [_table(self.segments, "outcome", self.outcomes, 0)]
        if self.leaves is not None:
            parts.append(_table(self.segments, "opt_out", self.leaves, 1))
        return pl.concat(parts)


def _hazards(fit: Hazards, r: tuple[float, ...], expected: bool) -> Floats:
    return fit.expected(r) if expected else fit.hazards(r)


def _table(segments: tuple[str, ...], curve: str, fit: Hazards, first: int) -> pl.DataFrame:
    log, reach = fit.log_hazards((0.0,))[..., 0], _NORMAL * fit.deviations()
    ks = np.arange(first, log.shape[1])
    shape = (len(segments), len(ks))

    def column(values: Floats) -> Floats:
        return np.asarray(np.minimum(np.exp(values[:, first:]), 1.0).ravel(), float)

    return pl.DataFrame(
        {
            "segment": np.repeat(np.array(segments, object), len(ks)).tolist(),
            "curve": [curve] * (shape[0] * shape[1]),
            "k": np.tile(ks, len(segments)),
            "hazard": column(log),
            "low": column(log - reach),
            "high": column(log + reach),
        }
    )


def learn_curves(
    segments: tuple[str, ...], outcomes: Counts, leaves: Counts | None, *, start: Curves | None = None
) -> Curves:
    """From counts as `derive_states` gives them. `start`: an earlier posterior of the same segments."""
    begun = None if start is None or start.segments != segments else start
    tired = None
    if leaves is not None and leaves.at_risk.any():
        tired = fit_hazards(leaves, half_lives=(1.0,), start=begun.leaves if begun else None)
    return Curves(
        segments=segments,
        outcomes=fit_hazards(outcomes, start=begun.outcomes if begun else None),
        leaves=tired,
    )


def learn_from(seen: Seen, *, opts_out: bool) -> Curves:
    """`opts_out`: an event tells who does."""
    return learn_curves(seen.segments, seen.outcomes, seen.leaves if opts_out else None)


def value_states(
    curves: Curves, worth: Worth, price: float, *, expected: bool = False, start: Floats | None = None
) -> Values:
    """Worth and gain of a touch in every state, at a price a touch; `expected` as in `Curves.hazards`."""
    outcomes, leaves = curves.hazards(expected=expected)
    return evaluate(outcomes, leaves, worth, price, start=start)
