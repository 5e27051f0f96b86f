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


def killed(kills: int, anew: int, seed: int, seconds: float) -> dict[str, Any]:
    """See `benchmarks.plan_killing`, in a process of its own: children of one that has threads may hang."""
    with tempfile.TemporaryDirectory(prefix="growth-kills-") as folder:
        words = [sys.executable, "-m", "benchmarks.plan_killing", folder, USERS, kills, anew, seed, seconds]
        asked = list(map(str, words))
        ran = subprocess.run(asked, cwd=_ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size` kills within ten times `seconds`, a tenth as many of plans that forget what was done."""
    found, lines = killed(size, max(size // 10, 1), seed, 10 * seconds), list[Line]()
    each = {name: found[name]["cpu"] / max(found[name]["plans"], 1) for name in ("ours", "anew")}
    for name, who in (("ours", "ours"), ("anew", "begun anew after each kill")):
        told = found[name]
        notes: dict[str, object] = {
            "kills": told["kills"],
            "plans": told["plans"],
            "different": told["different"],
            "tries a plan": f"{told['tries'] / max(told['plans'], 1):.1f}",
            "most tries": told["most_tries"],
            "processor s a plan": f"{each[name]:.2f}",
            "uninterrupted": f"{found['whole']:.2f}",
        }
        lines.append(
            Line(
                size=size,
                who=who,
                ratio=1.0 if name == "ours" else None,
                times=1.0 if name == "ours" else each[name] / max(each["ours"], 1e-9),
                seconds=told["seconds"],
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
