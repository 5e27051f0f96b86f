"""What sets a group apart: each label and bin, how often in the group and how often in the base.

The *index* of a row is 100 × share in the group / share in the base, the target group index of market
research: 100 is no difference, 200 twice as often. Its interval (95 %, each row on its own) is that of the
log of a ratio of shares (D. Katz et al., "Obtaining confidence intervals for the risk ratio in cohort
studies", 1978), less the covariance of those who are in both.

*Significance* is the z of two shares, with the pooled share and the variance
p(1 − p)(1/n₁ + 1/n₂ − 2 n₁₂/(n₁ n₂)), n₁₂ users being in both: their agreement is no evidence. Against a base
that holds the group it is the test of the group against the rest. `q` is the two-sided p, adjusted over all
rows that are shown (Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", 1995).

*Strength*, by which rows are sorted, is how far from 100 the index surely is: the log (base 2) of the end of
the interval that is nearer to 100, 0 where 100 is inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap
from scipy.special import erfc

from insight.conditions import Leaf, leaf_id
from insight.population import Population
from insight.profile_slices import Slice, derive_slices
from kernel.errors import BadInput, NotFound

#: window in which events are looked at, and users below which a row is not told, unless stated otherwise
WITHIN, LEAST = timedelta(days=90), 30
_Z95 = 1.959964
_Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """One label or bin of one field or event."""

    #: catalog name of a field or event
    feature: str
    #: as a person reads it
    label: str
    #: ends of a bin, low ≤ x < high; None where it has none, or is no bin
    low: object
    high: object
    #: users who have it
    count: int
    base_count: int
    #: parts of all users of the group and of the base, 0 to 1
    share: float
    base_share: float
    #: 100 × share / base_share, with its 95 % interval
    index: float
    index_low: float
    index_high: float
    #: share / base_share − 1: 0.5 is half as often again
    lift: float
    #: difference of the shares in standard errors
    z: float
    #: two-sided, as if this were the only row, and adjusted for all rows
    p: float
    q: float
    #: how far from 100 the index surely is, as a power of two
    strength: float


@dataclass(frozen=True, kw_only=True)
class GroupProfile:
    """A group against its base."""

    group: str
    #: name of the base; None: everybody
    against: str | None
    as_of: datetime
    #: users in the group, in the base, and in both
    count: int
    base: int
    both: int
    #: rows below which number of users are hidden, and how many are
    least: int
    hidden: int
    #: strongest first
    rows: tuple[ProfileRow, ...]
    #: feature → why it has no rows
    left_out: Mapping[str, str]


def derive_group_profile(
    people: Population,
    group: str,
    against: str | None = None,
    *,
    fields: Sequence[str] = (),
    within: timedelta = WITHIN,
    least: int = LEAST,
) -> GroupProfile:
    """`group` against another, or against everybody, as of the population's instant.

    `fields`: names of user fields and events; all without any. `within`: window of the events. Rows of
    which fewer than `least` users of the base, or of the group (found and expected), can be told are hidden.
    Counts are those of bitmaps of leaves, which are kept. Raises NotFound for unknown names, BadInput for
    an empty group or base.
    """
    catalog = people.catalog
    known = [*catalog.user_fields, *catalog.events]
    for name in fields:
        if name not in known:
            raise NotFound("field or event", name, known, field="fields")
    if least < 1:
        raise BadInput("must be at least 1", field="least", value=least)
    if within <= timedelta(0):
        raise BadInput("must be more than nothing", field="within", value=str(within))
    members = _some(people, group)
    base = people.universe if against is None else _some(people, against)
    asked = dict.fromkeys(fields or known)
    told = derive_slices(
        people,
        [name for name in catalog.user_fields if name in asked],
        [name for name in catalog.events if name in asked],
        within,
    )
    counted = _counts(people, told.slices, members, base)
    rows, hidden = compare(told.slices, counted, (len(members), len(base), len(members & base)), least)
    return GroupProfile(
        group=group,
        against=against,
        as_of=people.as_of,
        count=len(members),
        base=len(base),
        both=len(members & base),
        least=least,
        hidden=hidden,
        rows=rows,
        left_out=told.left_out,
    )


def _some(people: Population, name: str) -> BitMap:
    members = people.members(name)
    if not members:
        raise BadInput("has no members to compare", where=f"group {name}", field="as_of", value=people.as_of)
    return members


def _counts(people: Population, slices: Sequence[Slice], members: BitMap, base: BitMap) -> _Numbers:
    """[slices × 3]: users of the slice in the group, in the base, in both."""
    leaves = {leaf_id(leaf): leaf for each in slices for leaf in (each.inside, each.outside) if leaf}
    people.prepare(leaves.values())
    both = members & base
    sets = (members, base, both)
    found = {}
    for name, leaf in leaves.items():
        users = people.members(leaf)
        found[name] = np.array([users.intersection_cardinality(each) for each in sets], np.float64)
    everybody = np.array([len(each) for each in sets], np.float64)

    def count(leaf: Leaf | None, without: _Numbers) -> _Numbers:
        return without if leaf is None else found[leaf_id(leaf)]

    rows = [count(each.inside, everybody) - count(each.outside, np.zeros(3)) for each in slices]
    return np.array(rows).reshape(-1, 3)


def compare(
    slices: Sequence[Slice], counted: _Numbers, sizes: tuple[int, int, int], least: int
) -> tuple[tuple[ProfileRow, ...], int]:
    """The rows that are told, strongest first, and how many are hidden.

    Nobody in the group has it: its interval ends where 3 users would be (the rule of three).
    `counted` [slices × 3] and `sizes`: users in the group, in the base, in both.
    """
    n1, n2, n12 = (float(size) for size in sizes)
    expected = counted[:, 1] / n2 * n1
    shown = (counted[:, 1] >= least) & (np.maximum(counted[:, 0], expected) >= least)
    here = np.flatnonzero(shown)
    x1, x2, x12 = counted[here].T
    p1, p2 = x1 / n1, x2 / n2
    z = _scores(x1, x2, x12, n1, n2, n12)
    p = erfc(np.abs(z) / math.sqrt(2))
    q = adjusted(p)
    low, high = _ratio_interval(x1, x2, x12, n1, n2, n12)
    with np.errstate(divide="ignore"):
        nearer = np.minimum(np.abs(np.log2(low)), np.abs(np.log2(high)))
    strength = np.where((low <= 1) & (high >= 1), 0.0, nearer)
    rows = []
    for i, place in enumerate(here.tolist()):
        each, ratio = slices[place], float(p1[i] / p2[i])
        rows.append(
            ProfileRow(
                feature=each.feature,
                label=each.label,
                low=each.low,
                high=each.high,
                count=int(x1[i]),
                base_count=int(x2[i]),
                share=float(p1[i]),
                base_share=float(p2[i]),
                index=100 * ratio,
                index_low=100 * float(low[i]),
                index_high=100 * float(high[i]),
                lift=ratio - 1,
                z=float(z[i]),
                p=float(p[i]),
                q=float(q[i]),
                strength=float(strength[i]),
            )
        )
    rows.sort(key=lambda row: (-round(row.strength, 9), -abs(row.z), row.feature, row.label))
    return tuple(rows), int(len(slices) - len(rows))


def _scores(x1: _Numbers, x2: _Numbers, x12: _Numbers, n1: float, n2: float, n12: float) -> _Numbers:
    """z of the difference of shares; 0 where there is no variance to compare it with."""
    pooled = (x1 + x2 - x12) / (n1 + n2 - n12)
    variance = pooled * (1 - pooled) * (1 / n1 + 1 / n2 - 2 * n12 / (n1 * n2))
    gap = x1 / n1 - x2 / n2
    some = variance > 1e-18
    z: _Numbers = np.divide(gap, np.sqrt(variance, where=some, out=np.ones_like(gap)), where=some,
                            out=np.zeros_like(gap))  # fmt: skip
    return z


def _ratio_interval(
    x1: _Numbers, x2: _Numbers, x12: _Numbers, n1: float, n2: float, n12: float
) -> tuple[_Numbers, _Numbers]:
    """95 % ends of the ratio of shares. Nobody in the group: from 0 to that of 3 users."""
    p1, p2 = x1 / n1, x2 / n2
    p12 = x12 / n12 if n12 else np.zeros_like(x1)
    some = x1 > 0
    safe = np.where(some, p1, 1.0)
    shared = n12 * p12 * (1 - p12) / (n1 * n2 * safe * p2)
    variance = (1 - safe) / (n1 * safe) + (1 - p2) / (n2 * p2) - 2 * shared
    half = _Z95 * np.sqrt(np.maximum(variance, 0))
    ratio = safe / p2
    low = np.where(some, ratio * np.exp(-half), 0.0)
    high = np.where(some, ratio * np.exp(half), 3 / n1 / p2)
    return low, high


def adjusted(p: _Numbers) -> _Numbers:
    """Benjamini and Hochberg's q of each p."""
    order = np.argsort(p)[::-1]
    rank = np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum(1.0, np.minimum.accumulate(p[order] * len(p) / rank)) if len(p) else p
    return q
