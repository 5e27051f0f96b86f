"""The exploration of a day's plan: who is drawn, what chance gives them, and what plans have drawn so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from engine.definitions import Definitions
from engine.holdout import EXPLORED as TASK
from engine.wiring import Workspace
from kernel.clock import parse_window, start_of_day
from kernel.errors import BadInput
from kernel.events import INSTANT
from kernel.ids import frame_fingerprint
from kernel.work import Task
from models.api import EXPLORED, PROMISING, Exploration, Holdout, draw, held_out
from planner.api import Resources

#: file of a plan: everyone drawn on its day, and what chance said
FILE = "explored.parquet"


@dataclass(frozen=True, kw_only=True)
class Explored:
    """Of one day."""

    #: user, benefit, touchpoint (nulls: nothing), if_promising, exploration
    drawn: pl.DataFrame
    #: user of all who still rest: nothing is for them
    resting: pl.DataFrame
    tasks: tuple[Task, ...]
    #: task → exploration
    of: dict[str, str]
    #: task → what a trial is worth besides its gain
    worth: dict[str, float]

    @property
    def audiences(self) -> pl.DataFrame:
        """user, audience: of the tasks, for those who are given something."""
        name = pl.format(f"{TASK}{{}}.{{}}.{{}}", "exploration", "benefit", "touchpoint").alias("audience")
        return self.drawn.filter(pl.col("benefit").is_not_null()).select("user", name)

    @property
    def asked(self) -> pl.DataFrame:
        """user, audience: of all tasks, for those of whom it counts how much they promise; maybe empty."""
        ways = pl.DataFrame({"audience": list(self.of), "exploration": list(self.of.values())})
        return self.drawn.filter("if_promising").join(ways, on="exploration").select("user", "audience")

    def settled(self, candidates: pl.DataFrame) -> Explored:
        """The same without those who promise little. `candidates`: of `asked`."""
        # what a trial is worth besides is the same for all of an exploration
        best = (
            candidates.with_columns(
                exploration=pl.col("task").cast(pl.String).replace_strict(self.of, return_dtype=pl.String)
            )
            .group_by("user", "exploration")
            .agg(pl.col("value").max())
        )
        ranked = best.sort("value", "user", descending=[True, False]).select(
            "user", "exploration", place=pl.int_range(pl.len()).over("exploration")
        )
        drawn = self.drawn.join(ranked, on=["user", "exploration"], how="left", maintain_order="left")
        # those asked were drawn of everyone, so their best tenth stands for everyone's
        most = pl.col("if_promising").sum().over("exploration") * PROMISING
        kept = ~pl.col("if_promising") | (pl.col("place") < most).fill_null(value=False)
        settled = drawn.filter(kept).drop("place")
        return replace(self, drawn=settled.unique("user", keep="first", maintain_order=True))

    def as_before(self, drawn: pl.DataFrame) -> Explored:
        """The same with those whom an earlier version of the day's plan drew, some of whom it has touched."""
        known = drawn.with_columns(if_promising=pl.lit(value=False)).select(self.drawn.columns)
        return replace(self, drawn=known.cast(self.drawn.schema))


def explore(
    workspace: Workspace,
    definitions: Definitions,
    resources: Resources,
    audiences: pl.DataFrame,
    blocked: pl.DataFrame,
    day: date,
) -> Explored | None:
    """Draws from the audiences of each exploration's goal; None where none is defined.

    Who is held out, rests after an earlier draw, or may not be touched through one of the ways today, is not
    drawn: that was known before chance spoke, so both sides stay alike. Raises BadInput for a way that no
    content speaks for.
    """
    explorations = definitions.of(Exploration)
    if not explorations:
        return None
    holdout = definitions.one(Holdout)
    goals = {each.name: each for each in resources.goals}
    resting = _resting(workspace, explorations, day, audiences.schema["user"])
    rows, tasks = list[pl.DataFrame](), list[Task]()
    of, worth = dict[str, str](), dict[str, float]()
    for exploration in explorations:
        mine = audiences.filter(pl.col("audience").is_in(list(goals[exploration.goal].audiences)))
        channels = {each.name: each.channel for each in resources.touchpoints}
        ways = {channels[way.touchpoint] for way in exploration.ways}
        kept = blocked.filter(pl.col("channel").is_in(list(ways)))
        sure = [each.filter(~pl.col("if_promising")).select("user") for each in rows]
        taken = pl.concat([resting, kept.select("user"), *sure])
        people = mine.select("user").unique().join(taken, on="user", how="anti").sort("user")["user"]
        if holdout is not None:
            people = people.filter(~held_out(people, holdout))
        rows.append(
            draw(exploration, people, day.isoformat()).with_columns(exploration=pl.lit(exploration.name))
        )
        made = _tasks(exploration, resources, channels)
        tasks += made
        of |= {task.name: exploration.name for task in made}
        worth |= {task.name: exploration.worth for task in made}
    return Explored(drawn=pl.concat(rows), resting=resting, tasks=tuple(tasks), of=of, worth=worth)


def _tasks(exploration: Exploration, resources: Resources, channels: dict[str, str]) -> list[Task]:
    found = []
    for way in exploration.ways:
        name = f"{TASK}{exploration.name}.{way.benefit}.{way.touchpoint}"
        contents = [
            each.name
            for each in resources.contents
            if exploration.goal in each.goals and way.touchpoint in each.touchpoints
        ]
        if not contents:
            raise BadInput(
                f"has no content that speaks for goal {exploration.goal} through {way.touchpoint}",
                where=f"exploration {exploration.name}", field="ways.touchpoint", value=way.touchpoint,
            )  # fmt: skip
        task = Task(
            name=name,
            goal=exploration.goal,
            audience=name,
            benefit=way.benefit,
            touchpoint=way.touchpoint,
            channel=channels[way.touchpoint],
            content=min(contents),
            rule=name,
        )
        found.append(task)
    return found


def _resting(
    workspace: Workspace, explorations: tuple[Exploration, ...], day: date, kind: Any
) -> pl.DataFrame:
    """[user] whom an earlier draw keeps apart on this day."""
    now = start_of_day(day, workspace.settings.zone)
    parts = [pl.DataFrame(schema={"user": kind})]
    for exploration in explorations:
        earlier = trials(workspace, exploration.name, now)
        parts.append(earlier.filter(pl.col("at") > now - parse_window(exploration.rest)).select("user"))
    return pl.concat([each for each in parts if each.height] or parts[:1]).unique()


def trials(workspace: Workspace, name: str, until: datetime) -> pl.DataFrame:
    """[user, at, benefit, touchpoint] of everyone whom plans before `until` have drawn, earliest first."""
    parts = []
    for entry in workspace.plans.newest_of_each_day():
        path = Path(entry.folder) / FILE
        at = start_of_day(entry.date, workspace.settings.zone)
        if at < until and path.exists():
            mine = pl.read_parquet(path).filter(pl.col("exploration") == name)
            parts.append(mine.select(pl.lit(at).cast(INSTANT).alias("at"), *EXPLORED))
    if not parts:
        empty: dict[str, Any] = {"at": INSTANT, "user": pl.Int64, "benefit": pl.String}
        return pl.DataFrame(schema={**empty, "touchpoint": pl.String})
    return pl.concat(parts).sort("at", maintain_order=True)


def drawn_before(workspace: Workspace, day: date) -> pl.DataFrame | None:
    """Whom the day's plan has drawn so far; None where there is no plan, or it explored nothing."""
    entry = workspace.plans.find(day)
    path = None if entry is None else Path(entry.folder) / FILE
    return pl.read_parquet(path) if path is not None and path.exists() else None


def exploration_inputs(workspace: Workspace, day: date) -> list[str]:
    """What a plan depends on besides the definitions: who rests. Empty where nothing explores."""
    explorations = workspace.definitions().of(Exploration)
    now = start_of_day(day, workspace.settings.zone)
    found = []
    for each in explorations:
        rows = trials(workspace, each.name, now)
        recent = rows.filter(pl.col("at") > now - parse_window(each.rest))
        found.append(frame_fingerprint(recent.sort("at", "user")))
    return found
