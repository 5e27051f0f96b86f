"""What the catalog's fields and events look like in their sources: rows, gaps, values, ends, newest row.

One aggregate query for each table of fields and for each event, and one more for each field whose values are
few enough to be listed: no source ever sends its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import ibis
import yaml

from insight.catalog import Catalog, Labelled
from insight.elastic import is_elastic
from insight.elastic_leaves import elastic_leaves
from insight.observed import Observed, ObservedEvent, Profile, profile_path
from insight.reading import answering, check_lookups
from insight.tables import event_lines, fields
from kernel.clock import aware
from kernel.errors import BadInput

#: values listed at most; a field with more has its most frequent listed where it is text that repeats
MOST_VALUES, REPEATS = 50, 10
#: types whose values can be listed, and types that have ends
LISTED, ORDERED = ("string", "integer", "boolean"), ("integer", "decimal", "date", "datetime")


def profile_catalog(
    catalog: Catalog, at: datetime, progress: Callable[[str], None] = lambda _: None
) -> Profile:
    """Everything that the catalog names, as its sources have it now; `at` (aware) is when that is.

    Raises BadInput for what the sources do not have as the catalog says, Unavailable when one is silent.
    """
    found: dict[str, Observed] = {}
    events: dict[str, ObservedEvent] = {}
    with answering(catalog) as run:
        for (source, table, _), names in _places(catalog).items():
            progress(f"{source}.{table}")
            routes = {name: catalog.fields[name] for name in names}
            if is_elastic(catalog, source):
                with elastic_leaves(catalog, source, at) as elastic:
                    seen = {name: elastic.observed(table, None, route) for name, route in routes.items()}
            else:
                seen = _observed(fields(catalog, names), routes, partial(run, source))[0]
            found |= seen
        for name, event in catalog.events.items():
            progress(f"event {name}")
            if is_elastic(catalog, event.source):
                with elastic_leaves(catalog, event.source, at) as elastic:
                    events[name] = elastic.observed_event(name)
                    seen = {
                        short: elastic.observed(event.table, event.nested, route)
                        for short, route in event.fields.items()
                    }
            else:
                check_lookups(catalog, name)
                lines = event_lines(catalog, name, list(event.fields))
                seen, totals = _observed(lines, event.fields, partial(run, event.source), times=True)
                events[name] = ObservedEvent(rows=totals["rows"], first=totals["first"], last=totals["last"])
            found |= {f"{name}.{short}": each for short, each in seen.items()}
    return Profile(at=aware(at, "at"), fields=found, events=events)


def write_profile(profile: Profile, catalog: Path) -> Path:
    """Writes it beside the catalog, where `load_catalog` finds it; returns the path."""
    path = profile_path(catalog)
    said = profile.model_dump(mode="python", exclude_defaults=True)
    text = yaml.safe_dump(_simple(said), sort_keys=False, allow_unicode=True, width=110)
    head = (
        "# What `growth catalog profile --write` saw. It fills lists and ranges; nothing is refused for it.\n"
    )
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(head + text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", field="catalog", value=str(path)) from None
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _places(catalog: Catalog) -> dict[tuple[str, str, str], list[str]]:
    """The fields of each table and entity."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in catalog.fields:
        source, table, key = catalog.field_place(name)
        found.setdefault((source, table, f"{name.partition('.')[0]} {key}"), []).append(name)
    return found


def _observed(
    rows: Any, routes: Mapping[str, Labelled], run: Callable[[Any], Any], times: bool = False
) -> tuple[dict[str, Observed], dict[str, Any]]:
    """Each column of an expression, and its totals."""
    asked: dict[str, Any] = {"rows": rows.count()}
    if times:
        asked |= {"first": rows["at"].min(), "last": rows["at"].max()}
    for number, (name, route) in enumerate(routes.items()):
        column = rows[name]
        asked |= {f"known {number}": column.count(), f"distinct {number}": column.nunique()}
        if route.type in ORDERED:
            asked |= {f"low {number}": column.min(), f"high {number}": column.max()}
    totals: dict[str, Any] = run(rows.aggregate(**asked)).row(0, named=True)
    found = {}
    for number, (name, route) in enumerate(routes.items()):
        distinct, low = totals[f"distinct {number}"], totals.get(f"low {number}")
        found[name] = Observed(
            rows=totals["rows"],
            nulls=totals["rows"] - totals[f"known {number}"],
            distinct=distinct,
            values=_values(rows, name, run) if listed(route, totals["rows"], distinct) else (),
            range=None if low is None else (low, totals[f"high {number}"]),
        )
    return found, totals


def listed(route: Labelled, rows: int, distinct: int) -> bool:
    """Whether a field's values are few enough, or repeat often enough, to choose from."""
    if route.type not in LISTED or not distinct:
        return False
    return distinct <= MOST_VALUES or (route.type == "string" and distinct * REPEATS <= rows)


def _values(rows: Any, name: str, run: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The most frequent first, equals in order."""
    counted = rows.select(value=rows[name]).group_by("value").agg(n=ibis._.count())
    kept = counted.filter(counted.value.notnull()).order_by(ibis.desc("n"), "value").limit(MOST_VALUES)
    return tuple(run(kept)["value"].to_list())


def _simple(value: Any) -> Any:
    """As YAML has it: no tuples, times as aware as they are."""
    if isinstance(value, Mapping):
        return {name: _simple(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_simple(each) for each in value]
    return value


def freshness(profile: Profile) -> dict[str, float | None]:
    """Event → how old its newest line was when it was looked at, seconds; None without any."""
    return {
        name: None if event.last is None else (profile.at - event.last).total_seconds()
        for name, event in profile.events.items()
    }
