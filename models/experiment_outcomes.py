"""What each user of an experiment did in the own window: one row a user, whole windows only.

A user counts once the window is over. Otherwise a user's number would grow while the experiment is looked at,
the youngest users would weigh as little as they have had time, and no sequential guarantee would hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time

import polars as pl

from kernel.clock import aware, parse_window
from kernel.errors import BadInput
from kernel.events import INSTANT
from models.experiments import Experiment, Metric

#: what it is that is read: an activity, a rule, a policy; one when the assignments do not say
SUBJECT = "subject"
_AT = "_at"


@dataclass(frozen=True, kw_only=True)
class UserOutcomes:
    """The users whose window is over, and how many others there are."""

    #: subject, user, variant, at, the assignments' other columns; for metric i: `value_i`, of a ratio
    #: `per_i`, and with a pre-period `before_…` of each; then the columns of the given covariates
    frame: pl.DataFrame
    #: subject, user, variant, at, the assignments' other columns of all who came, by their first variant
    everyone: pl.DataFrame
    #: names of the covariate columns
    covariates: tuple[str, ...]
    #: users whose window is not over yet
    immature: int
    #: users who were seen in more than one variant; they count in their first
    crossed: int
    #: metric → part of the users whose value was cut to its cap
    capped: dict[str, float]


def user_outcomes(
    assigned: pl.DataFrame,
    outcomes: pl.DataFrame,
    experiment: Experiment,
    as_of: datetime,
    covariates: pl.DataFrame | None = None,
) -> UserOutcomes:
    """Sums each metric over (at, at + within] of every user, and over (at − before, at] of the pre-period.

    `assigned`: user, variant (null: not in it), maybe `at` (when bucketed or first exposed; absent: the first
    day's beginning in UTC) and `subject`. `outcomes`: user, at, the metrics' columns and, where a metric asks
    for it, `event`; a missing number is none. `covariates`: user and numbers known before `at`; missing ones
    count as the mean. Raises BadInput for columns that are missing or no numbers, or a variant unknown.
    """
    aware(as_of, "as_of")
    seen = _seen(assigned, experiment)
    first = seen.sort("at", "variant").unique([SUBJECT, "user"], keep="first", maintain_order=True)
    mixed = seen.group_by(SUBJECT, "user").agg(pl.col("variant").n_unique().alias("n"))
    mature = first.filter(pl.col("at") + experiment.window <= as_of)
    events = _outcomes(outcomes, experiment.metrics).rename({"at": _AT})
    mature, events = _same_users(mature, events)
    found = mature.join(_summed(mature, events, experiment), on=[SUBJECT, "user"], how="left")
    numbers = [name for name in found.columns if name not in mature.columns]
    found = found.with_columns(pl.col(numbers).fill_null(0.0))
    capped = {}
    for i, metric in enumerate(experiment.metrics):
        if metric.cap is not None:
            beyond = (pl.col(f"value_{i}").abs() > metric.cap).mean()
            capped[metric.name] = float(found.select(beyond.fill_null(0.0)).item())
            mine = [name for name in numbers if name.endswith(f"value_{i}")]
            found = found.with_columns(pl.col(mine).clip(-metric.cap, metric.cap))
    before = [name for name in numbers if name.startswith("before_")]
    if covariates is not None:
        found, given = _with_covariates(found, covariates)
        before += given
    return UserOutcomes(
        frame=found.sort(SUBJECT, "user"),
        everyone=first,
        covariates=tuple(before),
        immature=first.height - mature.height,
        crossed=int((mixed["n"] > 1).sum()),
        capped=capped,
    )


def _seen(assigned: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """The assignments checked, with `at` and `subject`, without users who have no variant."""
    for name in ("user", "variant"):
        if name not in assigned.columns:
            raise BadInput("is missing", where="assignments", field=name)
    if "at" not in assigned.columns:
        begin = datetime.combine(experiment.starts, time(0), UTC)
        assigned = assigned.with_columns(pl.lit(begin).cast(INSTANT).alias("at"))
    _check_instants(assigned, "assignments")
    if SUBJECT not in assigned.columns:
        assigned = assigned.with_columns(pl.lit(experiment.name).alias(SUBJECT))
    seen = assigned.with_columns(pl.col("variant", SUBJECT).cast(pl.String)).drop_nulls("variant")
    for name in ("user", SUBJECT):
        if seen[name].null_count():
            raise BadInput("is missing in some rows", where="assignments", field=name)
    unknown = seen.filter(~pl.col("variant").is_in(list(experiment.variants)))
    if unknown.height:
        raise BadInput(
            f"is not a variant of experiment {experiment.name}", where="assignments", field="variant",
            value=unknown["variant"][0],
        )  # fmt: skip
    return seen


def _outcomes(outcomes: pl.DataFrame, metrics: tuple[Metric, ...]) -> pl.DataFrame:
    """The columns that the metrics need, checked; numbers as floats, missing ones none."""
    numbers = sorted({name for metric in metrics for name in (*metric.sum, *metric.per)})
    labels = ["event"] if any(metric.event is not None for metric in metrics) else []
    for name in ("user", "at", *labels, *numbers):
        if name not in outcomes.columns:
            raise BadInput("is missing", where="outcomes", field=name)
    _check_instants(outcomes, "outcomes")
    for name in numbers:
        kind = outcomes.schema[name]
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise BadInput("is not a number", where="outcomes", field=name, value=str(kind))
    frame = outcomes.select(
        "user", "at", *(pl.col(name).cast(pl.String) for name in labels),
        *(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in numbers),
    )  # fmt: skip
    for name in numbers:
        if not frame[name].is_finite().all():
            raise BadInput("is not finite in some rows", where="outcomes", field=name)
    return frame


def _check_instants(frame: pl.DataFrame, where: str) -> None:
    kind = frame.schema["at"] if "at" in frame.columns else None
    if not isinstance(kind, pl.Datetime) or kind.time_zone != "UTC":
        raise BadInput("is not a time in UTC", where=where, field="at", value=str(kind))
    if frame["at"].null_count():
        raise BadInput("is missing in some rows", where=where, field="at")


def _same_users(one: pl.DataFrame, other: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with users of one type: 42 and "42" are one user, as for the hash that bucketed them."""
    if one.schema["user"] == other.schema["user"]:
        return one, other
    both = [frame.with_columns(pl.col("user").cast(pl.String)) for frame in (one, other)]
    return both[0], both[1]


def _summed(users: pl.DataFrame, events: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """subject, user, then the sums of those who did anything."""
    windows = {"": (pl.col(_AT) > pl.col("at")) & (pl.col(_AT) <= pl.col("at") + experiment.window)}
    if experiment.before is not None:
        earlier = pl.col("at") - parse_window(experiment.before)
        windows["before_"] = (pl.col(_AT) <= pl.col("at")) & (pl.col(_AT) > earlier)
    sums = []
    for prefix, inside in windows.items():
        for i, metric in enumerate(experiment.metrics):
            rows = inside if metric.event is None else inside & (pl.col("event") == metric.event)
            sums.append(_total(metric.sum, rows).alias(f"{prefix}value_{i}"))
            if metric.per:
                sums.append(_total(metric.per, rows).alias(f"{prefix}per_{i}"))
    lines = users.lazy().select(SUBJECT, "user", "at").join(events.lazy(), on="user")
    return lines.group_by(SUBJECT, "user").agg(sums).collect()


def _total(weights: dict[str, float], rows: pl.Expr) -> pl.Expr:
    """Weighted sum over the rows; without weights, whether there is one."""
    if not weights:
        return rows.any().cast(pl.Float64)
    return pl.sum_horizontal((pl.col(name) * weight).filter(rows).sum() for name, weight in weights.items())


def _with_covariates(found: pl.DataFrame, covariates: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    names = [name for name in covariates.columns if name != "user"]
    if "user" not in covariates.columns or not names:
        raise BadInput("needs user and at least one number", where="covariates", field="columns")
    if covariates["user"].is_duplicated().any():
        raise BadInput("is there more than once", where="covariates", field="user")
    for name in names:
        kind = covariates.schema[name]
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise BadInput("is not a number", where="covariates", field=name, value=str(kind))
    given = {name: f"given_{name}" for name in names}
    found, other = _same_users(found, covariates.rename(given))
    columns = list(given.values())
    found = found.join(other, on="user", how="left").with_columns(pl.col(columns).cast(pl.Float64))
    # a covariate that is infinite or unknown says nothing about its user
    known = found.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in columns
    )
    return known.with_columns(pl.col(columns).fill_null(strategy="mean").fill_null(0.0)), columns
