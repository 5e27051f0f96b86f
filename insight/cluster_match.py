"""Today's clusters as yesterday's: who is the same keeps the name, who is not is new or gone.

Centres are compared in today's coordinates and paired so that the sum of distances is least (the Hungarian
method: H. Kuhn, 1955). A pair is the same cluster when its distance is below half of that to the next other
centre, on both days: until then each lies in the other's own region. Of one single cluster there is no such
measure: all shoppers are all shoppers, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

_Numbers = NDArray[np.float64]
#: part of the way to the next centre within which a centre may have moved
HALF_WAY = 0.5
#: a share below this counts as this, so that who is new or gone has a finite weight
LEAST_SHARE = 1e-4


class Axis(Protocol):
    """How a trait becomes a coordinate: clipped (x − centre) / scale, times weight."""

    @property
    def column(self) -> str: ...
    @property
    def centre(self) -> float: ...
    @property
    def scale(self) -> float: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which cluster is which."""

    #: index of today → index of yesterday
    same: Mapping[int, int]
    #: index of today → part of the way to the next centre of today by which it has moved
    shift: Mapping[int, float]


def moved(centres: _Numbers, axes: Sequence[Axis], into: Sequence[Axis]) -> _Numbers:
    """Centres in coordinates of other axes; a column that these axes have not was in the middle."""
    mine = {axis.column: i for i, axis in enumerate(axes)}
    found = np.zeros((len(centres), len(into)))
    for j, axis in enumerate(into):
        if axis.column in mine:
            old = axes[mine[axis.column]]
            value = centres[:, mine[axis.column]] / old.weight * old.scale + old.centre
            found[:, j] = (value - axis.centre) / axis.scale * axis.weight
    return found


def match_centres(before: _Numbers, now: _Numbers) -> Match:
    """Both [clusters × axes] in the same coordinates."""
    if len(before) == 1 or len(now) == 1:
        alone = len(before) == len(now) == 1
        return Match(same={0: 0} if alone else {}, shift={0: 0.0} if alone else {})
    apart = np.sqrt(((now[:, None, :] - before[None, :, :]) ** 2).sum(axis=2))
    gap_now, gap_before = _gaps(now), _gaps(before)
    rows, columns = linear_sum_assignment(apart.round(9))
    same, shift = {}, {}
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if apart[i, j] < HALF_WAY * min(gap_now[i], gap_before[j]):
            same[i], shift[i] = j, float(apart[i, j] / gap_now[i])
    return Match(same=same, shift=shift)


def _gaps(centres: _Numbers) -> _Numbers:
    """Distance of each centre to the next other one."""
    apart = np.sqrt(((centres[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    gaps: _Numbers = apart.min(axis=1)
    return gaps


def carried_names(fresh: Sequence[str], before: Sequence[str], same: Mapping[int, int]) -> tuple[str, ...]:
    """Yesterday's names for those that are the same; fresh ones, that yesterday had not, for the others."""
    taken = set(before)
    names = []
    for i, name in enumerate(fresh):
        if i in same:
            names.append(before[same[i]])
            continue
        told, number = name, 2
        while told in taken:
            told, number = f"{name} ({number})", number + 1
        taken.add(told)
        names.append(told)
    return tuple(names)


def stability_index(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """The population stability index: Σ (now − before) ln(now / before) over shares. By custom below 0.1
    is stable, above 0.25 another population."""
    names = {*before, *now}
    p = np.array([max(before.get(name, 0.0), LEAST_SHARE) for name in sorted(names)])
    q = np.array([max(now.get(name, 0.0), LEAST_SHARE) for name in sorted(names)])
    return float(((q - p) * np.log(q / p)).sum())
