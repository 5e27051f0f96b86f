"""What an activity, a rule or a policy brought against the holdout, in money: one readout a subject."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from engine.activities import Activities
from engine.activity_increment import activity_readout
from engine.policies import reward_rules, rewarded
from engine.rule_results import read_rule
from engine.usecases import instant_of
from engine.wiring import Workspace
from engine.world import read_history
from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT
from kernel.ids import short_id
from models.api import Experiment, Holdout, Readout, held_out, read_out
from realtime.api import NO_POLICY, RewardRule, family

DECIDED, HELD_OUT, ALL = "decided", "held_out", "all moments"


def read_activity(space: Workspace, name: str, as_of: str | None = None) -> Readout:
    """Of an activity that has begun, until an instant or its end: revenue (metrics × margins), then each
    metric; costs stand in its post-mortem. Raises as `activity_readout`, NotFound, Stale for a draft."""
    row, activity = Activities(space, lambda _group, _user: False).running(name)
    until = space.clock.now() if as_of is None else instant_of(space, as_of)
    return activity_readout(space, activity, row.start, min(until, row.end))


def read_fired(space: Workspace, name: str, as_of: str | None = None) -> Readout:
    """Of a rule: profit, less what its touches were expected to cost, and outcomes. Raises as `read_rule`,
    and BadInput without a holdout."""
    found = read_rule(space, name, as_of).readout
    if found is None:
        raise BadInput("needs a definition of kind holdout", where=f"rule {name}")
    return found


def read_policy(
    space: Workspace,
    name: str,
    *,
    within: str = "28d",
    before: str | None = "84d",
    as_of: str | None = None,
    alpha: float = 0.05,
) -> tuple[Readout, ...]:
    """Of a policy as decisions name it, without what it has learned (`v3-squarecb`): everyone who came to its
    moments since it first decided there, from the first time on, against those of them who are held out and
    got the default. One readout for all its moments, where there are several, and one a moment.

    `reward` decides: what decisions earned by their moments' rules, less the cost of what was shown, major
    units; spend and buyers explain. What is not final yet is not read. Raises BadInput without a holdout and
    before any window is over, NotFound for a policy that has not decided.
    """
    holdout = space.definitions().one(Holdout)
    if holdout is None:
        raise BadInput("needs a definition of kind holdout", where=f"policy {name}")
    rules = reward_rules(space).values()
    final = space.clock.now() - max((each.delay for each in rules), default=RewardRule(name="any").delay)
    instant = final if as_of is None else min(final, instant_of(space, as_of))
    decided = _decided(space).filter(pl.col("at") <= instant)
    began = decided.filter(pl.col("policy") == name).group_by("moment").agg(since=pl.col("at").min())
    if began.is_empty():
        known = sorted(set(decided["policy"].to_list()) - {NO_POLICY})
        raise NotFound("policy", name, known, field="--policy")
    came = decided.join(began, on="moment").filter(pl.col("at") >= pl.col("since")).sort("at", "user")
    subjects = [(f"{moment}", rows) for (moment,), rows in came.sort("moment", "at").group_by("moment")]
    subjects = sorted(subjects, key=lambda each: each[0])
    if len(subjects) > 1:
        subjects.insert(0, (ALL, came))
    bought = _bought(space, instant)
    return tuple(
        _against(holdout, name, subject, rows, bought, instant, within=within, before=before, alpha=alpha)
        for subject, rows in subjects
    )


def _against(
    holdout: Holdout, name: str, subject: str, came: pl.DataFrame, bought: pl.DataFrame, instant: datetime,
    **told: Any,
) -> Readout:  # fmt: skip
    first = came.unique("user", keep="first", maintain_order=True)
    arm = pl.Series("variant", [HELD_OUT if held else DECIDED for held in held_out(first["user"], holdout)])
    assigned = first.select("user", "at", pl.lit(subject).alias("subject")).with_columns(arm)
    experiment = Experiment.model_validate(
        {
            **told,
            "name": f"policy_{short_id(name)}",
            "variants": {DECIDED: 1 - holdout.share, HELD_OUT: holdout.share},
            "holdout": HELD_OUT,
            "starts": first["at"][0].date(),
            "planned": max(first.height, 200),
            "metrics": [
                {"name": "reward", "sum": {"reward": 1}},
                {"name": "spend", "sum": {"amount": 1}},
                {"name": "bought", "event": "purchase"},
            ],
        }
    )
    # a window begins after the first decision, whose own reward is in it
    earned = came.select("user", pl.col("at") + timedelta(microseconds=1), "reward", event=pl.lit("decision"))
    return read_out(experiment, assigned, pl.concat([earned, bought], how="diagonal"), instant)


def _decided(space: Workspace) -> pl.DataFrame:
    """[user (text), at, moment, policy, reward] of every decision whose reward is final; none forgotten."""
    rows = [
        (each.user_id, each.decided_at, each.moment, family(each.policy), reward)
        for each, _actions, reward in rewarded(space)
    ]
    names: dict[str, Any] = {
        "user": pl.String,
        "at": INSTANT,
        "moment": pl.String,
        "policy": pl.String,
        "reward": pl.Float64,
    }
    return space.tombstones.without(pl.DataFrame(rows, schema=names, orient="row"))


def _bought(space: Workspace, until: datetime) -> pl.DataFrame:
    """[user (text), at, amount, event]."""
    lines = read_history(space, until).purchases
    return lines.select(
        pl.col("user").cast(pl.String), "at", pl.col("amount").cast(pl.Float64), event=pl.lit("purchase")
    )
