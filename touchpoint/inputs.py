"""The frames that planning is given, checked and brought to one form: users as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

import polars as pl

from kernel.clock import parse_zone
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, NotFound
from kernel.work import Touchpoint

#: columns that assignments must have
ASSIGNED = ("user", "task", "goal", "benefit", "touchpoint", "channel", "content")


def check_assignments(assignments: pl.DataFrame, touchpoints: Sequence[Touchpoint]) -> pl.DataFrame:
    """Needed columns and `key` (the user as text); `message_class` is marketing where there is none,
    `activity` the goal.

    Raises BadInput for a missing column or value, a (user, task) given twice, an unknown message class,
    a touchpoint that is not defined or is not of the channel.
    """
    frame = _need(assignments, ASSIGNED, "assignments")
    columns = [pl.col("user"), *(pl.col(name).cast(pl.String) for name in ASSIGNED[1:])]
    if "message_class" in frame.columns:
        columns.append(pl.col("message_class").cast(pl.String).fill_null(str(MessageClass.MARKETING)))
    else:
        columns.append(pl.lit(str(MessageClass.MARKETING)).alias("message_class"))
    activity = "activity" if "activity" in frame.columns else "goal"
    columns.append(pl.col(activity).cast(pl.String).fill_null(pl.col("goal")).alias("activity"))
    frame = frame.select(*columns, key=pl.col("user").cast(pl.String))
    for name in ASSIGNED:
        if frame[name].null_count():
            raise BadInput("is empty in a row", where="assignments", field=name)
    doubled = frame.filter(pl.struct("key", "task").is_duplicated())
    if doubled.height:
        user, task = doubled.row(0, named=True)["key"], doubled.row(0, named=True)["task"]
        raise BadInput(f"is assigned to user {user} twice", where="assignments", field="task", value=task)
    classes = [str(each) for each in MessageClass]
    for each in frame["message_class"].unique(maintain_order=True):
        if each not in classes:
            raise NotFound("message class", each, classes, where="assignments", field="message_class")
    known = {each.name: each for each in touchpoints}
    for name, channel in frame.select("touchpoint", "channel").unique(maintain_order=True).iter_rows():
        if name not in known:
            raise NotFound("touchpoint", name, known, where="assignments", field="touchpoint")
        if channel != known[name].channel:
            raise BadInput(
                f"is not the channel {known[name].channel!r} of touchpoint {name!r}",
                where="assignments",
                field="channel",
                value=channel,
            )
    return frame


def check_caps(caps: Sequence[Cap]) -> None:
    """Raises BadInput for a cap that would count transactional messages, which no cap does."""
    for cap in caps:
        if MessageClass.TRANSACTIONAL in cap.classes:
            raise BadInput(
                "is exempt from caps and cannot be counted",
                where=f"cap {cap.name}",
                field="classes",
                value="transactional",
            )


def refused_consent(consent: pl.DataFrame | None) -> pl.DataFrame:
    """(key, channel) without consent. `allowed` that is unknown is not a yes."""
    if consent is None:
        return pl.DataFrame(schema={"key": pl.String, "channel": pl.String})
    frame = _need(consent, ("user", "channel", "allowed"), "consent")
    if frame.schema["allowed"] not in (pl.Boolean, pl.Null):
        raise BadInput(
            "is not true or false", where="consent", field="allowed", value=str(frame.schema["allowed"])
        )
    denied = frame.filter(~pl.col("allowed").cast(pl.Boolean).fill_null(False))
    return denied.select(
        key=pl.col("user").cast(pl.String), channel=pl.col("channel").cast(pl.String)
    ).unique()


def zone_of(keys: pl.Series, zones: pl.DataFrame | None, default: ZoneInfo) -> pl.Series:
    """Each key's zone name; the default where none is known. Raises BadInput for an unknown zone."""
    if zones is None:
        return pl.repeat(default.key, len(keys), dtype=pl.String, eager=True)
    known = _one_row_a_user(_need(zones, ("user", "timezone"), "zones"), "timezone", "zones")
    for name in known["timezone"].unique().sort():
        parse_zone(name, "zones: timezone")
    joined = keys.to_frame("key").join(known, on="key", how="left", maintain_order="left")
    return joined["timezone"].fill_null(default.key)


def entities_of(
    keys: pl.Series, caps: Sequence[Cap], entities: Mapping[str, pl.DataFrame] | None
) -> list[dict[str, str]]:
    """Each key's household, or other entity that a cap counts by. Raises BadInput for one not given."""
    found: list[dict[str, str]] = [{} for _ in range(len(keys))]
    for name in sorted({cap.by for cap in caps} - {"user"}):
        if entities is None or name not in entities:
            cap = next(cap for cap in caps if cap.by == name)
            problem = "is no entity that users are known to belong to"
            raise BadInput(problem, where=f"cap {cap.name}", field="by", value=name)
        frame = _need(entities[name], ("user", "entity"), name).with_columns(pl.col("entity").cast(pl.String))
        known = _one_row_a_user(frame, "entity", name)
        joined = keys.to_frame("key").join(known, on="key", how="left", maintain_order="left")["entity"]
        for each, one in zip(found, joined, strict=True):
            if one is not None:
                each[name] = one
    return found


def habit_of(keys: pl.Series, habits: pl.DataFrame | None) -> pl.Series:
    """Each key's usual local hour, null where unknown. Raises BadInput for an hour that no day has."""
    if habits is None:
        return pl.repeat(None, len(keys), dtype=pl.Int64, eager=True)
    frame = _need(habits, ("user", "hour"), "habits")
    if not frame.schema["hour"].is_integer() and frame.schema["hour"] != pl.Null:
        raise BadInput("is not a whole number", where="habits", field="hour", value=str(frame.schema["hour"]))
    known = _one_row_a_user(frame.with_columns(pl.col("hour").cast(pl.Int64)), "hour", "habits")
    wrong = known.filter(~pl.col("hour").is_between(0, 23))
    if wrong.height:
        raise BadInput("is not an hour from 0 to 23", where="habits", field="hour", value=wrong["hour"][0])
    return keys.to_frame("key").join(known, on="key", how="left", maintain_order="left")["hour"]


def _need(frame: pl.DataFrame, columns: Sequence[str], where: str) -> pl.DataFrame:
    for column in columns:
        if column not in frame.columns:
            raise BadInput("is a column that is missing", where=where, field=column)
    return frame


def _one_row_a_user(frame: pl.DataFrame, column: str, where: str) -> pl.DataFrame:
    known = frame.select(pl.col("user").cast(pl.String).alias("key"), column).drop_nulls().unique()
    twice = known.filter(pl.col("key").is_duplicated())
    if twice.height:
        raise BadInput(f"says two things about user {twice['key'].sort()[0]}", where=where, field=column)
    return known
