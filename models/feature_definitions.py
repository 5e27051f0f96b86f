"""Declared features: what a data scientist writes as `kind: features`, checked when it is read.

Each entry of `features` is one of

    {event, agg, of, within, per, by, where}   count, lines, sum, mean, min, max, distinct, last
    {event, since: last | first}               days, or the share of the records' length
    {event, rhythm: true}                      gaps between days with the event, and how late the next is
    {event, slope, steps}                      how a count or a sum changes from window to window
    {ratio, over, plus, log}                   of features declared before it
    {field, static: true}                      of the entity, which has one value for all time
    {cell}                                     stage, cluster or tier in the newest plan before the instant

and knows nothing after the instant that it is asked for: lines count from as_of − window (not itself) to
as_of (itself too, unless `before: true`), and only once they were known (`known_at`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen, Name
from kernel.events import EVENT_COLUMNS
from kernel.ids import fingerprint
from kernel.work import Window

Label = str | int | float | bool
#: aggregates that need a field, and those that need it to be a number
OF, NUMERIC = ("sum", "mean", "min", "max", "distinct", "last"), ("sum", "mean", "min", "max")
#: aggregates of which nothing is 0; of the others it is missing
ZERO = ("count", "lines", "sum", "distinct")
#: the pseudo-event of the cells of earlier plans
CELL = "cell"


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float | bool) else value


class Test(Frozen):
    """A comparison with a number."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    @model_validator(mode="after")
    def _compares(self) -> Test:
        if not self.bounds:
            raise ValueError("compares with nothing; it needs gt, ge, lt or le")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """How → with what."""
        return {name: value for name, value in sorted(self.model_dump().items()) if value is not None}

    def __str__(self) -> str:
        return "_".join(f"{name}{value:g}" for name, value in self.bounds.items())


Windows = Annotated[tuple[Window, ...], BeforeValidator(_as_tuple)]
Labels = Annotated[tuple[Label, ...], BeforeValidator(_as_tuple)]
Condition = Annotated[
    Annotated[Labels, Tag("labels")] | Annotated[Test, Tag("test")],
    Discriminator(lambda value: "test" if isinstance(value, dict | Test) else "labels"),
]


def suffix(label: object) -> str:
    """A label as part of a column's name: what learners take for punctuation is %-escaped."""
    return quote(str(label), safe="")


class _OfEvent(Frozen):
    #: an event of the catalog, or a role: purchase, treatment, response
    event: Name
    #: column, or the beginning of its names; absent: made of the rest
    name: Name | None = None
    #: field → label, labels, or a comparison such as {gt: 0}, of the lines that count
    where: dict[str, Condition] = {}
    #: strictly before the instant: what happens at it does not foretell itself
    before: bool = False

    def _base(self, default: str) -> str:
        told = [f"{field}.{suffix(test)}" if isinstance(test, Test) else ".".join(map(suffix, test))
                for field, test in self.where.items()]  # fmt: skip
        return self.name or "_".join([self.event, default, *told])

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the event that it reads."""
        return tuple(self.where)


class Aggregate(_OfEvent):
    """Over windows of history; `by` makes one a label of a field."""

    #: count: events; lines: their lines; last: the newest value
    agg: Literal["count", "lines", "sum", "mean", "min", "max", "distinct", "last"]
    #: field that is aggregated
    of: str | None = None
    #: each its own column; absent: all of history
    within: Windows = ()
    #: counts and sums a week of the part of the window that the records cover, or of the entity's own life
    per: Literal["week", "week of life"] | None = None
    #: field whose labels get a column each
    by: str | None = None
    #: the labels, also of a `last` text; absent: the `top` most frequent, settled when a model is learned
    labels: Labels = ()
    top: int = Field(default=8, ge=1, le=64)
    #: part of the sum over all labels, instead of the sum
    share: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Aggregate:
        if (self.of is not None) != (self.agg in OF):
            raise ValueError(f"agg {self.agg} {'needs a field in of' if self.agg in OF else 'takes no of'}")
        if self.per and self.agg not in ("count", "lines", "sum"):
            raise ValueError(f"per goes with count, lines and sum, not with {self.agg}")
        if self.per == "week of life" and self.within:
            raise ValueError("per week of life goes without within")
        if self.by is None and (self.share or (self.labels and self.agg != "last")):
            raise ValueError("labels and share need a field in by")
        if self.share and self.agg not in ("count", "lines", "sum"):
            raise ValueError(f"share goes with count, lines and sum, not with {self.agg}")
        if self.by is not None and self.agg in ("distinct", "last"):
            raise ValueError(f"by does not go with {self.agg}")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(each for each in (*self.where, self.of, self.by) if each is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.column(window, label) for window, label in self.cells())

    def cells(self) -> Iterator[tuple[str | None, Label | None]]:
        """(window or None, label or None) of each column."""
        yield from product(self.within or (None,), self.labels or (None,))

    def column(self, window: str | None, label: Label | None) -> str:
        parts = [self._base(f"{self.agg}_{self.of}" if self.of else self.agg)]
        if label is not None:
            parts[0] += f"_{self.by}.{suffix(label)}" if self.by else f".{suffix(label)}"
        return "_".join([*parts, *([window] if window else [])])


class Since(_OfEvent):
    """Days since the last event, or since the first."""

    since: Literal["last", "first"]
    #: as a share of how long the records go back, instead of in days
    share: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self._base(f"{self.since}_{'share' if self.share else 'days'}"),)


class Rhythm(_OfEvent):
    """Gaps between days with the event: mean and spread in days, spread over mean, and the gap now over the
    mean one. A day is 24 hours counted back from the instant."""

    rhythm: Literal[True]
    #: names without the event's in front
    bare: bool = False
    #: which of them
    parts: tuple[Literal["gap_mean_days", "gap_spread_days", "gap_cv", "lateness"], ...] = (
        "gap_mean_days", "gap_spread_days", "gap_cv", "lateness",
    )  # fmt: skip

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(part if self.bare else f"{self._base('rhythm')}_{part}" for part in self.parts)


class Slope(_OfEvent):
    """Least-squares slope, a step, of the count of lines (or the sum of a field) over the last `steps`."""

    #: length of a step
    slope: Window
    steps: int = Field(default=6, ge=2, le=60)
    of: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(each for each in (*self.where, self.of) if each is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self._base(f"slope_{self.of or 'lines'}_{self.steps}x{self.slope}"),)


class Ratio(Frozen):
    """(ratio + plus[0]) / (Σ over + plus[1]); missing where that is a division by zero."""

    ratio: str
    over: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(min_length=1)
    name: Name | None = None
    #: what is added above and below, so that few events say little
    plus: tuple[float, float] = (0.0, 0.0)
    #: its logarithm: missing where it is not above zero
    log: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name or f"{self.ratio}_over_{'_'.join(self.over)}",)


class OfField(Frozen):
    """A field of the entity: a number or truth as it is, a text as one column a label."""

    field: str
    #: the value has always been what it is now; without it, it is refused for training
    static: bool = False
    name: Name | None = None
    labels: Labels = ()
    #: most labels of a text
    top: int = Field(default=12, ge=1, le=64)

    @property
    def columns(self) -> tuple[str, ...]:
        base = self.name or self.field
        return tuple(f"{base}.{suffix(label)}" for label in self.labels) if self.labels else (base,)


class OfCell(Frozen):
    """Where the newest plan at or before the instant put the entity: one column a label."""

    cell: Literal["stage", "cluster", "tier"]
    name: Name | None = None
    labels: Labels = ()
    top: int = Field(default=12, ge=1, le=64)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name or 'cell_' + self.cell}.{suffix(label)}" for label in self.labels)


_KEYS = ("agg", "since", "rhythm", "slope", "ratio", "field", "cell")


def _which(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((key for key in _KEYS if key in value), None)
    return next((key for key in _KEYS if hasattr(value, key)), None)


Feature = Annotated[
    Annotated[Aggregate, Tag("agg")]
    | Annotated[Since, Tag("since")]
    | Annotated[Rhythm, Tag("rhythm")]
    | Annotated[Slope, Tag("slope")]
    | Annotated[Ratio, Tag("ratio")]
    | Annotated[OfField, Tag("field")]
    | Annotated[OfCell, Tag("cell")],
    Discriminator(
        _which,
        custom_error_type="feature",
        custom_error_message="is no feature: it says none of agg, since, rhythm, slope, ratio, field, cell",
    ),
]
OfEvent = Aggregate | Since | Rhythm | Slope


class FeatureSet(Definition):
    """Features that belong together, by name and version."""

    kind: Literal["features"] = "features"
    #: raised by whoever changes what a feature means; models keep the one that they were learned with
    version: int = Field(default=1, ge=1)
    #: of the catalog
    entity: Name = "user"
    #: beside the usual features; false: a model learns from these alone
    usual: bool = True
    #: event of which an entity must have a line by the instant to be a row; absent: of any event here
    among: Name | None = None
    #: event → field that tells when a line of it became known; what was not known by the instant is not seen
    known_at: dict[Name, str] = {}
    features: tuple[Feature, ...] = Field(min_length=1)
    #: labels that were not given have been found in the data
    settled: bool = False

    @field_validator("features")
    @classmethod
    def _named_once(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        seen: set[str] = set()
        for feature in features:
            if isinstance(feature, Ratio):
                for name in (feature.ratio, *feature.over):
                    if name not in seen:
                        raise ValueError(f"ratio needs {name!r}, which is no feature before it")
            for column in feature.columns:
                if column in seen or column in (*EVENT_COLUMNS, "label", "offer"):
                    raise ValueError(f"{column!r} is the name of two columns; give one of them a name")
                seen.add(column)
        return features

    @property
    def fingerprint(self) -> str:
        """Of what is computed, whatever it is called: 16 digits."""
        told = self.model_dump(mode="json", exclude={"name", "label", "description"})
        return fingerprint(told)

    @property
    def columns(self) -> tuple[str, ...]:
        """In order; those of labels only once they are settled."""
        return tuple(column for feature in self.features for column in feature.columns)

    @property
    def events(self) -> dict[str, tuple[str, ...]]:
        """Event → its fields that are read."""
        found: dict[str, dict[str, None]] = {}
        for feature in self.features:
            if isinstance(feature, OfEvent):
                found.setdefault(feature.event, {}).update(dict.fromkeys(feature.fields))
            elif isinstance(feature, OfCell):
                found.setdefault(CELL, {})[feature.cell] = None
        for event, known in self.known_at.items():
            if event in found:
                found[event][known] = None
        if self.among is not None:
            found.setdefault(self.among, {})
        return {event: tuple(fields) for event, fields in found.items()}

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the entity that are read."""
        return tuple(dict.fromkeys(each.field for each in self.features if isinstance(each, OfField)))

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Fields whose labels were not given and not found yet."""
        if self.settled:
            return ()
        return tuple(
            each.by or "" if isinstance(each, Aggregate) else f"cell.{each.cell}"
            for each in self.features
            if (isinstance(each, Aggregate) and each.by is not None and not each.labels)
            or (isinstance(each, OfCell) and not each.labels)
        )

    def longest(self, event: str) -> str | None:
        """The longest window of an event; None: all of history."""
        windows: list[str] = []
        for each in self.features:
            if isinstance(each, OfEvent) and each.event == event:
                if not isinstance(each, Aggregate) or not each.within:
                    return None
                windows += each.within
        return max(windows, key=parse_window, default=None)

    def of_event(self, event: str, *, before: bool) -> list[OfEvent]:
        """Features of an event: those that look at the instant itself too, or those that do not."""
        mine = (each for each in self.features if isinstance(each, OfEvent))
        return [each for each in mine if each.event == event and each.before == before]
