"""Plans that are killed at random instants and begun again, until each is out: a process of its own, which
imports everything once and makes every try in a child.

`python -m benchmarks.plan_killing FOLDER SIZE KILLS ANEW SEED SECONDS` prints one JSON object: KILLS of
plans as they are, ANEW of plans whose work is taken away after each; with KILLS 0 one plan is killed as each
of its steps ends. The kernel ends a child when it has used a random part of the processor time of a whole
plan: nothing of the program runs afterwards, as with kill -9, and how busy the machine is does not matter.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from sqlite3 import connect
from typing import Any

#: loaded before the first child, so that none has to
_MODULES = ("engine.cycle", "engine.planning", "mlflow.pyfunc", "benchmarks.plan_world", "conflict.apart")
#: tables that tell how it went, not what came of it
_TALES = ("plan_runs", "alembic_version", "sqlite_sequence")
#: columns that nobody can make twice
_DRAWN = ("code", "mark", "salt")


def one_plan(root: Path, dies_at: tuple[str, str] | None = None) -> None:
    """A try, as `growth plan` makes it; kill -9 when a step is in a state."""
    from benchmarks.plan_world import DAY, open_at
    from engine.planning import plan_recorded

    def watch(steps: list[dict[str, Any]]) -> None:
        if (steps[-1]["step"], steps[-1]["state"]) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    plan_recorded(open_at(root), DAY, None, lambda _: None, "command", watch=watch)


def outcome(root: Path) -> dict[str, Any]:
    """All that a plan leaves behind, in a form that two plans of the same inputs share."""
    found: dict[str, Any] = {}
    for folder in sorted((root / "plans").iterdir()):
        for path in sorted(folder.iterdir()):
            found[f"{folder.name}/{path.name}"] = _told(path)
    with closing(connect(f"file:{root}/var/growth.db?mode=ro", uri=True)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in sorted(set(names) - set(_TALES)):
            rows = database.execute(f"SELECT * FROM {name}")  # noqa: S608  our own table
            heads = [each[0] for each in rows.description]
            kept = [i for i, head in enumerate(heads) if not any(word in head for word in _DRAWN)]
            found[f"table {name}"] = sorted(str([row[i] for i in kept]) for row in rows)
    found["ledger"] = _ledger(root)
    found["unfinished"] = sorted(path.name for path in (root / "var" / "plans").glob("*/"))
    return found


def _ledger(root: Path) -> list[str]:
    from datetime import timedelta

    from benchmarks.plan_world import NIGHT, open_at

    space = open_at(root)
    users = [str(user) for user in range(1000)]
    held = space.ledger.held(users=users, since=NIGHT - timedelta(days=9), until=NIGHT + timedelta(days=9))
    return sorted(str(row) for row in held.iter_rows())


def _told(path: Path) -> str:
    """Of a file's bytes; without how long the allocator took, and without the codes that were drawn."""
    import polars as pl

    if path.name == "allocation.json":
        return str({**json.loads(path.read_text()), "seconds": 0, "method": 0})
    if path.name == "touches.parquet":
        return str(pl.read_parquet(path).drop("code").rows())
    if path.name.startswith("touches_"):
        return str(pl.read_csv(path).drop("code", strict=False).rows())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_child(work: Callable[[], Any], *, dies_after: float = 0.0) -> tuple[bool, Any, float]:
    """Whether it lived, what it answered, and its seconds of processor time."""
    read, write = os.pipe()
    number = os.fork()
    if number == 0:
        os.close(read)
        code = 1
        try:
            if dies_after:
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_PROF, dies_after)
            answer = json.dumps(work()).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            with os.fdopen(write, "wb") as out:
                out.write(answer)
            code = 0
        except BaseException:  # noqa: BLE001  whatever it was, it is told
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as out:
        said = out.read()
    _, status, used = os.wait4(number, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError("a try ended with an error")
    lived = os.WIFEXITED(status)
    return lived, json.loads(said) if lived else None, used.ru_utime + used.ru_stime


def fresh(template: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", template, root], check=True)


def main(folder: Path, size: int, kills: int, anew: int, seed: int, seconds: float) -> dict[str, Any]:
    for name in _MODULES:
        importlib.import_module(name)
    from benchmarks.plan_world import lay_out

    root, template = folder / "shop", folder / "template"

    def laid_out() -> None:
        lay_out(root, size)

    in_child(laid_out)
    root.rename(template)
    fresh(template, root)
    _, _, first = in_child(lambda: one_plan(root))  # the first also compiles and caches
    _, right, _ = in_child(lambda: outcome(root))
    if kills == 0:
        return _at_each_step(template, root, right)
    fresh(template, root)
    _, _, whole = in_child(lambda: one_plan(root))
    told = {"first": first, "whole": whole}
    for name, most, share in (("ours", kills, 0.8), ("anew", anew, 0.2)):
        chance = random.Random(seed)  # noqa: S311  no secret
        told[name] = _killed(template, root, right, whole, most, share * seconds, chance, name == "ours")
    return told


def _killed(
    template: Path,
    root: Path,
    right: dict[str, Any],
    whole: float,
    kills: int,
    seconds: float,
    chance: random.Random,
    keep: bool,
) -> dict[str, Any]:
    """Plans that are out after any number of tries, until there were so many kills or the time is over."""
    begun, spent = time.perf_counter(), 0.0
    told = {"kills": 0, "plans": 0, "different": 0, "tries": 0, "most_tries": 0}
    differs: set[str] = set()
    while told["kills"] < kills and time.perf_counter() - begun < seconds:
        fresh(template, root)
        tries, lived = 0, False
        while not lived and time.perf_counter() - begun < seconds:
            lived, _, used = in_child(lambda: one_plan(root), dies_after=chance.uniform(0.001, whole))
            tries, spent = tries + 1, spent + used
            told["kills"] += not lived
            if not lived and not keep:
                shutil.rmtree(root / "var" / "plans", ignore_errors=True)
        if not lived:
            break
        told["plans"], told["tries"] = told["plans"] + 1, told["tries"] + tries
        told["most_tries"] = max(told["most_tries"], tries)
        _, found, _ = in_child(lambda: outcome(root))
        wrong = {key for key in {*found, *right} if found.get(key) != right.get(key)}
        told["different"] += bool(wrong)
        differs |= wrong
    return {**told, "differs": sorted(differs), "seconds": time.perf_counter() - begun, "cpu": spent}


def _at_each_step(template: Path, root: Path, right: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.plan_world import DAY, open_at

    _, (run,), _ = in_child(lambda: open_at(root).plan_runs.newest(DAY))
    fresh(template, root)
    died: list[list[str]] = []
    for step in [each["step"] for each in run["steps"]]:
        for state in ("done",) if step != "publication" else ("running", "done"):
            if not in_child(partial(one_plan, root, (step, state)))[0]:
                died.append([step, state])
    in_child(lambda: one_plan(root))
    _, found, _ = in_child(lambda: outcome(root))
    _, runs, _ = in_child(lambda: open_at(root).plan_runs.newest(DAY))
    wrong = sorted(key for key in {*found, *right} if found.get(key) != right.get(key))
    return {"steps": run["steps"], "died": died, "differs": wrong, "runs": runs}


if __name__ == "__main__":
    where, users, most, others, number, longest = sys.argv[1:7]
    print(json.dumps(main(Path(where), int(users), int(most), int(others), int(number), float(longest))))
