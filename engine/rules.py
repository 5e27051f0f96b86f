"""Operational rules in the day's plan: which fire, for whom, and what each firing came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from engine.activity_promotion import promotion_firings
from engine.wiring import Workspace
from insight.api import Population, Schedule, firings
from kernel.clock import start_of_day
from kernel.errors import NotFound
from kernel.ids import fingerprint
from planner.api import AUDIENCE, Firing, Rule
from storage.rules import ON, RuleState

if TYPE_CHECKING:
    from engine.day import Day

#: file of a plan: who was in the audiences of its rules
DEALT = "rules.parquet"
_INSTANT = timedelta(microseconds=1)


def firings_on(workspace: Workspace, day: date) -> tuple[Firing, ...]:
    """The rules that fire with the plan of a day, by name, with the shares of their variants; then the
    steps of activities' promotion that are due."""
    rules = [each for each in workspace.definitions().of(Rule) if each.fires == "with_plan"]
    states = workspace.rules.states() if rules else {}
    fired = tuple(
        firing_of(rule, states.get(rule.name))
        for rule in sorted(rules, key=lambda each: each.name)
        if states.get(rule.name, RuleState(shares={})).state == ON and fires_on(workspace, rule, day)
    )
    return (*fired, *promotion_firings(workspace, day))


def firing_of(rule: Rule, state: RuleState | None) -> Firing:
    """With the shares that were learned, where they are about the variants that there are."""
    names = [each.name for each in rule.ways]
    learned = state.shares if state is not None and set(state.shares) == set(names) else {}
    return Firing(rule=rule, shares={name: learned.get(name, 1 / len(names)) for name in names})


def fires_on(workspace: Workspace, rule: Rule, day: date) -> bool:
    """Whether its schedule has a firing within the day of the workspace's zone."""
    zone = workspace.settings.zone
    begin, end = start_of_day(day, zone), start_of_day(day + timedelta(days=1), zone)
    schedule = Schedule(cron=rule.cron, catch_up="all")
    return rule.live(day) and bool(firings(schedule, zone, begin - _INSTANT, end - _INSTANT))


def rule_inputs(workspace: Workspace, day: date) -> list[Any]:
    """What a plan depends on besides the definitions: which rules fire, their shares, and whom activities
    are promoted to."""
    found = firings_on(workspace, day)
    told = [
        [
            each.rule.name,
            dict(each.shares),
            *([] if each.users is None else [fingerprint(each.users.to_list())]),
        ]
        for each in found
    ]
    return [["rules", told]] if found else []


def rule_audiences(people: Population, fired: tuple[Firing, ...]) -> list[pl.DataFrame]:
    """[user, audience] for each rule: the members of its group, dealt out among its variants."""
    parts = []
    known: dict[str, pl.Series] = {}
    for firing in fired:
        group, ways, users = firing.rule.group, firing.rule.ways, firing.users
        if users is None:
            if group not in known:
                known[group] = people.users(people.members(group))
            users = known[group]
        if len(ways) == 1:
            parts.append(
                pl.DataFrame({"user": users}).with_columns(audience=pl.lit(firing.audience(ways[0].name)))
            )
            continue
        dealt = [firing.deal(user) for user in users.to_list()]
        parts.append(pl.DataFrame({"user": users, "audience": pl.Series(dealt, dtype=pl.String)}))
    return parts


def ran(day: Day) -> dict[str, dict[str, Any]]:
    """What the firings of a day's plan came to, as `came_to` has it."""
    frame = day.candidates.frame
    return came_to(day.firings, day.audiences, frame, day.allocation.assignments, day.touches.refusals)


def came_to(
    fired: Sequence[Firing],
    audiences: pl.DataFrame,
    candidates: pl.DataFrame,
    assignments: pl.DataFrame | None,
    refusals: pl.DataFrame | None,
) -> dict[str, dict[str, Any]]:
    """rule → what its firing came to: `{users, candidates, assigned, refused, cost, gain, value, variants}`.

    Expected money, in major units; each variant besides. None: nothing was allocated.
    """
    audience = audiences.filter(pl.col("audience").str.starts_with(AUDIENCE))
    users = dict(audience.group_by("audience").agg(pl.col("user").n_unique()).iter_rows())
    could = {} if candidates.is_empty() else dict(candidates.group_by("task").len().iter_rows())
    refused = {} if refusals is None else dict(refusals.group_by("task").len().iter_rows())
    given = dict[str, list[Any]]()
    if assignments is not None:
        sums = assignments.group_by("task").agg(pl.len(), pl.col("cost", "gain", "value").sum().round(6))
        given = {task: rest for task, *rest in sums.iter_rows()}
    told: dict[str, dict[str, Any]] = {}
    for firing in fired:
        variants = {}
        for way in firing.rule.ways:
            task = firing.task(way.name)
            assigned, cost, gain, value = given.get(task, [0, 0.0, 0.0, 0.0])
            variants[way.name] = {
                "users": users.get(firing.audience(way.name), 0),
                "candidates": could.get(task, 0),
                "assigned": assigned,
                "refused": refused.get(task, 0),
                "cost": cost,
                "gain": gain,
                "value": value,
            }
        whole = {key: sum(each[key] for each in variants.values()) for key in next(iter(variants.values()))}
        told[firing.rule.name] = {**whole, "variants": variants}
    return told


def note_runs(workspace: Workspace, day: Day, inputs: str) -> None:
    """Keeps what each rule's firing came to; the last plan of a day stands."""
    if not day.firings and not workspace.definitions().of(Rule):
        return
    shares = {each.rule.name: each.shares for each in day.firings}
    runs = {name: (shares[name], told) for name, told in ran(day).items()}
    workspace.rules.ran(day.date, inputs, runs, workspace.clock.now())


def dealt(day: Day) -> pl.DataFrame:
    """[user, rule, variant]: everyone in the audience of a rule that fired, whether or not they got it."""
    return dealt_to(day.audiences)


def dealt_to(audiences: pl.DataFrame) -> pl.DataFrame:
    """As `dealt`, of [user, audience]."""
    mine = audiences.filter(pl.col("audience").str.starts_with(AUDIENCE))
    named = pl.col("audience").str.strip_prefix(AUDIENCE)
    return mine.select(
        "user",
        named.str.split(":").list.first().alias("rule"),
        named.str.split(":").list.last().alias("variant"),
    )


def standing(workspace: Workspace) -> list[dict[str, Any]]:
    """`{rule, state, group, fires, shares, last}` by name; `last` is its newest firing, or None."""
    states = workspace.rules.states()
    rules = sorted(workspace.definitions().of(Rule), key=lambda each: each.name)
    alone = workspace.rule_firings.newest([each.name for each in rules])
    planned = workspace.rules.newest()
    told = []
    for rule in rules:
        state = states.get(rule.name)
        last = [each[rule.name] for each in (alone, planned) if rule.name in each]
        told.append(
            {
                "rule": rule.name,
                "state": state.state if state else ON,
                "group": rule.group,
                "fires": rule.fires,
                "shares": dict(firing_of(rule, state).shares),
                "last": max(last, key=lambda each: str(each["day"]), default=None),
            }
        )
    return told


def runs_of(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """One record a firing, with a plan or by itself, the newest first. Raises NotFound for a rule that never
    was."""
    runs = [*workspace.rule_firings.of(name), *workspace.rules.runs(name)]
    known = {each.name for each in workspace.definitions().of(Rule)}
    if not runs and name not in known:
        raise NotFound("rule", name, known)
    return sorted(runs, key=lambda each: str(each.get("at", each["day"])), reverse=True)
