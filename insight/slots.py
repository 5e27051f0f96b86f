"""Events in windows from slots of 24 h, counted back from the instant: tomorrow reads one or two new ones.

A slot (E − 24 h, E] holds, for each user with a line in it, how many lines, and of a field how many values,
their sum, least and greatest. A window of N days is its last N slots. Slots are shared by all windows and
thresholds of the same step. A slot is kept for the version of the tables that it was read from; where the
catalog says how late lines may come (`late`), one that ended longer ago than that before the latest line seen
is final, and kept for every later version.

Sums are added slot by slot, from the oldest, each in the order of its lines: the same lines always give the
same sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.comparing import DIGITS, passes, rounded
from insight.conditions import EventTest, Step, Test
from insight.dictionary import UserDictionary
from insight.leaves import Arrays, Key, LeafCache
from insight.packed import bitmap_of
from insight.slot_kernels import add_counts, add_values, empty_slot, fold_slot
from insight.slot_lines import SlotLines
from kernel.ids import fingerprint

#: longest window that is made of slots
MOST_SLOTS = 400
_DAY = timedelta(days=1)


def made_of_slots(leaf: object, catalog: Catalog) -> bool:
    """Whether a leaf's number is a sum over slots: not where lines of one id may lie in several."""
    if not isinstance(leaf, EventTest) or leaf.within is None or leaf.within % _DAY:
        return False
    event = catalog.event(leaf.step.event)
    if leaf.within > MOST_SLOTS * _DAY or leaf.agg == "distinct":
        return False
    if leaf.of is None:
        return event.id is None
    return event.fields[leaf.of].type in ("integer", "decimal")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A step, and the field of it that is summed (None: lines are counted)."""

    step: Step
    of: str | None


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
        """For each leaf users, and whether they are the members (True) or all that are not (False)."""
        days: dict[Wanted, int] = {}
        for leaf in leaves.values():
            wanted = Wanted(step=leaf.step, of=leaf.of)
            days[wanted] = max(days.get(wanted, 0), _days(leaf))
        slots = self._slots(days)
        totals: dict[tuple[Wanted, int], Arrays] = {}
        found: dict[str, tuple[BitMap, bool]] = {}
        for name, leaf in leaves.items():
            key = (Wanted(step=leaf.step, of=leaf.of), _days(leaf))
            if key not in totals:
                totals[key] = self._totals(*key, slots[key[0]])
            found[name] = _fulfilling(leaf, totals[key])
        return found

    def _ends(self, days: int) -> list[datetime]:
        """Of the slots of a window, the oldest first."""
        return [self.as_of - k * _DAY for k in reversed(range(days))]

    def _slots(self, days: Mapping[Wanted, int]) -> dict[Wanted, dict[datetime, tuple[Arrays, bool]]]:
        """Every slot, with whether it is final; those that are not kept are read, in one scan for all."""
        found: dict[Wanted, dict[datetime, tuple[Arrays, bool]]] = {wanted: {} for wanted in days}
        missing: list[tuple[Wanted, datetime]] = []
        for wanted, most in days.items():
            name = self._name(wanted)
            for end in self._ends(most):
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
        )
        latest = lines.latest
        late = self.catalog.event(self.event).lateness

        def make(place: tuple[Wanted, datetime]) -> tuple[Arrays, bool]:
            wanted, end = place
            part = lines.slot((wanted.step, wanted.of), (last - end) // _DAY)
            arrays = fold_slot(*part) if part is not None else empty_slot(wanted.of is not None)
            final = late is not None and latest is not None and end + late <= latest
            self.cache.put_arrays(self._key(self._name(wanted), end, final), arrays)
            return arrays, final

        with ThreadPoolExecutor(2) as pool:
            for (wanted, end), made in zip(missing, pool.map(make, missing), strict=True):
                found[wanted][end] = made
        return found

    def _known(self, name: str, end: datetime) -> tuple[Arrays, bool] | None:
        for final in (True, False) if self.catalog.event(self.event).late is not None else (False,):
            arrays = self.cache.arrays(self._key(name, end, final))
            if arrays is not None:
                return arrays, final
        return None

    def _totals(self, wanted: Wanted, days: int, slots: Mapping[datetime, tuple[Arrays, bool]]) -> Arrays:
        """Of a window, by user number. Counts are taken on from the day before; sums are added anew."""
        if wanted.of is not None:
            return add_values([slots[end][0] for end in self._ends(days)], len(self.dictionary))
        ends = self._ends(days)
        final = [end for end in ends if slots[end][1]]
        name, size = self._name(wanted), len(self.dictionary)
        totals = self._carried(name, days, final, slots) if final else None
        if totals is None:
            totals = np.zeros(size, np.uint32)
            for end in final:
                add_counts(slots[end][0], totals, 1)
        if final:
            narrow = totals.astype(np.uint16) if size == 0 or totals.max() < 2**16 else totals
            kept = np.array([end.timestamp() for end in final])
            self.cache.put_arrays(self._key(f"{name} {days}", None, True), {"totals": narrow, "ends": kept})
        for end in ends:
            if not slots[end][1]:
                add_counts(slots[end][0], totals, 1)
        return {"counts": totals}

    def _carried(
        self, name: str, days: int, final: Sequence[datetime], slots: Mapping[datetime, tuple[Arrays, bool]]
    ) -> NDArray[np.uint32] | None:
        """The totals of final slots from those of an earlier day; None where re-adding is as quick."""
        before = self.cache.arrays(self._key(f"{name} {days}", None, True))
        if before is None:
            return None
        was, now = set(before["ends"].tolist()), {end.timestamp() for end in final}
        if len(was ^ now) > len(final) // 2:
            return None
        totals = np.zeros(len(self.dictionary), np.uint32)
        totals[: len(before["totals"])] = before["totals"]
        for end in (datetime.fromtimestamp(at, self.as_of.tzinfo) for at in was - now):
            gone = slots[end] if end in slots else self._known(name, end)
            if gone is None or not gone[1]:
                return None
            add_counts(gone[0], totals, -1)
        for end in final:
            if end.timestamp() not in was:
                add_counts(slots[end][0], totals, 1)
        return totals

    def _name(self, wanted: Wanted) -> str:
        """Of everything that decides what a slot holds, but for time and version."""
        event = self.catalog.event(self.event)
        route = self.catalog.sources[event.source].model_dump(mode="json")
        entity = self.catalog.entity
        place = [str(self.catalog.folder.resolve()), entity.source, entity.table, entity.key]
        return fingerprint([event.model_dump(mode="json"), route, place, repr(wanted)])

    def _key(self, name: str, end: datetime | None, final: bool) -> Key:
        version = "final" if final else self.version
        return ("slot", name, end.isoformat() if end else None, version, self.dictionary.identity)


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
        found = np.isin(numbers, np.asarray(value, np.float64))
        return ~found if test.op == "not_in" else found
    if test.op == "between":
        return (numbers >= value[0]) & (numbers <= value[1])
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
