"""A population: the users of a catalog as of an instant, and which of them belong to which group.

Each leaf runs once in its own source and becomes a Roaring bitmap of numbers of the dictionary; everything
above leaves is bitmap algebra. One population sees one version of the sources: if they change meanwhile, it
says so.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from pyroaring import BitMap

from insight.algebra import count_of, members_of, set_name
from insight.blocks import LARGE, Laid, countable
from insight.catalog import Catalog
from insight.compile import LeafCompiler
from insight.condition_check import check_leaf, check_linked
from insight.condition_text import phrase
from insight.conditions import (
    AllOf,
    AnyOf,
    Condition,
    InGroup,
    Leaf,
    Linked,
    LinkedFields,
    Not,
    branches,
    ends,
    evaluate,
    leaf_id,
    parents_first,
)
from insight.dictionary import UserDictionary
from insight.elastic import is_elastic
from insight.groups import Group, in_order
from insight.identities import Merges, Renumbered, corrected
from insight.leaf_sets import LeafSets, Told
from insight.leaves import LeafCache
from insight.linked import Circles
from insight.mapping import read_links
from insight.reading import answering
from insight.sources.opening import table_versions
from kernel.clock import aware
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint

#: a group by name, as a definition, or a bare condition
Wanted = str | Group | Condition
NOBODY = Merges()
#: users that a sample aims at, and the universe from which on an estimate samples
SAMPLE, SAMPLE_ABOVE = 200_000, 5_000_000
#: leaves that are kept a second time, cut to the universe
MOST_BOUND = 32


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How many users belong."""

    #: users; the most likely number where it was sampled
    count: int
    #: 95 % interval; both equal `count` where it was counted
    low: int
    high: int
    #: `cached` (every leaf was known), `exact` (counted now) or `sampled`
    method: str
    #: time that it took, milliseconds
    ms: float


@dataclass(frozen=True, kw_only=True)
class Because:
    """One line of the answer to "why is she in it?"."""

    #: how far below the whole condition, from 0
    depth: int
    #: what is stated
    text: str
    #: whether it holds for the user
    holds: bool


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be worked out."""

    condition: Condition
    #: the groups that it needs, each after those that it names
    below: Mapping[str, Condition]
    #: members of those that need not be worked out: pinned, or published
    given: Mapping[str, BitMap]


class Population:
    """The users of `catalog` as of `as_of`, with the groups that conditions may name.

    `pinned`: static group → its members' ids; a static group that is not pinned yet is worked out
    like a dynamic one. `cache`: leaves already known, to be shared; `dictionary`: whose numbers they speak
    (one in memory when there is none). `every` = k keeps one user in k, by hash, for samples.
    """

    def __init__(
        self,
        catalog: Catalog,
        as_of: datetime,
        groups: Mapping[str, Group] | None = None,
        *,
        pinned: Mapping[str, pl.Series] | None = None,
        cache: LeafCache | None = None,
        every: int = 1,
        merges: Merges = NOBODY,
        dictionary: UserDictionary | None = None,
    ) -> None:
        self.catalog, self.as_of = catalog, aware(as_of, "as_of")
        self.groups, self.pinned = dict(groups or {}), dict(pinned or {})
        self._cache = cache if cache is not None else LeafCache()
        #: `source.table` → version, of all that is read
        self.sources = table_versions(catalog)
        self.source_fingerprint = fingerprint(sorted(self.sources.items()))
        entity = catalog.entity
        ids = fingerprint(
            [str(catalog.folder.resolve()), catalog.sources[entity.source].url, entity.table, entity.key]
        )
        self.dictionary = dictionary if dictionary is not None else self._cache.dictionary(ids)
        self.dictionary.refresh()
        self._leaf_sets = LeafSets(catalog, self.as_of, self.dictionary, self._cache, self.sources, every)
        self._everyone = self._leaf_sets.everyone
        self._bound: OrderedDict[str, tuple[Told, BitMap]] = OrderedDict()
        self._laid = Laid()
        self.merges = merges
        self._merged = Renumbered.of(merges, self.dictionary.numbers)
        self._circles: dict[tuple[str, ...], Circles] = {}
        self._as_one: dict[str, BitMap] = {}
        self.universe = self._merged.alias(self._everyone)
        #: members of a group where they are known already, as of this instant, by this definition and all
        #: that it names, from these sources: they are taken instead of worked out
        self.published: Callable[[str], BitMap | None] = lambda _: None

    @property
    def cache(self) -> LeafCache:
        """Where what was worked out is kept."""
        return self._cache

    def members(self, wanted: Wanted) -> BitMap:
        """The users who belong, as numbers of `dictionary`. Raises BadInput, NotFound, Stale."""
        plan = self._plan(wanted)
        return BitMap(self._algebra(plan.condition, self._sets(plan)))

    def prepare(self, wanted: Iterable[Wanted]) -> None:
        """Works out what is not known of all leaves of these groups together: each table is read once for
        hundreds of them. Afterwards `members` of each takes milliseconds. Raises as `members` does."""
        leaves = [leaf for each in wanted for leaf in self._needed(self._plan(each))]
        self._leaf_sets.prepare(leaves)

    def users(self, members: BitMap) -> pl.Series:
        """Their own ids, in their own order."""
        found = self.dictionary.users(members)
        return found if found.is_sorted() else found.sort()

    def estimate(
        self, wanted: Wanted, *, sample_above: int = SAMPLE_ABOVE, sample_size: int = SAMPLE
    ) -> Estimate:
        """How many belong: from cached leaves, else counted, else (a universe above `sample_above`, and a
        leaf that is no plain scan) from about `sample_size` users by hash, with Wilson's interval at 95 %."""
        begun = time.perf_counter()
        plan = self._plan(wanted)
        known = self._known(plan)
        # a circle reaches outside any sample, and Elasticsearch draws none
        whole = is_elastic(self.catalog, self.catalog.entity.source) or any(
            isinstance(node, Linked | LinkedFields)
            for each in (plan.condition, *plan.below.values())
            for node in parents_first(each)
        )
        slow = any(not self._leaf_sets.quick(leaf) for leaf in self._needed(plan))
        if not known and slow and not whole and len(self.universe) > sample_above:
            every = math.ceil(len(self.universe) / sample_size)
            sample = Population(
                self.catalog,
                self.as_of,
                self.groups,
                pinned=self.pinned,
                cache=self._cache,
                every=every,
                merges=self.merges,
                dictionary=self.dictionary,
            )
            if len(sample.universe):
                count, low, high = wilson(
                    len(sample.members(wanted)), len(sample.universe), len(self.universe)
                )
                return Estimate(count=count, low=low, high=high, method="sampled", ms=_since(begun))
        count = self._count(plan)
        method = "cached" if known else "exact"
        return Estimate(count=count, low=count, high=count, method=method, ms=_since(begun))

    def explain(self, wanted: Wanted, user: object) -> tuple[Because, ...]:
        """Why a user belongs or not: the condition line by line, groups opened where they stand.

        Raises NotFound when the user does not exist as of `as_of`.
        """
        if isinstance(user, int | str):
            user = self.merges.survivor(user)
        position = self.dictionary.position(user)
        if position not in self.universe:
            raise NotFound("user", user, self.dictionary.users(self._everyone[:8]).to_list())
        plan = self._plan(wanted, opened=True)
        sets = self._sets(plan)
        lines: list[Because] = []
        waiting: list[tuple[Condition, int]] = [(plan.condition, 0)]
        while waiting:
            node, depth = waiting.pop()
            holds = evaluate(
                node,
                end=lambda end: position in sets[set_name(end)],
                every=all,
                some=any,
                opposite=lambda part: not part,
                through=lambda linked, _: position in self._algebra(linked, sets),
            )
            lines.append(Because(depth=depth, text=phrase(node), holds=holds))
            parts: Sequence[Condition] = () if isinstance(node, Linked) else branches(node)
            if isinstance(node, InGroup) and node.group in plan.below:
                parts = (plan.below[node.group],)
            waiting.extend((part, depth + 1) for part in reversed(parts))
        return tuple(lines)

    def _plan(self, wanted: Wanted, *, opened: bool = False) -> _Plan:
        """What is to be worked out, every leaf checked; `opened`: also what is published already."""
        if isinstance(wanted, str):
            if wanted not in self.groups:
                raise NotFound("group", wanted, self.groups)
            condition: Condition = InGroup(group=wanted)
            where = ""
        elif isinstance(wanted, Group):
            condition, where = wanted.condition, f"group {wanted.name}"
            if wanted.name in in_order(condition, {**self.groups, wanted.name: wanted}, where):
                raise BadInput("refers to itself", where=where, field="group", value=wanted.name)
        else:
            condition, where = wanted, ""
        checked = self._checked(condition, where)
        below = in_order(condition, self.groups, where)
        given = {
            name: found for name in below if (found := self._given(name, published=not opened)) is not None
        }
        reached = _reached(condition, below, given)
        return _Plan(
            condition=checked,
            below={name: self._checked(below[name], f"group {name}") for name in below if name in reached},
            given=given,
        )

    def _given(self, name: str, *, published: bool) -> BitMap | None:
        """Members of a group that need not be worked out."""
        if self.groups[name].mode != "static":
            return self.published(name) if published else None
        if name not in self.pinned:
            return None
        return self._merged.alias(self.dictionary.positions(self.pinned[name]))

    def _checked(self, condition: Condition, where: str) -> Condition:
        """The same tree with typed leaves."""
        return evaluate(
            condition,
            end=lambda end: end if isinstance(end, InGroup) else check_leaf(end, self.catalog, where),
            every=lambda parts: AllOf(parts=tuple(parts)),
            some=lambda parts: AnyOf(parts=tuple(parts)),
            opposite=lambda part: Not(part=part),
            through=lambda node, part: check_linked(node, part, self.catalog, where),
        )

    def _count(self, plan: _Plan) -> int:
        condition, sets = plan.condition, self._sets(plan)
        if isinstance(condition, InGroup) and condition.group in plan.below:
            condition = plan.below[condition.group]
        if len(self.universe) < LARGE or not countable(condition):
            return count_of(condition, sets, self.universe, self._through)
        found = self._laid.count(condition, sets, self.universe)
        if found is None:
            found = count_of(condition, sets, self.universe, self._through)
            self._laid.lay(condition, sets, self.universe)
        return found

    def _sets(self, plan: _Plan) -> dict[str, BitMap]:
        """Members of every leaf (by its id) and of every group (by `group NAME`) that is needed."""
        sets = self._leaves(self._needed(plan))
        sets |= {f"group {name}": members for name, members in plan.given.items()}
        for name, each in plan.below.items():
            sets[f"group {name}"] = self._algebra(each, sets)
        return sets

    def _needed(self, plan: _Plan) -> list[Leaf]:
        conditions = (plan.condition, *plan.below.values())
        return [end for each in conditions for end in ends(each) if not isinstance(end, InGroup)]

    def _known(self, plan: _Plan) -> bool:
        return all(self._leaf_sets.known(leaf) is not None for leaf in self._needed(plan))

    def _leaves(self, leaves: Sequence[Leaf]) -> dict[str, BitMap]:
        """The members of each leaf among those who exist."""
        sets = {name: self._within(name, told) for name, told in self._leaf_sets.told(leaves).items()}
        return self._corrected(leaves, sets) if self.merges else sets

    def _within(self, name: str, told: Told) -> BitMap:
        bound = self._bound.get(name)
        if bound is None or bound[0].users is not told.users:
            if told.inside and self._nobody_else(told.users):
                return told.users
            members = told.users & self._everyone if told.inside else self._everyone - told.users
            self._bound[name] = bound = (told, members)
            while len(self._bound) > MOST_BOUND:
                self._bound.pop(next(iter(self._bound)), None)
        return bound[1]

    def _nobody_else(self, users: BitMap) -> bool:
        everyone = self._everyone
        if not users:
            return True
        if everyone and everyone.max() - everyone.min() == len(everyone) - 1:  # a range: look at the ends
            return bool(everyone.min() <= users.min() and users.max() <= everyone.max())
        return bool(users.issubset(everyone))

    def _corrected(self, leaves: Sequence[Leaf], sets: Mapping[str, BitMap]) -> dict[str, BitMap]:
        """The leaves with merged ids as one person each; each asked once a population."""
        missing = {name: leaf for leaf in leaves if (name := leaf_id(leaf)) not in self._as_one}
        if missing:
            with answering(self.catalog) as run:
                compiler = LeafCompiler(catalog=self.catalog, as_of=self.as_of, merges=self.merges)
                for name, leaf in missing.items():
                    self._as_one[name] = corrected(
                        leaf,
                        sets[name],
                        self._merged,
                        self._everyone,
                        lambda leaf: compiler.members(leaf, run),
                        self.dictionary.positions,
                    )
        return {name: self._as_one[name] for name in sets}

    def _algebra(self, condition: Condition, sets: Mapping[str, BitMap]) -> BitMap:
        return members_of(condition, sets, self.universe, self._through)

    def _through(self, node: Linked, part: BitMap) -> BitMap:
        if node.via not in self._circles:
            with answering(self.catalog) as run:
                links = read_links(self.catalog, node.via, self.as_of, run, self.merges.frame)
            numbers = self.dictionary.numbers(links.pairs["user"])
            self._circles[node.via] = Circles.of(links, numbers, self.universe)
        return self._circles[node.via].fulfilling(node, part, self.universe)


def wilson(hits: int, sample: int, universe: int) -> tuple[int, int, int]:
    """Count, low and high in the universe from hits in a sample: E. B. Wilson's score interval, 95 %."""
    z, share = 1.959964, hits / sample
    middle = (share + z * z / (2 * sample)) / (1 + z * z / sample)
    half = z / (1 + z * z / sample) * math.sqrt(share * (1 - share) / sample + z * z / (4 * sample * sample))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return round(share * universe), math.floor(low * universe), math.ceil(high * universe)


def _since(begun: float) -> float:
    return round(1000 * (time.perf_counter() - begun), 3)


def _reached(condition: Condition, below: Mapping[str, Condition], given: Container[str]) -> set[str]:
    """Groups that the condition names, through others too but not through those that are given."""
    found: set[str] = set()
    waiting = [condition]
    while waiting:
        for end in ends(waiting.pop()):
            if isinstance(end, InGroup) and end.group not in found and end.group not in given:
                found.add(end.group)
                waiting.append(below[end.group])
    return found
