"""Events in windows from slots of 24 h, counted back from the instant: tomorrow reads one or two new ones.

A slot (E − 24 h, E] holds, for each user with a line in it, how many lines, and of a field how many values,
their sum, least and greatest. A window of N days is its last N slots. Slots are shared by all windows and
thresholds of the same step. A slot is kept for the version of the tables that it was read from; where the
catalog says how late lines may come (`late`), one that ended longer ago than that before the latest line seen
is final, and kept for every later version.

Sums are added slot by slot, from the oldest, each in the order of its lines: the same lines always give the
same sum. Where an event has an id, different ids are counted, which slots can only where each id of a user
lies in one of them: `insight/slot_ids.py` tells; where one does not, the source counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.comparing import DIGITS, passes, rounded
from insight.conditions import EventTest, Step, Test
from insight.dictionary import UserDictionary
from insight.leaves import Arrays, Key, LeafCache
from insight.packed import bitmap_of
from insight.slot_ids import fold_ids
from insight.slot_kernels import add_counts, add_values, empty_slot, fold_slot
from insight.slot_lines import SlotLines
from insight.slot_proof import SlotProof, instant_at, micros_of
from kernel.ids import fingerprint

#: longest window that is made of slots
MOST_SLOTS = 400
#: days from which on counts are carried over from the day before instead of added anew
CARRIED = 14
_DAY = timedelta(days=1)


def made_of_slots(leaf: object, catalog: Catalog) -> bool:
    """Whether a leaf's number is a sum over slots, or (a count of ids) is one unless ids lie in several."""
    if not isinstance(leaf, EventTest) or leaf.within is None or leaf.within % _DAY:
        return False
    event = catalog.event(leaf.step.event)
    if leaf.within > MOST_SLOTS * _DAY or leaf.agg == "distinct":
        return False
    return leaf.of is None or event.fields[leaf.of].type in ("integer", "decimal")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A step, and the field of it that is summed (None: lines are counted)."""

    step: Step
    of: str | None


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Counts by user number that an earlier day added up."""

    totals: NDArray[Any]
    #: of the slots that are in them, all final
    ends: set[datetime]
    #: of these, the slots that the window has left behind
    gone: Sequence[Arrays]


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The slots of one event, as of one instant and one version of its tables."""

    catalog: Catalog
    event: str
    as_of: datetime
    #: of the event's tables
    version: object
    dictionary: UserDictionary
    cache: LeafCache

    def members(self, leaves: Mapping[str, EventTest]) -> dict[str, tuple[BitMap, bool]]:
        """For each leaf users, and whether they are the members (True) or all that are not (False). Counts
        are left out where the ids of the event's lines lie in several slots."""
        counted = [_days(leaf) for leaf in leaves.values() if leaf.of is None] if self._with_ids else []
        longest = self._ends(max(counted, default=0))
        if self._proof.known_twice(longest):
            leaves, longest = _of_values(leaves), []
        windows = {(Wanted(step=leaf.step, of=leaf.of), _days(leaf)) for leaf in leaves.values()}
        carried = {window: self._carried(*window) for window in windows}
        needed: dict[Wanted, set[datetime]] = {}
        for (wanted, days), before in carried.items():
            known = before.ends if before is not None else set()
            needed.setdefault(wanted, set()).update(set(self._ends(days)) - known)
        proven = self._proof.known(longest) if longest else {}
        if longest:
            needed.setdefault(self._every_line, set()).update(set(longest) - set(proven))
        slots = self._slots(needed)
        if longest and not self._proof.holds(longest, proven, slots[self._every_line]):
            leaves = _of_values(leaves)
            windows = {window for window in windows if window[0].of is not None}
        with ThreadPoolExecutor(2) as pool:
            added = pool.map(
                lambda each: self._totals(each[0], each[1], slots[each[0]], carried[each]), windows
            )
            totals = dict(zip(windows, added, strict=True))
        return {
            name: _fulfilling(leaf, totals[Wanted(step=leaf.step, of=leaf.of), _days(leaf)])
            for name, leaf in leaves.items()
        }

    def _ends(self, days: int) -> list[datetime]:
        """Of the slots of a window, the oldest first."""
        return [self.as_of - k * _DAY for k in reversed(range(days))]

    def _slots(
        self, needed: Mapping[Wanted, set[datetime]]
    ) -> dict[Wanted, dict[datetime, tuple[Arrays, bool]]]:
        """Those slots, each with whether it is final; what is not kept is read, in one scan for all."""
        found: dict[Wanted, dict[datetime, tuple[Arrays, bool]]] = {wanted: {} for wanted in needed}
        missing: list[tuple[Wanted, datetime]] = []
        for wanted, asked in needed.items():
            name = self._name(wanted)
            for end in sorted(asked):
                known = self._known(name, end)
                if known is None:
                    missing.append((wanted, end))
                else:
                    found[wanted][end] = known
        if not missing:
            return found
        first, last = min(end for _, end in missing), max(end for _, end in missing)
        lines = SlotLines.read(
            catalog=self.catalog,
            event=self.event,
            wanted=[(each.step, each.of) for each in dict.fromkeys(wanted for wanted, _ in missing)],
            since=first - _DAY,
            until=last,
            dictionary=self.dictionary,
            ids=self._with_ids and any(wanted.of is None for wanted, _ in missing),
        )
        latest = lines.latest
        late = self.catalog.event(self.event).lateness

        def make(place: tuple[Wanted, datetime]) -> tuple[Arrays, bool]:
            wanted, end = place
            slot = (last - end) // _DAY
            part = lines.slot((wanted.step, wanted.of), slot)
            final = late is not None and latest is not None and end + late <= latest
            if part is None:
                arrays = empty_slot(wanted.of is not None)
            elif wanted.of is not None:
                arrays = fold_slot(*part)
            elif not part[1]:
                arrays = fold_slot(part[0], None)
            else:
                arrays, hashes = fold_ids(*part)
                if wanted == self._every_line:
                    span = lines.span(slot)
                    assert span is not None  # noqa: S101  it has lines
                    self._proof.keep(end, final, arrays, span, hashes)
            self.cache.put_arrays(self._key(self._name(wanted), end, final), arrays)
            return arrays, final

        with ThreadPoolExecutor(2) as pool:
            for (wanted, end), made in zip(missing, pool.map(make, missing), strict=True):
                found[wanted][end] = made
        return found

    @property
    def _with_ids(self) -> bool:
        return self.catalog.event(self.event).id is not None

    @property
    def _every_line(self) -> Wanted:
        return Wanted(step=Step(event=self.event), of=None)

    @cached_property
    def _proof(self) -> SlotProof:
        return SlotProof(cache=self.cache, key=self._key, name=self._name(self._every_line))

    def _known(self, name: str, end: datetime) -> tuple[Arrays, bool] | None:
        for final in (True, False) if self.catalog.event(self.event).late is not None else (False,):
            arrays = self.cache.arrays(self._key(name, end, final))
            if arrays is not None:
                return arrays, final
        return None

    def _totals(
        self,
        wanted: Wanted,
        days: int,
        slots: Mapping[datetime, tuple[Arrays, bool]],
        before: Carried | None,
    ) -> Arrays:
        """Of a window, by user number. Counts go on from the day before; sums are added anew."""
        if wanted.of is not None:
            return add_values([slots[end][0] for end in self._ends(days)], len(self.dictionary))
        most = sum(int(slot["counts"].max(initial=0)) for slot, _ in slots.values())
        most += int(before.totals.max(initial=0)) if before is not None else 0
        totals = np.zeros(len(self.dictionary), np.uint16 if most < 2**16 else np.uint32)
        ends = set[datetime]()
        if before is not None:
            totals[: len(before.totals)] = before.totals
            ends = before.ends & set(self._ends(days))
            for arrays in before.gone:
                add_counts(arrays, totals, -1)
        added = [end for end in self._ends(days) if end not in ends]
        for end in added:
            if slots[end][1]:
                add_counts(slots[end][0], totals, 1)
                ends.add(end)
        if days >= CARRIED and ends:
            kept = {"totals": totals.copy(), "ends": micros_of(sorted(ends))}
            self.cache.put_arrays(self._total_key(wanted, days), kept)
        for end in added:
            if not slots[end][1]:
                add_counts(slots[end][0], totals, 1)
        return {"counts": totals}

    def _carried(self, wanted: Wanted, days: int) -> Carried | None:
        """What an earlier day added up of final slots; None where adding anew is as quick, or needed."""
        if wanted.of is not None or days < CARRIED:
            return None
        kept = self.cache.arrays(self._total_key(wanted, days))
        if kept is None:
            return None
        ends, now = {instant_at(at) for at in kept["ends"]}, set(self._ends(days))
        gone = [self._known(self._name(wanted), end) for end in sorted(ends - now)]
        if len(gone) > len(ends) // 2 or any(slot is None or not slot[1] for slot in gone):
            return None
        return Carried(totals=kept["totals"], ends=ends, gone=[slot[0] for slot in gone if slot is not None])

    def _total_key(self, wanted: Wanted, days: int) -> Key:
        return self._key(f"{self._name(wanted)} {days}", None, True)

    def _name(self, wanted: Wanted) -> str:
        """Of everything that decides what a slot holds, but for time and version."""
        event = self.catalog.event(self.event)
        route = self.catalog.sources[event.source].model_dump(mode="json")
        entity = self.catalog.entity
        place = [str(self.catalog.folder.resolve()), entity.source, entity.table, entity.key]
        hashed_by = [pl.__version__] if event.id is not None and wanted.of is None else []
        return fingerprint([event.model_dump(mode="json"), route, place, repr(wanted), *hashed_by])

    def _key(self, name: str, end: datetime | None, final: bool) -> Key:
        version = "final" if final else self.version
        return ("slot", name, end.isoformat() if end else None, version, self.dictionary.identity)


def _of_values(leaves: Mapping[str, EventTest]) -> dict[str, EventTest]:
    return {name: leaf for name, leaf in leaves.items() if leaf.of is not None}


def _days(leaf: EventTest) -> int:
    assert leaf.within is not None  # noqa: S101  made_of_slots has looked
    return leaf.within // _DAY


def _fulfilling(leaf: EventTest, totals: Arrays) -> tuple[BitMap, bool]:
    """Users whose number passes, or, where that of someone without a line does, those whose does not."""
    test = leaf.test
    if leaf.agg in ("sum", "avg"):
        test = Test(op=test.op, value=rounded(test.value))
    if leaf.agg in ("count", "sum"):
        numbers = totals["counts"] if leaf.agg == "count" else np.round(totals["sum"], DIGITS)
        met = met_by(test, numbers)
        inside = not passes(test, 0)
        return _bitmap(met if inside else ~met), inside
    some = totals["n"] > 0
    if leaf.agg == "avg":
        with np.errstate(invalid="ignore"):
            met = met_by(test, np.round(totals["sum"] / totals["n"], DIGITS))
    else:
        met = met_by(test, totals[leaf.agg])
    return _bitmap(met & some), True


def met_by(test: Test, numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """The test of many numbers."""
    value: Any = test.value
    if test.op in ("in", "not_in"):
        found: NDArray[np.bool_] = np.isin(numbers, np.asarray(value, np.float64))
        return ~found if test.op == "not_in" else found
    if test.op == "between":
        between: NDArray[np.bool_] = (numbers >= value[0]) & (numbers <= value[1])
        return between
    compare = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }[test.op]
    if isinstance(value, int) and numbers.dtype.kind == "u" and not 0 <= value <= np.iinfo(numbers.dtype).max:
        numbers = numbers.astype(np.float64)
    answer: NDArray[np.bool_] = compare(numbers, value)
    return answer


def _bitmap(met: NDArray[np.bool_]) -> BitMap:
    return bitmap_of(np.packbits(met, bitorder="little"))
