"""What rules brought: their whole audience, by intention, against the holdout and among their variants.

Everyone in the audience of a firing counts, whether the plan chose them or not: chance alone decides who is
held out, and who is in which variant, so nothing else can make the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from engine.holdout import held_out_now
from engine.rule_given import run_folder
from engine.rules import DEALT, firing_of
from engine.usecases import instant_of
from engine.wiring import Workspace
from insight.api import read_events
from kernel.clock import parse_window, start_of_day
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT
from kernel.ids import short_id
from kernel.randomness import derive_seed
from kernel.work import Goal
from models.api import Experiment, Holdout, Readout, read_out
from planner.api import Brought, Rule, rule_of, shares_by_worth
from storage.rules import ASKING, OFF, ON, RuleState

FIRED, HELD_OUT = "fired", "held_out"


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What a rule came to until an instant, of users whose window is over."""

    rule: str
    as_of: datetime
    firings: int
    #: users in the audiences; of them those whose window is over
    users: int
    mature: int
    #: chosen by plans, and what their touches were expected to cost, major units
    reached: int
    cost: float
    #: users with an outcome within their window, among those that the rule could reach
    converted: int
    brought: tuple[Brought, ...]
    #: against the holdout: profit and outcomes; None where nobody is held out
    readout: Readout | None

    def as_json(self) -> dict[str, Any]:
        profit = self.line("profit")
        return {
            "rule": self.rule,
            "as_of": self.as_of.isoformat(),
            "firings": self.firings,
            "users": self.users,
            "mature": self.mature,
            "reached": self.reached,
            "converted": self.converted,
            "cost": self.cost,
            "variants": [vars(each) for each in self.brought],
            "increment": self.line("outcomes"),
            "added_profit": profit,
            "warnings": list(self.readout.warnings) if self.readout else ["nobody is held out"],
        }

    def line(self, metric: str) -> dict[str, Any] | None:
        """`{effect, low, high}` a user and `total_…` in all; always valid. None: nothing to say yet."""
        for each in self.readout.lines if self.readout else ():
            if each.metric == metric and each.always is not None and each.total is not None:
                told = {"effect": each.always.mean, "low": each.always.low, "high": each.always.high}
                whole = {"total": each.total.mean, "total_low": each.total.low, "total_high": each.total.high}
                return {**told, **whole, "finding": each.finding}
        return None


def read_rule(workspace: Workspace, name: str, as_of: str | None = None) -> RuleResult:
    """Raises NotFound for an unknown rule, BadInput when it never fired."""
    rule, goal = _rule(workspace, name)
    instant = instant_of(workspace, as_of)
    dealt, given, firings = _dealt(workspace, name, instant)
    if not firings:
        raise BadInput("has not fired in any plan until then", where=f"rule {name}", field="as_of",
                       value=instant.isoformat())  # fmt: skip
    window = parse_window(rule.within)
    first = dealt.sort("at").unique("user", keep="first", maintain_order=True)
    held = held_out_now(workspace.definitions())
    first = first.with_columns(
        held=pl.Series([held(user) for user in first["user"].to_list()], dtype=pl.Boolean)
    )
    outcomes = _outcomes(workspace, goal, first["at"].min(), instant)
    costs = given.select("user", "at", pl.lit(0.0).alias("worth"), "cost", pl.lit("touch").alias("event"))
    everything = pl.concat([outcomes, costs])
    mature = first.filter(pl.col("at") + window <= instant)
    within = (
        mature.join(everything.rename({"at": "then"}), on="user", how="left")
        .filter((pl.col("then") > pl.col("at")) & (pl.col("then") <= pl.col("at") + window))
        .group_by("user")
        .agg((pl.col("worth") - pl.col("cost")).sum().alias("profit"), (pl.col("event") == "outcome").any())
    )
    valued = mature.join(within, on="user", how="left").with_columns(
        pl.col("profit").fill_null(0.0), pl.col("event").fill_null(value=False)
    )
    could = valued.filter(~pl.col("held"))
    return RuleResult(
        rule=name,
        as_of=instant,
        firings=firings,
        users=first.height,
        mature=mature.height,
        reached=given["user"].n_unique(),
        cost=math.fsum(given["cost"]),
        converted=int(could["event"].sum()),
        brought=_brought(could),
        readout=_readout(workspace, rule, first, everything, instant),
    )


def tune(workspace: Workspace, name: str, as_of: str | None = None) -> list[dict[str, Any]]:
    """Moves the shares of a rule's variants by what they brought, and asks or stops when its interval says
    that it loses money; the changes that were made. The same evidence changes nothing twice."""
    rule, _ = _rule(workspace, name)
    result = read_rule(workspace, name, as_of)
    now = workspace.clock.now()
    state = workspace.rules.states().get(name, RuleState(shares={}))
    evidence = result.as_json()
    shares = dict(firing_of(rule, state).shares)
    before = len(workspace.rules.changes(name))
    seen = {each["evidence"].get("as_of") for each in workspace.rules.changes(name) if not each["undone"]}
    if rule.tuning is not None and evidence["as_of"] not in seen:
        seed = derive_seed(workspace.settings.seed, "rule", name, evidence["as_of"])
        shares = shares_by_worth(result.brought, shares, rule.tuning, seed)
    wanted = state.state
    profit = result.line("profit")
    if state.state == ON and rule.losing != "nothing" and profit is not None and profit["high"] < 0:
        wanted = ASKING if rule.losing == "ask" else OFF
    workspace.rules.change(
        name, RuleState(state=wanted, shares=shares), at=now, who="tuning", evidence=evidence
    )
    made = workspace.rules.changes(name)
    return made[: len(made) - before]


def switch(workspace: Workspace, name: str, state: str, *, who: str, why: str) -> int | None:
    """`on` or `off`, by a person; the number of the change, None when it stands so already."""
    _rule(workspace, name)
    if state not in (ON, OFF):
        raise NotFound("state", state, (ON, OFF), where=f"rule {name}", field="state")
    shares = workspace.rules.states().get(name, RuleState(shares={})).shares
    changed = RuleState(state=state, shares=shares)
    return workspace.rules.change(name, changed, at=workspace.clock.now(), who=who, evidence={"why": why})


def _rule(workspace: Workspace, name: str) -> tuple[Rule, Goal]:
    definitions = workspace.definitions()
    rules = {each.name: each for each in definitions.of(Rule)}
    if name not in rules:
        raise NotFound("rule", name, rules)
    return rules[name], next(each for each in definitions.of(Goal) if each.name == rules[name].goal)


def _dealt(workspace: Workspace, name: str, until: datetime) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """[user, at, variant] of every firing, [user, at, cost] of what plans gave, and how many firings."""
    dealt, given = list[pl.DataFrame](), list[pl.DataFrame]()
    for at, folder in _fired_in(workspace, name):
        if at > until or not (folder / DEALT).exists():
            continue
        mine = pl.read_parquet(folder / DEALT).filter(pl.col("rule") == name)
        if mine.is_empty():
            continue
        dealt.append(mine.select("user", pl.lit(at).cast(INSTANT).alias("at"), "variant"))
        if not (folder / "assignments.parquet").exists():
            continue  # nobody was worth it
        got = pl.read_parquet(folder / "assignments.parquet").filter(
            pl.col("task").is_in(_tasks(folder, name))
        )
        refused = pl.read_parquet(folder / "refusals.parquet").select("user", "task")
        if refused.height:
            got = got.join(refused, on=["user", "task"], how="anti")
        # a window begins after the plan's instant
        later = at + timedelta(seconds=1)
        given.append(got.select("user", pl.lit(later).cast(INSTANT).alias("at"), "cost"))
    if not dealt:
        return pl.DataFrame(), pl.DataFrame(), 0
    without = workspace.tombstones.without
    nobody = pl.DataFrame(schema={"user": dealt[0].schema["user"], "at": INSTANT, "cost": pl.Float64})
    return without(pl.concat(dealt)), without(pl.concat([nobody, *given])), len(dealt)


def _fired_in(workspace: Workspace, name: str) -> list[tuple[datetime, Path]]:
    """When it fired, and the folder of it: with plans of days, and by itself."""
    zone = workspace.settings.zone
    plans = [
        (start_of_day(each.date, zone), Path(each.folder)) for each in workspace.plans.newest_of_each_day()
    ]
    alone = [(at, run_folder(workspace, run)) for run, at in workspace.rule_firings.runs_of(name)]
    return sorted([*plans, *alone], key=lambda each: each[0])


def _tasks(folder: Path, name: str) -> list[str]:
    tasks = pl.read_parquet(folder / "tasks.parquet", columns=["task"])["task"].to_list()
    return [task for task in tasks if (rule_of(task) or ("", ""))[0] == name]


def _outcomes(workspace: Workspace, goal: Goal, since: Any, until: datetime) -> pl.DataFrame:
    """[user, at, worth, cost, event]: each outcome of the goal, and the profit in it."""
    event = workspace.catalog.events[goal.outcome]
    amount = next((short for short, field in event.fields.items() if field.role == "amount"), None)
    lines = workspace.tombstones.without(read_events(workspace.catalog, goal.outcome, until, since))
    if goal.unit_value is not None:
        worth = pl.lit(goal.unit_value * goal.margin)
        lines = lines.unique(["user", "event_id"], keep="first", maintain_order=True)
    elif amount is None:
        raise BadInput("has no field of role amount", where=f"event {goal.outcome}", field="fields")
    else:
        worth = pl.col(amount).cast(pl.Float64).fill_null(0.0) * goal.margin
    return lines.select(
        "user", "at", worth.alias("worth"), pl.lit(0.0).alias("cost"), pl.lit("outcome").alias("event")
    )


def _brought(valued: pl.DataFrame) -> tuple[Brought, ...]:
    rows = valued.group_by("variant").agg(
        pl.len(), pl.col("profit").mean(), pl.col("profit").std().alias("deviation")
    )
    return tuple(
        Brought(variant=variant, users=users, mean=mean, deviation=deviation or 0.0)
        for variant, users, mean, deviation in rows.sort("variant").iter_rows()
    )


def _readout(
    workspace: Workspace, rule: Rule, first: pl.DataFrame, outcomes: pl.DataFrame, instant: datetime
) -> Readout | None:
    holdout = workspace.definitions().one(Holdout)
    if holdout is None:
        return None
    experiment = Experiment.model_validate(
        {
            "name": f"rule_{short_id(rule.name)}",
            "variants": {FIRED: 1 - holdout.share, HELD_OUT: holdout.share},
            "holdout": HELD_OUT,
            "starts": first["at"].min().date(),  # type: ignore[union-attr]
            "within": rule.within,
            "planned": max(first.height, 200),
            "metrics": [
                {"name": "profit", "sum": {"worth": 1, "cost": -1}},
                {"name": "outcomes", "event": "outcome"},
            ],
        }
    )
    arm = pl.when("held").then(pl.lit(HELD_OUT)).otherwise(pl.lit(FIRED)).alias("variant")
    return read_out(experiment, first.select("user", arm, "at"), outcomes, instant)
