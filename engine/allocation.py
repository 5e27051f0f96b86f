"""`growth allocate`: the allocator on files of its own, with what-if curves and rules when to stop."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import polars as pl

from conflict.api import (
    STREAMED,
    Progress,
    Rounds,
    Stalled,
    Stop,
    Sweep,
    allocate,
    allocate_file,
    allocate_on_spark,
    asked_again,
    load_limits,
    parse_sweep,
    read_candidates,
    rows_of,
    sweep,
    verify,
    write_allocation,
)
from kernel.choices import Allocation, Limits
from kernel.errors import BadInput, GrowthError

#: the engine in this process
LOCAL = "local"
#: columns of a curve
_CURVE = {
    "limit": pl.String, "side": pl.String, "at": pl.Float64, "status": pl.String, "objective": pl.Float64,
    "bound": pl.Float64, "gap": pl.Float64, "price": pl.Float64, "used": pl.Float64, "seconds": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the allocator is asked."""

    candidates: Path
    limits: Path
    #: folder of the result
    out: Path | None
    #: seconds of the search, and of each point of a curve
    time_limit: float
    #: relative gap that is good enough
    gap: float
    seed: int
    #: improvements after which to stop
    rounds: int | None = None
    #: seconds without improvement after which to stop
    stall: float | None = None
    #: `local`, or the address of a Spark cluster
    engine: str = "local"
    #: as `NAME=FROM:TO:POINTS`
    sweeps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The allocation and the curves that were asked for."""

    allocation: Allocation
    #: rows of all curves
    curve: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**self.allocation.as_json(), **({"sweep": self.curve} if self.curve else {})}


def allocate_files(asked: Asked, tell: Callable[[str], None]) -> Answered:
    """Reads, allocates, verifies, and writes to `out` if that is given; `tell` is told how far it is.

    An interrupt while allocating ends it with the best so far, one during curves with the points so far.
    """
    tell("reading candidates")
    bounds = load_limits(asked.limits)
    curves = [parse_sweep(each, bounds) for each in asked.sweeps]
    stops = _stops(asked)
    if not curves and (asked.engine != LOCAL or rows_of(asked.candidates) > STREAMED):
        return Answered(allocation=_elsewhere(bounds, asked, stops, tell))
    if asked.engine != LOCAL:
        raise BadInput("curves are for the local engine", field="--sweep", value=", ".join(asked.sweeps))
    frame = read_candidates(asked.candidates)
    found = _allocated(frame, bounds, asked, stops, tell)
    if found.objective is not None and (broken := verify(frame, bounds, found.assignments)):
        raise GrowthError(f"the allocation breaks {broken[0].rule}: {broken[0].found} of {broken[0].allowed}")
    answered = Answered(allocation=found)
    if curves and not found.method.get("interrupted"):
        answered = _curves(frame, bounds, curves, found, asked, tell)
    if asked.out is not None:
        write_allocation(answered.allocation, asked.out)
        if curves:
            _write_curve(answered.curve, asked.out)
    return answered


def _stops(asked: Asked) -> tuple[Stop, ...]:
    stops: list[Stop] = []
    if asked.rounds is not None:
        stops.append(Rounds(asked.rounds))
    if asked.stall is not None:
        stops.append(Stalled(asked.stall))
    return tuple(stops)


def _allocated(
    frame: pl.DataFrame, bounds: Limits, asked: Asked, stops: tuple[Stop, ...], tell: Callable[[str], None]
) -> Allocation:
    """The one place where the engine is chosen."""
    with _patient() as interrupted:
        found = allocate(
            frame, bounds, time_limit=asked.time_limit, gap=asked.gap, seed=asked.seed,
            stops=(*stops, lambda _: interrupted()),
            progress=lambda progress: tell(line_of(progress)),
        )  # fmt: skip
        if interrupted():
            found = replace(found, method={**found.method, "interrupted": True})
    return found


def _elsewhere(
    bounds: Limits, asked: Asked, stops: tuple[Stop, ...], tell: Callable[[str], None]
) -> Allocation:
    """Candidates that no frame holds: assignments go straight to the folder."""
    with _patient() as interrupted:
        settings: dict[str, Any] = {
            "time_limit": asked.time_limit, "gap": asked.gap, "seed": asked.seed,
            "stops": (*stops, lambda _: interrupted()),
            "progress": lambda progress: tell(line_of(progress)),
        }  # fmt: skip
        if asked.engine == LOCAL:
            found = allocate_file(asked.candidates, bounds, asked.out, **settings)
        else:
            found = allocate_on_spark(asked.engine, asked.candidates, bounds, asked.out, **settings)
        return replace(found, method={**found.method, "interrupted": True}) if interrupted() else found


@contextmanager
def _patient() -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C was pressed, instead of breaking off anywhere; the second ends the process at once.

    Solvers that are beside this process end with it.
    """
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        if pressed:
            os._exit(130)
        pressed = True

    if current_thread() is not main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def line_of(progress: Progress) -> str:
    """`choices · gap 3.2e-06 · bound 1,234.5 · 12 s`"""
    parts = [progress.phase]
    if progress.gap is not None:
        parts.append(f"gap {max(progress.gap, 0.0):.1e}")
    if progress.bound is not None:
        parts.append(f"bound {progress.bound:,.6g}")
    return " · ".join([*parts, f"{progress.seconds:.0f} s"])


def _curves(
    frame: pl.DataFrame,
    bounds: Limits,
    curves: list[Sweep],
    found: Allocation,
    asked: Asked,
    tell: Callable[[str], None],
) -> Answered:
    rows: list[dict[str, Any]] = []
    try:
        again = asked_again(frame, bounds, found, seed=asked.seed)
        for curve in curves:
            for each in sweep(again, curve, time_limit=asked.time_limit, gap=asked.gap):
                rows.append(each)
                tell(f"sweep {curve.limit} = {each['at']:,.6g} · {each['status']} · {len(rows)} points")
    except KeyboardInterrupt:
        found = replace(found, method={**found.method, "interrupted": True})
    return Answered(allocation=found, curve=rows)


def _write_curve(rows: list[dict[str, Any]], out: Path) -> None:
    """`sweep.parquet` and `sweep.json`, each whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".sweep-") as draft:
            pl.DataFrame(rows, schema=_CURVE).write_parquet(Path(draft) / "sweep.parquet")
            text = json.dumps(rows, indent=2, allow_nan=False)
            (Path(draft) / "sweep.json").write_text(text + "\n", encoding="utf-8")
            for name in ("sweep.parquet", "sweep.json"):
                os.replace(Path(draft) / name, out / name)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(out), field="out") from None
