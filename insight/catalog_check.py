"""The catalog against its real sources: every problem, each as one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from insight.catalog import Catalog
from insight.reading import check_lookups, check_one_row_each
from insight.sources.opening import check_source
from insight.tables import event_lines, fields, mapping_links, offer_items, users
from kernel.clock import SystemClock
from kernel.errors import GrowthError


def check_catalog(catalog: Catalog) -> list[GrowthError]:
    """What is wrong with its addresses, tables, columns, types and keys; empty when nothing is.

    Reads the sources' schemas, and counts keys that must be unique.
    """
    found: list[GrowthError] = []
    broken: set[str] = set()
    for name in catalog.sources:
        try:
            check_source(catalog, name)
        except GrowthError as error:
            found.append(error)
            broken.add(name)
    for source, check in _checks(catalog):
        if source in broken:
            continue
        try:
            check()
        except GrowthError as error:
            if str(error) not in {str(each) for each in found}:
                found.append(error)
    return found


def _checks(catalog: Catalog) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each check with the source that it needs; the entity's own source is needed by all."""
    yield catalog.entity.source, partial(users, catalog, SystemClock().now())
    for name in catalog.fields:
        source = catalog.field_place(name)[0]
        yield source, partial(fields, catalog, [name])
        yield source, partial(check_one_row_each, catalog, name)
    for name, event in catalog.events.items():
        yield event.source, partial(event_lines, catalog, name, [])
        for short in event.fields:
            yield event.source, partial(event_lines, catalog, name, [short])
        yield event.source, partial(check_lookups, catalog, name)
    for name, mapping in catalog.mappings.items():
        yield mapping.source, partial(mapping_links, catalog, name, SystemClock().now())
    if catalog.offers is not None:
        yield catalog.offers.source, partial(offer_items, catalog)
