"""Small plans under a thousand kills: the same plan as one that nobody interrupted, and nothing doubled."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Line

_ROOT = Path(__file__).parents[1]
#: users of the small workspace
USERS = 60


def killed(kills: int, seed: int, seconds: float, *, keep: bool = True) -> dict[str, Any]:
    """See `benchmarks.plan_killing`, in a process of its own: children of one that has threads may hang."""
    with tempfile.TemporaryDirectory(prefix="growth-kills-") as folder:
        words = [sys.executable, "-m", "benchmarks.plan_killing", folder, USERS, kills, seed, seconds]
        asked = [*map(str, words), "keep" if keep else "anew"]
        ran = subprocess.run(asked, cwd=_ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` kills, within ten times `seconds`; then a fifth of it, forgetting what was done."""
    lines: list[Line] = []
    for who, many, keep in (("ours", size, True), ("begun anew after each kill", max(size // 5, 1), False)):
        found = killed(many, seed, 10 * seconds if keep else 2 * seconds, keep=keep)
        plans = max(found["plans"], 1)
        each = found["cpu"] / plans
        notes: dict[str, object] = {
            "kills": found["kills"],
            "plans": found["plans"],
            "different": found["different"],
            "tries a plan": f"{found['tries'] / plans:.1f}",
            "most tries": found["most_tries"],
            "processor s a plan": f"{each:.2f}",
            "uninterrupted": f"{found['whole']:.2f}",
        }
        first = each if not lines else float(str(lines[0].notes["processor s a plan"]))
        lines.append(
            Line(
                size=size,
                who=who,
                ratio=1.0 if not lines else None,
                times=each / max(first, 1e-9) if lines else 1.0,
                seconds=found["seconds"],
                notes=notes,
            )
        )
    return lines


CASE = Case(
    about="A small workspace's plan (rules, coupons, caps, an outbox), killed at random instants and begun "
    "again until it is out; then every file, every table and the ledger are compared with those of a plan "
    "that nobody interrupted. Beside: the same without what was kept.",
    measure="–",
    sizes=(1000,),
    smoke=2,
    run=run,
    packages=("polars",),
)
