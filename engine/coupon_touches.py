"""Touches that bring a coupon: each gets its code, and who can have none gets no touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from engine.coupons import CouponDesk
from engine.wiring import Workspace
from kernel.contact import Refusals, Touches
from kernel.work import Benefit
from touchpoint.api import TouchPlan


def with_codes(workspace: Workspace, planned: TouchPlan, benefits: Sequence[Benefit], day: date) -> TouchPlan:
    """The plan with a code in each touch whose benefit names a pool, the same whenever the day is planned
    again. Where a pool is at its end, the touch is refused and its reservation released. Raises NotFound for
    a pool that nobody defined, Unavailable."""
    pools = {each.name: each.pool for each in benefits if each.pool is not None}
    rows = planned.touches.filter(pl.col("benefit").is_in(list(pools)))
    if rows.is_empty():
        return planned
    desk, run, codes = CouponDesk(workspace), f"plan/{day}", dict[str, str]()
    wanted = rows.select("touch_id", "benefit", "task", pl.col("user").cast(pl.String))
    for pool in sorted(set(pools.values())):
        mine = [row for row in wanted.iter_rows() if pools[row[1]] == pool]
        got = desk.issue(pool, [(task, run, user) for _, _, task, user in mine])
        for touch_id, _, task, user in mine:
            coupon = got.get((task, run, user))
            if coupon is not None:
                codes[touch_id] = coupon.code
    found = pl.DataFrame(
        list(codes.items()), schema={"touch_id": pl.String, "found": pl.String}, orient="row"
    )
    touches = planned.touches.join(found, on="touch_id", how="left", maintain_order="left")
    without = pl.col("benefit").is_in(list(pools)) & pl.col("found").is_null()
    empty = touches.filter(without).with_columns(
        rule=pl.col("benefit").replace_strict(pools, return_dtype=pl.String)
    )
    if not empty.is_empty():
        workspace.ledger.release(empty["touch_id"].to_list())
    reason = pl.format("pool {} has no code left; refused until there are more", "rule")
    refused = empty.with_columns(reason=reason).select(Refusals.column_names())
    touches = touches.filter(~without).with_columns(code="found").drop("found")
    return replace(
        planned,
        touches=Touches.validate(touches.select(Touches.column_names())),
        refusals=Refusals.validate(pl.concat([planned.refusals, refused])),
    )
