"""The door of insight."""

from insight.bitmaps import LeafCache, UserDictionary
from insight.catalog import Catalog, load_catalog, parse_catalog
from insight.catalog_check import check_catalog
from insight.cells import CellMap, derive_cells
from insight.condition_check import check_condition
from insight.condition_parse import parse_condition
from insight.dependencies import check_tags_and_needs
from insight.groups import Group, in_order
from insight.identities import Merges, resolve_merges
from insight.mapping import mapping_states
from insight.one_user import as_user, existing_users, has_text_ids, typed_users
from insight.population import Because, Estimate, Population
from insight.reading import (
    answering,
    event_range,
    read_events,
    read_fields,
    read_offer_items,
    read_role,
    read_users,
)
from insight.rekey import Rekeyed, rekey
from insight.selection import select
from insight.sources.opening import source_fingerprint
from insight.tags import Tag, resolve

__all__ = [
    "Because",
    "Catalog",
    "CellMap",
    "Estimate",
    "Group",
    "LeafCache",
    "Merges",
    "Population",
    "Rekeyed",
    "Tag",
    "UserDictionary",
    "answering",
    "as_user",
    "check_catalog",
    "check_condition",
    "check_tags_and_needs",
    "derive_cells",
    "event_range",
    "existing_users",
    "has_text_ids",
    "in_order",
    "load_catalog",
    "mapping_states",
    "parse_catalog",
    "parse_condition",
    "read_events",
    "read_fields",
    "read_offer_items",
    "read_role",
    "read_users",
    "rekey",
    "resolve_merges",
    "resolve",
    "select",
    "source_fingerprint",
    "typed_users",
]
