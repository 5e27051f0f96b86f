"""Leaves of an Elasticsearch source as queries, their users streamed back.

An event's table is an index of its own, one document a line, or, with `nested: orders` in the catalog, the
nested documents below that path of the users' own documents. Numbers of events are worked out by composite
aggregations and bucket selectors or, where only that is exact (distinct values, ids), counted here from
streamed pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl

from insight.catalog import USER, Catalog, EventFieldRoute, EventRoute, FieldRoute
from insight.comparing import passes, positive, rounded
from insight.conditions import EventAge, EventTest, FieldTest, Step, Test
from insight.elastic import ElasticSource
from insight.elastic_query import (
    NOTHING,
    WHOLE,
    Column,
    Query,
    all_of,
    before_query,
    exists,
    filter_query,
    negated,
    number_script,
    test_query,
    window_query,
)
from insight.observed import Observed, ObservedEvent
from insight.sources.opening import open_source
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT

#: different values of one user, and nested events of one user, that are looked at before giving up
MOST_NESTED, MOST_INNER = 10_000, 100
#: values that a profile lists
MOST_LISTED = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class ElasticCompiler:
    """What a leaf of one Elasticsearch source is compiled against."""

    catalog: Catalog
    as_of: datetime
    source: ElasticSource

    def users(self) -> pl.Series:
        """Each user who exists as of `as_of`, once."""
        entity = self.catalog.entity
        known = exists(entity.key)
        if entity.since is not None:
            since = self._column(entity.table, entity.since, "datetime", f"entities.{USER}.since")
            known = all_of([known, window_query(since, self.as_of)])
        found = self.source.server.buckets(entity.table, known, {"user": entity.key}, {})
        return self._series(entity.table, entity.key, (bucket["key"]["user"] for bucket in found))

    def members(self, leaf: FieldTest | EventTest | EventAge) -> tuple[pl.Series, bool]:
        """Users, and whether they are the members (True) or all that are not (False)."""
        if isinstance(leaf, FieldTest):
            kept, (_, table, key) = positive(leaf.test), self.catalog.field_place(leaf.field)
            return self._series(table, key, self._field(leaf, kept)), kept.op == leaf.test.op
        event = self.catalog.event(leaf.step.event)
        if isinstance(leaf, EventAge):
            return self._series(event.table, event.user, self._age(leaf)), True
        # Users without a line are in no bucket. Where their 0 passes the test, look for the others.
        zero = leaf.agg in ("count", "sum", "distinct") and passes(_numeric(leaf), 0)
        return self._series(event.table, event.user, self._number(leaf, opposite=zero)), not zero

    def moments(self, step: Step, within: timedelta | None) -> pl.DataFrame:
        """[user, at] of an event's lines in the window, distinct, to the source's own precision."""
        event, time = self._event(step)
        lines = self._lines(step, within)
        stamp = {"field": time.path, "format": "strict_date_optional_time_nanos"}
        rows: list[tuple[Any, str]] = []
        if event.nested is None:
            asked = {"docvalue_fields": [{"field": event.user}, stamp]}
            for hit in self.source.server.hits(event.table, all_of([exists(event.user), lines]), **asked):
                rows.append((hit["fields"][event.user][0], hit["fields"][time.path][0]))
        else:
            inner = {"size": MOST_INNER, "_source": False, "docvalue_fields": [stamp]}
            nested = {"nested": {"path": event.nested, "query": lines, "inner_hits": inner}}
            query = {"bool": {"filter": [exists(event.user)], "must": [nested]}}
            for hit in self.source.server.hits(event.table, query, docvalue_fields=[{"field": event.user}]):
                user, found = hit["fields"][event.user][0], hit["inner_hits"][event.nested]["hits"]
                if found["total"]["value"] > MOST_INNER:
                    self._too_many(step.event, user, MOST_INNER)
                rows.extend((user, each["fields"][time.path][0]) for each in found["hits"])
        users = self._series(event.table, event.user, (user for user, _ in rows))
        at = pl.Series("at", [_parsed(text) for _, text in rows], dtype=INSTANT)
        return pl.DataFrame({"user": users, "at": at}).unique()

    def observed(self, table: str, nested: str | None, route: FieldRoute | EventFieldRoute) -> Observed:
        """A field as its index has it; different values are counted approximately where they are many."""
        path, lists = route.column, route.type in ("string", "integer", "boolean")
        column = self._column(table, path, route.type, f"column {path}")
        asked: dict[str, Any] = {
            "known": {"value_count": {"field": path}},
            "distinct": {"cardinality": {"field": path, "precision_threshold": 40_000}},
        }
        if lists:
            asked["values"] = {"terms": {"field": path, "size": MOST_LISTED + 1}}
        elif route.type != "string":
            asked |= {"low": {"min": {"field": path}}, "high": {"max": {"field": path}}}
        rows, found = self._totals(table, nested, asked)
        buckets = found["values"]["buckets"] if lists else []
        values = tuple(each["key"] for each in buckets) if len(buckets) <= MOST_LISTED else ()
        if route.type == "boolean":
            values = tuple(bool(value) for value in values)
        low, high = (found.get(end, {}).get("value") for end in ("low", "high"))
        if column.stored in ("date", "date_nanos") and low is not None:
            low, high = (_EPOCH + timedelta(milliseconds=end) for end in (low, high))
            if route.type == "date":
                low, high = low.date(), high.date()
        return Observed(
            rows=rows,
            nulls=rows - found["known"]["value"],
            distinct=found["distinct"]["value"],
            values=values,
            range=None if low is None else (low, high),
        )

    def observed_event(self, name: str) -> ObservedEvent:
        """An event's lines, the first and the last of them."""
        event = self.catalog.event(name)
        edges = {which: {how: {"field": event.time}} for which, how in (("first", "min"), ("last", "max"))}
        rows, found = self._totals(event.table, event.nested, edges)
        first, last = (
            None if found[which]["value"] is None else _EPOCH + timedelta(milliseconds=found[which]["value"])
            for which in ("first", "last")
        )
        return ObservedEvent(rows=rows, first=first, last=last)

    def _totals(self, table: str, nested: str | None, asked: Query) -> tuple[int, Query]:
        """Documents, nested ones where there is a path, and aggregations over them."""
        inner: Query = {"filter": {"match_all": {}}, "aggs": asked}
        aggs = {"all": inner if nested is None else {"nested": {"path": nested}, "aggs": asked}}
        with self.source.server.still(table) as view:
            body = {"size": 0, "pit": view, "query": {"match_all": {}}, "aggs": aggs}
            found = self.source.server.search(body)["aggregations"]["all"]
        return found["doc_count"], found

    def _field(self, leaf: FieldTest, kept: Test) -> Iterator[Any]:
        route = self.catalog.fields[leaf.field]
        _, table, key = self.catalog.field_place(leaf.field)
        column = self._column(table, route.column, route.type, f"fields.{leaf.field}")
        query = all_of([exists(key), test_query(column, kept)])
        for hit in self.source.server.hits(table, query, docvalue_fields=[{"field": key}]):
            yield hit["fields"][key][0]

    def _number(self, leaf: EventTest, opposite: bool) -> Iterator[Any]:
        """Users whose number fulfils the test or, with `opposite`, does not."""
        event, time = self._event(leaf.step)
        test = _numeric(leaf)
        counted = event.id if leaf.agg == "count" else leaf.of and event.fields[leaf.of].column
        if leaf.agg in ("count", "distinct") and counted is not None:
            for user, number in self._different(leaf, event, counted):
                if passes(test, number) != opposite:
                    yield user
            return
        some = leaf.agg in ("avg", "min", "max")
        metrics: dict[str, Any] = {}
        if leaf.of is not None:
            of = event.fields[leaf.of]
            column = self._column(event.table, of.column, of.type, f"events.{leaf.step.event}.{leaf.of}")
            if of.type == "datetime" and column.stored == "date_nanos" and some:
                problem = f"of a date_nanos is known to the millisecond only, so there is no {leaf.agg} of it"
                raise BadInput(problem, where=self.catalog.file, field="of", value=leaf.of)
            metrics = {"n": {leaf.agg: {"field": column.path}}, "k": {"value_count": {"field": column.path}}}
        elif event.nested is not None:
            metrics = {"n": {"value_count": {"field": time.path}}}
        below = "" if event.nested is None else "lines>kept>"
        path = {"n": f"{below}n" if metrics else "_count", **({"k": f"{below}k"} if some else {})}
        days = leaf.of is not None and event.fields[leaf.of].type == "date"
        read = "rounded" if leaf.agg in ("sum", "avg") else "days" if days else ""
        script = number_script(test, read=read, some=some, opposite=opposite)
        kept = {"bucket_selector": {"buckets_path": path, "script": script}}
        for bucket in self._by_user(leaf.step, leaf.within, event, metrics, {"met": kept}):
            yield bucket["key"]["user"]

    def _different(self, leaf: EventTest, event: EventRoute, path: str) -> Iterator[tuple[Any, int]]:
        """Each user with how many different values of a field there are in the lines."""
        if event.nested is not None:
            each = {"n": {"terms": {"field": path, "size": MOST_NESTED}}}
            for bucket in self._by_user(leaf.step, leaf.within, event, each, {}, page=100):
                found = bucket["lines"]["kept"]["n"]
                if found["sum_other_doc_count"]:
                    self._too_many(leaf.step.event, bucket["key"]["user"], MOST_NESTED)
                yield bucket["key"]["user"], len(found["buckets"])
            return
        lines = self._lines(leaf.step, leaf.within)
        pairs = self.source.server.buckets(event.table, lines, {"user": event.user, "value": path}, {})
        for user, values in groupby(pairs, key=lambda bucket: bucket["key"]["user"]):
            yield user, sum(1 for _ in values)

    def _age(self, leaf: EventAge) -> Iterator[Any]:
        """By whether there are lines inside the ages asked for, and none on the far side of them."""
        event, time = self._event(leaf.step)
        older = None if leaf.older_than is None else before_query(time, self.as_of - leaf.older_than)
        newer = None if leaf.newer_than is None else window_query(time, self.as_of, leaf.newer_than)
        wanted = all_of([part for part in (older, newer) if part is not None])
        beyond = {"last": older, "first": newer}[leaf.which]  # an event that is not so spoils it
        flags = {"inside": {"filter": wanted}, "beyond": {"filter": _not(beyond)}}
        below = "" if event.nested is None else "lines>kept>"
        path = {name: f"{below}{name}._count" for name in flags}
        script = {"source": "params.inside > 0 && params.beyond == 0", "params": {}}
        met = {"bucket_selector": {"buckets_path": path, "script": script}}
        for bucket in self._by_user(leaf.step, None, event, flags, {"met": met}):
            yield bucket["key"]["user"]

    def _by_user(
        self,
        step: Step,
        within: timedelta | None,
        event: EventRoute,
        metrics: dict[str, Any],
        selector: dict[str, Any],
        **more: int,
    ) -> Iterator[dict[str, Any]]:
        """A bucket a user who has any such line, with metrics of these lines."""
        lines = self._lines(step, within)
        by = {"user": event.user}
        if event.nested is None:
            return self.source.server.buckets(event.table, lines, by, {**metrics, **selector}, **more)
        kept = {"kept": {"filter": lines, "aggs": metrics}}
        aggs = {"lines": {"nested": {"path": event.nested}, "aggs": kept}, **selector}
        query = {"nested": {"path": event.nested, "query": lines}}
        return self.source.server.buckets(event.table, query, by, aggs, **more)

    def _lines(self, step: Step, within: timedelta | None) -> Query:
        """The lines of an event in the window that fulfil the step's filter."""
        event, time = self._event(step)
        parts = [window_query(time, self.as_of, within)]
        if event.nested is None:
            parts.append(exists(event.user))
        if event.id is not None:
            parts.append(exists(event.id))
        if step.where is not None:

            def column(short: str) -> Column:
                route = event.fields[short]
                return self._column(event.table, route.column, route.type, f"events.{step.event}.{short}")

            parts.append(filter_query(step.where, column))
        return all_of(parts)

    def _event(self, step: Step) -> tuple[EventRoute, Column]:
        event = self.catalog.event(step.event)
        return event, self._column(event.table, event.time, "datetime", f"events.{step.event}.time")

    def _column(self, table: str, path: str, declared: str, field: str) -> Column:
        known = self.source.columns(table, field)
        if path not in known:
            raise NotFound("column", path, known, where=self.catalog.file, field=field)
        return Column(path=path, declared=declared, stored=known[path])

    def _series(self, table: str, path: str, users: Iterable[Any]) -> pl.Series:
        """Ids in the order in which they come, of the type of the field that they come from."""
        text = self._column(table, path, "string", "entities.user.key").stored not in WHOLE
        return pl.Series("user", list(users), dtype=pl.String if text else pl.Int64)

    def _too_many(self, event: str, user: object, most: int) -> None:
        problem = f"user {user} has more than {most} nested ones; keep them in an index of their own"
        raise BadInput(problem, where=self.catalog.file, field=f"events.{event}.nested")


@contextmanager
def elastic_leaves(catalog: Catalog, source: str, as_of: datetime) -> Iterator[ElasticCompiler]:
    """The compiler of this source's leaves, connected."""
    with open_source(catalog, source) as opened:
        assert isinstance(opened, ElasticSource)  # noqa: S101  whoever calls asked `is_elastic`
        yield ElasticCompiler(catalog=catalog, as_of=as_of, source=opened)


def _not(query: Query | None) -> Query:
    """What does not match; nothing where there is no query."""
    return NOTHING if query is None else negated(query)


def _numeric(leaf: EventTest) -> Test:
    return replace(leaf.test, value=rounded(leaf.test.value)) if leaf.agg in ("sum", "avg") else leaf.test


def _parsed(text: str) -> datetime:
    """An instant with up to nine digits of a second, to the microsecond."""
    head, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{rest[:6].ljust(6, '0')}").replace(tzinfo=UTC)
