"""The same definitions, for everybody in Polars and for one user in NumPy, say the same to 1e-9: in random
worlds, with events that are late, sent again, out of order and after the instant."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.definitions import parse
from kernel.events import INSTANT
from models.feature_batch import derive
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts
from models.online_features import OnlineFeatures

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
BATCH, NOW = BEGIN + timedelta(days=60), BEGIN + timedelta(days=62)
USERS = ("ann", "bob", "cem")
CATEGORIES = ("tea", "milk & more", "x,y:{z}", None)
ORDER, TOUCH = {"event": "order"}, {"event": "touch"}
RAW: dict[str, Any] = {
    "name": "everything",
    "known_at": {"touch": "heard"},
    "features": [
        {**ORDER, "agg": "count", "within": ["7d", "28d"], "per": "week"},
        {**ORDER, "agg": "count", "per": "week of life", "name": "lived"},
        {**ORDER, "agg": "lines", "within": "28d", "where": {"amount": {"gt": 0, "le": 40}}},
        {**ORDER, "agg": "sum", "of": "amount", "within": ["7d", "28d"], "name": "amount"},
        {**ORDER, "agg": "sum", "of": "amount", "by": "category", "labels": ["tea", "x,y:{z}"],
         "share": True},
        {**ORDER, "agg": "count", "by": "category", "labels": ["tea", "milk & more"], "within": "28d"},
        {**ORDER, "agg": "mean", "of": "amount", "within": ["7d", "50d"]},
        {**ORDER, "agg": "min", "of": "amount"},
        {**ORDER, "agg": "max", "of": "amount", "where": {"category": ["tea", "x,y:{z}"]}},
        {**ORDER, "agg": "distinct", "of": "category", "within": ["7d", "28d"]},
        {**ORDER, "agg": "last", "of": "amount"},
        {**ORDER, "agg": "last", "of": "category", "labels": ["tea", "milk & more"], "within": "14d"},
        {**ORDER, "since": "last"},
        {**ORDER, "since": "first", "share": True},
        {**ORDER, "rhythm": True},
        {**ORDER, "slope": "5d", "steps": 4, "of": "amount"},
        {**TOUCH, "agg": "count", "within": ["3d", "28d"], "before": True, "name": "touched"},
        {**TOUCH, "agg": "lines", "by": "channel", "labels": ["sms", "mail"], "per": "week"},
        {**TOUCH, "since": "last", "where": {"channel": "sms"}},
        {**TOUCH, "agg": "sum", "of": "opened"},
        {"ratio": "touch_sum_opened", "over": ["touched_28d"], "plus": [0.1, 1.0], "name": "opened_each"},
        {"ratio": "amount_7d", "over": ["amount_28d"], "log": True, "name": "trend"},
        {"ratio": "amount_7d", "over": ["amount_7d", "amount_28d"], "name": "part"},
        {"field": "user.age", "static": True},
        {"field": "user.city", "static": True, "labels": ["Rome", "Oslo"]},
        {"cell": "stage", "labels": ["new", "loyal"]},
    ],
}  # fmt: skip
FIELDS = pl.DataFrame(
    {"user": ["ann", "bob"], "user.age": [31, None], "user.city": ["Rome", None]},
    schema_overrides={"user.age": pl.Int64},
)
#: instants that meet the edges of windows and of days
MOMENTS = st.one_of(
    st.sampled_from([0, 1, 7, 14, 28, 50, 59, 60]).map(lambda days: NOW - timedelta(days=days)),
    st.integers(-3, 64 * 86_400).map(lambda seconds: NOW - timedelta(seconds=seconds)),
)


@st.composite
def worlds(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """(event, one event with its lines) each."""
    found = []
    for number in range(draw(st.integers(0, 25))):
        name = draw(st.sampled_from(["order", "order", "touch", "cell"]))
        at = draw(MOMENTS)
        lines: list[dict[str, Any]]
        if name == "order":
            amounts = st.one_of(st.none(), st.sampled_from([0.0, -5.25, 12.1, 40.0]), st.floats(-1e4, 1e4))
            line = st.fixed_dictionaries({"amount": amounts, "category": st.sampled_from(CATEGORIES)})
            lines = draw(st.lists(line, min_size=1, max_size=3))
        elif name == "touch":
            heard = at + timedelta(hours=draw(st.sampled_from([0, 1, 30])))
            channel = draw(st.sampled_from(["sms", "mail", "push"]))
            lines = [{"channel": channel, "opened": draw(st.booleans()), "heard": heard}]
        else:
            lines = [{"stage": draw(st.sampled_from(["new", "loyal", "lapsed"]))}]
        user = draw(st.sampled_from(USERS))
        found.append((name, {"user": user, "at": at, "event_id": number, "lines": lines}))
    return found


KINDS: dict[str, dict[str, Any]] = {
    "order": {"amount": pl.Float64, "category": pl.String},
    "touch": {"channel": pl.String, "opened": pl.Boolean, "heard": INSTANT},
    "cell": {"stage": pl.String},
}


def frames(world: list[tuple[str, dict[str, Any]]], until: datetime) -> dict[str, pl.DataFrame]:
    found = {}
    for name, kinds in KINDS.items():
        rows = [
            {"user": each["user"], "at": each["at"], "event_id": each["event_id"], **line}
            for kind, each in world
            if kind == name and each["at"] <= until
            for line in each["lines"]
        ]
        schema = {"user": pl.String, "at": INSTANT, "event_id": pl.Int64, **kinds}
        found[name] = pl.DataFrame(rows, schema=schema)
    return found


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False), st.integers(0, 5))
def test_one_user_online_is_her_row_in_the_batch(
    world: list[tuple[str, dict[str, Any]]], order: random.Random, hours: int
) -> None:
    features, as_of = parse(FeatureSet, RAW, "features everything"), NOW - timedelta(hours=hours)
    known = frames(world, datetime(9000, 1, 1, tzinfo=UTC))
    facts = Facts(
        events={name: frame.lazy() for name, frame in known.items()},
        fields=FIELDS.lazy(),
        whole=frozenset({"touch", "cell"}),
    )
    batch = derive(features, facts, as_of, pl.LazyFrame({"user": USERS})).collect()

    online = OnlineFeatures(
        features,
        frames(world, BATCH),
        {name: facts.begin(features, name, as_of) for name in KINDS},
        FIELDS,
    )
    sent = [each for each in world if each[1]["at"] > BATCH]
    sent += order.sample(world, len(world) // 2)  # again, also what the batch knows
    order.shuffle(sent)
    for name, each in sent:
        online.add(name, each["user"], each["event_id"], each["at"], each["lines"])

    for row in batch.iter_rows(named=True):
        found = online.of(row.pop("user"), as_of)
        assert list(found) == list(row)
        for name, value in row.items():
            assert (found[name] is None) == (value is None), name
            if value is not None:
                assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_an_event_is_taken_in_once() -> None:
    features = parse(FeatureSet, {"name": "f", "features": [{**ORDER, "agg": "count"}]}, "features f")
    online = OnlineFeatures(features, frames([], NOW), {})
    assert online.add("order", "ann", 1, BATCH)
    assert not online.add("order", "ann", 1, BATCH + timedelta(days=1))
    assert online.of("ann", NOW) == {"order_count": 1.0}
    online.forget("ann")
    assert online.of("ann", NOW) == {"order_count": 0.0}
