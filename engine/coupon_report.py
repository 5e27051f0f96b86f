"""Coupons reconciled: what was issued, redeemed, taken back and is outstanding, and what orders say of it."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.coupons import CouponDesk
from engine.wiring import Workspace
from insight.api import read_events
from kernel.errors import BadInput, NotFound
from touchpoint.api import CouponPool, shown

#: codes that a difference names
_EXAMPLES = 5


def coupon_report(workspace: Workspace, only: str | None = None) -> dict[str, Any]:
    """`pools`: by pool and task; `orders`: by pool, codes in orders and redemptions here that lack one
    another. Raises NotFound for a pool that nobody defined."""
    desk, pools = CouponDesk(workspace), workspace.definitions().of(CouponPool)
    if only is not None:
        pools = (desk.pool(only),)
    names = {each.name for each in pools}
    rows = [row for row in desk.totals() if only is None or row["pool"] in names]
    compared = [_compared(workspace, desk, pool) for pool in pools if pool.orders is not None]
    return {"pools": rows, "orders": compared}


def _compared(workspace: Workspace, desk: CouponDesk, pool: CouponPool) -> dict[str, Any]:
    """The codes of the pool that orders name, against redemptions that stand."""
    assert pool.orders is not None  # noqa: S101  (who has none is not asked)
    event, field = pool.orders.event, pool.orders.field
    catalog, where = workspace.catalog, f"coupon pool {pool.name}"
    if event not in catalog.events:
        raise NotFound("event", event, catalog.events, where=where, field="orders.event")
    if field not in catalog.events[event].fields:
        raise BadInput(f"is no field of event {event}", where=where, field="orders.field", value=field)
    lines = read_events(catalog, event, workspace.clock.now())
    told = lines.select("event_id", code=pl.col(field).cast(pl.String)).drop_nulls().unique()
    told = told.filter(pl.col("code") != "")
    ordered = dict(told.group_by("code").len().iter_rows())
    known, redeemed = desk.known(pool.name, list(ordered)), desk.redeemed(pool.name)
    unredeemed = sorted(code for code in known if ordered[code] > redeemed.get(code, 0))
    unordered = sorted(code for code, uses in redeemed.items() if uses > ordered.get(code, 0))
    return {
        "pool": pool.name,
        "orders": sum(ordered[code] for code in known),
        "redeemed": sum(redeemed.values()),
        "in_orders_and_not_redeemed": len(unredeemed),
        "redeemed_and_in_no_order": len(unordered),
        "examples": [shown(code) for code in [*unredeemed, *unordered][:_EXAMPLES]],
    }
