"""`growth simulate`: all seeds, a page that grows with every day, and what is finished kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.report.simulated import render_days
from engine.settings import FILE
from engine.simulate.households import Households, households_of, made_up
from engine.simulate.results import summarise
from engine.simulate.run import POLICIES, Progress, Row, Setting, play
from engine.wiring import open_workspace
from insight.api import read_role
from kernel.errors import BadInput
from kernel.ids import fingerprint
from storage.lake import write_json, write_text

#: raised when the world or a policy changes its meaning, so that finished seeds are played again
_VERSION = "4"
_CURRENCY = "USD"
_MADE_UP = 2000


def homes_of(root: Path) -> tuple[Households, str]:
    """Habits of the workspace's own users; where `root` is none, of the demo's real households; where those
    are not installed, made up. And which of these."""
    if (root / FILE).is_file():
        space = open_workspace(root)
        lines = read_role(space.catalog, "purchase", space.clock.now())
        if lines is None:
            raise BadInput("no event has role purchase", where=space.catalog.file, field="events")
        return households_of(space.tombstones.without(lines)), f"users of {space.settings.name}"
    try:
        from engine.demo.households import baskets

        return households_of(baskets()), "households of The Complete Journey"
    except ImportError:
        return made_up(_MADE_UP, 0), "made-up habits"


def simulate(
    setting: Setting,
    seeds: Sequence[int],
    out: Path,
    told: Progress,
    *,
    whose: str,
    names: Sequence[str] = POLICIES,
) -> dict[str, Any]:
    """Plays every seed, and writes `days.json` and `report.html` after each day, `seed-N.json` after each
    seed; a seed that is there from the same setting is not played again. The figures of all.

    Raises BadInput for a folder with something else in it.
    """
    if out.exists() and not out.is_dir():
        raise BadInput("is not a folder", field="--out", value=str(out))
    key = _key(setting, names)
    kept = {seed: _kept(out, seed, key) for seed in seeds}
    rows: list[Row] = [row for found in kept.values() for row in found or ()]
    for seed in (each for each in seeds if kept[each] is None):
        mine: list[Row] = []
        with tempfile.TemporaryDirectory(prefix="growth-simulate-") as scratch:
            for day in play(setting, seed, Path(scratch), lambda _: None, names):
                mine += day
                told(f"seed {seed}, day {day[0].day} of {setting.days}")
                # a world that is under way is shown with the finished ones once it is as far
                shown = rows if rows else mine
                _write(out, setting, shown, whose, playing=True, now=f"Seed {seed}, day {day[0].day}.")
        rows += mine
        write_json(out / f"seed-{seed}.json", {"key": key, "rows": [asdict(each) for each in mine]})
    return _write(out, setting, rows, whose, playing=False, now="")


def _write(
    out: Path, setting: Setting, rows: Sequence[Row], whose: str, *, playing: bool, now: str
) -> dict[str, Any]:
    figures = summarise(rows, setting.means.budget)
    told = f"{setting.users:,} simulated users with the habits of {whose}. {now}".strip()
    title = f"{setting.days} days ahead"
    write_json(out / "days.json", {"users": setting.users, **figures})
    page = render_days(figures, title=title, playing=playing, told=told, currency=_CURRENCY)
    write_text(out / "report.html", page)
    return figures


def _key(setting: Setting, names: Sequence[str]) -> str:
    homes = [each.round(12).tolist() for each in vars(setting.homes).values()]
    said = [_VERSION, setting.users, setting.days, asdict(setting.means), asdict(setting.nature), list(names)]
    return fingerprint([*said, homes])


def _kept(out: Path, seed: int, key: str) -> list[Row] | None:
    """The rows of a seed that was finished with the same setting."""
    path = out / f"seed-{seed}.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Row(**each) for each in found["rows"]] if found["key"] == key else None
    except (ValueError, TypeError, KeyError):
        return None
