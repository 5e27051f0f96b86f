"""Events counted into activities: as they come in, from the log; and anew, from log and sources together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from insight.api import Catalog, EventDoor, read_events
from kernel.clock import instant, micros
from planner.api import (
    Activity,
    Due,
    Reward,
    Spent,
    Tally,
    fired,
    own_span,
    rates,
    reached,
    refused,
    span,
    stands_in,
)
from storage.activities import ActivityRow, ActivityStore
from storage.activity_step import ActivityStep
from storage.events import EventLog

#: events in one transaction; events of others after which the place in the log is noted
_BATCH, _FAR = 2_000, 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """An event as activities see it."""

    user: str
    name: str
    at: datetime
    lines: list[dict[str, Any]]
    #: its place among all
    number: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What an activity asks about a user that events do not say."""

    zone: ZoneInfo
    #: name of a group, user → whether she is in it now
    member: Callable[[str, str], bool]
    #: whether a user is in the global holdout, whom no activity reaches
    held: Callable[[str], bool]
    #: field, user → the date
    own_date: Callable[[str, str], date | None]
    #: user → zone in which her own days begin
    own_zone: Callable[[str], ZoneInfo]
    #: name of an activity → [from, to) in which it was paused, microseconds
    paused: Callable[[str], list[tuple[int, int]]]
    #: transaction, activity, what was earned, the reward that is given → its coupon, and why there is none
    coupon: Callable[[ActivityStep, Activity, Due, Reward], tuple[str | None, str | None]]

    def invited(self, activity: Activity, user: str) -> bool:
        asked = (activity.admits,) if activity.admits else activity.audience
        if self.held(user):
            return False
        return not asked or any(self.member(group, user) for group in asked)

    def span_of(self, activity: Activity, user: str, at: datetime) -> tuple[datetime, datetime] | None:
        """From when to when what she does counts, if she comes in at `at`; None: she has no such days."""
        if activity.when.around is None:
            return span(activity, self.zone)
        return own_span(activity, self.own_date(activity.when.around, user), at, self.own_zone(user))


def follow(store: ActivityStore, log: EventLog, door: EventDoor, row: ActivityRow, activity: Activity,
           rules: Rules, now: datetime) -> int:  # fmt: skip
    """Counts the next events of the log, and gives what they earned; how many events there were.

    In one transaction with the place in the log: killed, it is done again from the same place. Raises
    Unavailable, Stale when the activity does not run any more.
    """
    last, page = log.last(), log.after(row.place, activity.events, _BATCH)
    if not page:
        if last - row.place > _FAR:  # none of them is ours: they need not be looked through again
            with store.step(row.name, row.state) as step:
                step.place = max(step.place, last)
        return 0
    events = []
    for logged in page:
        typed = door.typed(logged)
        if typed is not None:
            lines = [dict(line.values) for line in typed.lines]
            events.append(Counted(user=logged.user_id, name=logged.name, at=logged.occurred_at,
                                  lines=lines, number=logged.number))  # fmt: skip
    with store.step(row.name, row.state) as step:
        if step.place != row.place:
            return len(page)  # somebody else was quicker
        _count(step, activity, events, rules, now)
        step.place = page[-1].number
    return len(page)


def recount(store: ActivityStore, log: EventLog, catalog: Catalog, row: ActivityRow, activity: Activity,
            rules: Rules, now: datetime) -> dict[str, int]:  # fmt: skip
    """Counts all anew: the sources' events and those of the log that they do not have. Event → how many.

    Rewards that were given stay. Events without an id of their own in the source are taken from there alone
    once the source reaches the end of the activity, and from the log alone until then.
    """
    door, last = EventDoor(catalog), log.last()
    events = list[Counted]()
    counts = dict[str, int]()
    for name in activity.events:
        found = list(_everything(log, door, catalog, name, row, last))
        counts[name] = len(found)
        events += found
    events.sort(key=lambda each: (each.at, each.user, each.number))
    with store.step(row.name, row.state) as step:
        step.clear()
        numbered = [
            Counted(user=each.user, name=each.name, at=each.at, lines=each.lines, number=last - i)
            for i, each in enumerate(reversed(events))
        ]
        _count(step, activity, reversed(numbered), rules, now)
        step.place = last
    return counts


def _everything(
    log: EventLog, door: EventDoor, catalog: Catalog, name: str, row: ActivityRow, last: int
) -> Iterator[Counted]:
    """Of one event, in the activity's time: the sources' lines, then those of the log that are not there."""
    has_id = catalog.events[name].id is not None
    batch = read_events(catalog, name, row.end, instant(micros(row.start) - 1))
    lasts = batch["at"].max()
    whole = not has_id and isinstance(lasts, datetime) and lasts >= row.end
    known = set(batch["event_id"].cast(pl.String).unique().to_list()) if has_id else set[str]()
    if has_id or whole:
        yield from _batch_events(batch, name, has_id)
    place = 0
    while not whole and (page := log.after(place, [name], _BATCH)) and place < last:
        for logged in page:
            typed = door.typed(logged)
            if typed is None or str(typed.event_id) in known or not row.start <= logged.occurred_at < row.end:
                continue
            lines = [dict(line.values) for line in typed.lines]
            yield Counted(user=logged.user_id, name=name, at=logged.occurred_at, lines=lines, number=0)
        place = page[-1].number


def _batch_events(batch: pl.DataFrame, name: str, has_id: bool) -> Iterable[Counted]:
    """Rows that share user and id are lines of one event, where ids are the source's own."""
    kept: dict[tuple[str, str], Counted] = {}
    for i, line in enumerate(batch.iter_rows(named=True)):
        user, at, key = str(line.pop("user")), line.pop("at"), str(line.pop("event_id"))
        event = kept.setdefault(
            (user, key if has_id else str(i)), Counted(user=user, name=name, at=at, lines=[], number=0)
        )
        event.lines.append(line)
    return kept.values()


def _count(
    step: ActivityStep, activity: Activity, events: Iterable[Counted], rules: Rules, now: datetime
) -> None:
    tally = Tally(activity, rules.zone)
    spans: dict[str, tuple[int, int] | None] = {}
    paused = rules.paused(activity.name)
    for event in events:
        gained = tally.of(event.name, event.lines)
        if not gained or any(begin <= micros(event.at) < end for begin, end in paused):
            continue
        if event.user not in spans:
            spans[event.user] = step.span(event.user)
        if spans[event.user] is None and activity.registration is None:
            spans[event.user] = _join(step, activity, event, rules)
        mine = spans[event.user]
        if mine is not None and mine[0] <= micros(event.at) < mine[1]:
            tally.take(event.user, event.at, gained, event.number)
    step.add((*score, by, tally.number[score]) for score, by in sorted(tally.added.items()))
    step.add(
        (*score, float(step.fresh(*score, seen)), tally.number[score])
        for score, seen in sorted(tally.seen.items())
    )
    for user in tally.users:
        for due in reached(activity, user, rates(activity, step.values(user))):
            give(step, activity, due, now, rules)
    react(step, activity, now)


def _join(step: ActivityStep, activity: Activity, event: Counted, rules: Rules) -> tuple[int, int] | None:
    """Takes in whoever does something that counts, and is meant; her span, or None."""
    window = rules.span_of(activity, event.user, event.at)
    if window is None or not window[0] <= event.at < window[1] or not rules.invited(activity, event.user):
        return None
    mine = (micros(window[0]), micros(window[1]))
    step.join(event.user, micros(event.at), mine)
    return mine


def give(step: ActivityStep, activity: Activity, due: Due, now: datetime, rules: Rules) -> None:
    """Decides on what was earned, once: given, with its coupon, given another, or refused with the reason.

    In one transaction: killed at any instant, there is neither a reward without its code nor a second code.
    """
    if step.decided(due.reward, due.user, due.period):
        return
    tried = set[str]()
    while True:
        reward, code = stands_in(activity, step.switched, due.reward), None
        why = refused(activity, reward, Spent(given=step.given, participants=0))
        if why is None:
            code, why = rules.coupon(step, activity, due, reward)
            if why is not None:
                step.ended.add(reward.name)
                react(step, activity, now)
        tried.add(reward.name)
        if why is None or stands_in(activity, step.switched, due.reward).name in tried:
            break
    told = due.because if why is None else f"{due.because}; {why}"
    given = reward.name if why is None else None
    step.reward(due.reward, due.user, due.period, given=given, why=told, at=micros(now), code=code)
    if why is None:
        react(step, activity, now)


def react(step: ActivityStep, activity: Activity, now: datetime) -> None:
    """Notes the contingencies that are due; those that close or switch do so at once."""
    if not activity.contingency:
        return
    counted = any(each.when == "participants" for each in activity.contingency)
    participants = step.count() if counted else 0
    spent = Spent(given=step.given, participants=participants, ended=step.ended)
    for each in fired(activity, spent, step.fired):
        step.fired[each.name] = now.isoformat()
        if each.then == "close_registration":
            step.closed = True
        elif each.then == "switch_reward" and each.of and each.to:
            step.switched[each.of] = each.to
