"""Leaves compiled for Elasticsearch and the plain Python oracle agree on the set of members.

The queries run, over HTTP, on a stand-in that knows as much of the language as they use; against a real
server where GROWTH_TEST_ELASTICSEARCH (HOST:PORT of one that may be written to) is set.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import math
import os
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import insight.elastic_http
from insight.api import Population, check_catalog, parse_catalog, parse_condition


def _beside(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


worlds, oracle, stand_in = (
    _beside(name) for name in ("condition_worlds", "condition_oracle", "elastic_stand_in")
)
AT = worlds.AT
REAL = os.environ.get("GROWTH_TEST_ELASTICSEARCH")
KEYWORD, LONG, NANOS = {"type": "keyword"}, {"type": "long"}, {"type": "date_nanos"}
PROFILE = {
    "age": {"type": "integer"},
    "score": {"type": "double"},
    "born": {"type": "date"},
    "town": KEYWORD,
    "vip": {"type": "boolean"},
}
ORDER = {"t": NANOS, "basket": LONG, "total": {"type": "double"}, "sku": LONG, "kind": KEYWORD}
VIEW = {"t": NANOS, "page": KEYWORD, "n": {"type": "short"}}


def catalog(address: str, *, nested: bool) -> Any:
    """Either everything of a user in one document, or an index a table."""
    entity = {"source": "es", "table": "people", "key": "uid"}
    fields = {
        "user.city": {"column": "town", "type": "string"},
        "user.vip": {"column": "vip", "type": "boolean"},
        "user.age": {"column": "age", "type": "integer"},
        "user.score": {"column": "score", "type": "decimal"},
        "user.born": {"column": "born", "type": "date"},
    }
    home = {"table": "people"} if nested else {"table": "traits", "key": "who"}

    def event(name: str, columns: dict[str, tuple[str, str]], **more: str) -> dict[str, Any]:
        path = f"{name}s." if nested else ""
        place: dict[str, Any] = (
            {"table": "people", "user": "uid", "nested": f"{name}s"}
            if nested
            else {"table": f"{name}s", "user": "who"}
        )
        found = {short: {"column": path + column, "type": kind} for short, (column, kind) in columns.items()}
        rest = {key: path + column for key, column in more.items()}
        return {"source": "es", "time": f"{path}t", "fields": found, **place, **rest}

    amount = {"amount": ("total", "decimal"), "sku": ("sku", "integer"), "kind": ("kind", "string")}
    raw = {
        "sources": {"es": {"url": f"elasticsearch://{address}"}},
        "entities": {"user": {**entity, "since": "joined"}},
        "fields": {name: {**home, **said} for name, said in fields.items()},
        "events": {
            "order": event("order", amount, id="basket"),
            "view": event("view", {"page": ("page", "string"), "n": ("n", "integer")}),
        },
    }
    return parse_catalog(raw, folder=Path())


def text(value: Any) -> Any:
    """As JSON has it; NaN is no number there."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%f}000Z"
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00.000000000Z"
    return None if isinstance(value, float) and math.isnan(value) else value


def indices(world: dict[str, Any], *, nested: bool) -> dict[str, tuple[dict[str, Any], list[Any]]]:
    """Name → properties, documents."""
    kind = LONG if str(world["ids"]) == "Int64" else KEYWORD
    names = {"user.city": "town", "user.vip": "vip", "user.age": "age", "user.score": "score"}
    names["user.born"] = "born"
    traits = {
        user: {names[name]: text(value) for name, value in row.items()}
        for user, row in world["fields"].items()
    }
    columns = {"at": "t", "id": "basket", "amount": "total", "sku": "sku", "kind": "kind", "page": "page"}
    columns["n"] = "n"
    lines = {
        name: [
            ({columns[key]: text(value) for key, value in row.items() if key != "user"}, row["user"])
            for row in rows
        ]
        for name, rows in world["events"].items()
    }
    people: dict[str, Any] = {"uid": kind, "joined": NANOS}
    if not nested:
        return {
            "people": (people, [{"uid": row["id"], "joined": text(row["since"])} for row in world["users"]]),
            "traits": ({"who": kind, **PROFILE}, [{"who": user, **row} for user, row in traits.items()]),
            "orders": ({"who": kind, **ORDER}, [{"who": user, **line} for line, user in lines["order"]]),
            "views": ({"who": kind, **VIEW}, [{"who": user, **line} for line, user in lines["view"]]),
        }
    docs = []
    for user in dict.fromkeys(row["id"] for row in world["users"]):
        joined = [text(row["since"]) for row in world["users"] if row["id"] == user and row["since"]]
        own = {f"{name}s": [line for line, who in rows if who == user] for name, rows in lines.items()}
        docs.append({"uid": user, "joined": joined, **traits.get(user, {}), **own})
    below = {"orders": {"type": "nested", "properties": ORDER}}
    below["views"] = {"type": "nested", "properties": VIEW}
    return {"people": ({**people, **PROFILE, **below}, docs)}


class Server:
    """The stand-in, or the real one."""

    def __init__(self, address: str, state: Any) -> None:
        self.address, self.state = address, state

    def hold(self, found: dict[str, tuple[dict[str, Any], list[Any]]]) -> None:
        """These indices and no others."""
        if self.state is not None:
            self.state.indices.clear()
            for name, (properties, docs) in found.items():
                self.state.put(name, properties, docs)
            return
        for name, (properties, docs) in found.items():
            self._send("DELETE", f"/{name}?ignore_unavailable=true", "")
            self._send("PUT", f"/{name}", json.dumps({"mappings": {"properties": properties}}))
            rows = "".join(f'{{"index":{{}}}}\n{json.dumps(doc)}\n' for doc in docs)
            if rows:
                self._send("POST", f"/{name}/_bulk?refresh=true", rows)

    def _send(self, method: str, path: str, body: str) -> None:
        host = http.client.HTTPConnection(self.address)
        host.request(method, path, body, {"Content-Type": "application/json"})
        answer = host.getresponse()
        raw = answer.read()
        host.close()
        assert answer.status < 300, raw
        assert b'"errors":true' not in raw, raw


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if REAL:
        yield Server(REAL, None)
        return
    state = stand_in.StandIn()
    with stand_in.served(state) as address:
        yield Server(address, state)
    assert not state.views, "every point in time was given back"
    assert state.opened > 100


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    nested=st.booleans(),
    page=st.sampled_from([1, 3, 10_000]),
    fields=st.lists(worlds.LEAVES, min_size=5, max_size=5),
    events=st.lists(worlds.event_leaves(), min_size=10, max_size=10),
    tree=worlds.nested(worlds.LEAVES, 5),
)
def test_queries_and_the_oracle_agree(
    server: Server, seed: int, nested: bool, page: int, fields: list[Any], events: list[Any], tree: Any
) -> None:
    world = worlds.make_world(seed)
    server.hold(indices(world, nested=nested))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insight.elastic_http, "PAGE", page)
        routed = catalog(server.address, nested=nested)
        assert check_catalog(routed) == []
        population = Population(routed, AT)
        for each in (*fields, *events, tree):
            found = population.users(population.members(parse_condition(each))).to_list()
            assert set(found) == oracle.members(world, {}, AT, each), each


def test_an_estimate_is_counted_where_no_sample_is_drawn(server: Server) -> None:
    world = worlds.make_world(3)
    server.hold(indices(world, nested=False))
    tree = {"event": "view", "agg": "count", "op": "ge", "value": 1}
    found = Population(catalog(server.address, nested=False), AT).estimate(
        parse_condition(tree), sample_above=0
    )
    assert (found.method, found.count) == ("exact", len(oracle.members(world, {}, AT, tree)))
