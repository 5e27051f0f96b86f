"""Tests and windows as Elasticsearch queries, and tests of numbers as its scripts.

The second compiler: same meaning as `insight.compile`, said in `bool`, `range`, `term` and `nested`. A
query matches exactly the documents, or nested documents, that fulfil a test, NULL (a field that is not
there) by the rules of `insight.conditions`. Values only ever stand where values belong; no text is pasted.

Elasticsearch keeps instants in UTC: `date` to the millisecond, `date_nanos` finer. A field is taken to
hold one value; of several, one that fulfils a test is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from insight.comparing import positive
from insight.conditions import Condition, FieldTest, Test, evaluate

Query = dict[str, Any]
#: Elasticsearch type → lowest and highest whole number that it holds
WHOLE = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned_long": (0, 2**64 - 1),
}
NOTHING: Query = {"match_none": {}}
_MILLI = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANGE = {"lt": "lt", "le": "lte", "gt": "gt", "ge": "gte"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A field of an index."""

    #: full path, such as `orders.amount`
    path: str
    #: what the catalog says that it is
    declared: str
    #: Elasticsearch's type of it
    stored: str


def test_query(column: Column, test: Test) -> Query:
    """The documents whose value fulfils the test."""
    kept = positive(test)
    query = exists(column.path) if kept.op == "not_null" else _compare(column, kept.op, kept.value)
    return query if kept.op == test.op else negated(query)


def filter_query(where: Condition, column: Callable[[str], Column]) -> Query:
    """An event's `where`; `column` knows its fields. Equal joints are merged, so that it nests less."""
    return evaluate(
        where,
        end=lambda end: test_query(column(end.field), end.test) if isinstance(end, FieldTest) else NOTHING,
        every=lambda parts: _joined("filter", parts),
        some=lambda parts: _joined("should", parts),
        opposite=negated,
    )


def window_query(at: Column, as_of: datetime, within: timedelta | None = None) -> Query:
    """Events in (as_of − within, as_of]; without `within`, all up to `as_of`."""
    if within is None:
        return _instants(at, "le", as_of)
    return all_of([_instants(at, "gt", as_of - within), _instants(at, "le", as_of)])


def before_query(at: Column, edge: datetime) -> Query:
    """Events at or before `edge`."""
    return _instants(at, "le", edge)


def exists(path: str) -> Query:
    return {"exists": {"field": path}}


def negated(query: Query) -> Query:
    inner = query.get("bool", {})
    if set(inner) == {"must_not"} and len(inner["must_not"]) == 1:
        opposite: Query = inner["must_not"][0]
        return opposite
    return {"bool": {"must_not": [query]}}


def all_of(parts: Sequence[Query]) -> Query:
    return _joined("filter", parts)


def _joined(kind: str, parts: Sequence[Query]) -> Query:
    flat: list[Query] = []
    for part in parts:
        inner = part.get("bool", {})
        flat.extend(inner[kind] if set(inner) - {"minimum_should_match"} == {kind} else [part])
    if len(flat) == 1:
        return flat[0]
    return {"bool": {kind: flat, **({"minimum_should_match": 1} if kind == "should" else {})}}


def _compare(column: Column, op: str, value: Any) -> Query:
    if column.declared == "date":
        return _days(column, op, value)
    if column.declared == "datetime":
        return _instants(column, op, value)
    if column.stored in WHOLE:
        return _wholes(column, op, value)
    path = column.path
    if op == "eq":
        return {"term": {path: {"value": value}}}
    if op == "in":
        return {"terms": {path: list(value)}}
    if op == "between":
        return {"range": {path: {"gte": value[0], "lte": value[1]}}}
    if op == "contains":
        return exists(path) if value == "" else {"wildcard": {path: {"value": f"*{escaped(value)}*"}}}
    return {"range": {path: {_RANGE[op]: value}}}


def escaped(text: str) -> str:
    """Text of which a wildcard pattern means every character as itself."""
    return "".join(f"\\{each}" if each in "\\*?" else each for each in text)


def _wholes(column: Column, op: str, value: Any) -> Query:
    """Of whole numbers: as closed ranges inside what the type holds, since others are refused."""
    least, most = WHOLE[column.stored]
    if op == "in":
        inside = [int(each) for each in value if least <= each <= most and each == math.floor(each)]
        return {"terms": {column.path: inside}} if inside else NOTHING
    low, high = _closed(op, value, math.ceil, math.floor, 1)
    if (low is not None and low > most) or (high is not None and high < least):
        return NOTHING
    if low is not None and high is not None and low > high:
        return NOTHING
    edges = {}
    if low is not None and low > least:
        edges["gte"] = low
    if high is not None and high < most:
        edges["lte"] = high
    return {"range": {column.path: edges}} if edges else exists(column.path)


def _closed(
    op: str, value: Any, up: Callable[[Any], Any], down: Callable[[Any], Any], step: Any
) -> tuple[Any, Any]:
    """Lowest and highest member of a grid that fulfil the test; None where there is no end."""
    if op == "between":
        return up(value[0]), down(value[1])
    if op == "eq":
        return up(value), down(value)
    if op in ("lt", "le"):
        return None, up(value) - step if op == "lt" else down(value)
    return down(value) + step if op == "gt" else up(value), None


def _instants(column: Column, op: str, value: Any) -> Query:
    """Of instants: on a `date`, closed ranges of whole milliseconds; the rest of a value is not lost."""
    if op == "in":
        return _joined("should", [_instants(column, "eq", each) for each in value])
    step = _MILLI if column.stored == "date" else timedelta(microseconds=1)
    down: Callable[[datetime], datetime] = lambda at: at - (at - _EPOCH) % step  # noqa: E731
    up: Callable[[datetime], datetime] = lambda at: at + -(at - _EPOCH) % step  # noqa: E731
    try:
        low, high = _closed(op, value, up, down, step)
    except OverflowError:  # past the end of the calendar
        return NOTHING
    if low is not None and high is not None and low > high:
        return NOTHING
    edges = {name: instant(edge) for name, edge in (("gte", low), ("lte", high)) if edge is not None}
    return {"range": {column.path: {**edges, "format": "strict_date_optional_time_nanos"}}}


def _days(column: Column, op: str, value: Any) -> Query:
    """Of days in UTC: from the first instant of one to before the first of another."""
    if op == "in":
        return _joined("should", [_days(column, "eq", each) for each in value])
    day = timedelta(days=1)
    try:
        low, high = _closed(op, value, lambda each: each, lambda each: each, day)
    except OverflowError:  # past the end of the calendar
        return NOTHING
    edges = {} if low is None else {"gte": instant(_midnight(low))}
    if high is not None and high != date.max:
        edges["lt"] = instant(_midnight(high + day))
    if not edges:
        return exists(column.path)
    return {"range": {column.path: {**edges, "format": "strict_date_optional_time_nanos"}}}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def instant(at: datetime) -> str:
    """ISO 8601 with nine digits of a second, so that no parser fills in what is missing."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "000Z"


#: how a script reads the number that an aggregation gives: as it is, to six digits (past 1e9 a double has
#: hardly six left, and the product would spoil them), or milliseconds as whole days
READ = {
    "": "params.n",
    "rounded": "(Math.abs(params.n) < 1.0E9 ? Math.rint(params.n * 1000000.0) / 1000000.0 : params.n)",
    "days": "Math.floor(params.n / 86400000.0)",
}


def number_script(test: Test, *, read: str = "", some: bool = False, opposite: bool = False) -> Query:
    """A bucket selector's script: `n`, read as READ says, against the test's value; all numbers doubles.

    `some`: false where `k`, the number of values, is 0. `opposite`: the rest.
    """
    n, value = READ[read], test.value
    params: dict[str, Any] = {}
    if isinstance(value, tuple) and test.op != "between":
        met, params["among"] = f"params.among.contains({n} + 0.0)", [_double(each) for each in value]
        met = met if test.op == "in" else f"!{met}"
    elif isinstance(value, tuple):
        met = f"{n} >= params.low && {n} <= params.high"
        params |= {"low": _double(value[0]), "high": _double(value[1])}
    else:
        sign = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[test.op]
        met, params["value"] = f"{n} {sign} params.value", _double(value)
    if some:
        met = f"params.k > 0 && ({met})"
    return {"source": f"!({met})" if opposite else met, "params": params}


def _double(value: Any) -> float:
    """A number; an instant in milliseconds, a date in days, since 1970. Never a negative zero."""
    if isinstance(value, datetime):
        return (value - _EPOCH) / _MILLI + 0.0
    return float((value - _EPOCH.date()).days if isinstance(value, date) else value) + 0.0
