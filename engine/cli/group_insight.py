"""`growth profile`, `overlap`, `history`, `migration`: what sets groups apart, and how they change."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.cli.shell import HERE, AsJson, Dir, day_of, say, say_json, show, workspace

AsOf = Annotated[str | None, typer.Option("--as-of", help="Date or instant; default: the end of the data.")]
#: groups up to which a terminal shows the whole matrix
_MATRIX = 8


def add_to(app: typer.Typer) -> None:
    @app.command("profile")
    def profile_(
        group: Annotated[str, typer.Argument(help="Name of an applied group.")],
        against: Annotated[
            str | None, typer.Option("--against", help="Another group as the base; default: everybody.")
        ] = None,
        fields: Annotated[
            str | None, typer.Option("--fields", help="Only these: user.city,order. Default: all.")
        ] = None,
        within: Annotated[
            str, typer.Option("--within", help="Window in which events are looked at.")
        ] = "90d",
        least: Annotated[int, typer.Option("--least", help="Hide rows of fewer users.")] = 30,
        top: Annotated[int, typer.Option("--top", help="Rows that are shown; all of them in --json.")] = 25,
        as_of: AsOf = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """What sets a group apart: share, index and significance of every label and bin, strongest first."""
        from engine.group_insight import GroupInsight
        from kernel.clock import parse_window

        names = tuple(each.strip() for each in fields.split(",")) if fields else ()
        window = parse_window(within, "--within")
        insight = GroupInsight(workspace(root))
        found = insight.profile(group, against, fields=names, within=window, least=least, as_of=as_of)
        say_json(found) if as_json else _profile(found, top)

    @app.command("overlap")
    def overlap_(
        groups: Annotated[
            list[str] | None, typer.Argument(help="Names of applied groups; default: all.")
        ] = None,
        as_of: AsOf = None,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """How many users each two groups have in common."""
        from engine.group_insight import GroupInsight

        found = GroupInsight(workspace(root)).overlap(groups or (), as_of)
        say_json(found) if as_json else _overlap(found)

    @app.command("history")
    def history_(
        name: Annotated[str, typer.Argument(help="Name of a published group.")],
        last: Annotated[int, typer.Option("--last", help="So many instants.")] = 30,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """How a group grew: count, added, removed and kept users of each published version."""
        from engine.group_insight import GroupInsight

        found = GroupInsight(workspace(root)).history(name, last)
        if as_json:
            say_json(found)
            return
        table = _table("as of", "version", "users", "added", "removed", "kept", "")
        for each in found["versions"]:
            numbers = ("–" if each[key] is None else f"{each[key]:,}" for key in ("added", "removed", "kept"))
            word = "redefined" if each["redefined"] else ""
            table.add_row(each["as_of"], str(each["version"]), f"{each['count']:,}", *numbers, word)
        show(table)

    @app.command("migration")
    def migration_(
        before: Annotated[str, typer.Argument(metavar="DAY", help="Day of a plan.")],
        after: Annotated[str, typer.Argument(metavar="DAY", help="Day of a later plan.")],
        by: Annotated[str, typer.Option("--by", help="cell, stage, cluster or tier.")] = "cell",
        top: Annotated[int, typer.Option("--top", help="Largest flows that are told.")] = 20,
        root: Dir = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Who moved from cell to cell between two days' plans."""
        from engine.group_insight import GroupInsight

        insight = GroupInsight(workspace(root))
        found = insight.migration(day_of(before, "DAY"), day_of(after, "DAY"), by, top)
        say_json(found) if as_json else _migration(found)


def _profile(found: dict[str, Any], top: int) -> None:
    base = found["against"] or "everybody"
    say(f"{found['group']} ({found['count']:,} users) against {base} ({found['base']:,}), {found['as_of']}")
    table = _table("what", "who", "group", "base", "index", "95 %", "q")
    for row in found["rows"][:top]:
        between = f"{row['index_low']:.0f}–{row['index_high']:.0f}"
        table.add_row(
            row["feature"], row["label"], f"{row['share']:.1%}", f"{row['base_share']:.1%}",
            f"{row['index']:.0f}", between, f"{row['q']:.2g}",
        )  # fmt: skip
    show(table)
    more = len(found["rows"]) - top
    said = [f"{more} weaker rows are in --json"] if more > 0 else []
    if found["hidden"]:
        said.append(f"{found['hidden']} rows of fewer than {found['least']} users are hidden")
    if said:
        say("; ".join(said))
    for name, reason in found["left_out"].items():
        say(f"{name} is left out: {reason}")


def _overlap(found: dict[str, Any]) -> None:
    names = [each["name"] for each in found["groups"]]
    if len(names) <= _MATRIX:
        table = _table("part of ↓ that is also in →", "users", *names)
        for i, each in enumerate(found["groups"]):
            shares = (f"{found['share'][i][j]:.1%}" if i != j else "–" for j in range(len(names)))
            table.add_row(each["name"], f"{each['count']:,}", *shares)
        show(table)
        return
    pairs = [
        (found["jaccard"][i][j], found["both"][i][j], names[i], names[j])
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    table = _table("group", "group", "users in both", "Jaccard")
    for alike, both, one, other in sorted(pairs, reverse=True)[:25]:
        table.add_row(one, other, f"{both:,}", f"{alike:.3f}")
    show(table)
    say(f"the most alike of {len(pairs):,} pairs; all of them are in --json")


def _migration(found: dict[str, Any]) -> None:
    said = f"{found['users']:,} users on both days, {found['stayed']:.1%} stayed in their {found['by']}"
    say(f"{said}; {found['new']:,} new, {found['gone']:,} gone")
    if not found["flows"]:
        return
    table = _table("from", "to", "users", "of those there")
    for flow in found["flows"]:
        share = "–" if flow["share"] is None else f"{flow['share']:.1%}"
        table.add_row(flow["from"], flow["to"], f"{flow['users']:,}", share)
    show(table)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
