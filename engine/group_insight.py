"""What can be said of groups and cells: profile, overlap, history, and who moved from cell to cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from pyroaring import BitMap

from engine.population import population
from engine.selection_reports import check_tags
from engine.usecases import instant_of
from engine.wiring import Workspace
from insight.api import (
    LEAST,
    MOST_GROUPS,
    PROFILED_WITHIN,
    SIDES,
    Population,
    derive_group_profile,
    derive_history,
    derive_migration,
    derive_overlap,
)
from kernel.errors import BadInput, NotFound, Stale

#: flows that are told unless more are asked for
MOST_FLOWS = 20


@dataclass(frozen=True)
class GroupInsight:
    """Answers as JSON, over one workspace."""

    workspace: Workspace

    def profile(
        self,
        group: str,
        against: str | None = None,
        *,
        fields: Sequence[str] = (),
        within: timedelta = PROFILED_WITHIN,
        least: int = LEAST,
        as_of: str | None = None,
    ) -> dict[str, Any]:
        """`insight.group_profile.GroupProfile`. Raises NotFound, BadInput, Stale."""
        people = self._people([group, *([against] if against else [])], as_of)
        found = derive_group_profile(people, group, against, fields=fields, within=within, least=least)
        return _plain(asdict(found))

    def overlap(self, names: Sequence[str] = (), as_of: str | None = None) -> dict[str, Any]:
        """`{as_of, universe, groups: [{name, count}], both, jaccard, share}`: matrices with a row a group.

        Without names, all groups.
        """
        wanted = list(dict.fromkeys(names)) or sorted(self.workspace.definitions().groups)
        if not 2 <= len(wanted) <= MOST_GROUPS:
            raise BadInput(f"are not 2 to {MOST_GROUPS}", field="groups", value=len(wanted))
        people = self._people(wanted, as_of)
        people.prepare(wanted)
        found = derive_overlap({name: people.members(name) for name in wanted})
        return {
            "as_of": people.as_of.isoformat(),
            "universe": len(people.universe),
            "groups": [
                {"name": name, "count": int(count)}
                for name, count in zip(wanted, found.both.diagonal(), strict=True)
            ],
            "both": found.both.tolist(),
            "jaccard": found.jaccard.round(6).tolist(),
            "share": found.share.round(6).tolist(),
        }

    def history(self, name: str, last: int = 30) -> dict[str, Any]:
        """`{name, versions: [{version, as_of, count, added, removed, kept, …}]}`, the oldest first: of each
        instant the newest version, of the `last` instants. Raises NotFound for what was never published."""
        if last < 1:
            raise BadInput("must be at least 1", field="last", value=last)
        kept = self.workspace.groups.versions(name)
        if not kept:
            raise NotFound("published group", name, self.workspace.groups.names())
        newest = {each.as_of: each for each in kept}  # later versions come later
        some = [newest[at] for at in sorted(newest)][-last:]
        read = [(each, BitMap.deserialize(self.workspace.groups.members(each))) for each in some]
        return {"name": name, "versions": [_plain(asdict(each)) for each in derive_history(read)]}

    def migration(
        self, before: date, after: date, by: str = "cell", most: int = MOST_FLOWS
    ) -> dict[str, Any]:
        """Who moved between the cells of two days' plans: `{from, to, by, users, stayed, new, gone, places,
        flows}`; `flows` are the `most` largest of users who moved. Raises NotFound without such a plan."""
        if most < 1:
            raise BadInput("must be at least 1", field="most", value=most)
        if by not in SIDES:
            raise NotFound("side", by, SIDES, field="by")
        found = derive_migration(self._cells(before), self._cells(after), by)
        moved = found.flows.filter(pl.col("from") != pl.col("to"))
        return {
            "from": before.isoformat(),
            "to": after.isoformat(),
            "by": by,
            "users": found.users,
            "stayed": found.stayed,
            "new": found.new,
            "gone": found.gone,
            "places": found.places.to_dicts(),
            "flows": moved.head(most).to_dicts(),
            "flows_left_out": max(moved.height - most, 0),
        }

    def _people(self, names: Sequence[str], as_of: str | None) -> Population:
        at = instant_of(self.workspace, as_of)
        people = population(self.workspace, at)
        for name in names:
            if name not in people.groups:
                raise NotFound("group", name, people.groups)
            check_tags(self.workspace, name, at)
        return people

    def _cells(self, day: date) -> pl.LazyFrame:
        entry = self.workspace.plans.find(day)
        if entry is None:
            raise NotFound("plan", day, (), field="date")
        path = Path(entry.folder) / "cells.parquet"
        if not path.is_file():
            raise Stale(f"the cells of the plan of {day} are no longer in {entry.folder}")
        return pl.scan_parquet(path)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601, also in rows."""

    def told(value: Any) -> Any:
        if isinstance(value, datetime | date):
            return value.isoformat()
        if isinstance(value, Mapping):
            return {key: told(each) for key, each in value.items()}
        return [told(each) for each in value] if isinstance(value, list | tuple) else value

    return {key: told(value) for key, value in found.items()}
