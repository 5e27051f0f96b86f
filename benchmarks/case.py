"""What a benchmark case is, and how its result reads."""

from __future__ import annotations

import json
import os
import platform
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contestant at one size."""

    #: what the case counts, such as candidates
    size: int
    #: ours first, then peers
    who: str
    #: its result by the measure of the case as part of ours; 1 is equal, above 1 is better than ours
    ratio: float | None
    #: its time as a multiple of ours
    times: float
    #: wall clock
    seconds: float
    #: what else the case tells
    notes: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A workload with its peers."""

    #: one sentence for the head of the table
    about: str
    #: what `ratio` compares
    measure: str
    #: sizes of a full run
    sizes: tuple[int, ...]
    #: size at which the tests run it
    smoke: int
    #: (size, seed, seconds for each contestant) → lines
    run: Callable[[int, int, float], list[Line]]
    #: installed packages whose versions matter
    packages: tuple[str, ...] = ()


def report(name: str, case: Case, lines: list[Line], *, seed: int, seconds: float, folder: Path) -> Path:
    """Write `NAME.json` and `NAME.md` into the folder; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    setting: dict[str, object] = {
        "seed": seed,
        "seconds_each": seconds,
        "cores": len(os.sched_getaffinity(0)),
        # above the number of cores, others ran beside
        "load": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "peak_gib": round(peak, 2),
        **{package: version(package) for package in case.packages},
    }
    record = {"case": name, "setting": setting, "lines": [asdict(line) for line in lines]}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    table = folder / f"{name}.md"
    table.write_text(_table(name, case, lines, setting), encoding="utf-8")
    return table


def _table(name: str, case: Case, lines: list[Line], setting: dict[str, object]) -> str:
    notes = list(dict.fromkeys(key for line in lines for key in line.notes))
    head = [f"{case.measure} (ours = 1)", "time (ours = 1)", "size", "who", "seconds", *notes]
    rows = [
        [
            "–" if line.ratio is None else f"{line.ratio:.6f}",
            f"{line.times:.2f}",
            f"{line.size:,}",
            line.who,
            f"{line.seconds:.2f}",
            *(str(line.notes.get(key, "–")) for key in notes),
        ]
        for line in lines
    ]
    text = [f"# {name}", "", case.about, "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    text += [", ".join(f"{key} {value}" for key, value in setting.items()), ""]
    text += [f"Made by `python -m benchmarks {name}`.", ""]
    return "\n".join(text)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
