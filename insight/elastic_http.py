"""Elasticsearch over HTTP: one connection, JSON both ways, pages of whole answers.

An answer that is not whole (a shard failed, or time ran out) is no answer: Unavailable. `elasticsearch://
[USER:PASSWORD@]HOST[:PORT]`, then `?tls=true` for https and `?api_key=KEY`; `${NAME}` anywhere in it is read
from the environment.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from insight.sources.source import Place
from kernel.errors import BadInput, NotFound, Unavailable

#: seconds that one request may take, and how long the server keeps the view of an index between two
SECONDS, KEEP = 60, "2m"
#: documents, or buckets, in one page; the server's own limit of documents
PAGE = 10_000


class Elastic:
    """A connection, made when first asked. For one thread."""

    def __init__(self, place: Place) -> None:
        """Raises BadInput when the address is not understood."""
        self.place = place
        self._host, self._port, self._tls, self._headers = _address(place)
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises NotFound for 404, Unavailable for whatever else is no answer."""
        text = None if body is None else json.dumps(body)
        try:
            if self._open is None:
                kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
                self._open = kind(self._host, self._port, timeout=SECONDS)
            self._open.request(method, path, body=text, headers=self._headers)
            answer = self._open.getresponse()
            status, raw = answer.status, answer.read()
            found = json.loads(raw)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise self.place.silent(error) from None
        if status == 404:
            raise NotFound(
                f"index of source {self.place.name}", path.split("/")[1], (), where=self.place.where
            )
        if status >= 300:
            raise Unavailable(f"source {self.place.name!r} refused with {status}: {_reason(found)}")
        return found

    def search(self, body: dict[str, Any]) -> Any:
        """One page of a search over a point in time, whole."""
        found = self.ask("POST", "/_search?allow_partial_search_results=false", body)
        if found.get("timed_out") or found.get("_shards", {}).get("failed"):
            raise Unavailable(f"source {self.place.name!r} answered in part only")
        return found

    @contextmanager
    def still(self, index: str) -> Iterator[dict[str, str]]:
        """The index as it is now, for as long as its pages are read."""
        view = self.ask("POST", f"/{quote(index, safe='')}/_pit?keep_alive={KEEP}")["id"]
        try:
            yield {"id": view, "keep_alive": KEEP}
        finally:
            self.ask("DELETE", "/_pit", {"id": view})

    def hits(self, index: str, query: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        """Every matching document, page after page."""
        with self.still(index) as view:
            after: dict[str, Any] = {}
            while True:
                page = self.search(
                    {
                        "size": PAGE,
                        "pit": view,
                        "query": query,
                        "sort": ["_shard_doc"],
                        "track_total_hits": False,
                        "_source": False,
                        **more,
                        **after,
                    }
                )["hits"]["hits"]
                yield from page
                if len(page) < PAGE:
                    return
                after = {"search_after": page[-1]["sort"]}

    def buckets(
        self, index: str, query: dict[str, Any], by: dict[str, str], aggs: dict[str, Any], page: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Every bucket of a composite aggregation by these fields (name → path), in their order."""
        sources = [{name: {"terms": {"field": path}}} for name, path in by.items()]
        with self.still(index) as view:
            after: dict[str, Any] = {}
            while True:
                composite = {"size": page or PAGE, "sources": sources, **after}
                each = {"composite": composite, **({"aggs": aggs} if aggs else {})}
                body = {
                    "size": 0,
                    "pit": view,
                    "query": query,
                    "track_total_hits": False,
                    "aggs": {"each": each},
                }
                found = self.search(body)["aggregations"]["each"]
                yield from found["buckets"]
                if "after_key" not in found:  # a page whose buckets a selector dropped still has one
                    return
                after = {"after": found["after_key"]}

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _address(place: Place) -> tuple[str, int, bool, dict[str, str]]:
    url = urlsplit(place.address())
    said = {name: values[-1] for name, values in parse_qs(url.query).items()}
    try:
        host, port = url.hostname, url.port or 9200
    except ValueError:
        host, port = None, 0
    if not host or url.path not in ("", "/") or set(said) - {"tls", "api_key"}:
        raise place.wrong("is not elasticsearch://[USER:PASSWORD@]HOST[:PORT][?tls=true&api_key=KEY]")
    if place.timezone != "UTC":
        problem = "is for naive times, and Elasticsearch keeps instants: leave it out"
        at = f"sources.{place.name}.timezone"
        raise BadInput(problem, where=place.where, field=at, value=place.timezone)
    headers = {"Content-Type": "application/json"}
    if "api_key" in said:
        headers["Authorization"] = f"ApiKey {said['api_key']}"
    elif url.username is not None:
        both = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    return host, port, said.get("tls") == "true", headers


def _reason(found: Any) -> str:
    """The first cause, in one line."""
    error = found.get("error", {}) if isinstance(found, dict) else {}
    if not isinstance(error, dict):
        return str(error).splitlines()[0][:200]
    causes = error.get("root_cause") or [error]
    return (str(causes[0].get("reason") or "no reason given").splitlines() or [""])[0][:200]
