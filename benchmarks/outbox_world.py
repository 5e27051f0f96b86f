"""A workspace whose touches wait for a webhook, and a receiver that counts what it gets by its keys."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl
import yaml

SECRET = "OUTBOX_BENCHMARK_SECRET"  # noqa: S105  names a variable
DAY = "2026-03-02"
_ROOT = Path(__file__).parents[1]
_CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields:
  user.token: {table: users, column: token, type: string}
  user.name: {table: users, column: name, type: string}
  user.allowed: {table: users, column: allowed, type: boolean, role: consent}
  user.zone: {table: users, column: zone, type: string, role: timezone}
"""
_ZONES = ("Europe/Berlin", "America/New_York", "Asia/Shanghai", "UTC")


def definitions(url: str, **provider: Any) -> list[dict[str, Any]]:
    """A webhook that carries push messages, and what a plan's touches name."""
    return [
        {"kind": "provider", "name": "crm", "type": "webhook", "url": url, "secret": SECRET, **provider},
        {"kind": "channel", "name": "push", "provider": "crm", "address": "user.token", "expires": "3650d"},
        {"kind": "goal", "name": "buy", "outcome": "order", "audiences": ["stage:new"], "base": "spend",
         "margin": 0.2, "lift": 0.1},
        {"kind": "benefit", "name": "coupon", "label": "Ten off", "cost_per_response": 1.0, "goals": ["buy"],
         "touchpoints": ["app"]},
        {"kind": "touchpoint", "name": "app", "channel": "push", "cost_per_touch": 0.01, "hours": [0, 24]},
        {"kind": "content", "name": "hello", "goals": ["buy"], "touchpoints": ["app"],
         "subject": "{benefit} for you, {{ user.name }}", "text": "{{ code }} {benefit}"},
    ]  # fmt: skip


def make(root: Path, users: int, url: str, *, tasks: int = 4, reserve: bool = True, **provider: Any) -> Any:
    """The workspace, its plan's folder and reservations; nothing is in the outbox yet."""
    from engine.usecases import apply
    from engine.wiring import open_workspace

    (root / "data").mkdir(parents=True)
    (root / "growth.toml").write_text('name = "outbox"\n')
    (root / "catalog.yaml").write_text(_CATALOG)
    (root / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(d) for d in definitions(url, **provider)))
    numbers = pl.DataFrame({"n": range(users)})
    frame = numbers.select(
        uid=pl.format("u{}", "n"),
        token=pl.format("token-{}", "n"),
        name=pl.format("N{}", "n"),
        allowed=True,
        zone=pl.lit(pl.Series(_ZONES)).gather(pl.col("n") % len(_ZONES)),
    )
    frame.write_parquet(root / "data" / "users.parquet")
    space = open_workspace(root)
    apply(space, root / "d.yaml", by="benchmark")
    touches(root, users, tasks)
    day = datetime.fromisoformat(DAY).date()
    space.plans.add(day, "outbox", str(root / "plan"), {}, space.clock.now())
    if reserve:
        hold(space, pl.read_parquet(root / "plan" / "touches.parquet"))
    return space


def touches(root: Path, users: int, tasks: int) -> None:
    """A plan's folder with a touch a user, all of them due."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    frame = pl.DataFrame({"n": range(users)}).select(
        touch_id=pl.format("{}", pl.col("n") + 10**15),
        user=pl.format("u{}", "n"),
        task=pl.format("buy.coupon.app.{}", pl.col("n") % tasks),
        goal=pl.lit("buy"),
        benefit=pl.lit("coupon"),
        touchpoint=pl.lit("app"),
        channel=pl.lit("push"),
        content=pl.lit("hello"),
        message_class=pl.lit("marketing"),
        send_at=pl.lit(at).dt.cast_time_unit("us"),
        local_time=pl.lit(at.isoformat()),
        code=pl.format("C{}", "n"),
    )
    (root / "plan").mkdir()
    frame.write_parquet(root / "plan" / "touches.parquet")
    (root / "plan" / "plan.json").write_text(json.dumps({"date": DAY, "version": 1}))


def hold(space: Any, frame: pl.DataFrame) -> None:
    """Reserves every touch, as planning does."""
    from kernel.exposure import Reservation

    for part in frame.iter_slices(20_000):
        wishes = [
            Reservation(touch_id=touch_id, user=user, channel="push", at=at, run="plan", plan=f"plan/{DAY}")
            for touch_id, user, at in part.select("touch_id", "user", "send_at").iter_rows()
        ]
        space.ledger.reserve_many(wishes, caps=[])


@contextmanager
def receiver() -> Iterator[str]:
    """A webhook in a process of its own; its address. `GET /count` tells what it has got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    serving = f"from benchmarks.outbox_world import serve; serve({port})"
    process = subprocess.Popen([sys.executable, "-c", serving], cwd=_ROOT)
    try:
        while True:
            try:
                counted(f"http://127.0.0.1:{port}")
                break
            except OSError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def counted(address: str) -> dict[str, int]:
    """`{accepted, repeats, requests, last}` by keys; `last`: when one was new, microseconds since 1970."""
    with urlopen(f"{address}/count", timeout=60) as answer:  # noqa: S310  loopback
        found: dict[str, int] = json.load(answer)
    return found


def serve(port: int) -> None:
    asyncio.run(_listen(port))


async def _listen(port: int) -> None:
    """As little HTTP as serves the purpose, so that the sender is what is measured."""
    seen: set[bytes] = set()
    tally = {"requests": 0, "repeats": 0, "last": 0}

    def take(key: bytes) -> None:
        if key in seen:
            tally["repeats"] += 1
        else:
            seen.add(key)
            tally["last"] = time.time_ns() // 1000

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.buffer = transport, b""

        def data_received(self, data: bytes) -> None:
            self.buffer += data
            while True:
                head, end, rest = self.buffer.partition(b"\r\n\r\n")
                if not end:
                    return
                lines = head.split(b"\r\n")
                headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
                length = int(headers.get(b"content-length", b"0"))
                if len(rest) < length:
                    return
                body, self.buffer = rest[:length], rest[length:]
                self.answer(lines[0], headers, body)

        def answer(self, first: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
            said: Any = {"id": "x"}
            if first.startswith(b"GET"):
                said = {**tally, "accepted": len(seen)}
            else:
                tally["requests"] += 1
                if body.startswith(b'{"touches"'):
                    found = json.loads(body)["touches"]
                    for each in found:
                        take(each["touch_id"].encode())
                    said = {"results": []}
                else:
                    take(headers[b"idempotency-key"])
            raw = json.dumps(said).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(raw)
                + raw
            )

    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()
