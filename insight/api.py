"""The door of insight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from insight.addresses import is_local as is_local_address
    from insight.belonging import Belongings, check_belonging, derive_belonging, read_belongings
    from insight.catalog import Catalog, load_catalog, parse_catalog
    from insight.catalog_check import check_catalog
    from insight.catalog_panel import condition_panel
    from insight.catalog_profile import freshness, profile_catalog, write_profile
    from insight.catalog_suggest import suggest_catalog
    from insight.cell_drift import SIDES, CellDrift, CellMemory, derive_drift, shares_of
    from insight.cells import CellMap, derive_cells
    from insight.condition_check import check_condition
    from insight.condition_parse import parse_condition
    from insight.condition_schema import condition_schema
    from insight.conditions import Condition
    from insight.dependencies import (
        check_tags_and_needs,
        jobs,
        leaves_in,
        members_over,
        names_below,
        tables_read,
        used_tags,
        with_upstream,
    )
    from insight.dictionary import UserDictionary
    from insight.evaluation import evaluation_mode
    from insight.event_files import spool_events
    from insight.fresh import SpeedLayer
    from insight.fresh_events import EventDoor, Reported
    from insight.fresh_groups import real_time_events
    from insight.fresh_history import User
    from insight.fresh_lines import event_table
    from insight.group_profile import LEAST, derive_group_profile
    from insight.group_profile import WITHIN as PROFILED_WITHIN
    from insight.groups import Group, in_order
    from insight.identities import Merges, resolve_merges
    from insight.leaves import LeafCache
    from insight.lineage import edges_of, trace
    from insight.mapping import mapping_states
    from insight.membership import Membership, People
    from insight.migration import derive_migration
    from insight.one_user import as_user, existing_users, has_text_ids, typed_users
    from insight.overlap import MOST_GROUPS, derive_history, derive_overlap
    from insight.population import Because, Estimate, Population
    from insight.readiness import (
        BAD,
        BLOCKED,
        FAILED,
        GOOD,
        WAITING,
        Facts,
        Job,
        Need,
        Needs,
        Schedule,
        firings,
        free,
        held_up,
        in_the_way,
        instant_of,
        pause,
    )
    from insight.readiness_facts import look_at_files, look_at_tables
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
    from insight.selection import check_request, check_selection, select
    from insight.sources.opening import source_fingerprint
    from insight.tags import TAG, Tag, resolve, tag_groups
    from insight.user_lines import user_lines
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "BAD",
    "BLOCKED",
    "FAILED",
    "GOOD",
    "LEAST",
    "MOST_GROUPS",
    "PROFILED_WITHIN",
    "SIDES",
    "TAG",
    "WAITING",
    "Because",
    "Belongings",
    "Catalog",
    "CellDrift",
    "CellMap",
    "CellMemory",
    "Condition",
    "Estimate",
    "EventDoor",
    "Facts",
    "Group",
    "Job",
    "LeafCache",
    "Membership",
    "Merges",
    "Need",
    "Needs",
    "People",
    "Population",
    "Rekeyed",
    "Reported",
    "Schedule",
    "SpeedLayer",
    "Tag",
    "User",
    "UserDictionary",
    "answering",
    "as_user",
    "check_belonging",
    "check_catalog",
    "check_condition",
    "check_request",
    "check_selection",
    "check_tags_and_needs",
    "condition_panel",
    "condition_schema",
    "derive_belonging",
    "derive_cells",
    "derive_drift",
    "derive_group_profile",
    "derive_history",
    "derive_migration",
    "derive_overlap",
    "edges_of",
    "evaluation_mode",
    "event_range",
    "event_table",
    "existing_users",
    "firings",
    "free",
    "freshness",
    "has_text_ids",
    "held_up",
    "in_order",
    "in_the_way",
    "instant_of",
    "is_local_address",
    "jobs",
    "leaves_in",
    "load_catalog",
    "look_at_files",
    "look_at_tables",
    "mapping_states",
    "members_over",
    "names_below",
    "parse_catalog",
    "parse_condition",
    "pause",
    "profile_catalog",
    "read_belongings",
    "read_events",
    "read_fields",
    "read_offer_items",
    "read_role",
    "read_users",
    "real_time_events",
    "rekey",
    "resolve",
    "resolve_merges",
    "select",
    "shares_of",
    "source_fingerprint",
    "spool_events",
    "suggest_catalog",
    "tables_read",
    "tag_groups",
    "trace",
    "typed_users",
    "used_tags",
    "user_lines",
    "with_upstream",
    "write_profile",
]
