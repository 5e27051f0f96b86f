"""What models say of the users of rules that fire by themselves: read and scored once a day, then kept."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl

from engine.frequency import steering
from engine.plan_models import Scored, score_everyone
from engine.plan_offers import Offered, score_benefits
from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.work import Task
from models.api import History
from planner.api import Composed, Resources, Scores, Steered

#: what an offer is to a user, whichever audience she is in
_Way = tuple[str, str, str]


class DayScores:
    """Of one workspace: history and scores of the newest day that was asked for, as of its beginning.

    The first firing of a day reads and scores; later ones score only users that no firing had before.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._day: tuple[date, str] | None = None
        self._history: History | None = None
        self._as_of: datetime | None = None
        self._scored: Scored | None = None
        self._offered: Offered | None = None
        self._offers: tuple[frozenset[_Way], Resources] | None = None

    def of(self, day: date, tasks: tuple[Task, ...], users: pl.Series, resources: Resources) -> Scores:
        """Raises BadInput for a day that the data does not reach, and without models."""
        history, as_of = self._open(day)
        new = _without(users, None if self._scored is None else self._scored.frame["user"])
        if self._scored is None or len(new):
            found = score_everyone(self._space, history, new.to_frame("user"), as_of)
            before = [] if self._scored is None else [self._scored.frame]
            self._scored = Scored(**{**vars(found), "frame": pl.concat([*before, found.frame])})
        offered = self._asked(history, as_of, tasks, users, resources)
        effects = None if offered.effects is None else offered.effects.frame
        return Scores(
            users=_of(self._scored.frame, users),
            responses=_of(offered.responses, users),
            window=self._scored.window,
            effects=None if effects is None else _of(effects, users),
        )

    def steered(self, day: date) -> list[Steered]:
        """What frequencies say, by the cells of the newest plan; nothing before the first one."""
        entry = self._space.plans.find(day) or self._space.plans.newest(day)
        file = None if entry is None else Path(entry.folder) / "cells.parquet"
        return steering(self._space, day, pl.read_parquet(file)) if file is not None and file.exists() else []

    def _open(self, day: date) -> tuple[History, datetime]:
        """Anew for another day, and when other definitions or models are in force."""
        as_of = plan_instant(self._space, day)
        registry = self._space.registry
        names = [self._space.definitions().recipe(each).name for each in ("spend", "churn", "response")]
        known = [name for name in names if name in registry.names()]
        used = ",".join(f"{name} {registry.usable_version(name, as_of).version}" for name in known)
        if self._history is None or self._day != (day, used):
            self._history = read_history(self._space, as_of).until(as_of)
            self._day, self._as_of, self._scored, self._offered = (day, used), as_of, None, None
        return self._history, as_of

    def _asked(
        self, history: History, as_of: datetime, tasks: tuple[Task, ...], users: pl.Series,
        resources: Resources,
    ) -> Offered:  # fmt: skip
        unique = {(task.goal, task.benefit, task.touchpoint): task for task in tasks}
        ways = frozenset(unique)
        if self._offers is None or not ways <= self._offers[0] or self._offers[1] != resources:
            self._offers, self._offered = (ways, resources), None
            self._kept = tuple(unique.values())
        new = _without(users, None if self._offered is None else self._offered.responses["user"])
        if self._offered is not None and not len(new):
            return self._offered
        people = new.to_frame("user").with_columns(audience=pl.lit(""))
        composed = Composed(tasks=self._kept, idle=())
        found = score_benefits(self._space, history, resources, composed, people, as_of)
        before, effects = self._offered, found.effects
        if before is not None:
            if before.effects is not None and effects is not None:
                both = pl.concat([before.effects.frame, effects.frame])
                effects = type(effects)(**{**vars(effects), "frame": both})
            told = {"responses": pl.concat([before.responses, found.responses]), "effects": effects}
            found = Offered(**{**vars(found), **told})
        self._offered = found
        return found


def _without(users: pl.Series, known: pl.Series | None) -> pl.Series:
    return users if known is None else users.filter(~users.is_in(known.unique().implode()))


def _of(known: pl.DataFrame, users: pl.Series) -> pl.DataFrame:
    return known.join(users.to_frame("user"), on="user", how="semi")
