"""Activities: their lives, registrations, boards and post-mortems, over the store and the log of events."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from engine.activity_boards import Boards
from engine.activity_increment import increment
from engine.activity_promotion import told
from engine.activity_rules import Asked
from engine.wiring import Workspace
from insight.api import EventDoor
from kernel.clock import parse_window
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound, Stale
from planner.api import (
    Activity,
    Period,
    Result,
    State,
    check_answers,
    check_move,
    form,
    period_key,
    post_mortem,
    public_holidays,
    rates,
    span,
)
from storage.activities import ActivityRow, ActivityStore, Participant
from storage.events import EventLog

#: lines of a board in one answer
MOST_LINES = 1_000
_INSTANT = timedelta(microseconds=1)


class Activities:
    """Every method raises Unavailable when the store does not answer, with nothing half done."""

    def __init__(self, workspace: Workspace, member: Callable[[str, str], bool]) -> None:
        """`member`: name of a group, user → whether she is in it now."""
        self._space = workspace
        self.store = ActivityStore(workspace.database)
        self.boards = Boards(self.store)
        self.log = EventLog(workspace.database, workspace.tombstones)
        self.catalog = workspace.catalog
        self.door = EventDoor(self.catalog)
        self.rules = Asked(workspace, self.store).rules(member)

    # lives

    def all(self) -> list[dict[str, Any]]:
        """Every activity that is defined or has ever been ready: `{name, title, goal, state, start, end}`."""
        rows = {each.name: each for each in self.store.all()}
        drafts = {each.name: each for each in self._space.definitions().of(Activity)}
        return [self._line(name, rows.get(name), drafts.get(name)) for name in sorted({*rows, *drafts})]

    def show(self, name: str) -> dict[str, Any]:
        """State, moves, participants, form, totals, rewards. Raises NotFound."""
        row, activity = self._known(name)
        line = self._line(name, row, activity)
        schema = activity.registration.fields if activity.registration else {}
        shown = {**line, "form": form(schema), "schema": schema, "moves": [], "participants": 0}
        if row is None:
            return shown
        totals, active = self.store.totals(name)
        earned, given = self.store.given(name)
        return {
            **shown,
            "moves": self.store.moves(name),
            "participants": self.store.count(name),
            "active": active,
            "totals": totals,
            "rewards": {
                each.name: {
                    "earned": earned.get(each.name, 0),
                    "given": given.get(each.name, 0),
                    "stock": each.stock,
                }
                for each in activity.rewards
            },
            "fired": row.fired,
        }

    def move(self, name: str, to: State, *, who: str, why: str = "") -> None:
        """To another state; `ActivityClock.move` is for whoever asks from outside.

        Raises BadInput for a move that there is not, Stale when somebody was quicker.
        """
        row, activity = self._known(name)
        now = self._space.clock.now()
        was = State.DRAFT if row is None else State(row.state)
        check_move(name, was, to)
        if row is not None and to is not State.READY:
            self.store.move(name, was, to, at=now, who=who, why=why)
            return
        begin, end = span(activity, self.rules.zone)
        if to is State.READY and end <= now:
            raise BadInput(
                "is over before it begins", where=f"activity {name}", field="when", value=end.isoformat()
            )
        # what came in before it begins cannot count, unless it has begun already
        place = self.log.last() if begin > now else 0
        body = {"name": name, **activity.model_dump(mode="json", exclude_defaults=True)}
        self.store.put(name, to, body, begin, end, place=place, at=now, who=who, why=why)

    def calendar(self, first: date, last: date, country: str | None) -> list[dict[str, str]]:
        """`{day, kind, text}` by day: begins and ends of activities, steps of promotion, holidays."""
        if not 0 <= (last - first).days <= 3 * 366:
            raise BadInput("is not within three years of the first", field="to", value=last.isoformat())
        found = list[tuple[date, str, str]]()
        for line in self.all():
            _, activity = self._known(line["name"])
            begin, end = (datetime.fromisoformat(line[side]).astimezone(self.rules.zone).date()
                          for side in ("start", "end"))  # fmt: skip
            found += [(begin, "begins", f"{line['title']} ({line['state']})"), (end, "ends", line["title"])]
            for step in activity.promotion:
                told = f"{line['title']}: {step.content} through {step.touchpoint}"
                found.append((begin + timedelta(days=step.day), "promotion", told))
        for year in range(first.year, last.year + 1) if country else ():
            found += [(day, "holiday", name) for day, name in public_holidays(str(country), year)]
        inside = sorted(each for each in found if first <= each[0] <= last)
        return [{"day": day.isoformat(), "kind": kind, "text": text} for day, kind, text in inside]

    # taking part

    def register(self, name: str, user_id: str, answers: Mapping[str, Any]) -> dict[str, Any]:
        """`{registered, new}`; the same user again changes nothing. Raises BadInput with the reason."""
        row, activity = self.running(name)
        how = activity.registration
        if how is None:
            raise BadInput("needs no registration: whoever is meant takes part", where=f"activity {name}",
                           field="name", value=name)  # fmt: skip
        check_answers(how.fields, answers)
        now = self._space.clock.now()
        known = self.store.participant(name, user_id)
        if known is not None:
            return {"registered": True, "new": False, "start": known.start.isoformat()}
        self._open(row, activity, now)
        if self._space.tombstones.refused(pl.Series([user_id])).any():
            raise BadInput("was forgotten, and takes no part", where=f"activity {name}", field="user_id")
        if not self.rules.invited(activity, user_id):
            raise BadInput("is not who this is meant for", where=f"activity {name}", field="user_id",
                           value=user_id)  # fmt: skip
        window = self.rules.span_of(activity, user_id, max(now, row.start))
        if window is None:
            raise BadInput("has no such day now", where=f"activity {name}", field=str(activity.when.around))
        begin, end = max(window[0], now), window[1]
        who = Participant(user_id=user_id, at=now, start=begin, end=end, answers=dict(answers))
        new = self.store.register(name, who, how.places)
        return {"registered": True, "new": new, "start": begin.isoformat()}

    def standing(self, name: str, user_id: str) -> dict[str, Any]:
        """Metrics, ranks and rewards of a participant. Raises NotFound."""
        row, activity = self.running(name)
        who = self.store.participant(name, user_id)
        if who is None:
            raise NotFound("participant", user_id, (), where=f"activity {name}", field="user_id")
        scores = self.store.scores(name, user_id)
        at = min(self._space.clock.now(), row.end - _INSTANT)
        ranks = {
            str(period): self.boards.rank(name, activity, period_key(period, at, self.rules.zone), user_id)
            for period in (activity.ranking.periods if activity.ranking else ())
        }
        return {
            "user_id": user_id,
            "registered_at": who.at.isoformat(),
            "metrics": rates(activity, scores.get("all", {})),
            "ranks": ranks,
            "rewards": self.store.rewards(name, user_id),
        }

    def board(
        self, name: str, period: str, key: str | None, first: int, count: int, user_id: str | None = None
    ) -> dict[str, Any]:
        """`{period, key, participants, lines: [{rank, user_id, value}]}`; `user_id`: those around her."""
        row, activity = self.running(name)
        if activity.ranking is None:
            raise NotFound("ranking", name, (), field="name")
        if period not in activity.ranking.periods:
            raise NotFound("period", period, activity.ranking.periods, where=f"activity {name}")
        if first < 1 or not 1 <= count <= MOST_LINES:
            raise BadInput(f"are not from 1, at most {MOST_LINES:,}", field="first, count",
                           value=f"{first}, {count}")  # fmt: skip
        at = min(self._space.clock.now(), row.end - _INSTANT)
        key = key or period_key(Period(period), at, self.rules.zone)
        found = self.boards.lines(name, activity, key, first, count, user_id)
        return {"period": period, "key": key, **found}

    def participants(self, name: str) -> pl.DataFrame:
        """[user_id, registered_at, answers as JSON]."""
        self._known(name)
        rows = [(each.user_id, each.at, json.dumps(each.answers)) for each in self.store.participants(name)]
        kinds: dict[str, pl.DataType | type[pl.DataType]] = {
            "user_id": pl.String,
            "registered_at": pl.Datetime("us", "UTC"),
            "answers": pl.String,
        }
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def post_mortem(self, name: str, *, until: datetime | None = None) -> dict[str, Any]:
        """What it came to, or has come to so far. Raises NotFound."""
        row, activity = self.running(name)
        written = self.folder(name) / "post_mortem.json"
        if until is None and row.state in (State.COMPLETED, State.REVIEWED) and written.exists():
            found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
            return found
        now = until or self._space.clock.now()
        totals, active = self.store.totals(name)
        earned, given = self.store.given(name)
        length = (min(now, row.end) - row.start) / timedelta(days=1)
        result = Result(
            invited=self._invited(activity),
            registered=self.store.count(name),
            told=told(self._space, name) if any(each.benefit for each in activity.promotion) else None,
            active=active,
            earned=earned,
            given=given,
            totals=totals,
            days=float(max(0, math.ceil(length))),
            fired=sorted(row.fired.items()),
            increment=increment(self._space, activity, row.start, min(now, row.end)),
        )
        return post_mortem(activity, result)

    def folder(self, name: str) -> Path:
        return self._space.root / "activities" / name

    def _invited(self, activity: Activity) -> int | None:
        """Users of its groups, as last published; None: everybody, or not known."""
        versions = self._space.groups.current_many()
        if not activity.audience or any(group not in versions for group in activity.audience):
            return None
        members = [self._space.groups.current(group) for group in activity.audience]
        return sum(each.count for each in members if each is not None)

    def _open(self, row: ActivityRow, activity: Activity, now: datetime) -> None:
        how = activity.registration
        if how is None:
            return
        begin = row.start - _length(how.opens)
        end = row.end - _length(how.closes)
        if not begin <= now < end:
            when = f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
            raise BadInput(f"is not open: {when}", where=f"activity {row.name}", field="registration")

    def _known(self, name: str) -> tuple[ActivityRow | None, Activity]:
        """Pinned from when it was ready; a draft as it is defined now."""
        rows = {each.name: each for each in self.store.all()}
        drafts = {each.name: each for each in self._space.definitions().of(Activity)}
        row = rows.get(name)
        if row is not None and row.state != State.DRAFT:
            return row, pinned(row)
        if name not in drafts:
            raise NotFound("activity", name, {*rows, *drafts})
        return row, drafts[name]

    def running(self, name: str) -> tuple[ActivityRow, Activity]:
        row, activity = self._known(name)
        if row is None or row.state == State.DRAFT:
            raise Stale(f"activity {name} is a draft: make it ready first")
        return row, activity

    def _line(self, name: str, row: ActivityRow | None, draft: Activity | None) -> dict[str, Any]:
        if row is not None and row.state == State.DRAFT:
            row = None
        activity = draft if row is None else pinned(row)
        if activity is None:
            raise NotFound("activity", name, ())
        begin, end = span(activity, self.rules.zone) if row is None else (row.start, row.end)
        return {
            "name": name,
            "title": activity.title,
            "goal": activity.goal,
            "state": row.state if row else str(State.DRAFT),
            "start": begin.isoformat(),
            "end": end.isoformat(),
            "closed": bool(row and row.closed),
        }


def pinned(row: ActivityRow) -> Activity:
    return parse(Activity, row.body, f"activity {row.name}")


def _length(window: str | None) -> timedelta:
    return parse_window(window) if window else timedelta(0)
