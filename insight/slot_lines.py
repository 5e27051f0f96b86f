"""The lines of an event in a span of time, in one scan for several steps, put together by slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import numpy as np
import polars as pl
from numpy.typing import NDArray

from insight.catalog import Catalog
from insight.columns import as_declared, tested
from insight.comparing import positive
from insight.compile import line_filter
from insight.conditions import Condition, FieldTest, InGroup, Leaf, Step, ends, evaluate
from insight.dictionary import UserDictionary
from insight.numbering import NONE, Numbers
from insight.slot_ids import Span, hashed, joined, spans_of
from insight.slot_kernels import DAY, by_slot
from insight.sources.opening import open_source, place_of
from insight.tables import event_lines

#: a step, and the field of it whose values are wanted (None: none)
Asked = tuple[Step, str | None]
#: lines that come at a time
_PIECE = 4_000_000
#: spans whose lines come at once
_SHORT = timedelta(days=3)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class SlotLines:
    """Lines by step and slot, slot 0 being the newest."""

    #: time of the last line of the event in the span; None without any
    latest: datetime | None = None
    #: (slot, span) of the ids of its lines, where ids were wanted
    _spans: dict[int, list[Span]] = field(default_factory=dict)
    _parts: dict[tuple[Asked, int], tuple[list[Numbers], list[NDArray[Any]]]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        *,
        catalog: Catalog,
        event: str,
        wanted: Sequence[Asked],
        since: datetime,
        until: datetime,
        dictionary: UserDictionary,
        ids: bool = False,
    ) -> SlotLines:
        """Lines with since < at ≤ until, `until − since` in whole days; `ids`: of counted lines, hashed."""
        found = cls()
        slots = (until - since) // timedelta(days=1)
        newest = (until - _EPOCH) // timedelta(microseconds=1)
        steps = list(dict.fromkeys(step.where for step, _ in wanted if step.where is not None))
        fields = list(dict.fromkeys(of for _, of in wanted if of is not None))
        for frame in _frames(catalog, event, fields, steps, since, until, ids):
            if frame.is_empty():
                continue
            numbers = dictionary.find(frame["user"])
            if NONE in numbers:
                dictionary.extend(frame["user"])
                numbers = dictionary.find(frame["user"])
            at = frame["at"].to_numpy()
            last = _EPOCH + timedelta(microseconds=int(at.max()))
            found.latest = last if found.latest is None else max(found.latest, last)
            hashes = hashed(numbers, frame["id"]) if ids else None
            if ids:
                for slot, span in spans_of(frame.select("id", "at"), newest, DAY).items():
                    found._spans.setdefault(slot, []).append(span)
            for step, of in wanted:
                values: NDArray[Any] | None = hashes
                if of is not None:
                    values = frame[f"v{fields.index(of)}"].fill_null(np.nan).to_numpy()
                kept = numbers
                if step.where is not None:
                    kept = np.where(frame[f"w{steps.index(step.where)}"].to_numpy(), numbers, NONE)
                found._keep((step, of), by_slot(kept, at, newest, slots, values), values is not None)
        return found

    def slot(self, asked: Asked, slot: int) -> tuple[list[Numbers], list[NDArray[Any]]] | None:
        """Users of its lines, and their values, or hashes of counted ones, if they were wanted; None without
        any line. Asked once: it is let go."""
        return self._parts.pop((asked, slot), None)

    def span(self, slot: int) -> Span | None:
        """Of the slot's ids; None without any line."""
        return joined(self._spans[slot]) if slot in self._spans else None

    def _keep(
        self, asked: Asked, split: tuple[NDArray[np.int64], Numbers, NDArray[Any]], valued: bool
    ) -> None:
        starts, users, values = split
        for slot in np.flatnonzero(np.diff(starts)).tolist():
            part = self._parts.setdefault((asked, slot), ([], []))
            part[0].append(users[starts[slot] : starts[slot + 1]])
            if valued:
                part[1].append(values[starts[slot] : starts[slot + 1]])


def _frames(
    catalog: Catalog,
    event: str,
    fields: Sequence[str],
    wheres: Sequence[Condition],
    since: datetime,
    until: datetime,
    ids: bool,
) -> Iterator[pl.DataFrame]:
    """[user, at (µs), id if wanted, v0 … values, w0 … whether each `where` is met], in pieces, in the table's
    order."""
    own = _own(catalog, event, fields, wheres, since, until, ids)
    if own is not None:
        if until - since > _SHORT:
            yield from own.collect_batches(chunk_size=_PIECE, maintain_order=True)
        else:
            yield own.collect(engine="streaming")
        return
    asked = [end.field for where in wheres for end in ends(where) if isinstance(end, FieldTest)]
    lines = event_lines(catalog, event, dict.fromkeys([*fields, *asked]))
    within = lines.filter(lines["at"] > ibis.literal(since), lines["at"] <= ibis.literal(until))
    values = {f"v{i}": within[name].cast("float64") for i, name in enumerate(fields)}
    met = {f"w{i}": line_filter(where, within) for i, where in enumerate(wheres)}
    with open_source(catalog, catalog.event(event).source) as source:
        own_id = {"id": within["event_id"]} if ids else {}
        for batch in source.batches(within.select("user", "at", **own_id, **values, **met)):
            frame = pl.DataFrame(pl.from_arrow(batch))
            yield frame.with_columns(pl.col("at").dt.cast_time_unit("us").cast(pl.Int64))


def _own(
    catalog: Catalog,
    event: str,
    fields: Sequence[str],
    wheres: Sequence[Condition],
    since: datetime,
    until: datetime,
    ids: bool,
) -> pl.LazyFrame | None:
    """The same of a Parquet file's own columns, where they surely mean the same."""
    route, place = catalog.event(event), place_of(catalog, catalog.event(event).source)
    path = place.path / f"{route.table}.parquet" if place.kind == "parquet" else None
    if path is None or not path.is_file() or route.join:
        return None
    file = pl.scan_parquet(path, glob=False)
    schema = file.collect_schema()

    def own(column: str, declared: str) -> pl.Expr | None:
        known = as_declared(column, schema[column], declared) if column in schema else None
        return None if known is None else known.expr

    text = schema.get(route.user) == pl.String
    user, at = own(route.user, "string" if text else "integer"), own(route.time, "datetime")
    if user is None or at is None:
        return None
    columns = {"user": user if text else user.cast(pl.Int64), "at": at.cast(pl.Int64)}
    known = user.is_not_null()
    if route.id is not None:
        named = schema.get(route.id) == pl.String
        number = own(route.id, "string" if named else "integer")
        if number is None:
            return None
        known &= number.is_not_null()
        if ids:
            columns["id"] = number if named else number.cast(pl.Int64)
    for i, name in enumerate(fields):
        value = own(route.fields[name].column, route.fields[name].type)
        if value is None:
            return None
        columns[f"v{i}"] = value.cast(pl.Float64)
    for i, where in enumerate(wheres):
        tests: dict[Leaf | InGroup, pl.Expr] = {}
        for end in ends(where):
            assert isinstance(end, FieldTest)  # noqa: S101  the parser lets nothing else into a filter
            of = route.fields[end.field]
            test = (
                tested(of.column, schema[of.column], of.type, positive(end.test))
                if of.column in schema
                else None
            )
            if test is None:
                return None
            tests[end] = test if end.test.op == positive(end.test).op else ~test
        columns[f"w{i}"] = evaluate(
            where,
            end=tests.__getitem__,
            every=lambda parts: pl.all_horizontal(parts),
            some=lambda parts: pl.any_horizontal(parts),
            opposite=lambda part: ~part,
        )
    within = (at > pl.lit(since)) & (at <= pl.lit(until)) & known
    return file.filter(within).select(**columns)
