"""Audience sync: who belongs on which ad platform, what it holds, and the difference sent.

Whoever is suppressed, has not consented, was forgotten or has converted is taken out before anybody is
added, and nobody of them is ever added. A run that is killed is made good by the next.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.frequency_events import event_times
from engine.wiring import Workspace
from insight.api import read_fields
from kernel.clock import parse_window
from kernel.errors import BadInput, NotFound, Stale
from kernel.work import Goal
from storage.offsite import SyncBook
from storage.suppress import ALL
from touchpoint.api import AudienceSync, AudienceUpload, batches, delta, keys_of, open_platform, reach


def sync_all(workspace: Workspace, name: str | None = None, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """`growth sync run`: all, or one, each as `sync_one`."""
    return [sync_one(workspace, each, dry_run=dry_run) for each in _named(workspace, name)]


def sync_one(workspace: Workspace, sync: AudienceSync, *, dry_run: bool = False) -> dict[str, Any]:
    """Brings the platform to what should be there. Raises Stale while another run of it goes on, Unavailable
    when the platform or a store does not answer: then the next run goes on from there."""
    with _alone(workspace, sync):
        book, now = SyncBook(workspace.database), workspace.clock.now()
        keys, left_out = wanted_keys(workspace, sync, now)
        sure, maybe = book.held(sync.name)
        change = delta(keys, sure, maybe)
        told = {
            "sync": sync.name,
            "audience": sync.there,
            "wanted": len(keys),
            "add": len(change.add),
            "remove": len(change.remove),
            "left_out": left_out,
        }
        if dry_run:
            return {**told, "run": None}
        run = book.begin(sync.name, len(keys), now)
        _remove(workspace, sync, book, run, change.remove)
        refused = _add(workspace, sync, book, run, change.add, keys)
        book.end(run, workspace.clock.now())
        return {**told, "add": len(change.add) - refused, "run": run}


def take_out(workspace: Workspace, sync: AudienceSync, since: datetime) -> int:
    """Takes out at once whoever converted after `since`; how many keys. What `growth serve` does between
    runs."""
    if sync.converted is None:
        return 0
    now = workspace.clock.now()
    won = event_times(workspace, sync.converted, since, now, pl.String())["user"].unique()
    if won.is_empty():
        return 0
    with _alone(workspace, sync):
        book = SyncBook(workspace.database)
        people = read_fields(workspace.catalog, sync.fields)
        theirs = keys_of(sync, people.filter(pl.col("user").cast(pl.String).is_in(won.to_list())))
        sure, maybe = book.held(sync.name)
        there = sorted((sure | maybe) & set(theirs))
        if there:
            run = book.begin(sync.name, len(sure) - len(there), now)
            _remove(workspace, sync, book, run, there)
            book.end(run, workspace.clock.now())
        return len(there)


def wanted_keys(
    workspace: Workspace, sync: AudienceSync, now: datetime
) -> tuple[dict[str, str], dict[str, int]]:
    """Key → user of all who should be there, and reason → how many members are left out for it."""
    members = _members(workspace, sync, now)
    left_out: dict[str, int] = {}

    def keep(kept: pl.DataFrame, reason: str) -> pl.DataFrame:
        if kept.height < members.height:
            left_out[reason] = members.height - kept.height
        return kept

    members = keep(workspace.tombstones.without(members), "was forgotten")
    consent = workspace.catalog.field_of_role("consent")
    if consent is not None:
        allowed = read_fields(workspace.catalog, [consent]).filter(pl.col(consent))
        members = keep(members.join(allowed.select("user"), on="user", how="semi"), "has not consented")
    if sync.converted is not None:
        since = now - parse_window(sync.converted_within)
        won = event_times(workspace, sync.converted, since, now, members.schema["user"])
        members = keep(members.join(won, on="user", how="anti"), "has converted")
    members = keep(_short_of_target(workspace, sync, members, now), "has reached the frequency target")
    people = members.join(read_fields(workspace.catalog, sync.fields), on="user", how="left")
    found = keys_of(sync, people)
    reachable = set(found.values())
    if len(reachable) < members.height:
        left_out["has no address"] = members.height - len(reachable)
    free = _unsuppressed(workspace, sync, found, people)
    if len(free) < len(found):
        left_out["is suppressed"] = len(set(found.values()) - set(free.values()))
    return free, left_out


def status(workspace: Workspace, name: str | None = None, *, within: str = "30d") -> list[dict[str, Any]]:
    """What each platform holds, the newest runs, and reach and frequency of the exposures in `within`, by the
    groups that users are in now: only the sync's own where it has one."""
    now, found = workspace.clock.now(), []
    for sync in _named(workspace, name):
        book = SyncBook(workspace.database)
        sure, maybe = book.held(sync.name)
        told: dict[str, Any] = {
            "sync": sync.name,
            "platform": sync.platform,
            "audience": sync.there,
            "held": len(sure),
            "in_doubt": len(maybe),
            "runs": [vars(each) for each in book.runs(sync.name)],
            "reach": None,
        }
        if sync.exposure is not None:
            seen = _exposures(workspace, sync, now - parse_window(within), now, pl.String())
            members = _members(workspace, sync, now).select(
                pl.col("user").cast(pl.String), label=pl.lit(sync.group or sync.goal or "")
            )
            told["reach"] = reach(seen, members)
        found.append(told)
    return found


def _members(workspace: Workspace, sync: AudienceSync, now: datetime) -> pl.DataFrame:
    """[user]"""
    from engine.population import population

    names = [sync.group] if sync.group is not None else list(_goal(workspace, sync).audiences)
    people = population(workspace, now)
    parts = []
    for name in names:
        if name is not None and name.startswith("stage:"):
            parts.append(_in_stage(workspace, sync, name.removeprefix("stage:")))
        elif name is not None:
            parts.append(people.users(people.members(name)))
    return pl.DataFrame({"user": pl.concat(parts).unique(maintain_order=True)})


def _goal(workspace: Workspace, sync: AudienceSync) -> Goal:
    goals = {each.name: each for each in workspace.definitions().of(Goal)}
    if sync.goal not in goals:
        raise NotFound("goal", sync.goal, goals, where=f"audience_sync {sync.name}", field="goal")
    return goals[sync.goal]


def _in_stage(workspace: Workspace, sync: AudienceSync, stage: str) -> pl.Series:
    entry = workspace.plans.newest()
    path = None if entry is None else Path(entry.folder) / "cells.parquet"
    if path is None or not path.exists():
        problem = "comes from the cells of a plan, and there is none yet; run: growth plan"
        raise BadInput(problem, where=f"audience_sync {sync.name}", field="goal", value=f"stage:{stage}")
    cells = pl.read_parquet(path)
    return cells.filter(pl.col("stage").cast(pl.String) == stage)["user"]


def _exposures(
    workspace: Workspace, sync: AudienceSync, since: datetime, now: datetime, kind: pl.DataType
) -> pl.DataFrame:
    """[user], one row an exposure."""
    fields = () if sync.audience_field is None else (sync.audience_field,)
    rows = event_times(workspace, sync.exposure or "", since, now, kind, fields)
    if sync.audience_field is not None:
        rows = rows.filter(pl.col(sync.audience_field).cast(pl.String) == sync.there)
    return rows.select("user")


def _short_of_target(
    workspace: Workspace, sync: AudienceSync, members: pl.DataFrame, now: datetime
) -> pl.DataFrame:
    if sync.frequency is not None:
        from engine.frequency import standing_users

        users = standing_users(workspace, sync.frequency)
        done = users.filter(pl.col("k") >= pl.col("target")).select("user")
        members = members.join(done.cast({"user": members.schema["user"]}), on="user", how="anti")
    if sync.at_most is not None:
        since = now - parse_window(sync.within)
        seen = _exposures(workspace, sync, since, now, members.schema["user"])
        done = seen.group_by("user").len().filter(pl.col("len") >= sync.at_most)
        members = members.join(done, on="user", how="anti")
    return members


def _unsuppressed(
    workspace: Workspace, sync: AudienceSync, keys: Mapping[str, str], people: pl.DataFrame | None = None
) -> dict[str, str]:
    """Those of `keys` whose user, and any address of hers in `people`, is not suppressed on the channel."""
    book = workspace.suppressions
    marks = {user: [book.mark_of_user(user)] for user in keys.values()}
    if people is not None:
        for row in people.select(pl.col("user").cast(pl.String), *sync.fields).iter_rows():
            if row[0] in marks:
                marks[row[0]] += [book.mark_of_address(str(each)) for each in row[1:] if each is not None]
    bound = book.binding({mark for each in marks.values() for mark in each})

    def suppressed(user: str) -> bool:
        entries = [entry for mark in marks[user] for entry in bound.get(mark, ())]
        return any(channel in (ALL, sync.channel) for channel, _ in entries)

    return {key: user for key, user in keys.items() if not suppressed(user)} if bound else dict(keys)


def _remove(
    workspace: Workspace, sync: AudienceSync, book: SyncBook, run: int, keys: tuple[str, ...] | list[str]
) -> None:
    platform = _platform(workspace, sync)
    for number, some in enumerate(batches(keys)):
        book.about_to(sync.name, some)
        platform.remove(sync.there, some, key=f"{sync.name}-{run}-remove-{number}")
        book.removed(run, sync.name, some)


def _add(
    workspace: Workspace, sync: AudienceSync, book: SyncBook, run: int, keys: tuple[str, ...],
    users: Mapping[str, str],
) -> int:  # fmt: skip
    """How many were suppressed or forgotten since they were looked up; each batch asks again."""
    platform, refused = _platform(workspace, sync), 0
    for number, some in enumerate(batches(keys)):
        free = _unsuppressed(workspace, sync, {key: users[key] for key in some})
        known = workspace.tombstones.without(pl.DataFrame({"user": list(free.values())}))
        there = set(known["user"]) if free else set()
        taken = [key for key, user in free.items() if user in there]
        refused += len(some) - len(taken)
        if taken:
            book.about_to(sync.name, taken)
            platform.add(sync.there, taken, key=f"{sync.name}-{run}-add-{number}")
            book.added(run, sync.name, taken)
    return refused


def _platform(workspace: Workspace, sync: AudienceSync) -> AudienceUpload:
    def secret(name: str) -> str:
        found = os.environ.get(name)
        if not found:
            raise BadInput("is not set", where=f"audience_sync {sync.name}", field=name)
        return found

    return open_platform(sync, secrets=secret, base=workspace.root)


@contextmanager
def _alone(workspace: Workspace, sync: AudienceSync) -> Iterator[None]:
    folder = workspace.root / "var" / "offsite"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{sync.name}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stale(f"another run of audience_sync {sync.name} goes on") from None
        yield


def _named(workspace: Workspace, name: str | None) -> list[AudienceSync]:
    known = {each.name: each for each in workspace.definitions().of(AudienceSync)}
    if name is not None and name not in known:
        raise NotFound("audience_sync", name, known)
    return list(known.values()) if name is None else [known[name]]
