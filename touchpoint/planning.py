"""From assignments to touches: who may be reached, when, and what no promise forbids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from kernel.contact import Cap, MessageClass, QuietHours, Refusals, Touches
from kernel.events import INSTANT
from kernel.exposure import Refusal, Reservation
from kernel.ids import short_id
from kernel.randomness import unit
from kernel.work import Touchpoint
from touchpoint.inputs import (
    check_assignments,
    check_caps,
    entities_of,
    habit_of,
    refused_consent,
    zone_of,
)
from touchpoint.ports import Ledger
from touchpoint.refusing import why_refused
from touchpoint.timing import Closed, OpenHour, hours_left, open_hours, quiet_for

#: what decides which hours are open to a row
_SITUATION = ("touchpoint", "channel", "message_class", "zone")


@dataclass(frozen=True, kw_only=True)
class TouchPlan:
    """Every assignment, either as a touch or as a refusal."""

    #: `kernel.contact.Touches`, in order of send time
    touches: pl.DataFrame
    #: `kernel.contact.Refusals`, in the order of the assignments
    refusals: pl.DataFrame


def plan_touches(
    *,
    assignments: pl.DataFrame,
    touchpoints: Sequence[Touchpoint],
    caps: Sequence[Cap],
    quiet_hours: Sequence[QuietHours],
    consent: pl.DataFrame | None,
    zones: pl.DataFrame | None,
    default_zone: ZoneInfo,
    habits: pl.DataFrame | None,
    ledger: Ledger,
    plan_date: date,
    run: str,
    seed: int,
    expires_at: datetime | None = None,
    entities: Mapping[str, pl.DataFrame] | None = None,
    plan: str | None = None,
    earliest: datetime | None = None,
    standing: pl.DataFrame | None = None,
) -> TouchPlan:
    """Touches on `plan_date` in each user's own zone, reserved in the ledger.

    `assignments`: user, task, goal, benefit, touchpoint, channel, content; `message_class` if there, else
    marketing; `activity` if there, else the goal: the label that caps may count by. `consent`: user, channel,
    allowed; no frame means that the workspace keeps none, no row that nobody objected; false or unknown
    refuses, also a transactional message. `zones`: user, timezone. `habits`: user, hour (local) at which the
    user usually buys. `entities`: for caps that count by one, such as household: its name → user, entity, one
    row a user; who has none is counted alone.

    A touch goes out in the habitual hour if that is open, else at a place in the open hours that belongs
    to the user and touchpoint: a wave, not a spike, and the same time each day. Several touches of a user
    through one touchpoint are spread evenly from there. Where the clock is set back and an hour comes
    twice, the first is meant; an hour that it skips is not used.

    `earliest`: at once, and not before: in what is left of the first hour that is open then, or spread over
    the first that opens later on that day; whoever has none any more is refused.

    `standing`: touches of an earlier plan of the date that stay as they are, as that plan had them: reserved
    with the others, and not among the answer.

    One plan a date, unless `plan` names another whole: what an earlier plan of this name had reserved and not
    confirmed is replaced in the same step, so planning twice reserves once. Reservations hold until
    confirmed, released or `expires_at` (None: no expiry). Raises BadInput, and Unavailable when the ledger
    does not answer: nothing reserved.
    """
    check_caps(caps)
    frame = check_assignments(assignments, touchpoints)
    frame = frame.with_row_index("row").with_columns(zone_of(frame["key"], zones, default_zone).alias("zone"))
    without = frame.join(refused_consent(consent), on=["key", "channel"], how="semi")
    asked = frame.join(without, on="row", how="anti", maintain_order="left")
    hours, closed = _situations(asked, touchpoints, quiet_hours, plan_date, earliest)
    shut = asked.join(closed, on=_SITUATION, maintain_order="left")
    timed = _timed(asked.join(closed, on=_SITUATION, how="anti"), hours, habits, plan_date, seed, earliest)
    plan = plan or f"plan/{plan_date}"
    whose = entities_of(timed["key"], caps, entities)
    wishes = _wishes(timed, run, plan, whose)
    if standing is not None and not standing.is_empty():
        keys = standing["user"].cast(pl.String).alias("key")
        kept = standing.with_columns(keys, zone_of(keys, zones, default_zone).alias("zone"))
        wishes = [*_wishes(kept, run, plan, entities_of(keys, caps, entities)), *wishes]
    refused = ledger.reserve_many(wishes, caps=caps, expires_at=expires_at, replaces=plan)
    is_refused = pl.col("touch_id").is_in(list(refused))
    capped = _capped(timed.filter(is_refused), refused, {cap.name: cap for cap in caps})
    touches = timed.filter(~is_refused).sort("send_at", "touch_id").with_columns(code=pl.lit(None, pl.String))
    refusals = pl.concat([_no_consent(without), shut.select(_REFUSED), capped]).sort("row")
    return TouchPlan(
        touches=Touches.validate(touches.select(Touches.column_names())),
        refusals=Refusals.validate(refusals.select(Refusals.column_names())),
    )


_REFUSED = ("row", "user", "task", "channel", "rule", "reason")


def _situations(
    asked: pl.DataFrame,
    touchpoints: Sequence[Touchpoint],
    quiet_hours: Sequence[QuietHours],
    day: date,
    earliest: datetime | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The open hours of each situation, and the situations that have none, with the reason."""
    known = {each.name: each for each in touchpoints}
    opened: list[tuple[Any, ...]] = []
    closed: list[tuple[Any, ...]] = []
    for place in asked.select(_SITUATION).unique(maintain_order=True).iter_rows():
        name, channel, message_class, zone = place
        quiet = quiet_for(channel, MessageClass(message_class), quiet_hours)
        found = open_hours(known[name], quiet, day, ZoneInfo(zone))
        if earliest is not None and not isinstance(found, Closed):
            found = hours_left(found, known[name], day, ZoneInfo(zone), earliest)
        if isinstance(found, Closed):
            closed.append((*place, found.rule, found.reason))
        else:
            opened += [(*place, i, len(found), *_hour(each)) for i, each in enumerate(found)]
    text = dict.fromkeys(_SITUATION, pl.String)
    numbers = {"place": pl.Int64, "places": pl.Int64, "hour": pl.Int64}
    hours = pl.DataFrame(
        opened, schema=text | numbers | {"starts": INSTANT, "offset": pl.String}, orient="row"
    )
    return hours, pl.DataFrame(closed, schema=text | {"rule": pl.String, "reason": pl.String}, orient="row")


def _hour(each: OpenHour) -> tuple[int, datetime, str]:
    return each.hour, each.starts, each.offset


def _timed(
    asked: pl.DataFrame,
    hours: pl.DataFrame,
    habits: pl.DataFrame | None,
    day: date,
    seed: int,
    earliest: datetime | None,
) -> pl.DataFrame:
    """`asked` with `touch_id`, `send_at`, `local_time`."""
    salted = zip(asked["key"], asked["touchpoint"], strict=True)
    points = [unit(user, f"send {seed} {touchpoint}") for user, touchpoint in salted]
    ids = [short_id(day, user, task) for user, task in zip(asked["key"], asked["task"], strict=True)]
    together = ["key", "touchpoint"]
    turn = (pl.col("task").rank("ordinal") - 1).over(together) / pl.len().over(together)
    sizes = hours.select(*_SITUATION, "places").unique()
    habitual = hours.select(*_SITUATION, "hour", pl.col("place").alias("habit_place"))
    frame = (
        asked.with_columns(
            pl.Series("point", points, dtype=pl.Float64),
            pl.Series("touch_id", ids, dtype=pl.String),
            habit_of(asked["key"], habits).alias("hour"),
        )
        .with_columns(point=(pl.col("point") + turn) % 1.0)
        .join(sizes, on=_SITUATION)
        .join(habitual, on=[*_SITUATION, "hour"], how="left")
        .drop("hour")
    )
    spread = pl.col("point") * pl.col("places")
    last = pl.col("places") - 1
    second = (pl.col("part") * 3600).floor().cast(pl.Int64).clip(0, 3599)
    if earliest is not None:
        # what is left of an hour that has begun; a later one is a wave from its beginning
        begun = (pl.lit(earliest).cast(INSTANT) - pl.col("starts")).dt.total_seconds()
        second = pl.when(begun > 0).then(begun).otherwise(second)
        frame = frame.with_columns(habit_place=pl.lit(0, pl.Int64))
    return (
        frame.with_columns(
            place=pl.coalesce("habit_place", pl.min_horizontal(spread.floor().cast(pl.Int64), last)),
            part=pl.when(pl.col("habit_place").is_null()).then(spread % 1.0).otherwise(pl.col("point")),
        )
        .join(hours.drop("places"), on=[*_SITUATION, "place"])
        .with_columns(second=second)
        .with_columns(
            send_at=pl.col("starts") + pl.duration(seconds="second"),
            local_time=pl.format(
                "{}T{}:{}:{}{}",
                pl.lit(day.isoformat()),
                *(
                    number.cast(pl.String).str.zfill(2)
                    for number in (pl.col("hour"), pl.col("second") // 60, pl.col("second") % 60)
                ),
                "offset",
            ),
        )
    )


def _wishes(
    timed: pl.DataFrame, run: str, plan: str, whose: Sequence[Mapping[str, str]]
) -> list[Reservation]:
    columns = ("touch_id", "key", "channel", "message_class", "activity", "task", "zone", "send_at")
    rows = zip(timed.select(columns).iter_rows(), whose, strict=True)
    return [
        Reservation(
            touch_id=touch_id,
            user=user,
            channel=channel,
            message_class=MessageClass(message_class),
            activity=activity,
            task=task,
            at=at,
            zone=zone,
            entities=entities,
            run=run,
            plan=plan,
        )
        for (touch_id, user, channel, message_class, activity, task, zone, at), entities in rows
    ]


def _no_consent(without: pl.DataFrame) -> pl.DataFrame:
    reason = pl.format("the user does not allow {}; refused until the user does", "channel")
    return without.with_columns(pl.lit("consent").alias("rule"), reason.alias("reason")).select(_REFUSED)


def _capped(timed: pl.DataFrame, refused: dict[str, Refusal], caps: dict[str, Cap]) -> pl.DataFrame:
    ids, zones = timed["touch_id"], timed["zone"]
    said = [why_refused(refused[key], caps, ZoneInfo(zone)) for key, zone in zip(ids, zones, strict=True)]
    rules = [refused[key].rule for key in ids]
    columns = (pl.Series("rule", rules, dtype=pl.String), pl.Series("reason", said, dtype=pl.String))
    return timed.with_columns(*columns).select(_REFUSED)
