"""Membership: in the process, all groups of one user, and over HTTP against an empty route."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pyroaring import BitMap

from benchmarks.case import Case, Line
from insight.dictionary import UserDictionary
from insight.membership import Served
from insight.reverse import Reverse
from kernel.audiences import GroupVersion

#: shares of users in a group, of which each group has one
DENSITIES = (0.0005, 0.005, 0.02, 0.1, 0.3)
#: connections of the load generator, each with one request on its way
CONNECTIONS = 8
_ROOT = Path(__file__).parents[1]
_AT = datetime(2017, 10, 16, tzinfo=UTC)


def group(rng: np.random.Generator, users: int, density: float) -> BitMap:
    """Every user with the same chance."""
    gaps = rng.geometric(density, int(users * density * 1.05) + 100)
    members = gaps.cumsum() - 1
    return BitMap(members[members < users].astype(np.uint32))


def version(members: BitMap, users: int) -> GroupVersion:
    return GroupVersion(
        name="g0", version=1, fingerprint="", as_of=_AT, count=len(members), universe=users, sources={},
        members="", calculated_at=_AT,
    )  # fmt: skip


def quantiles(times: list[float]) -> tuple[float, float]:
    return float(np.quantile(times, 0.5)), float(np.quantile(times, 0.99))


def a_second(ask: Callable[[], int], most: float) -> float:
    """Answers a second; `ask` answers some and says how many."""
    answered, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < most:
        answered += ask()
    return answered / passed


def in_process(size: int, seed: int, seconds: float) -> list[Line]:
    """One group: numbers in a loop, ids in a batch; the peers are a set and a Polars semi-join."""
    rng = np.random.default_rng(seed)
    dictionary = UserDictionary()
    dictionary.extend(pl.Series("user", np.arange(size) * 7 + 1_000_000))
    members = group(rng, size, 0.1)
    served = Served(version(members, size), members, None)
    numbers = rng.integers(0, size, 10_000).tolist()
    ids = pl.Series("user", np.asarray(numbers) * 7 + 1_000_000)
    as_set = set(members)
    frame = pl.DataFrame({"user": dictionary.users(members)})

    def ours() -> int:
        return len([number in served for number in numbers])

    def batch() -> int:
        return len([number in served for number in dictionary.numbers(ids).to_list()])

    def peer_set() -> int:
        return len([number in as_set for number in numbers])

    def peer_join() -> int:
        return len(ids.is_in(frame["user"].implode()))

    assert [n in served for n in numbers] == [n in as_set for n in numbers]
    assert [n in served for n in dictionary.numbers(ids).to_list()] == ids.is_in(
        frame["user"].implode()
    ).to_list()
    told = {
        "ours: a number, one by one": ours,
        "ours: ids, 10,000 together": batch,
        "Python set of numbers": peer_set,
        "Polars is_in, 10,000 ids together": peer_join,
    }
    rates = {who: a_second(ask, min(seconds, 2.0)) for who, ask in told.items()}
    mine = rates["ours: a number, one by one"]
    kib = {"ours: a number, one by one": len(members.serialize()) // 1024,
           "Python set of numbers": (sys.getsizeof(as_set) + 32 * len(as_set)) // 1024}  # fmt: skip
    return [
        Line(
            size=size,
            who="ours" if who == "ours: a number, one by one" else who,
            ratio=rate / mine,
            times=mine / rate,
            seconds=1e6 / rate,
            notes={"million a second": round(rate / 1e6, 2), "KiB of the group": kib.get(who, "–")},
        )
        for who, rate in rates.items()
    ]


def all_groups(size: int, seed: int, groups: int, mine: float) -> list[Line]:
    """All groups of one user: turned round, against asking each bitmap. `mine`: ours of the first part."""
    rng = np.random.default_rng(seed)
    # a few draws of each density, moved by a random step: as good as new ones, and sooner made
    drawn = {each: [group(rng, 2 * size, each) for _ in range(2)] for each in DENSITIES}
    everyone = BitMap(range(size))
    bitmaps = {
        f"g{i}": drawn[DENSITIES[i % 5]][i % 2].shift(-int(rng.integers(0, size))) & everyone
        for i in range(groups)
    }
    reverse, begun = Reverse(), time.perf_counter()
    contents = {name: each.serialize() for name, each in bitmaps.items()}
    reverse.put(contents)
    for block in range(0, size, 65_536):
        reverse.groups_of(block)
    built = time.perf_counter() - begun
    asked = rng.integers(0, size, 3_000).tolist()
    for number in asked[:20]:
        assert set(reverse.groups_of(number)) == {name for name, each in bitmaps.items() if number in each}

    def scan(number: int) -> list[str]:
        return [name for name, members in bitmaps.items() if number in members]

    lines = []
    for who, ask in (("all groups of one user: ours", reverse.groups_of), ("asking each bitmap", scan)):
        times = []
        for number in asked if who != "asking each bitmap" else asked[:500]:
            begun = time.perf_counter()
            ask(number)
            times.append(time.perf_counter() - begun)
        p50, p99 = quantiles(times)
        notes: dict[str, object] = {
            "p50 µs": round(p50 * 1e6, 1),
            "p99 µs": round(p99 * 1e6, 1),
            "groups": groups,
        }
        if who != "asking each bitmap":
            notes["MiB of the bitmaps"] = round(sum(map(len, contents.values())) / 2**20)
            notes["MiB beside them"] = round(reverse.nbytes / 2**20)
            notes["s to turn all round"] = round(built, 2)
        rate = 1 / float(np.mean(times))
        lines.append(
            Line(size=size, who=who, ratio=rate / mine, times=mine / rate, seconds=1e6 / rate, notes=notes)
        )
    return lines


def over_http(size: int, seed: int, seconds: float, mine: float) -> list[Line]:
    """The served group over HTTP and an empty route of a bare FastAPI app, turn by turn."""
    rates: dict[str, list[float]] = {"http": [], "empty": []}
    times: dict[str, list[float]] = {"http": [], "empty": []}
    with server("http", size, seed) as http, server("empty", size, seed) as empty:
        ports = {"http": http, "empty": empty}
        for who in ("http", "empty"):
            load(ports[who], size, 0.2 * seconds)
        for _ in range(3):
            for who in ("http", "empty"):
                told = load(ports[who], size, seconds)
                rates[who].append(told["rate"])
                times[who] += told["times"]
    names = {"http": "over HTTP: ours", "empty": "over HTTP: an empty FastAPI route"}
    best = {who: max(each) for who, each in rates.items()}
    lines = []
    for who, rate in best.items():
        p50, p99 = quantiles(times[who])
        notes: dict[str, object] = {
            "p50 µs": round(p50 * 1e6),
            "p99 µs": round(p99 * 1e6),
            "requests a second": round(rate),
            "of the empty route": round(rate / best["empty"], 2),
        }
        lines.append(
            Line(
                size=size,
                who=names[who],
                ratio=rate / mine,
                times=mine / rate,
                seconds=1e6 / rate,
                notes=notes,
            )
        )
    return lines


@contextmanager
def server(what: str, size: int, seed: int) -> Iterator[int]:
    """A uvicorn with one worker, in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.membership", what, str(size), str(seed)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def load(port: int, size: int, seconds: float) -> dict[str, Any]:
    """The load generator in a process of its own: plain asyncio streams, kept alive, loopback only."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.membership", "load", str(port), str(size), str(seconds)],
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=seconds + 60,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def ask(port: int, size: int, seconds: float) -> dict[str, Any]:
    times: list[float] = []
    rng = np.random.default_rng(1)
    users = (rng.integers(0, size, 50_000) * 7 + 1_000_000).tolist()
    end = time.perf_counter() + seconds

    async def one(place: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < end:
            place = (place + CONNECTIONS) % len(users)
            writer.write(b"GET /v1/groups/g0/members/%d HTTP/1.1\r\nhost: x\r\n\r\n" % users[place])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one(place) for place in range(CONNECTIONS)))
    rate = len(times) / (time.perf_counter() - begun)
    step = max(len(times) // 5_000, 1)
    return {"rate": rate, "times": sorted(times)[::step]}


def serve(what: str, size: int, seed: int) -> None:
    import socket

    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    if what == "empty":

        @app.get("/v1/groups/{name}/members/{user_id}")
        async def empty() -> dict[str, str]:
            return {}

    else:
        app = real_app(size, seed)
    # with its protocol named, as uvicorn's own has it: else asyncio leaves Nagle's delay on
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def real_app(size: int, seed: int) -> Any:
    """The application as `growth serve` makes it, over a workspace with one published group."""
    import tempfile

    from engine.http.app import create_app
    from engine.serve import services
    from engine.usecases import apply
    from engine.wiring import open_workspace

    root = Path(tempfile.mkdtemp(prefix="membership-"))
    (root / "data").mkdir()
    (root / "growth.toml").write_text('name = "membership"\n')
    (root / "catalog.yaml").write_text(
        'sources: {shop: {url: "parquet://data"}}\n'
        "entities: {user: {source: shop, table: users, key: uid}}\n"
        "fields: {user.n: {table: users, column: n, type: integer}}\n"
    )
    (root / "g.yaml").write_text("kind: group\nname: g0\nwhere: {field: user.n, op: eq, value: 1}\n")
    ids = np.arange(size) * 7 + 1_000_000
    pl.DataFrame({"uid": ids, "n": np.arange(size) % 10}).write_parquet(root / "data" / "users.parquet")
    space = open_workspace(root)
    apply(space, root / "g.yaml", by="benchmark")
    members = group(np.random.default_rng(seed), size, 0.1)
    space.groups.publish(
        name="g0", fingerprint=space.definitions().groups["g0"].fingerprint, as_of=_AT,
        members=members.serialize(), count=len(members), universe=size, sources={}, calculated_at=_AT,
    )  # fmt: skip
    made = services(space)
    assert made.audiences is not None
    made.audiences.refresh()
    return create_app(made)


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: users. A full run has 1,000 groups and two seconds of load a turn."""
    small = size < 1_000_000
    lines = in_process(size, seed, 0.02 if small else min(seconds, 2.0))
    mine = 1e6 / lines[0].seconds
    lines += all_groups(size, seed, 20 if small else 1_000, mine)
    if not small:
        lines += over_http(size, seed, 2.0, mine)
    return lines


CASE = Case(
    about=(
        "Membership of random users. In the process: is a user number in a published group of a tenth of all "
        "users (one by one), and the same for 10,000 user ids together. All groups of one user: 1,000 groups "
        "of 0.05 to 30 % of the users. Over HTTP: `growth serve`'s own app with one uvicorn worker, measured "
        "middleware and all, and an empty async route of a bare FastAPI app, turn by turn, best of three "
        "turns each; the load generator is a process of its own, asyncio streams over loopback, "
        f"{CONNECTIONS} connections kept alive with one request each on its way. `seconds` is for a million "
        "answers."
    ),
    measure="answers a second",
    sizes=(10_000_000,),
    smoke=100_000,
    run=run,
    packages=("fastapi", "uvicorn", "pyroaring", "numba", "polars"),
)

if __name__ == "__main__":
    if sys.argv[1] == "load":
        print(json.dumps(asyncio.run(ask(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))))
    else:
        serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
