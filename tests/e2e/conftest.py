"""The installed command, and a data set of our own making whose tables and columns no room ever saw."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

COMMAND = (sys.executable, "-c", "from engine.cli.main import main; main()")
#: runs one command after the other, for importing everything takes seconds; each has its own words,
#: output and exit code, and an exception that gets out is a traceback and 1, as it would be
WORKER = """
import json, os, sys, traceback
from engine.cli.main import main
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    asked = json.loads(line)
    sys.argv = ["growth", *asked["words"]]
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    print(code, file=answers, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Growth:
    """The command as an operator gives it."""

    def __init__(self, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._worker: subprocess.Popen[str] | None = None

    def __call__(self, *words: object) -> Ran:
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=_environment(),
            )
        assert self._worker.stdin
        assert self._worker.stdout
        asked = {"words": [str(word) for word in words], "out": str(self._out), "err": str(self._err)}
        self._worker.stdin.write(json.dumps(asked) + "\n")
        self._worker.stdin.flush()
        code = self._worker.stdout.readline()
        assert code, f"{words} ended the whole process"
        out, err = (path.read_text(encoding="utf-8") for path in (self._out, self._err))
        return Ran(code=int(code), out=out, err=err)

    def alone(self, *words: object) -> Ran:
        """In a process of its own."""
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env=_environment(),
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def well(self, *words: object) -> Ran:
        """It must succeed."""
        ran = self(*words)
        assert ran.code == 0, f"{words}: {ran.err}"
        return ran

    def close(self) -> None:
        if self._worker is not None:
            self._worker.communicate()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GROWTH_")}


@pytest.fixture(scope="session")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growth]:
    growth = Growth(tmp_path_factory.mktemp("worker"))
    yield growth
    growth.close()


CATALOG = """\
sources:
  club: {url: "duckdb://club.duckdb", timezone: Europe/Berlin}
entities:
  user: {source: club, table: members, key: card, since: joined}
fields:
  user.town: {table: members, column: town, type: string, label: Town}
  user.zone: {table: members, column: zone, type: string, role: timezone}
  user.reachable: {table: members, column: newsletter, type: boolean, role: consent}
events:
  visit:
    source: club
    table: purchases
    user: card
    time: bought
    id: ticket
    role: purchase
    join: {goods: {key: ean}}
    fields:
      amount: {column: price, type: decimal, role: amount}
      shelf: {column: shelf, type: string, role: category}
      article: {column: ean, type: string, role: item}
  mailed:
    source: club
    table: mailings
    user: card
    time: mailed
    role: treatment
    fields:
      letter: {column: letter, type: string, role: offer}
      style: {column: style, type: string}
  used:
    source: club
    table: redeemed
    user: card
    time: used
    role: response
    fields:
      letter: {column: letter, type: string, role: offer}
offers: {source: club, table: printed, offer: letter, item: ean}
"""

DEFINITIONS = """\
kind: group
name: frequent
entity: user
where:
  all:
    - {event: visit, agg: count, within: 56d, op: ge, value: 4}
    - {event: visit, agg: sum, of: amount, within: 56d, op: gt, value: 30}
---
kind: group
name: gone_quiet
entity: user
where:
  all:
    - {event: visit, agg: count, within: 182d, op: ge, value: 3}
    - not: {event: visit, agg: count, within: 14d, op: ge, value: 1}
---
kind: group
name: nobody
entity: user
where: {field: user.town, op: eq, value: Atlantis}
---
kind: goal
name: grow
outcome: visit
window: 28d
audiences: [frequent]
base: spend
margin: 0.4
lift: 0.3
---
kind: goal
name: back
outcome: visit
window: 28d
audiences: [gone_quiet]
base: spend_lost
margin: 0.4
lift: 0.5
---
kind: benefit
name: autumn
cost_per_response: 0.8
capacity: 60
goals: [grow, back]
touchpoints: [letter, note]
offer: {offer: L8, style: plain}
---
kind: benefit
name: glossy
cost_per_response: 1.1
goals: [grow, back]
touchpoints: [letter, note]
offer: {offer: L9, style: glossy}
---
kind: touchpoint
name: letter
channel: post
cost_per_touch: 0.3
capacity: 40
reach: 0.9
---
kind: touchpoint
name: note
channel: inbox
cost_per_touch: 0.01
capacity: 90
reach: 0.4
---
kind: content
name: hello
goals: [grow, back]
touchpoints: [letter, note]
text: "Hello. {benefit}!"
---
kind: limits
name: daily
per_user: {max_tasks: 1}
limits:
  - {name: money, sum: cost, at_most: 25}
  - {name: back_volume, where: {goal: back}, at_least: 5}
---
kind: cap
name: week
at_most: 1
within: 7d
---
kind: quiet_hours
name: night
start: 21
end: 8
---
kind: cells
name: cells
max_clusters: 4
sociology: [user.town]
---
kind: model
name: answers
predicts: response
within: 28d
history: [14d, 56d, 182d]
matured: 21d
---
kind: model
name: turnover
predicts: spend
within: 28d
history: [14d, 56d, 182d]
---
kind: model
name: leaving
predicts: churn
within: 28d
history: [14d, 56d, 182d]
"""

SETTINGS = 'name = "The club"\ntimezone = "Europe/Berlin"\ncurrency = "EUR"\nseed = 11\n'

BEGIN, DAYS = datetime(2023, 1, 2), 302  # noqa: DTZ001 (the source's times are naive, in its own zone)
MEMBERS = 320
#: days on which letters went out; the last two are printed and go out after the plan
MAILED = (60, 88, 116, 144, 172, 200, 228, 256, 295)


@dataclass(frozen=True, kw_only=True)
class World:
    """Writes the same data set and definitions into any folder."""

    plan_date: str = "2023-10-16"
    next_date: str = "2023-10-17"

    def lay_out(self, root: Path) -> None:
        tables = _tables()
        with duckdb.connect(str(root / "club.duckdb")) as database:
            for name, frame in tables.items():
                frame.write_parquet(root / f"{name}.tmp")
                database.execute(f"CREATE TABLE {name} AS FROM read_parquet('{root / name}.tmp')")
                (root / f"{name}.tmp").unlink()
        (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
        (root / "growth.toml").write_text(SETTINGS, encoding="utf-8")
        (root / "definitions" / "all.yaml").write_text(DEFINITIONS, encoding="utf-8")


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory, growth: Growth, world: World) -> Path:
    """A workspace with its definitions in force and nothing learned. Tests leave it as it is."""
    root = tmp_path_factory.mktemp("applied") / "club"
    growth.well("init", root)
    world.lay_out(root)
    growth.well("apply", "-f", root / "definitions", "--dir", root)
    return root


@pytest.fixture(scope="session")
def make_plan(growth: Growth, world: World) -> Callable[[Path], Path]:
    """Workspace, definitions, models, the day's plan, in a new folder."""

    def make(root: Path) -> Path:
        growth.well("init", root)
        world.lay_out(root)
        growth.well("apply", "-f", root / "definitions", "--dir", root)
        growth.well("train", "--as-of", world.plan_date, "--dir", root)
        growth.well("plan", "--date", world.plan_date, "--dir", root)
        return root

    return make


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory, make_plan: Callable[[Path], Path]) -> Path:
    """A workspace with its plan. Tests may plan further days in it, nothing else."""
    root = make_plan(tmp_path_factory.mktemp("planned") / "club")
    shutil.copytree(root, root.parent / "untouched")
    return root


@pytest.fixture
def planned_copy(planned: Path, tmp_path: Path) -> Path:
    """The same before any further day, to be spoilt."""
    return Path(shutil.copytree(planned.parent / "untouched", tmp_path / "spoilt"))


def _tables() -> dict[str, pl.DataFrame]:
    """Members visit at their own pace, some stop for good; who visits often answers letters often."""
    rng = np.random.default_rng(20230102)
    cards = np.array([f"c-{number:04d}" for number in rng.permutation(MEMBERS)])
    pace = rng.gamma(1.6, 0.09, MEMBERS).clip(0.01, 0.8)
    stops = np.where(rng.random(MEMBERS) < 0.3, rng.integers(80, DAYS, MEMBERS), DAYS)
    eans = np.array([f"e{number:02d}" for number in range(24)])
    goods = pl.DataFrame({"ean": eans, "shelf": [f"shelf {number % 4}" for number in range(24)]})
    lines, seen = [], np.zeros((MEMBERS, DAYS))
    for member in range(MEMBERS):
        for day in np.flatnonzero(rng.random(stops[member]) < pace[member]):
            at = BEGIN + timedelta(days=int(day), hours=int(rng.integers(9, 20)))
            seen[member, day] = 1
            for _ in range(int(rng.integers(1, 4))):
                price = round(float(rng.lognormal(2.0 + pace[member], 0.5)), 2)
                ean = str(rng.choice(eans))
                lines.append((f"t{member}-{day}", cards[member], at, ean, price))
    mailings, redeemed = [], []
    for number, day in enumerate(MAILED, 1):
        at = BEGIN + timedelta(days=day, hours=6)
        style = "glossy" if number % 3 == 0 else "plain"
        recent = seen[:, day - 28 : day].sum(axis=1)
        chance = 1 / (1 + np.exp(3.2 - 0.75 * recent - 0.5 * (style == "glossy")))
        for member in np.flatnonzero(rng.random(MEMBERS) < 0.7):
            mailings.append((cards[member], f"L{number}", style, at))
            if rng.random() < chance[member]:
                later = at + timedelta(days=int(rng.integers(1, 15)), hours=5)
                redeemed.append((cards[member], f"L{number}", later))
    printed = [(f"L{number}", str(ean)) for number in range(1, 10) for ean in rng.choice(eans, 4, False)]
    return {
        "members": pl.DataFrame(
            {
                "card": cards,
                "town": rng.choice(["Kiel", "Ulm", "Hof"], MEMBERS),
                "zone": rng.choice(["Europe/Berlin", "Europe/London"], MEMBERS),
                "newsletter": rng.random(MEMBERS) < 0.95,
                "joined": [BEGIN] * MEMBERS,
            }
        ),
        "goods": goods,
        "purchases": pl.DataFrame(
            lines, schema=["ticket", "card", "bought", "ean", "price"], orient="row"
        ).sort("bought", "ticket"),
        "mailings": pl.DataFrame(mailings, schema=["card", "letter", "style", "mailed"], orient="row"),
        "redeemed": pl.DataFrame(redeemed, schema=["card", "letter", "used"], orient="row"),
        "printed": pl.DataFrame(printed, schema=["letter", "ean"], orient="row"),
    }
