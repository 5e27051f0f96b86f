"""`via` worked out: what users say through the entities that they share, and entities by their own fields.

Meaning: see `insight.conditions`. Everything is arrays over links (user number, target), so that a step
costs a few passes over the mapping, however many users there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.comparing import passes
from insight.compile import Run, holds
from insight.conditions import FieldTest, InGroup, Leaf, Linked, LinkedFields, Test, evaluate
from insight.mapping import Links, read_links
from insight.tables import fields
from kernel.errors import BadInput

#: pairs of users that one count over circles may look at
MOST_PAIRS = 200_000_000
Numbers = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Circles:
    """Links as numbers: `user[i]` is linked to `target[i]`, each pair once."""

    user: Numbers
    #: 0 … targets − 1
    target: NDArray[np.int64]

    @classmethod
    def of(cls, links: Links, numbers: pl.Series, universe: BitMap) -> Circles:
        """`numbers`: of the users of `links.pairs`, row by row; NULL where there is none. Users outside the
        universe are left out."""
        pairs = links.pairs.select(
            user=numbers.cast(pl.UInt32), target=(pl.col("target").rank("dense") - 1).cast(pl.Int64)
        ).drop_nulls()
        user = pairs["user"].to_numpy()
        inside = _flags(universe, user)[user] if len(user) else np.zeros(0, bool)
        return cls(user=user[inside], target=pairs["target"].to_numpy()[inside])

    def fulfilling(self, node: Linked, part: BitMap, universe: BitMap) -> BitMap:
        """Who fulfils `node`, `part` being who fulfils what it asks of the circle."""
        hit = _flags(part, self.user)[self.user] if len(self.user) else np.zeros(0, bool)
        if node.quantifier == "any":
            return BitMap(self.user[self._around(hit, node.others) > 0])
        if node.quantifier == "all":
            somebody = self._around(np.ones_like(hit), node.others) > 0
            return BitMap(self.user[somebody]) - BitMap(self.user[self._around(~hit, node.others) > 0])
        assert node.test is not None  # noqa: S101  the parser gives every count a test
        users, counts = self._different(hit, node.others)
        return counted(users, counts, node.test, universe)

    def _around(self, hit: NDArray[np.bool_], others: bool) -> NDArray[np.int64]:
        """For each link, how many links of its target are a hit; with `others`, itself not counted."""
        if not len(hit):
            return np.zeros(0, np.int64)
        around = np.bincount(self.target[hit], minlength=int(self.target.max()) + 1)[self.target]
        return around - hit if others else around

    def _different(self, hit: NDArray[np.bool_], others: bool) -> tuple[Numbers, NDArray[np.int64]]:
        """Users with a link, and how many different hits their circles hold."""
        around = self._around(hit, others)
        users = np.unique(self.user)
        if len(users) == len(self.user):  # one target each: circles do not overlap
            return self.user, around
        pairs = int(around.sum())
        if pairs > MOST_PAIRS:
            problem = f"would look at {pairs:,} pairs of users; give the mapping a smaller `most`"
            raise BadInput(problem, field="via count")
        links = pl.DataFrame({"user": self.user, "target": self.target})
        met = links.join(links.filter(hit).rename({"user": "other"}), on="target").select("user", "other")
        met = met.filter(pl.col("user") != pl.col("other")) if others else met
        found = met.unique().group_by("user").len()
        counts = pl.DataFrame({"user": users}).join(found, on="user", how="left")["len"].fill_null(0)
        return users, counts.cast(pl.Int64).to_numpy()


def counted(users: Numbers, counts: NDArray[np.int64], test: Test, universe: BitMap) -> BitMap:
    """Those whose count passes; who is not among `users` has none."""
    good = [number for number in np.unique(counts).tolist() if passes(test, number)]
    found = BitMap(users[np.isin(counts, good)])
    return found | (universe - BitMap(users)) if passes(test, 0) else found


def by_entity(
    leaf: LinkedFields, catalog: Catalog, as_of: datetime, run: Run, survivors: pl.DataFrame | None = None
) -> tuple[pl.Series, bool]:
    """Users, and whether they are the members (True) or all that are not (False)."""
    links = read_links(catalog, leaf.via, as_of, run, survivors)
    targets = links.pairs.select("target").unique()

    def test(end: Leaf | InGroup) -> pl.Expr:
        assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else in
        rows = fields(catalog, [end.field])
        kept = rows.filter(holds(end.test, rows[end.field])).select("user")
        # an entity without a row has NULL: it passes what NULL passes
        none = end.test.op in ("ne", "not_in", "is_null")
        asked = rows.filter(~holds(end.test, rows[end.field])).select("user") if none else kept
        ids = run(catalog.field_place(end.field)[0], asked)["user"]
        if ids.dtype != targets.schema["target"]:
            problem = f"has ids of another type than the mapping {leaf.via[-1]}"
            raise BadInput(problem, where=catalog.file, field=f"fields.{end.field}", value=str(ids.dtype))
        named = pl.col("target").is_in(ids.implode())
        return ~named if none else named

    met: Any = evaluate(
        leaf.part,
        end=test,
        every=lambda parts: pl.all_horizontal(parts),
        some=lambda parts: pl.any_horizontal(parts),
        opposite=lambda part: ~part,
    )
    judged = links.pairs.join(targets.with_columns(met=met), on="target")
    users = judged.group_by("user").agg(met=pl.col("met").sum().cast(pl.Int64), linked=pl.len())
    if leaf.quantifier == "any":
        return users.filter(pl.col("met") > 0)["user"], True
    if leaf.quantifier == "all":
        return users.filter(pl.col("met") == pl.col("linked"))["user"], True
    assert leaf.test is not None  # noqa: S101  the parser gives every count a test
    good = [number for number in users["met"].unique().to_list() if passes(leaf.test, number)]
    passing = users["met"].is_in(good)
    inside = not passes(leaf.test, 0)
    return users.filter(passing if inside else ~passing)["user"], inside


def _flags(members: BitMap, users: Numbers) -> NDArray[np.bool_]:
    """Truth by number, wide enough for all of `users`."""
    widest = max(int(users.max()) if len(users) else 0, members.max() if members else 0)
    flags = np.zeros(widest + 1, bool)
    flags[np.asarray(members.to_array(), dtype=np.uint32)] = True
    return flags
