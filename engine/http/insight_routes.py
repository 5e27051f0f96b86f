"""The routes of group insight: profile, overlap, history, migration."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.group_insight import GroupInsight
from engine.http.examples import example
from kernel.clock import parse_window

_AT = "2017-10-16T04:00:00+00:00"
_PROFILE = {
    "group": "regulars",
    "against": None,
    "as_of": _AT,
    "count": 1519,
    "base": 2469,
    "both": 1519,
    "least": 30,
    "hidden": 14,
    "rows": [
        {
            "feature": "order",
            "label": "sum of amount in 90 d: below 94.89",
            "low": None,
            "high": 94.89,
            "count": 5,
            "base_count": 465,
            "share": 0.0033,
            "base_share": 0.1883,
            "index": 1.75,
            "index_low": 0.73,
            "index_high": 4.17,
            "lift": -0.983,
            "z": -29.7,
            "p": 2.5e-194,
            "q": 1.7e-192,
            "strength": 4.58,
        }
    ],
}
_HISTORY = {
    "name": "regulars",
    "versions": [
        {
            "version": 2,
            "as_of": _AT,
            "calculated_at": "2017-10-16T04:05:00+00:00",
            "count": 1496,
            "universe": 2451,
            "added": 12,
            "removed": 9,
            "kept": 1484,
            "redefined": False,
        }
    ],
}


class Overlapped(BaseModel):
    """Groups to be compared."""

    model_config = ConfigDict(extra="forbid")

    #: names; all groups without any
    groups: list[str] = Field(default=[], examples=[["lapsed_shanghai", "staff"]])
    as_of: str | None = None


def insight_routes(insight: GroupInsight) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["groups"])

    @router.get("/groups/{name}/profile", responses=example(_PROFILE))
    def profile_group(
        name: str,
        against: str | None = None,
        fields: Annotated[str | None, Query(description="user.city,order; default: all")] = None,
        within: str = "90d",
        least: int = 30,
        as_of: str | None = None,
    ) -> dict[str, Any]:
        """The group against another or everybody: every label and bin of every field and event, strongest
        first, with shares, index, lift and significance."""
        names = tuple(each.strip() for each in fields.split(",")) if fields else ()
        window = parse_window(within, "within")
        return insight.profile(name, against, fields=names, within=window, least=least, as_of=as_of)

    @router.post("/groups/overlap")
    def overlap_groups(asked: Overlapped) -> dict[str, Any]:
        """Users in both, Jaccard and share of the row's group in the column's, for each two groups."""
        return insight.overlap(asked.groups, asked.as_of)

    @router.get("/groups/{name}/history", responses=example(_HISTORY))
    def read_history(name: str, last: int = 30) -> dict[str, Any]:
        """Published versions with count, added, removed and kept users, the oldest first."""
        return insight.history(name, last)

    @router.get("/cells/migration")
    def read_migration(
        before: Annotated[date, Query(alias="from")],
        after: Annotated[date, Query(alias="to")],
        by: str = "cell",
        most: int = 20,
    ) -> dict[str, Any]:
        """Who moved from cell to cell between two days' plans."""
        return insight.migration(before, after, by, most)

    return router
