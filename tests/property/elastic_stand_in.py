"""So much of Elasticsearch as our queries use, over HTTP, said as plainly as Python can.

It shares no code with `insight`. An index is {"properties": …, "docs": [dict]}. What the real one refuses
(a number that its type does not hold, an unknown query, a lost point in time) this one refuses too.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from threading import Thread
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BITS = {"byte": 7, "short": 15, "integer": 31, "long": 63}


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.body = status, {"error": {"root_cause": [{"reason": reason}]}}


class StandIn:
    """The server's state and its answers."""

    def __init__(self) -> None:
        self.indices: dict[str, dict[str, Any]] = {}
        self.views: dict[str, str] = {}
        self.opened = self.asked = 0
        #: bodies of all searches
        self.searches: list[Any] = []

    def put(self, name: str, properties: dict[str, Any], docs: list[dict[str, Any]]) -> None:
        self.indices[name] = {"properties": properties, "docs": docs}

    def answer(self, method: str, path: str, body: Any) -> Any:
        self.asked += 1
        first, _, rest = path.lstrip("/").partition("/")
        if (method, path) == ("GET", "/_mapping"):
            return {name: self._mapping(name) for name in self.indices}
        if path.startswith("/_search"):
            self.searches.append(body)
            return self._search(body)
        if path == "/_pit":
            self.views.pop(body["id"])
            return {"succeeded": True}
        if first not in self.indices:
            raise Refused(404, f"no such index [{first}]")
        if rest.startswith("_mapping"):
            return {first: self._mapping(first)}
        if rest.startswith("_stats"):
            docs = len(self.indices[first]["docs"])
            shard = {"routing": {"primary": True}, "seq_no": {"max_seq_no": docs}, "docs": {"count": docs}}
            return {
                "indices": {
                    first: {"uuid": "u", "shards": {"0": [shard]}, "total": {"refresh": {"total": docs}}}
                }
            }
        if rest.startswith("_pit?keep_alive="):
            self.opened += 1
            self.views[f"view {self.opened}"] = first
            return {"id": f"view {self.opened}"}
        raise Refused(400, f"unknown path {path}")

    def _mapping(self, name: str) -> Any:
        return {"mappings": {"properties": self.indices[name]["properties"]}}

    def _search(self, body: Any) -> Any:
        if body["pit"]["id"] not in self.views:
            raise Refused(404, "no such point in time")
        index = Index(self.indices[self.views[body["pit"]["id"]]])
        found = [(i, doc) for i, doc in enumerate(index.docs) if index.matches(doc, body["query"], "")]
        answer: dict[str, Any] = {"timed_out": False, "_shards": {"failed": 0}}
        if "aggs" in body:
            return {**answer, "aggregations": index.aggregate([doc for _, doc in found], body["aggs"], "")}
        assert body["sort"] == ["_shard_doc"]
        last = body.get("search_after", [-1])[0]
        page = [(i, doc) for i, doc in found if i > last][: body["size"]]
        return {**answer, "hits": {"hits": [index.hit(i, doc, body) for i, doc in page]}}


class Index:
    """Queries and aggregations over one index. `scope` is the nested path that one stands in."""

    def __init__(self, index: dict[str, Any]) -> None:
        self.docs = index["docs"]
        self.types = dict(self._types(index["properties"], ""))
        self.nested = {path for path, kind in self.types.items() if kind == "nested"}

    def _types(self, properties: Any, above: str) -> Iterator[tuple[str, str]]:
        for name, said in properties.items():
            yield above + name, said.get("type", "object")
            yield from self._types(said.get("properties", {}), f"{above}{name}.")

    def values(self, doc: Any, path: str, scope: str) -> list[Any]:
        """Of a field, as the doc's scope sees it: a nested document sees itself only, the root no nested."""
        home = next((each for each in self.nested if path.startswith(f"{each}.")), "")
        if path not in self.types or home != scope:
            return []
        name = path.removeprefix(f"{home}.") if home else path
        value = doc.get(name)
        found = value if isinstance(value, list) else [value]
        return [self.stored(path, each) for each in found if each is not None]

    def stored(self, path: str, value: Any) -> Any:
        kind = self.types[path]
        if kind in ("date", "date_nanos"):
            return parsed(value, kind)
        if kind in BITS and not -(2 ** BITS[kind]) <= value < 2 ** BITS[kind]:
            raise Refused(400, f"value {value} is out of range for {kind}")
        return value.encode() if kind == "keyword" else value

    def below(self, doc: Any, path: str) -> list[Any]:
        found = doc.get(path) or []
        return found if isinstance(found, list) else [found]

    def matches(self, doc: Any, query: Any, scope: str) -> bool:
        (kind, said), *more = query.items()
        assert not more, query
        if kind == "bool":
            assert set(said) <= {"filter", "must", "must_not", "should", "minimum_should_match"}, said
            some = said.get("should")
            assert (some is None) == ("minimum_should_match" not in said)
            return (
                all(self.matches(doc, each, scope) for each in said.get("filter", []) + said.get("must", []))
                and not any(self.matches(doc, each, scope) for each in said.get("must_not", []))
                and (some is None or any(self.matches(doc, each, scope) for each in some))
            )
        if kind in ("match_none", "match_all"):
            return bool(kind == "match_all")
        if kind == "nested":
            return any(
                self.matches(each, said["query"], said["path"]) for each in self.below(doc, said["path"])
            )
        if kind == "exists":
            return bool(self.values(doc, said["field"], scope))
        ((path, test),) = said.items()
        found = self.values(doc, path, scope)
        if kind == "term":
            return self.stored(path, test["value"]) in found
        if kind == "terms":
            return any(self.stored(path, each) in found for each in test)
        if kind == "wildcard":
            return any(wildcard(test["value"]).fullmatch(each.decode()) for each in found)
        assert kind == "range", query
        return any(self._inside(path, each, test) for each in found)

    def _inside(self, path: str, value: Any, test: Any) -> bool:
        edges = dict(test)
        if self.types[path].startswith("date"):
            assert edges.pop("format") == "strict_date_optional_time_nanos"
        assert edges
        signs = {
            "gte": lambda edge: value >= edge,
            "lte": lambda edge: value <= edge,
            "gt": lambda edge: value > edge,
            "lt": lambda edge: value < edge,
        }
        return all(signs[sign](self.stored(path, edge)) for sign, edge in edges.items())

    def aggregate(self, docs: list[Any], aggs: Any, scope: str) -> dict[str, Any]:
        return {name: self._one(docs, each, scope) for name, each in aggs.items()}

    def _one(self, docs: list[Any], agg: Any, scope: str) -> Any:
        below = agg.get("aggs", {})
        (kind, said), *_ = ((name, each) for name, each in agg.items() if name != "aggs")
        if kind == "composite":
            return self._composite(docs, said, below, scope)
        if kind == "nested":
            inner = [each for doc in docs for each in self.below(doc, said["path"])]
            return {"doc_count": len(inner), **self.aggregate(inner, below, said["path"])}
        if kind == "filter":
            kept = [doc for doc in docs if self.matches(doc, said, scope)]
            return {"doc_count": len(kept), **self.aggregate(kept, below, scope)}
        values = [value for doc in docs for value in self.values(doc, said["field"], scope)]
        if kind == "terms":
            counted = Counter(values)
            keys = sorted(counted, key=lambda key: (-counted[key], key))
            shown = [
                {
                    "key": key.decode()
                    if isinstance(key, bytes)
                    else int(key)
                    if isinstance(key, bool)
                    else key
                }
                for key in keys[: said["size"]]
            ]
            return {"buckets": shown, "sum_other_doc_count": len(keys[said["size"] :])}
        if kind == "cardinality":
            return {"value": len(set(values))}
        if kind == "value_count":
            return {"value": len(values)}
        numbers = [float((v - EPOCH) // timedelta(milliseconds=1)) if isinstance(v, datetime) else float(v)
                   for v in values]  # fmt: skip
        if kind == "sum":
            return {"value": math.fsum(numbers)}
        work = {"avg": lambda: math.fsum(numbers) / len(numbers), "min": lambda: min(numbers),
                "max": lambda: max(numbers)}  # fmt: skip
        return {"value": work[kind]() if numbers else None}

    def _composite(self, docs: list[Any], said: Any, aggs: Any, scope: str) -> Any:
        named = [
            (name, each["terms"]["field"]) for source in said["sources"] for name, each in source.items()
        ]
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for doc in docs:
            for key in set(product(*(self.values(doc, path, scope) for _, path in named))):
                groups.setdefault(key, []).append(doc)
        keys = sorted(groups)
        if "after" in said:
            last = tuple(v.encode() if isinstance(v, str) else v for v in said["after"].values())
            keys = [key for key in keys if key > last]
        keys = keys[: said["size"]]
        selectors = [each["bucket_selector"] for each in aggs.values() if "bucket_selector" in each]
        others = {name: each for name, each in aggs.items() if "bucket_selector" not in each}
        buckets = []
        for key in keys:
            names = {
                n: v.decode() if isinstance(v, bytes) else v for (n, _), v in zip(named, key, strict=True)
            }
            bucket = {
                "key": names,
                "doc_count": len(groups[key]),
                **self.aggregate(groups[key], others, scope),
            }
            if all(selected(bucket, each) for each in selectors):
                buckets.append(bucket)
            last_key = names
        return {"buckets": buckets, **({"after_key": last_key} if keys else {})}

    def hit(self, number: int, doc: Any, body: Any) -> Any:
        fields = self.fields(doc, body["docvalue_fields"], "")
        inner = {}
        for nested in body["query"].get("bool", {}).get("must", []):
            said = nested["nested"]
            kept = [
                each
                for each in self.below(doc, said["path"])
                if self.matches(each, said["query"], said["path"])
            ]
            shown = kept[: said["inner_hits"]["size"]]
            hits = [
                {"fields": self.fields(each, said["inner_hits"]["docvalue_fields"], said["path"])}
                for each in shown
            ]
            inner[said["path"]] = {"hits": {"total": {"value": len(kept)}, "hits": hits}}
        return {"sort": [number], "fields": fields, **({"inner_hits": inner} if inner else {})}

    def fields(self, doc: Any, asked: list[Any], scope: str) -> dict[str, list[Any]]:
        found = {}
        for each in asked:
            values = self.values(doc, each["field"], scope)
            shown = [
                v.decode() if isinstance(v, bytes) else f"{v:%Y-%m-%dT%H:%M:%S.%f}000Z"
                if isinstance(v, datetime) else v
                for v in values
            ]  # fmt: skip
            if shown:
                found[each["field"]] = shown
        return found


def parsed(text: str, kind: str) -> datetime:
    """Nine digits of a second; a `date` keeps three."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z", text)
    if not match:
        raise Refused(400, f"failed to parse date field [{text}]")
    digits = match[2][:6] if kind == "date_nanos" else f"{match[2][:3]}000"
    return datetime.fromisoformat(f"{match[1]}.{digits}+00:00")


def wildcard(pattern: str) -> re.Pattern[str]:
    parts, chars = [], iter(pattern)
    for each in chars:
        if each == "\\":
            parts.append(re.escape(next(chars)))
        else:
            parts.append({"*": ".*", "?": "."}.get(each, re.escape(each)))
    return re.compile("".join(parts), re.DOTALL)


def selected(bucket: Any, said: Any) -> bool:
    """A bucket selector, its Painless said in Python; a metric without a value is NaN."""
    params = dict(said["script"]["params"])
    for name, path in said["buckets_path"].items():
        *above, last = path.replace("._count", ">_count").split(">")
        here = bucket
        for step in above:
            here = here[step]
        value = here["doc_count"] if last == "_count" else here[last]["value"]
        params[name] = math.nan if value is None else float(value)
    text = chosen(said["script"]["source"])
    text = re.sub(r"params\.among\.contains\((.*) \+ 0\.0\)", r"(\1 + 0.0 in params['among'])", text)
    text = text.replace("&&", "and").replace("!(", "not (").replace("Math.", "")
    text = re.sub(r"params\.(\w+)", r"params['\1']", text)
    text = re.sub(r"!\(?(?=\()", "not ", text)
    names = {"params": params, "abs": abs, "rint": lambda n: float(round(n)), "floor": math.floor}
    return bool(eval(text, {"__builtins__": {}}, names))  # noqa: S307  our own scripts, in a test


def chosen(text: str) -> str:
    """`(test ? this : that)` as Python says it."""
    if " ? " not in text:
        return text
    middle, depth = text.index(" ? "), 0
    start = middle
    while depth < 1:
        start -= 1
        depth += {"(": 1, ")": -1}.get(text[start], 0)
    end, colon = middle, text.index(" : ", middle)
    while depth > 0:
        end += 1
        depth += {"(": 1, ")": -1}.get(text[end], 0)
    test, this, that = text[start + 1 : middle], text[middle + 3 : colon], text[colon + 3 : end]
    return chosen(f"{text[:start]}(({this}) if ({test}) else ({that})){text[end + 1 :]}")


@contextmanager
def served(state: StandIn) -> Iterator[str]:
    """The address, HOST:PORT, for as long as it is needed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, body = 200, state.answer(self.command, self.path, json.loads(raw) if raw else None)
            except Refused as refused:
                status, body = refused.status, refused.body
            text = json.dumps(body, allow_nan=False).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do  # noqa: N815  names that the server looks for

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
