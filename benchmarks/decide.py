"""A decision with all its steps: beside raw Vowpal Wabbit, over HTTP beside an empty route, and for long."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import vowpalwabbit

from benchmarks.case import Case, Line
from benchmarks.killing import run_killed
from kernel.clock import SystemClock
from kernel.contact import Cap
from kernel.learning import Action
from realtime.decider import Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import DecisionRequest, Moment
from realtime.tokens import terms
from realtime.vw import SquareCB
from storage.journal import FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

_ROOT = Path(__file__).parents[1]
_SECOND = 1_000_000
CONNECTIONS = 64
#: half of them have a budget, most a channel: every step has something to do
ACTIONS = tuple(
    Action(
        id=f"a{each}",
        features={"kind": f"k{each % 3}", "size": each / 10, "new": each % 2 == 0},
        value=2.0,
        cost=0.1,
        resource="coupons" if each % 2 else None,
        channel="web" if each % 3 else None,
    )
    for each in range(10)
)
CAPS = [
    Cap(name="web_week", channel="web", at_most=1000, within="7d"),
    Cap(name="all", at_most=2000, within="30d"),
]


def context(chance: random.Random) -> dict[str, str | float]:
    """Twenty features."""
    words = {f"f{each}": f"v{chance.randrange(20)}" for each in range(10)}
    return words | {f"n{each}": round(chance.random(), 3) for each in range(10)}


@contextmanager
def desk(folder: Path, policy: SquareCB) -> Iterator[tuple[Decider, LmdbOnlineStore]]:
    day = 86_400 * _SECOND
    store = LmdbOnlineStore(folder / "online", keep=day, hold=31 * day, idle=1800 * _SECOND)
    store.ready()
    journal = FileJournalWriter(folder / "journal", "w0")
    moment = Moment(default=Action(id="usual"), actions=ACTIONS)
    yield (
        Decider(
            policy=lambda: policy,
            store=store,
            journal=journal,
            ids=DecisionIds(b"0123456789abcdef"),
            clock=SystemClock(),
            seed=1,
            prices=lambda: {"coupons": 0.3},
            moments=lambda: {"exit": moment},
            rooms=rooms_of(CAPS),
            spend=lambda *_: True,
        ),
        store,
    )
    store.close()
    journal.close()


def learned(seed: int) -> SquareCB:
    policy, chance = SquareCB(), random.Random(seed)  # noqa: S311  a benchmark's
    for number in range(2000):
        policy.learn(context(chance), ACTIONS, number % 10, 0.1, chance.random())
    return policy


def asked(number: int, chance: random.Random, given: bool) -> DecisionRequest:
    user = chance.randrange(5000)
    return DecisionRequest(
        user_id=f"u{user}", moment="exit", context=context(chance), actions=ACTIONS if given else None,
        session_id=f"s{user}", idempotency_key=f"k{number}",
    )  # fmt: skip


def quantiles(times: list[float]) -> dict[str, object]:
    return {
        name: round(float(np.quantile(times, share)) * 1e6, 1)
        for name, share in (("p50 µs", 0.5), ("p99 µs", 0.99), ("p99.9 µs", 0.999))
    }


def in_process(size: int, seed: int) -> list[Line]:
    """Turn by turn: a decision of ours, then the vendor's predict and a draw on the same features."""
    chance, policy = random.Random(seed), learned(seed)  # noqa: S311  a benchmark's
    raw = Raw(chance)
    times: dict[str, list[float]] = {"moment": [], "given": [], "raw": []}
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder), policy) as (decider, _):
        for number in range(size):
            for how in ("moment", "given"):
                request = asked(2 * number + (how == "given"), chance, how == "given")
                text = raw.text(request)
                begun = time.perf_counter()
                answer = decider.decide(request)
                between = time.perf_counter()
                raw(text)
                ended = time.perf_counter()
                assert not answer.degraded
                times[how].append(between - begun)
                times["raw"].append(ended - between)
    raw_p50 = float(np.quantile(times["raw"], 0.5))
    names = {
        "moment": "ours",
        "given": "ours: actions in the call",
        "raw": "Vowpal Wabbit: parse, predict, draw",
    }
    base = float(np.quantile(times["moment"], 0.5))
    return [
        Line(
            size=size,
            who=names[how],
            ratio=base / (p50 := float(np.quantile(each, 0.5))),
            times=p50 / base,
            seconds=p50 * 1e6,
            notes={**quantiles(each), "of raw": round(p50 / raw_p50, 2)},
        )
        for how, each in times.items()
    ]


class Raw:
    """The vendor as its manual has it: text of the actions is made once, that of the user is made before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._vw = vowpalwabbit.Workspace(
            "--cb_explore_adf --squarecb --gamma_scale 10 --epsilon 0.05 --cb_type mtr --interactions ua "
            "-b 18 --quiet"
        )
        self._actions = [f"|a {_tokens([('id', each.id), *each.features.items()])}" for each in ACTIONS]
        for number in range(2000):
            lines = list(self._actions)
            lines[number % 10] = f"0:{-chance.random():.4f}:0.1 {lines[number % 10]}"
            examples = self._vw.parse("\n".join([f"shared |u {_tokens(context(chance).items())}", *lines]))
            self._vw.learn(examples)
            self._vw.finish_example(examples)

    def text(self, request: DecisionRequest) -> str:
        return "\n".join([f"shared |u {_tokens(request.context.items())}", *self._actions])

    def __call__(self, text: str) -> int:
        examples = self._vw.parse(text)
        shares = self._vw.predict(examples)
        self._vw.finish_example(examples)
        return self._chance.choices(range(len(shares)), shares)[0]


def _tokens(pairs: Any) -> str:
    return " ".join(each if number is None else f"{each}=:{number:.7g}" for each, number in terms(pairs))


def over_http(size: int, seed: int, seconds: float) -> list[Line]:
    """One worker and an empty route of a bare FastAPI app, turn by turn, then ours at 70 % of its most."""
    rates: dict[str, list[float]] = {"http": [], "empty": []}
    told: dict[str, dict[str, Any]] = {}
    with server("http") as http, server("empty") as empty:
        ports = {"http": http, "empty": empty}
        for port in ports.values():
            load(port, 0.3 * seconds, 0)
        for _ in range(3):
            for who, port in ports.items():
                told[who] = load(port, seconds, 0)
                rates[who].append(told[who]["rate"])
        best = {who: max(each) for who, each in rates.items()}
        calm = load(http, seconds, 0.7 * best["http"])
    lines = []
    for who, name in (("http", "over HTTP: ours"), ("empty", "over HTTP: an empty FastAPI route")):
        notes: dict[str, object] = {
            **quantiles(told[who]["times"]),
            "requests a second": round(best[who]),
            "of the empty route": round(best[who] / best["empty"], 2),
        }
        if who == "http":
            notes["p99 ms at 70 %"] = round(float(np.quantile(calm["times"], 0.99)) * 1e3, 1)
        lines.append(
            Line(
                size=size,
                who=name,
                ratio=best[who] / best["http"],
                times=best["http"] / best[who],
                seconds=1e6 / best[who],
                notes=notes,
            )
        )
    return lines


@contextmanager
def server(what: str) -> Iterator[int]:
    """A uvicorn with one worker, in a process of its own; its port."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decide", what, folder],
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
    words = [sys.executable, "-m", "benchmarks.decide", "load", str(port), str(seconds), str(rate)]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, check=True, text=True, timeout=seconds + 60)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def ask(port: int, seconds: float, rate: float) -> dict[str, Any]:
    """Times run from when a request was due, so a server that stalls is not forgiven what it delayed."""
    times: list[float] = []
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
    if what == "http":
        app = real_app(folder)
    else:

        @app.post("/v1/decisions")
        async def empty() -> dict[str, str]:
            return {}

    # with its protocol named, as uvicorn's own has it: else asyncio leaves Nagle's delay on
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def workspace(root: Path) -> Path:
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "growth.toml").write_text('name = "decide"\n')
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


def real_app(folder: Path) -> Any:
    from engine.http.app import create_app
    from engine.serve import services
    from engine.wiring import open_workspace

    return create_app(services(open_workspace(workspace(folder))))


def soak(size: int, seed: int) -> list[Line]:
    """So many decisions in a row: memory and tail of the first and the last tenth."""
    chance, policy = random.Random(seed), learned(seed)  # noqa: S311  a benchmark's
    times: list[float] = []
    resident: list[float] = []
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder), policy) as (decider, store):
        begun = time.perf_counter()
        for number in range(size):
            request = asked(number, chance, given=False)
            before = time.perf_counter()
            decider.decide(request)
            times.append(time.perf_counter() - before)
            if number % 1000 == 0:
                store.sweep(time.time_ns() // 1000, 1000)
            if number % max(size // 10, 1) == 0:
                resident.append(_resident())
        seconds = time.perf_counter() - begun
        on_disk = sum(path.stat().st_blocks for path in Path(folder).rglob("*")) * 512 / 2**20
    tenth = max(size // 10, 1)
    notes: dict[str, object] = {
        "decisions a second": round(size / seconds),
        "p99 µs, first tenth": round(float(np.quantile(times[:tenth], 0.99)) * 1e6),
        "p99 µs, last tenth": round(float(np.quantile(times[-tenth:], 0.99)) * 1e6),
        "MiB after a tenth": round(resident[min(1, len(resident) - 1)]),
        "MiB at the end": round(resident[-1]),
        "MiB on disk": round(on_disk),
    }
    return [Line(size=size, who="ours, for long", ratio=None, times=1.0, seconds=seconds, notes=notes)]


def _resident() -> float:
    """MiB that are ours alone: pages of the store's map are the system's to drop."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: decisions in the process; ten times as many for long."""
    lines = in_process(size, seed)
    if size >= 10_000:
        lines += over_http(size, seed, min(seconds, 3.0))
        lines += killed(100, seed)
    return lines + soak(10 * size, seed)


def killed(kills: int, seed: int) -> list[Line]:
    """Two workers that are killed again and again: what was lost, doubled or overrun."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        found = run_killed(Path(folder), kills // 2, seed)
        seconds = time.perf_counter() - begun
    notes: dict[str, object] = {
        "kills": found.kills,
        "acknowledged decisions": found.decisions,
        "acknowledged outcomes": found.outcomes,
        "lost": found.lost_decisions + found.lost_outcomes,
        "doubled": found.doubled_answers + found.doubled_lessons,
        "over a cap or budget": found.users_over_cap + found.over_budget,
    }
    return [
        Line(size=kills, who="ours, killed under load", ratio=None, times=1.0, seconds=seconds, notes=notes)
    ]


CASE = Case(
    about=(
        "Ten actions of the moment, twenty features of the user; all steps: idempotency, caps, price, "
        "SquareCB, draw, journal (with the system before the answer), admission to LMDB. Over HTTP: "
        "`growth serve`'s own app with one uvicorn worker, and an empty async route of a bare FastAPI app, "
        "turn by turn, best of three turns each; the load generator is a process of its own, "
        f"{CONNECTIONS} connections kept alive. "
        "`seconds` is for a million decisions. For long: anonymous memory of the process, and the tail."
    ),
    measure="decisions a second",
    sizes=(20_000,),
    smoke=100,
    run=run,
    packages=("vowpalwabbit", "lmdb", "fastapi", "uvicorn", "pydantic"),
)

if __name__ == "__main__":
    if sys.argv[1] == "load":
        print(json.dumps(asyncio.run(ask(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))))
    else:
        serve(sys.argv[1], Path(sys.argv[2]))
