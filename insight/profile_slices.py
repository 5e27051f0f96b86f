"""What a profile asks of each field and event: labels as they are, numbers and times in bins of all users.

Labels and edges come from a hash sample of the users, and are kept for the version of the tables that they
are of; who has them is counted exactly, later, from leaves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import ibis
import numpy as np
import polars as pl

from insight.catalog import Catalog, FieldRoute
from insight.conditions import EventTest, FieldTest, Leaf, Step, Test
from insight.elastic import is_elastic
from insight.leaves import Key
from insight.population import Population
from insight.reading import answering, check_lookups
from insight.tables import event_lines, fields
from kernel.ids import fingerprint

#: users that labels and edges are looked for among
SAMPLE = 100_000
#: labels of a field that are told apart, the most frequent; the others are one row
MOST_LABELS = 20
#: whole numbers with at most so many different values are labels
FEW_NUMBERS = 12
#: bins of numbers and times: so many of equally many users, as far as equal values allow
BINS = 5
#: a text of which more than this part of the sample has a value of its own tells people, not groups, apart
OWN_VALUES = 0.5
#: short windows in which having an event at all is looked at
LATELY = (timedelta(days=7), timedelta(days=30))


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the users: those of `inside` without those of `outside`, all of which are in `inside`."""

    #: field or event
    feature: str
    #: what its users have, as a person reads it
    label: str
    #: None: everybody
    inside: Leaf | None
    #: None: nobody
    outside: Leaf | None = None
    #: ends of a bin, low ≤ x < high; None where it has none, or is no bin
    low: object = None
    high: object = None


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Everything that is asked, and what is not, with the reason."""

    slices: tuple[Slice, ...]
    #: feature → why nothing is asked of it
    left_out: dict[str, str]


def derive_slices(
    people: Population, names: Sequence[str], events: Sequence[str], within: timedelta
) -> Slices:
    """Slices of user fields `names`, and of `events` in the window of `within` up to the instant."""
    left_out: dict[str, str] = {}
    found: dict[str, list[Slice]] = {}
    every = max(len(people.dictionary) // SAMPLE, 1)
    places: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        places.setdefault(people.catalog.field_place(name), []).append(name)
    with answering(people.catalog) as run:
        for (source, table, _), here in places.items():
            if is_elastic(people.catalog, source):
                for name in here:
                    _listed(people.catalog, name, found, left_out)
                continue
            routes = [people.catalog.fields[name].model_dump(mode="json") for name in here]
            key = _key(people, "fields", source, [table], [every, *routes])
            cuts = _kept(people, key)
            if cuts is None:
                frame = run(source, fields(people.catalog, here, every))
                cuts = {name: _cut(frame[name], people.catalog.fields[name]) for name in here}
                _keep(people, key, cuts)
            for name in here:
                _of_field(name, people.catalog.fields[name], cuts[name], found, left_out)
        for name in events:
            event = people.catalog.events[name]
            if is_elastic(people.catalog, event.source):
                left_out[name] = "is in Elasticsearch, of which no sample is drawn"
                continue
            amounts = _amounts(people.catalog, name)
            asked = [every, event.model_dump(mode="json"), within.total_seconds(), people.as_of]
            key = _key(people, f"event {name}", event.source, [event.table, *event.join], asked)
            cuts = _kept(people, key)
            if cuts is None:
                check_lookups(people.catalog, name)
                frame = run(event.source, _numbers(people, name, amounts, within, every))
                cuts = {column: _quantiles(frame[column]) for column in frame.columns if column != "user"}
                _keep(people, key, cuts)
            found[name] = _of_event(name, amounts, within, cuts)
    order = [*names, *events]
    return Slices(
        slices=tuple(each for name in order for each in found.get(name, ())),
        left_out={name: left_out[name] for name in order if name in left_out},
    )


def _cut(values: pl.Series, route: FieldRoute) -> dict[str, Any]:
    """`labels` (most frequent first) or `edges`, and how many of the sample have a value of their own."""
    known = values.drop_nulls()
    distinct = known.n_unique()
    if route.type in ("string", "boolean") or (route.type == "integer" and distinct <= FEW_NUMBERS):
        counted = known.value_counts().sort(["count", known.name], descending=[True, False])
        labels = [
            each for each in counted[known.name].to_list() if route.values is None or each in route.values
        ]
        own = distinct > max(OWN_VALUES * len(known), MOST_LABELS)
        return {"labels": labels[:MOST_LABELS], "own": own}
    return {"edges": _quantiles(known)}


def _quantiles(values: pl.Series) -> list[Any]:
    """Values that cut the known ones into at most BINS parts, rising; none of them the least."""
    known = values.drop_nulls().sort()
    if known.is_empty():
        return []
    at = [min(round(len(known) * i / BINS), len(known) - 1) for i in range(1, BINS)]
    return sorted({edge for edge in known.gather(at).to_list() if edge > known[0]})


def _of_field(
    name: str, route: FieldRoute, cut: dict[str, Any], found: dict[str, list[Slice]], left_out: dict[str, str]
) -> None:
    def test(op: str, value: object = None) -> Leaf:
        return FieldTest(field=name, test=Test(op=op, value=value))

    known, unknown = test("not_null"), Slice(feature=name, label="unknown", inside=test("is_null"))
    if cut.get("own"):
        left_out[name] = "almost every user has a value of their own"
        return
    if "labels" in cut:
        labels = cut["labels"]
        rows = [Slice(feature=name, label=_told(each), inside=test("eq", each)) for each in labels]
        if labels:
            rows.append(Slice(feature=name, label="other", inside=known, outside=test("in", tuple(labels))))
    else:
        edges = [_typed(each, route.type) for each in cut["edges"]]
        rows = bins(name, edges, known, lambda edge: test("ge", edge))
    found[name] = [*rows, unknown]


def _listed(catalog: Catalog, name: str, found: dict[str, list[Slice]], left_out: dict[str, str]) -> None:
    """A field of which no sample is drawn: by the values that its catalog or profile lists."""
    seen = catalog.observed.fields.get(name) if catalog.observed else None
    values = catalog.fields[name].values or (seen.values if seen else ())
    if not values:
        left_out[name] = "is in Elasticsearch and no values of it are listed"
        return
    _of_field(name, catalog.fields[name], {"labels": list(values[:MOST_LABELS])}, found, left_out)


def bins(feature: str, edges: Sequence[Any], whole: Leaf | None, above: Any, unit: str = "") -> list[Slice]:
    """One slice below the first edge, one between each two, one from the last; all of them make `whole`."""
    rows: list[Slice] = []
    for i in range(len(edges) + 1):
        low, high = edges[i - 1] if i else None, edges[i] if i < len(edges) else None
        if low is None and high is None:
            label = "any"
        elif low is None:
            label = f"below {_told(high)}"
        else:
            label = f"{_told(low)} and more" if high is None else f"{_told(low)} to below {_told(high)}"
        rows.append(
            Slice(
                feature=feature,
                label=f"{unit}{label}",
                inside=whole if low is None else above(low),
                outside=None if high is None else above(high),
                low=low,
                high=high,
            )
        )
    return rows


def _of_event(name: str, amounts: Sequence[str], within: timedelta, cuts: dict[str, Any]) -> list[Slice]:
    def number(edge: object, window: timedelta = within) -> Leaf:
        test = Test(op="ge", value=edge)
        return EventTest(step=Step(event=name), agg="count", of=None, within=window, test=test)

    days = _days(within)
    rows = [Slice(feature=name, label=f"none in {days}", inside=None, outside=number(1))]
    edges = [int(each) for each in cuts["count"] if each > 1]
    rows += bins(name, edges, number(1), number, f"number in {days}: ")
    for window in LATELY:
        if window < within:
            rows.append(Slice(feature=name, label=f"any in {_days(window)}", inside=number(1, window)))
    for short in amounts:
        positive = [each for each in cuts[f"sum {short}"] if each > 0]
        if positive:
            told = f"sum of {short} in {days}: "
            rows += bins(name, positive, number(1), partial(_sum_from, name, short, within), told)
    return rows


def _sum_from(event: str, of: str, within: timedelta, edge: float) -> Leaf:
    return EventTest(step=Step(event=event), agg="sum", of=of, within=within, test=Test(op="ge", value=edge))


def _amounts(catalog: Catalog, event: str) -> list[str]:
    """Fields of an event whose sum means something: money by its role, else decimals."""
    routes = catalog.events[event].fields
    money = [short for short, route in routes.items() if route.role in ("amount", "discount")]
    return money or [short for short, route in routes.items() if route.type == "decimal"]


def _numbers(people: Population, name: str, amounts: Sequence[str], within: timedelta, every: int) -> Any:
    """[user, count, sum FIELD …] of the sampled users with such an event in the window."""
    lines = event_lines(people.catalog, name, amounts, every)
    since, until = ibis.literal(people.as_of - within), ibis.literal(people.as_of)
    lines = lines.filter(lines["at"] > since, lines["at"] <= until)
    count = lines["event_id"].nunique() if "event_id" in lines.columns else lines.count()
    sums = {f"sum {short}": lines[short].sum().cast("float64").round(2) for short in amounts}
    return lines.group_by("user").agg(count=count, **sums)


def _key(people: Population, what: str, source: str, tables: Sequence[str], asked: Sequence[object]) -> Key:
    versions = tuple(people.sources[f"{source}.{table}"] for table in tables)
    return ("slices", what, fingerprint(list(asked)), versions, people.dictionary.identity)


def _kept(people: Population, key: Key) -> dict[str, Any] | None:
    arrays = people.cache.arrays(key)
    return None if arrays is None else dict(json.loads(arrays["json"].tobytes()))


def _keep(people: Population, key: Key, cuts: dict[str, Any]) -> None:
    written = json.dumps(cuts, default=lambda value: value.isoformat()).encode()
    people.cache.put_arrays(key, {"json": np.frombuffer(written, np.uint8)})


def _typed(value: Any, declared: str) -> Any:
    """An edge as it is compared: times come back from what is kept as text."""
    if declared == "date":
        return value if isinstance(value, date) else date.fromisoformat(value)
    if declared == "datetime":
        return value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return value


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _days(window: timedelta) -> str:
    hours = window / timedelta(hours=1)
    return f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"
