"""Declared features of one user at this instant: what the batch knew of her, and what came since.

The same definitions as `models.feature_batch` has for everybody, over a handful of lines in NumPy. Nothing is
carried forward from the batch but its lines, so an event that is late, sent again or out of order ends where
the next batch will end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernel.clock import aware, micros, parse_window
from kernel.errors import BadInput, NotFound
from models.exact_sums import exact_total
from models.feature_batch import as_text
from models.feature_definitions import (
    CELL,
    ZERO,
    Aggregate,
    FeatureSet,
    Label,
    OfCell,
    OfEvent,
    OfField,
    Ratio,
    Rhythm,
    Since,
    Slope,
    Test,
)
from models.feature_facts import DAY

Mask = NDArray[np.bool_]
Values = dict[str, float | None]
_TINY = timedelta(microseconds=1)
_OPS = {"gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal}


@dataclass
class Lines:
    """Lines of one event of one user, in columns."""

    at: list[int] = field(default_factory=list)
    ids: list[Hashable] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    #: the same in arrays, until a line is added
    _arrays: dict[tuple[str, str], NDArray[Any]] = field(default_factory=dict)
    #: column → value → its code
    _codes: dict[str, dict[Any, int]] = field(default_factory=dict)

    def add(self, at: int, event_id: Hashable, line: Mapping[str, Any], names: Sequence[str]) -> None:
        self.at.append(at)
        self.ids.append(event_id)
        for name in names:
            self.values.setdefault(name, []).append(line.get(name))
        self._arrays.clear()

    def instants(self) -> NDArray[np.int64]:
        return self._array("at", "", lambda: np.array(self.at, np.int64))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """NaN where there is none."""
        values = self.values[name]
        plain = (math.nan if each is None else float(each) for each in values)
        return self._array("numbers", name, lambda: np.fromiter(plain, np.float64, len(values)))

    def codes(self, name: str | None) -> NDArray[np.int64]:
        """Whole numbers that are equal where values are (of events, where there is no name); −1: none."""
        known = self._codes.setdefault(name or "", {})

        def coded() -> NDArray[np.int64]:
            values = self.ids if name is None else self.values[name]
            found = (-1 if each is None else known.setdefault(each, len(known)) for each in values)
            return np.fromiter(found, np.int64, len(values))

        return self._array("ids" if name is None else "codes", name or "", coded)

    def code(self, name: str, value: Any) -> int:
        """−2 for a value that is in no line."""
        return self._codes.get(name, {}).get(value, -2)

    def _array(self, kind: str, name: str, made: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if (kind, name) not in self._arrays:
            self._arrays[kind, name] = made()
        return self._arrays[kind, name]


class OnlineFeatures:
    """Features of one user after another. `begins`: event → when its records begin (`Facts.begin`).

    `batch`: event → user, at, event_id and fields of everybody, or of whoever is asked for.
    """

    def __init__(
        self,
        features: FeatureSet,
        batch: Mapping[str, pl.DataFrame],
        begins: Mapping[str, datetime | None],
        fields: pl.DataFrame | None = None,
    ) -> None:
        for column in features.unsettled:
            said = "has labels that are still to be found in the data"
            raise BadInput(said, where=f"features {features.name}", field=column)
        self.features, self._begins = features, begins
        self._read = features.events
        self._batch = {name: batch[name].sort("user") for name in self._read if name in batch}
        self._fields = None if fields is None else fields.sort("user")
        self._users: dict[Any, dict[str, Lines]] = {}
        self._ids: dict[tuple[Any, str], set[Hashable]] = {}

    def add(
        self,
        event: str,
        user: Any,
        event_id: Hashable,
        at: datetime,
        lines: Sequence[Mapping[str, Any]] = ({},),
    ) -> bool:
        """Takes in an event with its lines; False when it is known already, and nothing changes.

        Raises NotFound for an event that no feature is made of, BadInput for a time without a zone.
        """
        if event not in self._read:
            raise NotFound("event", event, self._read, where=f"features {self.features.name}")
        instant, mine = micros(at), self._lines(user)
        known = self._ids.setdefault((user, event), set(mine[event].ids))
        if event_id in known:
            return False
        known.add(event_id)
        for line in lines:
            mine[event].add(instant, event_id, line, self._read[event])
        return True

    def forget(self, user: Any) -> None:
        """Drops what came since the batch, and what was read of her."""
        self._users.pop(user, None)
        for event in self._read:
            self._ids.pop((user, event), None)

    def of(self, user: Any, as_of: datetime) -> Values:
        """Column → value, None where it is missing; as the batch of that instant would have it, to 1e-9."""
        at, lines, found = micros(aware(as_of, "as_of")), self._lines(user), Values()
        seen: dict[tuple[str, bool], _Seen] = {}
        for each in self.features.features:
            if isinstance(each, OfEvent):
                key = (each.event, each.before)
                if key not in seen:
                    seen[key] = self._seen(lines[each.event], each.event, at, each.before)
                self._of_event(each, seen[key], as_of, found)
            elif isinstance(each, Ratio):
                found[each.columns[0]] = _ratio(each, found)
            else:
                found.update(self._of_field(each, user, lines, at))
        return {name: None if value is None else float(f"{value:.11e}") for name, value in found.items()}

    def _lines(self, user: Any) -> dict[str, Lines]:
        if user not in self._users:
            self._users[user] = {name: self._from_batch(name, user) for name in self._read}
        return self._users[user]

    def _from_batch(self, event: str, user: Any) -> Lines:
        frame, names = self._batch.get(event), self._read[event]
        if frame is None:
            return Lines(values={name: [] for name in names})
        mine = _rows(frame, user)
        return Lines(
            at=mine["at"].to_physical().to_list(),
            ids=mine["event_id"].to_list(),
            values={name: _plain(mine[name]) for name in names},
        )

    def _seen(self, lines: Lines, event: str, at: int, before: bool) -> _Seen:
        age = at - lines.instants()
        keep = age > 0 if before else age >= 0
        heard = self.features.known_at.get(event)
        if heard is not None:
            told = lines.values[heard]
            keep &= np.array([each is not None and _instant(each) <= at for each in told], bool)
        return _Seen(age=age[keep], lines=lines, places=np.flatnonzero(keep))

    def _covered(self, event: str, as_of: datetime) -> float:
        first = self._begins.get(event)
        if first is None or first > as_of:
            return 1.0
        return max((as_of - first).total_seconds() / 86_400, 1.0)

    def _of_event(self, each: OfEvent, seen: _Seen, as_of: datetime, found: Values) -> None:
        mask = seen.holds(each.where)
        if isinstance(each, Since):
            ages = seen.age[mask]
            value = None if not len(ages) else float(ages.min() if each.since == "last" else ages.max()) / DAY
            if each.share and value is not None:
                value /= self._covered(each.event, as_of)
            found[each.columns[0]] = value
        elif isinstance(each, Rhythm):
            found.update(zip(each.columns, _rhythm(seen.age[mask], each), strict=True))
        elif isinstance(each, Slope):
            found[each.columns[0]] = _slope(each, seen, mask)
        else:
            self._aggregate(each, seen, mask, as_of, found)

    def _aggregate(self, each: Aggregate, seen: _Seen, mask: Mask, as_of: datetime, found: Values) -> None:
        for window, label in each.cells():
            here = mask & seen.inside(window)
            name = each.column(window, label)
            if each.agg == "last":
                newest = seen.newest(each.of or "", here)
                found[name] = _number(newest) if label is None else _is(newest, label)
                continue
            chosen = here if label is None else here & seen.equal(each.by or "", (label,))
            value = seen.total(each, chosen)
            if each.share:
                whole = seen.total(each, here) or 0.0
                value = None if whole == 0 or value is None else value / whole
            elif each.per is not None and value is not None:
                value /= self._weeks(each, seen, mask, window, as_of)
            found[name] = value

    def _weeks(self, each: Aggregate, seen: _Seen, mask: Mask, window: str | None, as_of: datetime) -> float:
        if each.per == "week of life":
            life = seen.age[mask]
            return max(float(life.max()) / DAY, 7.0) / 7 if len(life) else 1.0
        covered = self._covered(each.event, as_of)
        return (covered if window is None else min(parse_window(window) / timedelta(days=1), covered)) / 7

    def _of_field(self, each: OfCell | OfField, user: Any, lines: Mapping[str, Lines], at: int) -> Values:
        if isinstance(each, OfCell):
            value = self._seen(lines[CELL], CELL, at, False).newest(each.cell, None)
        else:
            mine = None if self._fields is None else _rows(self._fields, user)
            value = None if mine is None or mine.is_empty() else mine[each.field][0]
        if not each.labels:
            return {name: _number(value) for name in each.columns}
        return {name: _is(value, label) for name, label in zip(each.columns, each.labels, strict=True)}


@dataclass
class _Seen:
    """Lines that had happened and were known, in arrays."""

    age: NDArray[np.int64]
    lines: Lines
    #: which of the lines they are
    places: NDArray[np.int64]

    def inside(self, window: str | None) -> Mask:
        return np.ones(len(self.age), bool) if window is None else self.age < parse_window(window) // _TINY

    def numbers(self, name: str | None) -> NDArray[np.float64]:
        """NaN where there is none; ones for lines."""
        if name is None:
            return np.ones(len(self.age))
        return self.lines.numbers(name)[self.places]

    def equal(self, name: str, labels: Sequence[Label]) -> Mask:
        codes = self.lines.codes(name)[self.places]
        return np.isin(codes, [self.lines.code(name, label) for label in labels])

    def holds(self, where: Mapping[str, tuple[Label, ...] | Test]) -> Mask:
        found = np.ones(len(self.age), bool)
        for name, test in where.items():
            if isinstance(test, Test):
                numbers = self.numbers(name)
                for how, bound in test.bounds.items():
                    found &= _OPS[how](numbers, bound)
            else:
                found &= self.equal(name, test)
        return found

    def newest(self, name: str, mask: Mask | None) -> Any:
        """Value of the last line that has one: by time, then event, then value."""
        lines, values = self.lines, self.lines.values[name]
        if mask is None:
            last = max(self.places.tolist(), key=lambda i: (lines.at[i], lines.ids[i]), default=None)
        else:
            there = [i for i in self.places[mask].tolist() if values[i] is not None]
            last = max(there, key=lambda i: (lines.at[i], lines.ids[i], values[i]), default=None)
        return None if last is None else values[last]

    def total(self, each: Aggregate, mask: Mask) -> float | None:
        if each.agg == "lines":
            return float(mask.sum())
        if each.agg in ("count", "distinct"):
            codes = self.lines.codes(None if each.agg == "count" else each.of)[self.places[mask]]
            return float(len(np.unique(codes[codes >= 0])))
        numbers = self.numbers(each.of)[mask]
        numbers = numbers[~np.isnan(numbers)]
        if not len(numbers):
            return 0.0 if each.agg in ZERO else None
        if each.agg in ("min", "max"):
            return float(getattr(np, each.agg)(numbers))
        total = exact_total(numbers)
        return total / len(numbers) if each.agg == "mean" else total


def _rhythm(ages: NDArray[np.int64], each: Rhythm) -> list[float | None]:
    days = np.unique(ages // DAY)
    gaps = np.diff(days)
    mean = float(gaps.mean()) if len(gaps) else None
    spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else None
    known: Values = {
        "gap_mean_days": mean,
        "gap_spread_days": spread,
        "gap_cv": None if spread is None or not mean else spread / mean,
        "lateness": None if mean is None else float(days[0]) / max(mean, 1.0),
    }
    return [known[part] for part in each.parts]


def _slope(each: Slope, seen: _Seen, mask: Mask) -> float:
    length, steps = parse_window(each.slope) // _TINY, each.steps
    chosen, numbers = mask & (seen.age < length * steps), seen.numbers(each.of)
    chosen &= ~np.isnan(numbers)
    doubled = steps - 1 - 2 * (seen.age[chosen] // length)
    return exact_total(numbers[chosen], doubled) / 2 / (steps * (steps**2 - 1) / 12)


def _ratio(each: Ratio, found: Values) -> float | None:
    above, below = found[each.ratio], sum(found[name] or 0.0 for name in each.over) + each.plus[1]
    if above is None or below == 0:
        return None
    value = (above + each.plus[0]) / below
    if not each.log:
        return value
    return math.log(value) if value > 0 else None


def _is(value: Any, label: Label) -> float | None:
    return None if value is None else float(as_text(value) == as_text(label))


def _number(value: Any) -> float | None:
    found = None if value is None else float(value)
    return None if found is None or math.isnan(found) else found


def _rows(frame: pl.DataFrame, user: Any) -> pl.DataFrame:
    """Of one user, in a frame sorted by user. Raises BadInput for an id of another type."""
    try:
        low, high = (int(frame["user"].search_sorted(user, side)) for side in ("left", "right"))
    except (TypeError, pl.exceptions.PolarsError):
        raise BadInput(f"is no id: they are {frame['user'].dtype}", field="user", value=str(user)) from None
    return frame[low:high]


def _plain(column: pl.Series) -> list[Any]:
    """Values as Python has them; no number is none."""
    return column.fill_nan(None).to_list() if column.dtype.is_float() else column.to_list()


def _instant(value: Any) -> int:
    return micros(value) if isinstance(value, datetime) else int(value)
