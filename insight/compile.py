"""Leaves as unbound Ibis expressions, one source each, and their answers as users.

Every value reaches the query as a literal of the expression, never as pasted text, and `as_of` is
such a value: no query asks the clock. Semantics: see `insight.conditions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import ibis
import polars as pl

from insight.catalog import Catalog
from insight.comparing import DIGITS, passes, positive, rounded
from insight.conditions import (
    Condition,
    EventAge,
    EventTest,
    FieldTest,
    InOrder,
    Leaf,
    LinkedFields,
    NotFollowed,
    Step,
    Test,
    ends,
    evaluate,
)
from insight.elastic import is_elastic
from insight.elastic_leaves import elastic_leaves
from insight.identities import Merges
from insight.tables import event_lines, fields
from kernel.errors import BadInput

#: runs an expression on a source: (source name, expression) → frame
Run = Callable[[str, Any], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class LeafCompiler:
    """What a leaf is compiled against."""

    catalog: Catalog
    as_of: datetime
    #: k: only one user in k, by hash
    every: int = 1
    #: where there are any, only the lines of merged people are read, as lines of their survivors
    merges: Merges = field(default_factory=Merges)

    def members(self, leaf: Leaf, run: Run) -> tuple[pl.Series, bool]:
        """Users, and whether they are the members (True) or all that are not (False)."""
        if isinstance(leaf, InOrder):
            return self._in_order(leaf, run), True
        if isinstance(leaf, NotFollowed):
            return self._not_followed(leaf, run), True
        if isinstance(leaf, LinkedFields):
            from insight.linked import by_entity  # it needs this module's tests of columns

            return by_entity(leaf, self.catalog, self.as_of, run, self.merges.frame)
        source = self._source(leaf)
        if is_elastic(self.catalog, source):
            self._no_merges(source)
            with elastic_leaves(self.catalog, source, self.as_of) as elastic:
                return elastic.members(leaf)
        source, expression, inside = self.expression(leaf)
        return run(source, expression)["user"], inside

    def _source(self, leaf: FieldTest | EventTest | EventAge) -> str:
        if isinstance(leaf, FieldTest):
            return self.catalog.field_place(leaf.field)[0]
        return self.catalog.event(leaf.step.event).source

    def _no_merges(self, source: str) -> None:
        """Elasticsearch is asked about users as it knows them."""
        if self.merges:
            problem = "is Elasticsearch, which cannot be asked about merged users"
            raise BadInput(problem, where=self.catalog.file, field=f"sources.{source}")

    def expression(self, leaf: FieldTest | EventTest | EventAge) -> tuple[str, Any, bool]:
        """Source, expression giving [user], and whether those users are the members or the others."""
        if isinstance(leaf, FieldTest):
            kept_by = positive(leaf.test)
            rows = fields(self.catalog, [leaf.field], self.every)
            kept = rows.filter(holds(kept_by, rows[leaf.field])).select("user")
            return self.catalog.field_place(leaf.field)[0], kept, leaf.test.op == kept_by.op
        source = self.catalog.event(leaf.step.event).source
        if isinstance(leaf, EventAge):
            return source, self._age(leaf), True
        expression, inside = self._number(leaf)
        return source, expression, inside

    def _number(self, leaf: EventTest) -> tuple[Any, bool]:
        lines = self._lines(leaf.step, leaf.within, *([leaf.of] if leaf.of else []))
        grouped = lines.group_by("user").agg(number=_aggregate(leaf, lines))
        test = leaf.test
        if leaf.agg in ("sum", "avg"):
            test = Test(op=test.op, value=rounded(test.value))
        # Users without a line are not in `grouped`. Where their 0 passes the test, look for the others.
        zero_passes = leaf.agg in ("count", "sum", "distinct") and passes(test, 0)
        met = holds(test, grouped.number)
        if leaf.agg in ("avg", "min", "max"):
            met = met & grouped.number.notnull()
        return grouped.filter(~met if zero_passes else met).select("user"), not zero_passes

    def _age(self, leaf: EventAge) -> Any:
        lines = self._lines(leaf.step, None)
        edge = lines["at"].max() if leaf.which == "last" else lines["at"].min()
        found = lines.group_by("user").agg(edge=edge)
        tests = []
        if leaf.older_than is not None:
            tests.append(found.edge <= ibis.literal(self.as_of - leaf.older_than))
        if leaf.newer_than is not None:
            tests.append(found.edge > ibis.literal(self.as_of - leaf.newer_than))
        return found.filter(*tests).select("user")

    def _in_order(self, leaf: InOrder, run: Run) -> pl.Series:
        """Users whose events can be matched in order: each step by the earliest after the one before.

        Steps may live in different sources, so the matching is done on their (user, at) here.
        """
        first, *others = (self._moments(step, leaf.within, run) for step in leaf.steps)
        reached = first.group_by("user").agg(pl.col("at").min())
        for moments in others:
            later = moments.join(reached, on="user", suffix="_before").filter(
                pl.col("at") > pl.col("at_before")
            )
            reached = later.group_by("user").agg(pl.col("at").min())
        return reached["user"]

    def _not_followed(self, leaf: NotFollowed, run: Run) -> pl.Series:
        begun = self._moments(leaf.step, leaf.during, run).filter(pl.col("at") <= self.as_of - leaf.within)
        after = self._moments(leaf.by, None, run).with_columns(followed=pl.col("at"))
        both = begun.sort("at").join_asof(
            after.sort("at"),
            on="at",
            by="user",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        late = pl.col("followed") - pl.col("at") > leaf.within
        return both.filter(pl.col("followed").is_null() | late)["user"].unique()

    def _moments(self, step: Step, within: timedelta | None, run: Run) -> pl.DataFrame:
        """[user, at], distinct."""
        source = self.catalog.event(step.event).source
        if is_elastic(self.catalog, source):
            self._no_merges(source)
            with elastic_leaves(self.catalog, source, self.as_of) as elastic:
                return elastic.moments(step, within)
        lines = self._lines(step, within)
        return run(source, lines.select("user", "at").distinct())

    def _lines(self, step: Step, within: timedelta | None, *wanted: str) -> Any:
        """Lines of an event in the window that fulfil the step's filter."""
        filtered = [end.field for end in ends(step.where) if isinstance(end, FieldTest)] if step.where else []
        lines = event_lines(self.catalog, step.event, dict.fromkeys([*wanted, *filtered]), self.every)
        if self.merges:
            lines = lines.filter(lines["user"].isin(self.merges.people))
            lines = lines.mutate(user=lines["user"].substitute(dict(self.merges.survivors)))
        tests = [lines["at"] <= ibis.literal(self.as_of)]
        if within is not None:
            tests.append(lines["at"] > ibis.literal(self.as_of - within))
        if step.where is not None:
            tests.append(line_filter(step.where, lines))
        return lines.filter(*tests)


def holds(test: Test, column: Any) -> Any:
    """The test of a column, as an expression that is never NULL."""
    kept = positive(test)
    if kept.op == "not_null":
        met = column.notnull()
    else:
        met = ibis.coalesce(_compare(kept.op, column, kept.value), ibis.literal(False))
    return met if kept.op == test.op else ~met


def _compare(op: str, column: Any, value: Any) -> Any:
    if op == "eq":
        return column == ibis.literal(value)
    if op == "in":
        return column.isin([ibis.literal(each) for each in value])
    if op == "between":
        return (column >= ibis.literal(value[0])) & (column <= ibis.literal(value[1]))
    if op == "contains":
        return column.contains(ibis.literal(value))
    if op == "lt":
        return column < ibis.literal(value)
    if op == "le":
        return column <= ibis.literal(value)
    return column > ibis.literal(value) if op == "gt" else column >= ibis.literal(value)


def _aggregate(leaf: EventTest, lines: Any) -> Any:
    if leaf.of is None:
        return lines["event_id"].nunique() if "event_id" in lines.columns else lines.count()
    column = lines[leaf.of]
    if leaf.agg == "sum":
        return ibis.coalesce(column.sum().cast("float64").round(DIGITS), ibis.literal(0.0))
    if leaf.agg == "avg":
        return column.mean().round(DIGITS)
    if leaf.agg == "distinct":
        return column.nunique()
    return column.min() if leaf.agg == "min" else column.max()


def line_filter(where: Condition, lines: Any) -> Any:
    """An event's `where` as one expression; wide lists as balanced trees, so that no stack grows."""
    return evaluate(
        where,
        end=lambda end: holds(end.test, lines[end.field]) if isinstance(end, FieldTest) else None,
        every=lambda parts: _balanced(parts, lambda a, b: a & b),
        some=lambda parts: _balanced(parts, lambda a, b: a | b),
        opposite=lambda part: ~part,
    )


def _balanced(parts: Sequence[Any], join: Callable[[Any, Any], Any]) -> Any:
    level = list(parts)
    while len(level) > 1:
        pairs = [join(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + ([level[-1]] if len(level) % 2 else [])
    return level[0]
