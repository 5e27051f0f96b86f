"""The outbox under kills: every recipient exactly one accepted touch; and how fast, beside bare HTTPX.

A receiver in a process of its own counts touches by their keys. `growth deliver` works in another and is
killed (SIGKILL) again and again while it does; what it left is taken up by the next. Then it works through
as many touches without a kill, one touch a request, beside HTTPX alone with as many connections, which posts
bodies that lie ready and keeps nothing; and once more with a hundred touches in a request. Last, a task in
flight is paused, resumed and cancelled by the operator's command.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.case import Case, Line
from benchmarks.outbox_world import SECRET, counted, make, receiver
from engine.outbox import change_task, enqueue

#: kills on the way, connections, touches in a request of the batched run
KILLS, CONNECTIONS, BATCH = 20, 8, 100
_ROOT = Path(__file__).parents[1]
#: touches of the runs that are timed, at most: one by one takes about a millisecond each
_TIMED = 30_000
#: pauses of a task in flight; seconds that it is watched for afterwards
PAUSES, _WATCHED = 10, 1.5
_CHILD = """
import sys
from pathlib import Path
from engine.dispatching import deliver
from engine.wiring import open_workspace
print(deliver(open_workspace(Path(sys.argv[1])), until_empty=True, say=lambda _: None).accepted)
"""


#: as `growth serve` has it; until its standard input ends
_SERVING = """
import sys
from pathlib import Path
from engine.dispatching import dispatching
from engine.wiring import open_workspace
with dispatching(open_workspace(Path(sys.argv[1]))):
    sys.stdin.read()
"""


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`seconds` is not used: the work has an end."""
    os.environ[SECRET] = "sesame"
    with tempfile.TemporaryDirectory(prefix="outbox") as folder:
        kills = max(2, min(KILLS, size // 5_000))
        killed = run_killed(Path(folder) / "killed", size, seed, kills=kills, batch=BATCH)
        timed = min(size, _TIMED)
        ours, accepted = _timed(Path(folder) / "single", timed, 1)
        many, _ = _timed(Path(folder) / "many", timed, BATCH)
        bare = _bare(timed)
        halted = run_halted(Path(folder) / "halted", max(4_000, timed), PAUSES if size > 5_000 else 1)
    rate = {"ours": timed / ours, "many": timed / many, "bare": timed / bare}
    return [
        Line(
            size=timed, who="ours", ratio=1.0, times=1.0, seconds=ours,
            notes={"touches a second": round(rate["ours"]), "accepted": accepted},
        ),
        Line(
            size=timed, who="HTTPX alone", ratio=rate["bare"] / rate["ours"], times=bare / ours, seconds=bare,
            notes={"touches a second": round(rate["bare"])},
        ),
        Line(
            size=timed, who=f"ours, {BATCH} a request", ratio=rate["many"] / rate["ours"], times=many / ours,
            seconds=many, notes={"touches a second": round(rate["many"])},
        ),
        Line(
            size=size, who=f"ours, {BATCH} a request, killed", ratio=None, times=killed["seconds"] / ours,
            seconds=killed["seconds"],
            notes={
                "touches a second": round(size / killed["seconds"]), "accepted": killed["states"],
                "kills": killed["kills"], "recipients reached": killed["accepted"],
                "repeats dropped by key": killed["repeats"],
                "in no or two states": size - killed["accepted"],
            },
        ),
        *(
            Line(
                size=max(4_000, timed), who=f"a task in flight, {what}", ratio=None, times=max(took) / ours,
                seconds=max(took),
                notes={
                    "times": len(took), "median s": round(median(took), 3), "worst s": round(max(took), 3),
                },
            )
            for what, took in halted.items()
        ),
    ]  # fmt: skip


def run_killed(root: Path, size: int, seed: int, *, kills: int, batch: int) -> dict[str, Any]:
    """Killed at so many points of its progress, a random instant after each. What the receiver counted, and
    `states`: touches that the outbox calls accepted."""
    chance = random.Random(seed)  # noqa: S311  a benchmark's
    with receiver() as url:
        space = _enqueued(root, size, url, batch)
        done, begun, child = 0, time.perf_counter(), _child(root)
        while child.poll() is None:
            if done < kills and counted(url)["accepted"] >= size * (done + 0.5) / (kills + 1):
                time.sleep(chance.uniform(0.0, 0.1))
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
                done += 1
                child = _child(root)
            time.sleep(0.05)
        took, found = time.perf_counter() - begun, counted(url)
        states: dict[str, int] = {}
        for task in space.outbox.tasks():
            for state, count in task["touches"].items():
                states[state] = states.get(state, 0) + count
        _close(space)
    return {**found, "kills": done, "seconds": took, "states": states.get("accepted", 0)}


def run_halted(root: Path, size: int, pauses: int) -> dict[str, list[float]]:
    """Seconds from a command's begin to the last touch that the receiver got after a pause or a cancellation,
    and to the first one after a resumption."""
    took: dict[str, list[float]] = {"pause to last": [], "resume to first": [], "cancel to last": []}
    with receiver() as url:
        space = _enqueued(root, size, url, 1, tasks=1)
        (task,) = (each["task"] for each in space.outbox.tasks())
        child = _child(root, _SERVING)

        def flows(since: int) -> int:
            while (found := counted(url))["accepted"] <= since:
                assert found["accepted"] < size, "all was handed over before it could be halted"
                time.sleep(0.002)
            return found["last"]

        def changed(action: str) -> int:
            begun = time.time_ns() // 1000
            change_task(space, action, task)
            return begun

        for _ in range(pauses):
            flows(counted(url)["accepted"] + size // (8 * pauses))  # in full flight
            begun = changed("pause")
            time.sleep(_WATCHED)
            found = counted(url)
            took["pause to last"].append(max(0, found["last"] - begun) / 1e6)
            begun = changed("resume")
            took["resume to first"].append((flows(found["accepted"]) - begun) / 1e6)
        begun = changed("cancel")
        time.sleep(_WATCHED)
        took["cancel to last"].append(max(0, counted(url)["last"] - begun) / 1e6)
        child.communicate()
        _close(space)
    return took


def _timed(root: Path, size: int, batch: int) -> tuple[float, int]:
    """Seconds from the first touch that the receiver has to the last, and how many were accepted."""
    with receiver() as url:
        space = _enqueued(root, size, url, batch)
        child, begun = _child(root), None
        while child.poll() is None:
            got = counted(url)["accepted"]
            if begun is None and got:
                begun, first = time.perf_counter(), got
            if got >= size:
                break
            time.sleep(0.02)
        took = time.perf_counter() - (begun or time.perf_counter())
        child.wait()
        states = [task["touches"].get("accepted", 0) for task in space.outbox.tasks()]
        _close(space)
        assert sum(states) == counted(url)["accepted"] == size
    return max(took, 1e-6) * size / max(size - first, 1), sum(states)


def _bare(size: int) -> float:
    """HTTPX, as many connections, bodies that lie ready."""
    with receiver() as url:
        return asyncio.run(_posted(url, size))


async def _posted(url: str, size: int) -> float:
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    body = json.dumps({"touch_id": "0" * 16, "user_id": "u123456", "text": "Ten off " * 20}).encode()
    numbers = iter(range(size))
    async with httpx.AsyncClient(limits=limits) as client:

        async def post() -> None:
            for number in numbers:
                headers = {"content-type": "application/json", "idempotency-key": f"{number:016d}"}
                answer = await client.post(url, content=body, headers=headers)
                assert answer.status_code == 200

        begun = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(CONNECTIONS)))
        return time.perf_counter() - begun


def _enqueued(root: Path, size: int, url: str, batch: int, tasks: int = 4) -> Any:
    space = make(root, size, url, tasks=tasks, batch=batch, connections=CONNECTIONS)
    enqueue(space, root / "plan")
    return space


def _close(space: Any) -> None:
    space.ledger.close()
    space.database.dispose()


def _child(root: Path, program: str = _CHILD) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", program, str(root)]
    told = subprocess.PIPE if program is _SERVING else subprocess.DEVNULL
    return subprocess.Popen(words, cwd=_ROOT, stdin=told, stdout=subprocess.DEVNULL, text=True)


CASE = Case(
    about="A plan's touches to a webhook on loopback: killed 20 times on the way, every recipient has "
    "exactly one accepted touch; touches a second beside the bare HTTP client with as many connections; and "
    "how soon a dispatcher in another process obeys the operator's commands.",
    measure="touches a second",
    sizes=(1_000_000,),
    smoke=400,
    run=run,
    packages=("httpx", "sqlalchemy"),
)
