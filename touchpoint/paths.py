"""Paths: the channels that users met, in order, and how often that ended in an outcome or in none."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from kernel.errors import BadInput

#: `ages`: days from each exposure to the outcome, null where nothing is known of time
PATHS: dict[str, pl.DataType] = {
    "path": pl.List(pl.String()),
    "conversions": pl.Int64(),
    "value": pl.Float64(),
    "nulls": pl.Int64(),
    "ages": pl.List(pl.Float64()),
}
#: what other tools call the columns
_ALSO = {"total_conversions": "conversions", "total_conversion_value": "value", "total_null": "nulls"}


def read_paths(file: Path, separator: str = ">") -> pl.DataFrame:
    """`PATHS` from Parquet or CSV (comma or semicolon): `path` as channels with `separator` between, or as a
    list; `conversions`, and if there `value` and `nulls` (or `total_conversions`, `total_conversion_value`,
    `total_null`). Raises BadInput naming file, column and row."""
    where = str(file)
    if not file.is_file():
        raise BadInput("no such file", field="--paths", value=where)
    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        else:
            with file.open(encoding="utf-8") as lines:
                head = lines.readline()
            split = ";" if head.count(";") > head.count(",") else ","
            frame = pl.read_csv(file, separator=split, schema_overrides={"path": pl.String})
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"does not parse: {str(error).splitlines()[0]}", where=where, field="file") from None
    frame = frame.rename({old: new for old, new in _ALSO.items() if old in frame.columns})
    for column in ("path", "conversions"):
        if column not in frame.columns:
            raise BadInput("is a column that is missing", where=where, field=column)
    if frame.schema["path"] != pl.List(pl.String):
        channels = (
            pl.col("path").cast(pl.String).str.split(separator).list.eval(pl.element().str.strip_chars())
        )
        frame = frame.with_columns(channels)
    for column, usual in (("value", 0.0), ("nulls", 0)):
        if column not in frame.columns:
            frame = frame.with_columns(pl.lit(usual).alias(column))
    frame = frame.with_columns(pl.lit(None, pl.List(pl.Float64)).alias("ages"))
    return check_paths(frame, where)


def check_paths(frame: pl.DataFrame, where: str = "paths") -> pl.DataFrame:
    """`PATHS`, without rows that count nothing. Raises BadInput for a column or value that cannot be."""
    for column in PATHS:
        if column not in frame.columns:
            raise BadInput("is a column that is missing", where=where, field=column)
    frame = frame.select(list(PATHS)).with_row_index("row", 1)
    if frame.is_empty():
        return frame.select(pl.col(name).cast(kind) for name, kind in PATHS.items())
    for column in ("conversions", "nulls", "value"):
        if not (frame.schema[column].is_numeric() or frame.schema[column] == pl.Null):
            raise BadInput("is not a number", where=where, field=column, value=str(frame.schema[column]))
        wrong = pl.col(column).is_null() | ~(
            pl.col(column).cast(pl.Float64).is_finite() & (pl.col(column) >= 0)
        )
        if column != "value":
            wrong = wrong | (pl.col(column).cast(pl.Float64) % 1 != 0)
        bad = frame.filter(wrong)
        if bad.height:
            least = "an amount" if column == "value" else "a count"
            row, value = bad.row(0, named=True)["row"], bad.row(0, named=True)[column]
            raise BadInput(f"is not {least} from 0 on", where=f"{where} row {row}", field=column, value=value)
    empty = pl.col("path").is_null() | (pl.col("path").list.len() == 0)
    blank = pl.col("path").list.eval(pl.element().is_null() | (pl.element() == "")).list.any()
    bad = frame.filter(empty | blank.fill_null(value=False))
    if bad.height:
        raise BadInput("has an empty channel", where=f"{where} row {bad['row'][0]}", field="path")
    worthless = frame.filter((pl.col("conversions") == 0) & (pl.col("value") > 0))
    if worthless.height:
        row, value = worthless.row(0, named=True)["row"], worthless.row(0, named=True)["value"]
        raise BadInput(
            "is there without a conversion", where=f"{where} row {row}", field="value", value=value
        )
    counted = frame.filter((pl.col("conversions") > 0) | (pl.col("nulls") > 0)).drop("row")
    return counted.with_columns(pl.col(name).cast(kind) for name, kind in PATHS.items())


def paths_of_events(
    exposures: pl.DataFrame, outcomes: pl.DataFrame, *, within: timedelta, as_of: datetime
) -> pl.DataFrame:
    """`PATHS`, one row a path. `exposures`: user, at, channel. `outcomes`: user, at, value (major units).

    The path of an outcome is the user's exposures in (outcome − within, outcome], after her outcome before
    it; an outcome without any has no path. Exposures that no outcome followed within that time, which by
    `as_of` is over, are a path without one, cut where `within` passed without an exposure."""
    met_at = exposures.select("user", "at", pl.col("channel").cast(pl.String))
    won_at = outcomes.select("user", "at", pl.col("value").cast(pl.Float64))
    marks = pl.concat([met_at, won_at], how="diagonal").filter(pl.col("at") < as_of)
    won = pl.col("channel").is_null()
    marks = marks.sort("user", "at", "channel", nulls_last=True, maintain_order=True)
    # an outcome closes its path, so the number of those before tells paths apart
    marks = marks.with_columns(leg=won.cast(pl.Int32).cum_sum().over("user") - won.cast(pl.Int32))
    closed = marks.filter(won).select("user", "leg", won_at="at", worth=pl.col("value").fill_null(0.0))
    met = marks.filter(~won).join(closed, on=["user", "leg"], how="left", maintain_order="left")
    led = (pl.col("won_at") - pl.col("at")) < within
    winning = met.filter(led.fill_null(value=False))
    days = (pl.col("won_at") - pl.col("at")).dt.total_microseconds() / 86_400e6
    won_paths = winning.group_by("user", "leg", maintain_order=True).agg(
        pl.col("channel").alias("path"), pl.col("worth").first().alias("value"), days.alias("ages")
    )
    lost = met.filter(~led.fill_null(value=False))
    gap = (pl.col("at") - pl.col("at").shift()).over("user", "leg") >= within
    lost = lost.with_columns(part=gap.fill_null(value=False).cast(pl.Int32).cum_sum().over("user", "leg"))
    over = pl.col("at").max().over("user", "leg", "part") + within <= as_of
    lost_paths = (
        lost.filter(over)
        .group_by("user", "leg", "part", maintain_order=True)
        .agg(pl.col("channel").alias("path"))
    )
    won_paths = won_paths.with_columns(conversions=pl.lit(1, pl.Int64), nulls=pl.lit(0, pl.Int64))
    lost_paths = lost_paths.with_columns(
        value=pl.lit(0.0),
        ages=pl.lit(None, pl.List(pl.Float64)),
        conversions=pl.lit(0, pl.Int64),
        nulls=pl.lit(1, pl.Int64),
    )
    return pl.concat([each.select(list(PATHS)) for each in (won_paths, lost_paths)])
