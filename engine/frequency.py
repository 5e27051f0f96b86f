"""Frequencies of a workspace: fitted as of a day, kept in `var/frequency/NAME/DAY/`, and steering its plan.

`frequency.json`: prices, budget, targets, totals; `curves.parquet`: the curves with their intervals;
`decisions.parquet`: one row a user of the audience: where she stands, whether she is touched, and of drawn
users the target with its propensity.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from engine.frequency_events import Told, event_times, read_told
from engine.wiring import Workspace
from kernel.clock import start_of_day
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint, frame_fingerprint
from planner.api import Steered
from storage.lake import folder, write_json
from touchpoint.api import (
    Decided,
    Frequency,
    Seen,
    decide,
    derive_states,
    drawn_share,
    learn_from,
    price_now,
)

_SUMMARY, _CURVES, _DECISIONS = "frequency.json", "curves.parquet", "decisions.parquet"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One frequency as of the beginning of a day."""

    definition: Frequency
    seen: Seen
    decided: Decided
    #: what is told of it, as JSON
    summary: dict[str, Any]


def fit(workspace: Workspace, definition: Frequency, day: date, cells: pl.DataFrame | None = None) -> Fitted:
    """Learned from what was known when the day began, and decided for it; written to its folder. Again, from
    the same events, it is the same. Raises BadInput where there is nothing to learn from."""
    as_of = start_of_day(day, workspace.settings.zone)
    before = _before(workspace, definition, day)
    cells = _cells(workspace, day) if cells is None else cells
    told = read_told(workspace, definition, as_of, cells, before.share)
    worth = definition.worth
    seen = derive_states(
        users=told.users,
        exposures=told.exposures,
        outcomes=told.outcomes,
        leaves=told.leaves,
        worth=worth,
        as_of=as_of,
        zone=workspace.settings.zone,
        history=definition.days("history"),
        half_life=definition.days("half_life"),
    )
    curves = learn_from(seen, opts_out=definition.opt_out is not None)
    number = (day - _EPOCH).days
    decided = decide(definition, seen, curves, before=before.prices, day=number)
    summary = _summary(definition, day, seen, decided, told.share)
    found = Fitted(definition=definition, seen=seen, decided=decided, summary=summary)
    with folder(_folder(workspace, definition.name, day)) as fresh:
        decided.curves.table().write_parquet(fresh / _CURVES)
        decided.users.write_parquet(fresh / _DECISIONS)
        write_json(fresh / _SUMMARY, summary)
    return found


def steering(workspace: Workspace, day: date, cells: pl.DataFrame) -> list[Steered]:
    """What every frequency says of the day's candidates; nothing where none is defined."""
    found = []
    for definition in workspace.definitions().of(Frequency):
        users = fit(workspace, definition, day, cells).decided.users
        found.append(
            Steered(
                name=definition.name,
                channels=definition.channels,
                goals=definition.goals,
                users=users.select("user", "factor", "reason"),
            )
        )
    return found


def frequency_inputs(workspace: Workspace, day: date) -> list[str]:
    """Of everything that steering depends on and other inputs of a plan do not name; empty where nothing
    steers."""
    as_of = start_of_day(day, workspace.settings.zone)
    found = []
    for definition in workspace.definitions().of(Frequency):
        by_cells = definition.model_copy(update={"segments": None})  # cells follow from other inputs
        before = _before(workspace, definition, day)
        told = read_told(workspace, by_cells, as_of, None, before.share)
        frames = [frame_fingerprint(each) for each in (told.users, *_marks(told))]
        found.append(fingerprint([*frames, before]))
    return found


def _marks(told: Told) -> list[pl.DataFrame]:
    return [each.sort("user", "at") for each in (told.exposures, told.outcomes, told.leaves)]


def fit_all(workspace: Workspace, day: date, name: str | None = None) -> list[dict[str, Any]]:
    """`growth frequency fit`: all, or one. Raises NotFound for a name that is not defined."""
    return [fit(workspace, each, day).summary for each in _named(workspace, name)]


def show(workspace: Workspace, name: str | None = None) -> list[dict[str, Any]]:
    """How each frequency stands: its newest fit, the curves, and the price of a touch now, moved by what was
    spent of the day's budget so far. A frequency that was never fitted is told with `as_of` null."""
    found: list[dict[str, Any]] = []
    for definition in _named(workspace, name):
        newest = _newest(workspace, definition.name, None)
        if newest is None:
            nothing = {"name": definition.name, "as_of": None, "hint": "run: growth frequency fit"}
            found.append(nothing)
            continue
        try:
            summary = json.loads((newest / _SUMMARY).read_text(encoding="utf-8"))
            curves = pl.read_parquet(newest / _CURVES)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise BadInput(f"cannot be read: {error}", where=str(newest), field="frequency") from None
        found.append({**summary, **_now(workspace, definition, summary), "curves": curves.to_dicts()})
    return found


def standing_users(workspace: Workspace, name: str) -> pl.DataFrame:
    """user, segment, k, …, target: of the newest fit. Raises BadInput when it was never fitted."""
    _named(workspace, name)
    newest = _newest(workspace, name, None)
    if newest is None:
        raise BadInput("was not fitted yet; run: growth frequency fit", field="frequency", value=name)
    try:
        return pl.read_parquet(newest / _DECISIONS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(newest), field="frequency") from None


def _now(workspace: Workspace, definition: Frequency, summary: dict[str, Any]) -> dict[str, Any]:
    """The day's spending so far where exposures are events, and the price that follows from it."""
    zone = workspace.settings.zone
    now = workspace.clock.now()
    opens = start_of_day(now.astimezone(zone).date(), zone)
    share = min(1.0, (now - opens) / timedelta(days=1))
    spent = None
    if definition.exposure is not None:
        fields = () if definition.channel_field is None else (definition.channel_field,)
        rows = event_times(workspace, definition.exposure, opens, now, pl.String(), fields)
        if definition.channel_field is not None:
            rows = rows.filter(pl.col(definition.channel_field).cast(pl.String).is_in(definition.channels))
        spent = rows.height
    price = price_now(
        summary["price"],
        spent=spent or 0,
        share=share if spent is not None else 0.0,
        budget=summary["budget"],
    )
    return {"spent_today": spent, "price_now": price if np.isfinite(price) else None}


def _summary(definition: Frequency, day: date, seen: Seen, decided: Decided, share: float) -> dict[str, Any]:
    users = decided.users
    standing = users.group_by("segment").agg(
        pl.len().alias("users"),
        pl.col("touched").sum(),
        pl.col("k").mean().alias("exposures"),
        pl.col("target").mean(),
    )
    return {
        "name": definition.name,
        "as_of": day.isoformat(),
        "audience": users.height,
        "budget": definition.touches(users.height),
        "touched": int(users["touched"].sum()),
        "drawn": int(users["drawn"].sum()),
        "declared_share": definition.randomised,
        "drawn_share": share,
        "drawn_exposures": float(seen.outcomes.at_risk[:, 1, 1:, 0].sum()),
        "price": decided.chosen.ceiling,
        "floor_price": decided.chosen.floor,
        "looks_ahead_at": decided.price,
        "exposures": seen.totals["exposures"],
        "outcomes": seen.totals["outcomes"],
        "opt_outs": seen.totals["opt_outs"],
        "touches_per_converter": seen.touches_per_converter,
        "touches_wanted": decided.wanted,
        "converters": {str(k): many for k, many in seen.converters.items()},
        "half_life_days": decided.curves.outcomes.half_life,
        "segments": standing.sort("segment").to_dicts(),
    }


class _Before(NamedTuple):
    """What a day takes over from the last one that was fitted."""

    #: looked ahead with then, and what the best touch not made would have added; None: there was none
    prices: tuple[float, float] | None
    #: of the users, whose number of touches is drawn now; None: as many as at first
    share: float | None


def _before(workspace: Workspace, definition: Frequency, day: date) -> _Before:
    newest, declared = _newest(workspace, definition.name, day), definition.randomised
    if newest is None:
        return _Before(None, None)
    try:
        raw = json.loads((newest / _SUMMARY).read_text(encoding="utf-8"))
        prices = float(raw["looks_ahead_at"]), float(raw["price"])
        share = raw["drawn_share"] if raw.get("declared_share") == declared else None
        seen, segments = float(raw.get("drawn_exposures", 0.0)), len(raw["segments"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(newest / _SUMMARY), field="price") from None
    if share is not None:
        share = drawn_share(declared, share, seen=seen, segments=segments)
    return _Before(prices, share)


def _newest(workspace: Workspace, name: str, before: date | None) -> Path | None:
    return next(reversed(_fitted(workspace, name, before)), None)


def _fitted(workspace: Workspace, name: str, before: date | None) -> list[Path]:
    """Folders of days, the earliest first."""
    days = sorted((workspace.root / "var" / "frequency" / name).glob("????-??-??"))
    return [each for each in days if each.is_dir() and (before is None or each.name < before.isoformat())]


def _folder(workspace: Workspace, name: str, day: date) -> Path:
    return workspace.root / "var" / "frequency" / name / day.isoformat()


def _cells(workspace: Workspace, day: date) -> pl.DataFrame | None:
    """Of the newest plan up to that day."""
    entry = workspace.plans.newest(before=day + timedelta(days=1))
    path = None if entry is None else Path(entry.folder) / "cells.parquet"
    return pl.read_parquet(path) if path is not None and path.exists() else None


def _named(workspace: Workspace, name: str | None) -> list[Frequency]:
    known = {each.name: each for each in workspace.definitions().of(Frequency)}
    if name is not None and name not in known:
        raise NotFound("frequency", name, known)
    return list(known.values()) if name is None else [known[name]]
