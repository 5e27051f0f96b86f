"""Loading candidates from Parquet and writing the chosen ones, against Polars' own scan and sink."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.campaigns import CAMPAIGNS, CHANNELS, PER_USER, campaigns
from benchmarks.case import Case, Line
from conflict import problem
from conflict.sink import write
from conflict.stream import load

#: users made at once
_CHUNK = 100_000
#: runs of each, of which the fastest counts
_TIMES = 3
_WHO = {"ours": "ours", "polars": "Polars: scan to columns; scan, filter, sink"}


def make(path: Path, size: int, seed: int) -> float:
    """Candidates as `campaigns` makes them, by user; a value that a tenth of them exceeds, about."""
    rng = np.random.default_rng(seed)
    worth = rng.lognormal(0.0, 0.4, CAMPAIGNS)
    cost = rng.uniform(0.5, 1.5, CAMPAIGNS)
    writer, edge = None, 0.0
    for first in range(0, size // PER_USER, _CHUNK):
        users = min(_CHUNK, size // PER_USER - first)
        task = np.argsort(rng.random((users, CAMPAIGNS), np.float32), axis=1)[:, :PER_USER].ravel()
        user = np.repeat(np.arange(first, first + users), PER_USER)
        liking = np.repeat(rng.lognormal(0.0, 0.5, users), PER_USER)
        table = pa.table(
            {
                "user": user,
                "task": task.astype(np.int32),
                "value": worth[task] * liking * rng.lognormal(0.0, 0.4, task.size),
                "cost": cost[task] * rng.uniform(0.8, 1.2, task.size),
                "channel": (task % CHANNELS).astype(np.int8),
            }
        )
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema)
            edge = float(np.quantile(table["value"].to_numpy(), 0.9))
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return edge


def ours(path: Path, out: Path, edge: float) -> dict[str, float]:
    _, limits = campaigns(100, 1)
    start, before, busy = time.perf_counter(), _peak(), time.process_time()
    loaded = load(path, limits)
    load_seconds, load_peak = time.perf_counter() - start, _peak() - before
    chosen = loaded.problem.value > edge
    start = time.perf_counter()
    write(loaded, chosen, out)
    own = loaded.problem
    columns = (own.value, own.amounts, own.kind, own.starts, loaded.places)
    return {
        "load": load_seconds,
        "write": time.perf_counter() - start,
        "busy": time.process_time() - busy,
        "load_peak": load_peak,
        "peak": _peak() - before,
        "columns": sum(each.nbytes for each in columns if each is not None) / 2**20,
    }


def polars(path: Path, out: Path, edge: float) -> dict[str, float]:
    scan = pl.scan_parquet(path)
    rows = scan.select(pl.len()).collect().item()
    wide = pl.Float32 if rows > problem.WIDE else pl.Float64
    start, before, busy = time.perf_counter(), _peak(), time.process_time()
    columns = scan.select(
        "user",
        pl.col("task").cast(pl.UInt16),
        pl.col("value", "cost").cast(wide),
        pl.col("channel").cast(pl.UInt8),
    ).collect(engine="streaming")
    load_seconds, load_peak = time.perf_counter() - start, _peak() - before
    start = time.perf_counter()
    scan.filter(pl.col("value") > edge).sink_parquet(out)
    return {
        "load": load_seconds,
        "write": time.perf_counter() - start,
        "busy": time.process_time() - busy,
        "load_peak": load_peak,
        "peak": _peak() - before,
        "columns": columns.estimated_size() / 2**20,
    }


def alone(who: str, folder: Path, edge: float) -> None:
    """One contestant in this process: first a small file, so that kernels are there, then the real one."""
    contestant = {"ours": ours, "polars": polars}[who]
    wide = problem.WIDE
    if pq.read_metadata(folder / "all.parquet").num_rows > wide:
        # the small file shall go the same way
        problem.WIDE = 0
    contestant(folder / "small.parquet", folder / f"{who}-small.parquet", edge)
    problem.WIDE = wide
    told = [contestant(folder / "all.parquet", folder / f"{who}.parquet", edge) for _ in range(_TIMES)]
    best = min(told, key=lambda each: each["load"] + each["write"])
    # later runs find their memory there already
    print(json.dumps({**best, "load_peak": told[0]["load_peak"], "peak": told[0]["peak"]}))


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """Lines for `size` rows; the file is in the system's cache."""
    with tempfile.TemporaryDirectory(prefix="files-") as name:
        folder = Path(name)
        make(folder / "small.parquet", 2_000, seed)
        edge = make(folder / "all.parquet", size, seed)
        bytes_ = (folder / "all.parquet").stat().st_size
        told = {who: _told(who, folder, edge) for who in _WHO}
        same = _same(folder / "ours.parquet", folder / "polars.parquet")
    lines = []
    for who, label in _WHO.items():
        one, mine = told[who], told["ours"]
        took, base = one["load"] + one["write"], mine["load"] + mine["write"]
        notes: dict[str, object] = {
            "load s": round(one["load"], 3),
            "write s": round(one["write"], 3),
            "of all cores s": round(one["busy"], 3),
            "peak MiB above start, load": round(one["load_peak"]),
            "peak, all": round(one["peak"]),
            "columns MiB": round(one["columns"]),
            "file MiB": round(bytes_ / 2**20),
            "same rows written": same,
        }
        lines.append(
            Line(size=size, who=label, ratio=base / took, times=took / base, seconds=took, notes=notes)
        )
    return lines


def _told(who: str, folder: Path, edge: float) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.files", who, str(folder), repr(edge)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same rows, told piece by piece."""
    rows = pq.read_metadata(one).num_rows
    if rows != pq.read_metadata(other).num_rows:
        return False
    step = 5_000_000
    slices = ((pl.scan_parquet(each).slice(at, step).collect() for each in (one, other))
              for at in range(0, rows, step))  # fmt: skip
    return all(next(pair).equals(next(pair)) for pair in slices)


def _peak() -> float:
    """Most memory that this program ever had, MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    # what the system says of resources begins with the parent's
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


CASE = Case(
    about=(
        "Candidates (user, task, value, cost, channel; 10 a user, tasks in no order) from Parquet into the "
        "allocator's columns, checked and in order, and a tenth of them out again with all columns. The "
        "peer is what Polars itself needs to scan the same columns (streaming, cast as narrow) and to scan, "
        "filter by value and sink. Best of three runs in an own process; the file is in the system's cache."
    ),
    measure="rows a second",
    sizes=(1_000_000, 10_000_000, 100_000_000),
    smoke=20_000,
    run=run,
    packages=("polars", "pyarrow", "numba", "numpy"),
)

if __name__ == "__main__":
    alone(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
