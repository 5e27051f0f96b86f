"""Feature sets at work: listed, derived into files, checked for leaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from engine.feature_names import CELL, TOUCH
from engine.feature_sources import read_belonging, read_declared, role_names, source_name
from engine.usecases import instant_of
from engine.wiring import Workspace
from insight.api import read_fields, spool_events
from kernel.clock import parse_window
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import (
    USER,
    Facts,
    FeatureSet,
    find_leaks,
    settle,
    sink_features,
)

Progress = Callable[[str], None]


def list_sets(workspace: Workspace) -> list[dict[str, Any]]:
    """Every set: what it is of, its columns, and which models learn from it."""
    definitions = workspace.definitions()
    users: dict[str, list[str]] = {}
    for recipe in definitions.of(ModelRecipe):
        if isinstance(recipe.features, str):
            users.setdefault(recipe.features, []).append(recipe.name)
    return [
        {
            "name": each.name,
            "version": each.version,
            "fingerprint": each.fingerprint,
            "entity": each.entity,
            "columns": list(each.columns),
            "unsettled": list(each.unsettled),
            "models": users.get(each.name, []),
        }
        for each in definitions.of(FeatureSet)
    ]


def derive_files(
    workspace: Workspace,
    name: str,
    instants: Sequence[str],
    out: Path,
    shares: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Features of everybody as of each instant, as Parquet in `out`, and what they are of."""
    features = workspace.definitions().feature_set(name)
    at = [instant_of(workspace, each) for each in instants] or [instant_of(workspace, None)]
    with TemporaryDirectory(prefix="features-", dir=_scratch(workspace)) as folder:
        facts = spooled(workspace, features, max(at), Path(folder), progress)
        features = settle(features, facts, min(at))
        # of other entities, those who were forgotten are not in it already
        keep = workspace.tombstones.without if features.entity == USER else lambda frame: frame
        rows = sink_features(features, facts, at, out, shares=shares, keep=keep, progress=progress)
    return {
        "folder": str(out),
        "rows": rows,
        "as_of": [each.isoformat() for each in at],
        "columns": list(features.columns),
        "version": features.version,
        "fingerprint": features.fingerprint,
    }


def check_set(
    workspace: Workspace, name: str, as_of: str | None, label: str | None, within: str, progress: Progress
) -> dict[str, Any]:
    """`{leaks: [{feature, kind, said}]}`: what may know the future as of an instant. `label`: an event; who
    has one in the window after the instant is told from who has not."""
    features, at = workspace.definitions().feature_set(name), instant_of(workspace, as_of)
    window = parse_window(within, "--within")
    if label is not None and features.entity != USER:
        said = f"is an event of users; features {name} are of {features.entity}"
        raise BadInput(said, field="--label", value=label)
    with TemporaryDirectory(prefix="features-", dir=_scratch(workspace)) as folder:
        # a day beyond the window: what came after the instant must be there to be removed
        facts = spooled(workspace, features, at + window, Path(folder), progress, times=True)
        told = None
        if label is not None:
            told = _label(workspace, facts, features, label, at, at + window, Path(folder))
        progress("comparing")
        features = settle(features, facts, at)
        leaks = find_leaks(features, facts, at, told)
    return {"features": name, "as_of": at.isoformat(), "leaks": [vars(each) for each in leaks]}


def spooled(
    workspace: Workspace,
    features: FeatureSet,
    until: datetime,
    folder: Path,
    progress: Progress,
    *,
    times: bool = False,
) -> Facts:
    """What a set is made of, as files below `folder` that are read lazily; with `times` also every other
    field that is a time: one after the instant tells that its line was."""
    events, whole = {}, set()
    for event, read in features.events.items():
        if event in (TOUCH, CELL):
            continue
        progress(f"reading {event}")
        name, roles = source_name(workspace.catalog, event), role_names(workspace.catalog, event)
        back = {role: short for short, role in roles.items()}
        path = folder / f"{event}.parquet"
        wanted = [back.get(each, each) for each in read]
        if times:
            fields = workspace.catalog.events[name].fields
            wanted += [short for short, field in fields.items() if field.type in ("date", "datetime")]
        spool_events(workspace.catalog, name, list(dict.fromkeys(wanted)), until, path)
        events[event] = pl.scan_parquet(path).rename(roles, strict=False)
        if workspace.catalog.events[name].id is None:
            whole.add(event)
    others = [each for each in features.events if each in (TOUCH, CELL)]
    if others:
        more, _ = read_declared(workspace, [features], until)
        events |= {event: more[event].lazy() for event in others}
    belonging = read_belonging(workspace, [features]).get(features.entity)
    if belonging is not None:
        told = belonging.fields
    else:
        told = read_fields(workspace.catalog, features.fields) if features.fields else None
    return Facts(
        events=events,
        fields=None if told is None else told.lazy(),
        whole=frozenset(whole),
        belongs=None if belonging is None else belonging.at,
    )


def _label(
    workspace: Workspace,
    facts: Facts,
    features: FeatureSet,
    event: str,
    since: datetime,
    until: datetime,
    folder: Path,
) -> pl.DataFrame:
    """[user, label]: whether she has the event in (since, until], of all who have a feature."""
    path = folder / "label.parquet"
    spool_events(workspace.catalog, source_name(workspace.catalog, event), (), until, path)
    lines = pl.scan_parquet(path)
    later = lines.filter(pl.col("at") > since).select("user").unique().with_columns(label=pl.lit(1))
    users = pl.concat([facts.known(features, each, since).select("user") for each in facts.events]).unique()
    return users.join(later, on="user", how="left").with_columns(pl.col("label").fill_null(0)).collect()


def _scratch(workspace: Workspace) -> Path:
    path = workspace.root / "var" / "scratch"
    path.mkdir(parents=True, exist_ok=True)
    return path
