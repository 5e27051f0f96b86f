"""Time to the next purchase: a hazard for each span of days, learned as one probability.

Discrete-time survival (Singer & Willett, "It's about time", 1993): each user × instant becomes a row for
every span that began without a purchase; the outcome is whether it happened in that span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.learners import PLAIN, Boosted, Setting, fit_probability

Floats = NDArray[np.float64]
#: parts of the window; more would cost time and tell little
_SPANS = 8
SPAN = "span"


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """P(buys in a span | not before), for every span of the window."""

    boosted: Boosted
    #: ends of the spans, days; the last is the window
    ends: tuple[float, ...]

    def bought(self, x: Floats) -> Floats:
        """Rows × spans: P(a purchase by the end of each span)."""
        hazard = np.column_stack([self.boosted.predict(_with(x, each)) for each in range(len(self.ends))])
        return np.asarray(1.0 - np.cumprod(1.0 - hazard, axis=1))

    def predict(self, x: Floats) -> Floats:
        """Expected days until the next purchase, at most the window: the area under the survival curve."""
        begins = np.append(0.0, self.ends[:-1])
        still = 1.0 - self.bought(x)
        # straight within a span
        left = np.column_stack([np.ones(len(x)), still[:, :-1]])
        return np.asarray(((left + still) / 2 * (np.asarray(self.ends) - begins)).sum(axis=1))

    def explain(self, x: Floats) -> Floats:
        """Of the hazard's log-odds in the first span, turned around: what makes the wait longer."""
        return np.asarray(-self.boosted.explain(_with(x, 0))[:, :-1])


def fit_hazard(
    x: Floats,
    days: Floats,
    names: Sequence[str],
    seed: int,
    setting: Setting = PLAIN,
    *,
    window: float | None = None,
) -> Hazard:
    """`days` until the purchase, the window's length where there was none in it."""
    most = float(days.max()) if window is None else window
    ends = np.linspace(0, most, _SPANS + 1)[1:]
    event = days < most
    # the span in which it happened; of those without a purchase the last
    last = np.minimum(np.searchsorted(ends, days, side="left"), _SPANS - 1)
    row = np.repeat(np.arange(len(x)), last + 1)
    span = np.arange(len(row)) - np.repeat(np.cumsum(last + 1) - last - 1, last + 1)
    happened = ((span == last[row]) & event[row]).astype(np.float64)
    signs = (*(-each for each in setting.signs), 0) if setting.signs else ()
    grown = np.column_stack([x[row], span.astype(np.float64)])
    boosted = fit_probability(grown, happened, [*names, SPAN], seed, replace(setting, signs=signs))
    return Hazard(boosted=boosted, ends=tuple(ends.tolist()))


def _with(x: Floats, span: int) -> Floats:
    return np.column_stack([x, np.full(len(x), float(span))])
