"""Members of leaves: from what is kept, else worked out together, table by table.

What is kept of a leaf depends on exactly what it read: the routes and versions of its tables, the instant
if it looks at time, and the dictionary whose numbers it speaks. Sets are of everyone whom the sources name,
users or not, so they stay true when others join; a population keeps to its own universe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import polars as pl
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.comparing import positive
from insight.compile import LeafCompiler
from insight.conditions import (
    EventAge,
    EventTest,
    FieldTest,
    InGroup,
    InOrder,
    Leaf,
    LinkedFields,
    NotFollowed,
    ends,
    leaf_id,
)
from insight.dictionary import UserDictionary
from insight.elastic import is_elastic
from insight.leaves import Key, LeafCache
from insight.reading import answering, check_lookups, check_one_row_each, read_users
from insight.scan import ORDERED, TableScan
from insight.slots import Slots, made_of_slots
from insight.sources.opening import place_of, table_versions
from kernel.errors import Stale
from kernel.ids import fingerprint

#: bytes of bitmaps that are worked out at a time
AT_ONCE = 2**29


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a leaf's source says."""

    users: BitMap
    #: whether they are the members, or all that are not
    inside: bool


@dataclass(frozen=True)
class LeafSets:
    """Leaves of one catalog at one instant."""

    catalog: Catalog
    as_of: datetime
    dictionary: UserDictionary
    cache: LeafCache
    #: `source.table` → version, of what all of this is true of
    versions: Mapping[str, str]
    #: k: only one user in k, by hash
    every: int = 1

    @cached_property
    def everyone(self) -> BitMap:
        """Who exists at `as_of`."""
        entity = self.catalog.entity
        reads = [f"{entity.source}.{entity.table}"]
        instant = self.as_of if entity.since or is_elastic(self.catalog, entity.source) else None
        routes = [entity.model_dump(mode="json"), *self._sources(reads)]
        key = self._key("everyone", routes, reads, instant)
        known = self.cache.get(key)
        if known is None:
            if self.every > 1:
                users = read_users(self.catalog, self.as_of, every=self.every)["user"]
                self.dictionary.extend(users)
                known = self.dictionary.positions(users)
            else:
                known = self._scan(entity.source, entity.table, entity.key).everyone(self.as_of)
            self.cache.put(key, known, disk=self.every == 1)
        return known - self.dictionary.forgotten

    def known(self, leaf: Leaf) -> Told | None:
        """What is kept of a leaf."""
        key = self._leaf_key(leaf)
        for inside in (True, False):
            found = self.cache.get((*key, inside))
            if found is not None:
                return Told(users=found, inside=inside)
        return None

    def told(self, leaves: Sequence[Leaf]) -> dict[str, Told]:
        """Every leaf by its id; those that are not known are worked out now. Raises Stale, BadInput."""
        found: dict[str, Told] = {}
        missing: dict[str, Leaf] = {}
        for leaf in leaves:
            name = leaf_id(leaf)
            if name not in found and name not in missing:
                known = self.known(leaf)
                if known is None:
                    missing[name] = leaf
                else:
                    found[name] = known
        if missing:
            self.check_sources()
            fresh = self._worked_out(missing)
            self.check_sources()
            for name, told in fresh.items():
                key = (*self._leaf_key(missing[name]), told.inside)
                self.cache.put(key, told.users, disk=self.every == 1)
            found |= fresh
        return found

    def quick(self, leaf: Leaf) -> bool:
        """Whether working it out for everyone is one scan of a file or two: no slower than of a sample."""
        if isinstance(leaf, FieldTest):
            return place_of(self.catalog, self.catalog.field_place(leaf.field)[0]).kind in ORDERED
        return isinstance(leaf, EventTest) and self._in_slots(leaf)

    def prepare(self, leaves: Sequence[Leaf]) -> None:
        """Keeps those that are not known yet, table by table and so many at a time as memory holds."""
        missing = {leaf_id(leaf): leaf for leaf in leaves}
        missing = {name: leaf for name, leaf in missing.items() if self.known(leaf) is None}
        # Of one table together, and field leaves apart from events, so that each scan serves many.
        ordered = sorted(missing.values(), key=lambda leaf: (self.reads(leaf), leaf_id(leaf)))
        at_once = max(8 * AT_ONCE // max(len(self.dictionary), 1), 16)
        for begin in range(0, len(ordered), at_once):
            self.told(ordered[begin : begin + at_once])

    def reads(self, leaf: Leaf) -> tuple[str, ...]:
        """The tables, as `source.table`, that decide a leaf."""
        if isinstance(leaf, FieldTest):
            source, table, _ = self.catalog.field_place(leaf.field)
            return (f"{source}.{table}",)
        if isinstance(leaf, LinkedFields):
            return tuple(sorted(self.versions))
        return tuple(
            sorted(
                f"{event.source}.{table}"
                for event in (self.catalog.event(name) for name in _events(leaf))
                for table in (event.table, *event.join)
            )
        )

    def check_sources(self) -> None:
        """Raises Stale when they are no longer what `versions` says."""
        if table_versions(self.catalog) != dict(self.versions):
            raise Stale("the sources have changed since this population was read; read it again")

    def _worked_out(self, missing: Mapping[str, Leaf]) -> dict[str, Told]:
        found: dict[str, Told] = {}
        places: dict[tuple[str, str, str], dict[str, FieldTest]] = {}
        events: dict[str, dict[str, EventTest]] = {}
        rest: dict[str, Leaf] = {}
        for name, leaf in missing.items():
            batched = isinstance(leaf, FieldTest) and self.every == 1
            if isinstance(leaf, FieldTest) and batched and not self._elastic(leaf):
                places.setdefault(self.catalog.field_place(leaf.field), {})[name] = leaf
            elif isinstance(leaf, EventTest) and self._in_slots(leaf):
                events.setdefault(leaf.step.event, {})[name] = leaf
            else:
                rest[name] = leaf
        for place, leaves in places.items():
            sets = self._scan(*place).fields(leaves)
            for name, leaf in leaves.items():
                inside = leaf.test.op == positive(leaf.test).op
                found[name] = Told(users=sets[name], inside=inside)
        for event, tests in events.items():
            check_lookups(self.catalog, event)
            made = self._slots(event, tests)
            for name, test in tests.items():
                if name in made:
                    users, inside = made[name]
                    found[name] = Told(users=users, inside=inside)
                else:
                    rest[name] = test
        with answering(self.catalog) as run:
            compiler = LeafCompiler(catalog=self.catalog, as_of=self.as_of, every=self.every)
            for name, leaf in rest.items():
                self.check_rows(leaf)
                ids, inside = compiler.members(leaf, run)
                found[name] = Told(users=self._numbered(ids), inside=inside)
        return found

    def _numbered(self, users: pl.Series) -> BitMap:
        """Whoever a source names gets a number, so that she is in the set when she becomes a user."""
        self.dictionary.extend(users)
        return self.dictionary.positions(users)

    def check_rows(self, leaf: Leaf | InGroup) -> None:
        """Raises BadInput where a user has several rows of fields, or a joined table is not many-to-one."""
        if isinstance(leaf, InGroup):
            return
        if isinstance(leaf, FieldTest):
            check_one_row_each(self.catalog, leaf.field)
        elif isinstance(leaf, LinkedFields):
            for end in ends(leaf.part):
                self.check_rows(end)
        else:
            for event in _events(leaf):
                check_lookups(self.catalog, event)

    def _in_slots(self, leaf: EventTest) -> bool:
        """Elsewhere than on this machine it is cheaper to let the source add up."""
        local = place_of(self.catalog, self.catalog.event(leaf.step.event).source).kind in ORDERED
        return self.every == 1 and local and made_of_slots(leaf, self.catalog)

    def _slots(self, event: str, leaves: Mapping[str, EventTest]) -> dict[str, tuple[BitMap, bool]]:
        reads = self.reads(next(iter(leaves.values())))
        return Slots(
            catalog=self.catalog,
            event=event,
            as_of=self.as_of,
            version=tuple((each, self.versions[each]) for each in reads),
            dictionary=self.dictionary,
            cache=self.cache,
        ).members(leaves)

    def _elastic(self, leaf: FieldTest) -> bool:
        return is_elastic(self.catalog, self.catalog.field_place(leaf.field)[0])

    def _scan(self, source: str, table: str, key: str) -> TableScan:
        return TableScan(
            catalog=self.catalog,
            source=source,
            table=table,
            key=key,
            version=self.versions[f"{source}.{table}"],
            dictionary=self.dictionary,
            cache=self.cache,
        )

    def _leaf_key(self, leaf: Leaf) -> Key:
        reads = self.reads(leaf)
        if isinstance(leaf, FieldTest):
            routes: list[object] = [self.catalog.fields[leaf.field].model_dump(mode="json")]
            instant = None
        elif isinstance(leaf, LinkedFields):
            routes, instant = [self.catalog.fingerprint], self.as_of
        else:
            routes = [self.catalog.events[name].model_dump(mode="json") for name in _events(leaf)]
            instant = self.as_of
        return self._key(leaf_id(leaf), [*routes, *self._sources(reads)], reads, instant)

    def _sources(self, reads: Sequence[str]) -> list[object]:
        """Where tables are: what their versions are relative to."""
        names = sorted({each.partition(".")[0] for each in reads})
        routes = [self.catalog.sources[name].model_dump(mode="json") for name in names]
        entity = self.catalog.entity
        return [str(self.catalog.folder.resolve()), entity.source, entity.table, entity.key, *routes]

    def _key(
        self, name: str, routes: Sequence[object], reads: Sequence[str], instant: datetime | None
    ) -> Key:
        versions = tuple((each, self.versions[each]) for each in reads)
        at = instant.isoformat() if instant else None
        return (name, fingerprint(list(routes)), versions, at, self.every, self.dictionary.identity)


def _events(leaf: EventTest | EventAge | InOrder | NotFollowed) -> tuple[str, ...]:
    """The events that a leaf looks at."""
    steps = leaf.steps if isinstance(leaf, InOrder) else (leaf.step,)
    if isinstance(leaf, NotFollowed):
        steps = (*steps, leaf.by)
    return tuple(dict.fromkeys(step.event for step in steps))
