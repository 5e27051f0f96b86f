"""A plan's touches into the outbox, and how they stand there."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from engine.channels import channels_of, trouble_of
from engine.wiring import Workspace
from kernel.clock import micros
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch, Suppressed
from kernel.errors import BadInput, GrowthError
from touchpoint.api import Channel, Provider, check_channels

#: what all touches of a task have in common
_LABELS = ("task", "goal", "benefit", "touchpoint", "channel", "content", "message_class")
#: folder of what rules did by themselves, a folder a run
RULES = "rules"
#: characters of a user id, or of an address
_LONGEST = 200
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What a plan put into the outbox."""

    run: str
    #: of the plan on channels that are defined, whether new or not
    touches: int
    new: int
    #: of an earlier version, called off
    dropped: int
    #: touches on channels that nothing here carries: their files are for others to execute
    elsewhere: int


def enqueue(space: Workspace, folder: Path) -> Enqueued:
    """The touches of a plan's folder on channels that a definition carries. Again: changes nothing.

    A newer version of a plan takes the place of what still waits of an older one; an older one changes
    nothing. Everything is checked first: channels, providers, and every variable of every content that is
    used. Raises BadInput, with nothing enqueued; Unavailable when the database does not answer.
    """
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    run, version = str(plan["date"]), int(plan["version"])
    touches = pl.read_parquet(folder / "touches.parquet")
    definitions = space.definitions()
    carried = [each.name for each in definitions.of(Channel)]
    mine = touches.filter(pl.col("channel").is_in(carried))
    made = partial(Enqueued, run=run, touches=mine.height, elsewhere=touches.height - mine.height)
    loaded = space.outbox.loaded(run)
    if mine.is_empty() and loaded is None:
        return made(new=0, dropped=0)
    if loaded is not None and loaded >= version:
        return made(new=0, dropped=0)
    contents = channels_of(definitions).contents
    check_channels(
        definitions.of(Channel),
        definitions.of(Provider),
        [contents[name] for name in mine["content"].unique().sort() if name in contents],
        (),
        space.catalog.user_fields,
    )
    mine = space.tombstones.without(mine.with_columns(pl.col("user").cast(pl.String)))
    found = space.outbox.load(run, version, _tasks(mine, run), micros(space.clock.now()))
    return made(new=found.new, dropped=found.dropped)


def _tasks(touches: pl.DataFrame, run: str) -> list[tuple[OutboxTask, list[OutboxTouch]]]:
    if "code" not in touches.columns:
        touches = touches.with_columns(code=pl.lit(None, pl.String))
    rows = touches.select(*_LABELS, "touch_id", "user", "send_at", pl.col("code").fill_null(""))
    found = []
    for (task,), part in rows.group_by("task", maintain_order=True):
        labels = part.select(_LABELS).unique(maintain_order=True)
        if labels.height > 1:
            raise BadInput("has touches of more than one kind", where=f"plan {run}", field="task", value=task)
        said = labels.row(0, named=True)
        made = OutboxTask(run=run, **said | {"message_class": MessageClass(said["message_class"])})
        sent = part["send_at"].dt.epoch("us")
        several = [
            OutboxTouch(touch_id=touch_id, user=user, send_us=at, code=code)
            for touch_id, user, at, code in zip(
                part["touch_id"], part["user"], sent, part["code"], strict=True
            )
        ]
        found.append((made, several))
    return sorted(found, key=lambda each: each[0].task)


def folder_of(space: Workspace, run: str) -> Path | None:
    """Where the files of a run lie: of a day's plan, or of rules that fired by themselves; None: gone."""
    try:
        entry = space.plans.find(date.fromisoformat(run))
        found = None if entry is None else Path(entry.folder)
    except ValueError:
        found = space.root / RULES / run
    return found if found is not None and (found / "plan.json").exists() else None


def complete_loads(space: Workspace) -> None:
    """Goes on with what a kill interrupted. A plan that is gone meanwhile stays out, and is told."""
    for run in space.outbox.interrupted():
        folder = folder_of(space, run)
        try:
            if folder is None:
                raise BadInput("is no plan any more", field="run", value=run)
            enqueue(space, folder)
        except (GrowthError, OSError) as error:
            _log.warning("touches of %s are not all in the outbox: %s", run, error)


def outbox_report(space: Workspace, run: str | None = None) -> dict[str, Any]:
    """`{tasks, reasons, receipts, providers, trouble}`; how everything stands, for people and machines."""
    channels = channels_of(space.definitions())
    trouble = {each["name"]: each["trouble"] for each in provider_states(space) if each["trouble"]}
    return {
        "tasks": space.outbox.tasks(run),
        "reasons": space.outbox.reasons(run),
        "receipts": space.receipts.counts(run),
        "providers": {name: each.type for name, each in channels.providers.items()},
        "trouble": trouble,
    }


def provider_states(space: Workspace) -> list[dict[str, str]]:
    """`{name, said, trouble}` of every provider that carries a channel, as far as is known without a call."""
    channels, found = channels_of(space.definitions()), []
    for name, provider in channels.providers.items():
        carried = channels.of(name)
        if carried:
            trouble = trouble_of(space, provider)
            said = trouble or f"{provider.type}, carries {', '.join(carried)}"
            found.append({"name": name, "said": said, "trouble": trouble})
    return found


def change_task(space: Workspace, action: str, task: str, run: str | None = None) -> list[dict[str, Any]]:
    """pause, resume, cancel or send-again; one entry a task: `{number, action, touches}`.

    Raises NotFound for an unknown task, Stale when a task is cancelled already.
    """
    now_us, outbox, found = micros(space.clock.now()), space.outbox, []
    for number in outbox.find(task, run):
        touches = 0
        if action == "pause":
            outbox.pause(number, now_us)
        elif action == "resume":
            outbox.resume(number, now_us)
        elif action == "cancel":
            touches = outbox.cancel(number, now_us)
        elif action == "send-again":
            touches = outbox.send_again(number, now_us)
        else:
            raise BadInput("is not pause, resume, cancel or send-again", field="ACTION", value=action)
        found.append({"number": number, "action": action, "touches": touches})
    return found


def suppress(
    space: Workspace, who: str, *, channel: str | None = None, lift: bool = False
) -> Mapping[str, Any]:
    """A user's id, or an address (whatever holds an @ or begins with +). `{who, changed}`."""
    if not 0 < len(who.strip()) <= _LONGEST or not who.isprintable():
        problem = f"is not text of 1 to {_LONGEST} characters that can be printed"
        raise BadInput(problem, field="USER|ADDRESS", value=ascii(who[:40]))
    if lift:
        return {"who": who, "changed": space.suppressions.lift(who, channel)}
    now_us = micros(space.clock.now())
    said = partial(space.receipts.suppress, channel=channel or "", reason=Suppressed.MANUAL, now_us=now_us)
    if "@" in who or who.startswith("+"):  # ids may look like addresses, so both are meant
        said(address=who)
    off = said(user=who)
    return {"who": who, "changed": 1, "cancelled": off}
