"""Fresh events under load: how many a second are kept, and how soon a group shows what one changes.

`growth serve` over a workspace of real-time groups takes batches of events for as long as told; meanwhile one
event after the other makes a user a member who was none, and she is asked for until she is one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import polars as pl

from benchmarks.case import Case, Line

#: events in a request, connections of the load generator, groups that the events change
BATCH, CONNECTIONS, GROUPS = 100, 4, 20
#: users who are kept for the probe
PROBED = 2_000
_ROOT = Path(__file__).parents[1]
_CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
events:
  order:
    source: shop
    table: orders
    user: uid
    time: at
    id: basket
    freshness: real_time
    fields: {amount: {column: total, type: decimal}}
"""


def workspace(root: Path, size: int) -> None:
    """`size` users, each with an order ten days ago; every group is published."""
    from engine.population import population
    from engine.usecases import apply
    from engine.wiring import open_workspace

    (root / "data").mkdir(parents=True)
    (root / "growth.toml").write_text('name = "fresh"\n')
    (root / "catalog.yaml").write_text(_CATALOG)
    spent = {"event": "order", "agg": "sum", "of": "amount", "op": "ge"}
    definitions = [
        {"kind": "group", "name": f"g{i}", "where": {**spent, "within": f"{1 + i % 30}d", "value": 10 + i}}
        for i in range(GROUPS)
    ]
    (root / "g.yaml").write_text("\n---\n".join(json.dumps(each) for each in definitions))
    now = datetime.now(UTC)
    users = pl.DataFrame({"uid": np.arange(size)})
    users.write_parquet(root / "data" / "users.parquet")
    old = pl.lit(now - timedelta(days=10))
    users.with_columns(at=old, total=5.0, basket=pl.format("b{}", "uid")).write_parquet(
        root / "data" / "orders.parquet"
    )
    space = open_workspace(root)
    apply(space, root / "g.yaml", by="benchmark")
    people = population(space, now - timedelta(hours=1))
    for name, group in people.groups.items():
        members = people.members(name)
        space.groups.publish(
            name=name, fingerprint=group.fingerprint, as_of=people.as_of, members=members.serialize(),
            count=len(members), universe=size, sources={}, calculated_at=now,
        )  # fmt: skip


@contextmanager
def served(root: Path) -> Iterator[int]:
    """`growth serve` in a process of its own, answering; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "--dir", str(root), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv = {['growth', *words]!r}\n"
         "from engine.cli.main import main; main()"], cwd=_ROOT,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while True:
            try:
                asked(port, f"/v1/groups/g0/members/{PROBED - 1}")
                break
            except (URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def asked(port: int, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:  # noqa: S310  loopback
        return json.loads(answer.read())


def order(number: str, user: int, amount: float) -> dict[str, object]:
    at = datetime.now(UTC).isoformat()
    return {"event_id": number, "user_id": user, "name": "order", "occurred_at": at,
            "properties": {"amount": amount}}  # fmt: skip


async def load(port: int, size: int, seconds: float) -> dict[str, float]:
    """Batches of events of random users, each connection with one on its way."""
    sent, times = 0, []
    rng = np.random.default_rng(1)
    end = time.perf_counter() + seconds

    async def one(place: int) -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number = 0
        while time.perf_counter() < end:
            users = rng.integers(PROBED, size, BATCH).tolist()
            events = [order(f"{place}-{number}-{i}", user, 3.0) for i, user in enumerate(users)]
            number += 1
            body = json.dumps(events).encode()
            begun = time.perf_counter()
            writer.write(
                b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - begun)
            sent += BATCH
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one(place) for place in range(CONNECTIONS)))
    rate = sent / (time.perf_counter() - begun)
    return {
        "rate": rate,
        "p50": float(np.quantile(times, 0.5)),
        "p99": float(np.quantile(times, 0.99)),
        "sent": sent,
    }


def probe(port: int, end: float, first: int) -> list[float]:
    """Seconds from an event's acknowledgement until the group shows it, for one user after the other."""
    lags: list[float] = []
    for user in range(first, PROBED):
        if time.perf_counter() > end:
            break
        path = f"/v1/groups/g1/members/{user}"
        assert asked(port, path)["member"] is False
        asked(port, "/v1/events", [order(f"probe-{user}", user, 50.0)])
        begun = time.perf_counter()
        while not asked(port, path)["member"]:
            assert time.perf_counter() - begun < 60, f"user {user} is not seen"
            time.sleep(0.002)
        lags.append(time.perf_counter() - begun)
        time.sleep(0.1)
    return lags


def loaded(port: int, size: int, seconds: float, first: int) -> tuple[dict[str, float], list[float]]:
    """The load generator in a process of its own, the probe here."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fresh", str(port), str(size), str(seconds)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lags = probe(port, time.perf_counter() + seconds, first)
    told, _ = process.communicate(timeout=seconds + 120)
    result: dict[str, float] = json.loads(told)
    return result, lags


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: users. The first and the second half of the time are told apart: what grows would show."""
    small, size = size < PROBED, max(size, 2 * PROBED)
    seconds = 0.5 if small else seconds
    with tempfile.TemporaryDirectory(prefix="fresh-") as folder:
        workspace(Path(folder) / "w", size)
        with served(Path(folder) / "w") as port:
            halves = [loaded(port, size, seconds / 2, half * PROBED // 2) for half in range(2)]
    lines = []
    for name, (told, lags) in zip(("ours", "ours, second half"), halves, strict=True):
        first = halves[0][0]["rate"]
        seen = np.quantile(lags, (0.5, 0.99)) * 1e3
        notes: dict[str, object] = {
            "events a second": round(told["rate"]),
            "events": round(told["sent"]),
            "answer p50 ms": round(told["p50"] * 1e3, 1),
            "answer p99 ms": round(told["p99"] * 1e3, 1),
            "seen after p50 ms": round(float(seen[0]), 1),
            "seen after p99 ms": round(float(seen[1]), 1),
            "probes": len(lags),
        }
        lines.append(
            Line(
                size=size,
                who=name,
                ratio=told["rate"] / first,
                times=first / told["rate"],
                seconds=1e6 / told["rate"],
                notes=notes,
            )
        )
    return lines


CASE = Case(
    about=f"`growth serve`, {GROUPS} real-time groups, {BATCH} events a request by {CONNECTIONS} connections "
    "from a process of its own, for as long as told. Each probe is an event that makes a user a member, "
    "asked for until she is one. `seconds` is for a million events.",
    measure="events a second",
    sizes=(1_000_000,),
    smoke=100,
    run=run,
    packages=("fastapi", "uvicorn", "polars"),
)

if __name__ == "__main__":
    asked_for = sys.argv[1:]
    print(json.dumps(asyncio.run(load(int(asked_for[0]), int(asked_for[1]), float(asked_for[2])))))
