"""`growth coupons`: codes brought, made, issued, and reconciled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from engine.cli.shell import HERE, AsJson, Dir, say, say_json, show, workspace
from kernel.errors import Stale

Pool = Annotated[str, typer.Argument(metavar="POOL", help="Name of an applied coupon pool.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Codes of coupon pools: bring, make, issue, reconcile.", no_args_is_help=True)
    app.add_typer(group, name="coupons")

    @group.command("import")
    def import_(
        pool: Pool,
        file: Annotated[Path, typer.Argument(metavar="FILE", help="Text, one code a line.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Bring codes of a file into a pool; those that it has already are passed over."""
        from engine.coupons import CouponDesk

        added = CouponDesk(workspace(root)).bring(pool, file)
        say_json({"pool": pool, "added": added}) if as_json else say(f"{added:,} new codes in {pool}")

    @group.command("generate")
    def generate_(
        pool: Pool,
        many: Annotated[int, typer.Argument(metavar="MANY", help="How many.")],
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Make codes before they are needed; without this they are made when they are."""
        from engine.coupons import CouponDesk

        added = CouponDesk(workspace(root)).make(pool, many)
        say_json({"pool": pool, "added": added}) if as_json else say(f"{added:,} new codes in {pool}")

    @group.command("issue")
    def issue_(
        pool: Pool,
        user: Annotated[str, typer.Argument(metavar="USER", help="The user's own id.")],
        task: Annotated[str, typer.Option("--task", help="For what.")],
        run: Annotated[str, typer.Option("--run", help="Of which run of it.")] = "cli",
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """A code for a user, the same one whenever it is asked for. Exit 1 when the pool is at its end."""
        from engine.coupons import CouponDesk

        key = (task, run, user)
        coupon = CouponDesk(workspace(root)).issue(pool, [key]).get(key)
        if coupon is None:
            raise Stale(f"pool {pool} has no code left")
        if as_json:
            say_json({"pool": pool, "code": coupon.code, "valid_until": coupon.ends})
        else:
            say(coupon.code)

    @group.command("report")
    def report_(
        pool: Annotated[str | None, typer.Argument(metavar="POOL", help="Default: all.")] = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Issued, redeemed, taken back, expired and outstanding, by pool and task, against what orders
        say."""
        from engine.coupon_report import coupon_report

        found = coupon_report(workspace(root), pool)
        if as_json:
            say_json(found)
            return
        names = ("pool", "task", "codes", "free", "issued", "redeemed", "reversed", "expired", "outstanding")
        table = Table(*names, box=None, pad_edge=False)
        for row in found["pools"]:
            table.add_row(*(str(row[name]) if row[name] is not None else "–" for name in names))
        show(table)
        for each in found["orders"]:
            say(
                f"{each['pool']}: orders name its codes {each['orders']:,} times,"
                f" {each['redeemed']:,} redemptions stand;"
                f" {each['in_orders_and_not_redeemed']:,} codes only in orders,"
                f" {each['redeemed_and_in_no_order']:,} only redeemed {' '.join(each['examples'])}"
            )
