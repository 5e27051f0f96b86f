"""Decisions over HTTP beside an empty route: the servers, and what asks them."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.case import Line
from benchmarks.decide_world import ACTIONS, context, quantiles

_ROOT = Path(__file__).parents[1]
CONNECTIONS = 64
#: server → who it is
NAMES = {
    "http": "ours",
    "empty": "an empty FastAPI route",
    "disk": "ours, answers wait for the disk",
}


def over_http(size: int, seed: int, seconds: float) -> list[Line]:
    """Servers of one worker, turn by turn: as much as goes, then 70 % of that."""
    best, calm = dict.fromkeys(NAMES, 0.0), dict.fromkeys(NAMES, math.inf)
    told: dict[str, dict[str, Any]] = {}
    with ExitStack() as running:
        ports = {who: running.enter_context(server(who)) for who in NAMES}
        for port in ports.values():
            load(port, 0.3 * seconds, 0)
        for _ in range(3):
            for who, port in ports.items():
                found = load(port, seconds, 0)
                if found["rate"] > best[who]:
                    best[who], told[who] = found["rate"], found
        for _ in range(3):
            for who, port in ports.items():
                found = load(port, seconds, 0.7 * best[who])
                calm[who] = min(calm[who], float(np.quantile(found["times"], 0.99)))
    return [
        Line(
            size=size,
            who=f"over HTTP: {name}",
            ratio=best[who] / best["http"],
            times=best["http"] / best[who],
            seconds=1e6 / best[who],
            notes={
                **quantiles(told[who]["times"]),
                "requests a second": round(best[who]),
                "of the empty route": round(best[who] / best["empty"], 2),
                "p99 ms at 70 %": round(calm[who] * 1e3, 1),
            },
        )
        for who, name in NAMES.items()
    ]


@contextmanager
def server(what: str) -> Iterator[int]:
    """A uvicorn with one worker, in a process of its own; its port."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decide_http", what, folder],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()


def load(port: int, seconds: float, rate: float) -> dict[str, Any]:
    """The load generator in a process of its own; `rate` requests a second, 0: as many as go."""
    words = [sys.executable, "-m", "benchmarks.decide_http", "load", str(port), str(seconds), str(rate)]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, check=True, text=True, timeout=seconds + 60)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def ask(port: int, seconds: float, rate: float) -> dict[str, Any]:
    """Times run from when a request was due, so a server that stalls is not forgiven what it delayed."""
    times: list[float] = []
    gc.disable()  # its own pauses are not the server's
    chance = random.Random(port)  # noqa: S311  a benchmark's
    bodies = []
    for _ in range(500):
        user = chance.randrange(5000)
        body = json.dumps(
            {
                "user_id": f"u{user}", "moment": "exit-intercept", "session_id": f"s{user}",
                "context": context(chance),
                "actions": [each.model_dump(exclude={"channel"}) for each in ACTIONS],
            }
        ).encode()  # fmt: skip
        head = b"POST /v1/decisions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        bodies.append(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    begin = time.perf_counter()
    end, sent = begin + seconds, 0

    async def one() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (now := time.perf_counter()) < end:
            sent += 1
            due = begin + sent / rate if rate else now
            if due > now:
                await asyncio.sleep(due - now)
            writer.write(bodies[sent % len(bodies)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    step = max(len(times) // 5_000, 1)
    return {"rate": len(times) / (time.perf_counter() - begin), "times": sorted(times)[::step]}


def serve(what: str, folder: Path) -> None:
    """`growth serve`'s own app over a workspace with a cap, or a bare FastAPI app."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    if what != "empty":
        app = real_app(folder, durability="disk" if what == "disk" else "process")
    else:

        @app.post("/v1/decisions")
        async def empty() -> dict[str, str]:
            return {}

    # with its protocol named, as uvicorn's own has it: else asyncio leaves Nagle's delay on
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def workspace(root: Path, durability: str = "process") -> Path:
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "growth.toml").write_text(f'name = "decide"\ndurability = "{durability}"\n')
    (root / "catalog.yaml").write_text(
        'sources: {shop: {url: "parquet://data"}}\n'
        "entities: {user: {source: shop, table: users, key: uid}}\nfields: {}\n"
        "events: {order: {source: shop, table: orders, user: uid, time: t, role: purchase, fields: {"
        "amount: {column: total, type: decimal, role: amount}}}}\n"
    )
    orders = pl.DataFrame({"uid": [1], "t": [datetime(2017, 10, 16, tzinfo=UTC)], "total": [1.0]})
    orders.write_parquet(root / "data" / "orders.parquet")
    pl.DataFrame({"uid": [1, 2]}).write_parquet(root / "data" / "users.parquet")
    return root


def real_app(folder: Path, durability: str = "process") -> Any:
    from engine.serve import answering
    from engine.wiring import open_workspace

    return answering(open_workspace(workspace(folder, durability)))


if __name__ == "__main__":
    if sys.argv[1] == "load":
        print(json.dumps(asyncio.run(ask(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))))
    else:
        serve(sys.argv[1], Path(sys.argv[2]))
