"""From exposures, outcomes and leaves to counts at risk, and to where each user stands today.

A user's exposures are counted from one until an outcome, or until `window` days pass without one; then
counting begins anew. Only runs of days are formed, never a row for each user and day, and a million users at
a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from kernel.errors import BadInput
from touchpoint.frequency_value import Worth, tiring_states
from touchpoint.hazard import Counts

#: days since the last exposure that are told apart; the last one stands for itself and more
RECENCY = 15
_EXPOSED, _WON, _LEFT = 0, 1, 2
_USERS_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is known as of a day's beginning."""

    #: names, in the order of the arrays' first axis
    segments: tuple[str, ...]
    #: [segments, 2, 1 + at_most, RECENCY]: outcomes by number of exposures and days since
    outcomes: Counts
    #: [segments, 2, 1 + n, 1]: opt-outs by exposures within the tiring window
    leaves: Counts
    #: user, segment, place (of the segment), randomised, k, r, n, rests, left
    states: pl.DataFrame
    #: exposures at the outcome → outcomes, of those that followed one; unweighted
    converters: Mapping[int, int]
    #: unweighted totals: exposures, outcomes, opt-outs
    totals: Mapping[str, int]

    @property
    def touches_per_converter(self) -> float | None:
        """Mean exposures of those whose outcome followed one. It describes, it does not say what caused
        it."""
        count = sum(self.converters.values())
        return sum(k * many for k, many in self.converters.items()) / count if count else None


def derive_states(
    *,
    users: pl.DataFrame,
    exposures: pl.DataFrame,
    outcomes: pl.DataFrame,
    leaves: pl.DataFrame,
    worth: Worth,
    as_of: datetime,
    zone: ZoneInfo,
    history: int,
    half_life: int,
    segments: Sequence[str] | None = None,
) -> Seen:
    """`users`: user, segment (text), randomised (bool), one row each. The others: user, at (an instant in
    UTC); what is not before `as_of`, or more than `history` days earlier, is left out. A run of days weighs
    2^(−age / half_life) by the age in days of its exposure. An outcome within `worth.rest` days of an earlier
    one is not counted, nor is anything after a user's first leave. Raises BadInput for a missing column."""
    for name, frame, columns in (
        ("users", users, ("user", "segment", "randomised")),
        ("exposures", exposures, ("user", "at")),
        ("outcomes", outcomes, ("user", "at")),
        ("leaves", leaves, ("user", "at")),
    ):
        for column in columns:
            if column not in frame.columns:
                raise BadInput("is a column that is missing", where=name, field=column)
    if users["user"].is_duplicated().any():
        raise BadInput("is there twice", where="users", field="user", value=str(users["user"].mode()[0]))
    names = tuple(segments or sorted(users["segment"].unique()))
    places = pl.DataFrame(
        {"segment": names, "place": range(len(names))}, schema_overrides={"place": pl.Int32}
    )
    people = users.join(places, on="segment", how="left", maintain_order="left")
    if people["place"].null_count():
        odd = people.filter(pl.col("place").is_null())["segment"][0]
        raise BadInput("is not one of the segments", where="users", field="segment", value=odd)
    today = as_of.astimezone(zone).date().toordinal() - _EPOCH
    marks = _marks(exposures, outcomes, leaves, zone, today - history, today)
    tally = _Tally(len(names), worth, today, history, half_life)
    parts = [
        tally.add(part, marks.join(part.select("user"), on="user", how="semi"))
        for part in people.iter_slices(_USERS_AT_ONCE)
    ]
    return Seen(
        segments=names,
        outcomes=Counts(at_risk=tally.at_risk, events=np.minimum(tally.won, tally.at_risk)),
        leaves=Counts(at_risk=tally.touched, events=tally.left),
        states=pl.concat(parts) if parts else tally.add(people, marks),
        converters=dict(sorted(tally.converters.items())),
        totals=tally.totals,
    )


_EPOCH = 719_163  # of Polars' dates, in days of the proleptic calendar


def _marks(
    exposures: pl.DataFrame, outcomes: pl.DataFrame, leaves: pl.DataFrame, zone: ZoneInfo, low: int, high: int
) -> pl.DataFrame:
    """user, at, day, kind; day in [low, high)."""
    parts = [
        frame.select("user", "at", pl.lit(kind, pl.Int8).alias("kind"))
        for kind, frame in ((_EXPOSED, exposures), (_WON, outcomes), (_LEFT, leaves))
    ]
    day = pl.col("at").dt.convert_time_zone(str(zone)).dt.date().cast(pl.Int32)
    return pl.concat(parts).with_columns(day=day).filter(pl.col("day").is_between(low, high - 1))


class _Tally:
    """Sums over users, a part of them at a time."""

    def __init__(self, segments: int, worth: Worth, today: int, history: int, half_life: int) -> None:
        self._worth, self._today, self._first = worth, today, today - history
        self._half_life = half_life
        self._shape = (segments, 2)
        self.at_risk = np.zeros((segments, 2, worth.at_most + 1, RECENCY))
        self.won = np.zeros_like(self.at_risk)
        counts = tiring_states(worth) + 1
        self.touched = np.zeros((segments, 2, counts, 1))
        self.left = np.zeros_like(self.touched)
        self.converters: dict[int, int] = {}
        self.totals = {"exposures": 0, "outcomes": 0, "opt_outs": 0}

    def add(self, people: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
        """Counts these users, and says where they stand."""
        who = pl.col("place"), pl.col("randomised").cast(pl.Int8).alias("drawn")
        known = marks.join(people.select("user", *who), on="user", maintain_order="left")
        known = known.sort("user", "at", "kind", maintain_order=True)
        gone = (pl.col("kind") == _LEFT).cum_sum().over("user")
        known = known.filter((gone - (pl.col("kind") == _LEFT)) == 0)
        won = known.filter(pl.col("kind") == _WON)
        rested = (pl.col("day") - pl.col("day").shift().over("user")).fill_null(10**6) > self._worth.rest
        won = won.filter(rested).unique(["user", "day"], keep="first", maintain_order=True)
        others = known.filter(pl.col("kind") != _WON)
        known = pl.concat([others, won]).sort("user", "at", "kind", maintain_order=True)
        known = self._numbered(known)
        runs = known.filter(pl.col("kind") == _EXPOSED)
        self._count_runs(runs)
        self._count_unexposed(people, known, runs)
        self._count_leaves(known)
        self._count_totals(known)
        return self._standing(people, known)

    def _numbered(self, known: pl.DataFrame) -> pl.DataFrame:
        """Each mark with its episode and k; exposures with how many days they ran, and how that ended."""
        before, after = (
            pl.col("kind", "day").shift().over("user"),
            pl.col("kind", "day").shift(-1).over("user"),
        )
        window = self._worth.window
        known = known.with_columns(before.name.prefix("last_"), after.name.prefix("next_"))
        anew = (pl.col("last_kind").fill_null(_WON) != _EXPOSED) | (
            pl.col("day") - pl.col("last_day") >= window
        )
        exposed = pl.col("kind") == _EXPOSED
        known = known.with_columns(episode=(exposed & anew).cast(pl.Int32).cum_sum().over("user"))
        known = known.with_columns(k=exposed.cast(pl.Int32).cum_sum().over("user", "episode"))
        until = (pl.col("next_day") - pl.col("day")).fill_null(10**6)
        cut = pl.min_horizontal(pl.lit(self._today) - pl.col("day"), pl.lit(window))
        wins = (pl.col("next_kind") == _WON) & (until < window)
        lasts = pl.when(wins.fill_null(value=False)).then(until + 1).otherwise(pl.min_horizontal(until, cut))
        return known.with_columns(
            length=pl.when(exposed).then(lasts).otherwise(0),
            wins=(exposed & wins).fill_null(value=False),
        )

    def _count_runs(self, runs: pl.DataFrame) -> None:
        known = runs.filter(pl.col("length") > 0).with_columns(
            pl.col("k").clip(upper_bound=self._worth.at_most)
        )
        keys = ("place", "drawn", "k", "length", "wins")
        summed = self._weighed(known, keys)
        place, drawn, k, length, wins, weight = (summed[each].to_numpy() for each in (*keys, "weight"))
        for r in range(RECENCY):
            days = (length > r) * 1.0 if r < RECENCY - 1 else np.maximum(length - r, 0) * 1.0
            np.add.at(self.at_risk[..., r], (place, drawn, k), weight * days)
        last = np.minimum(length - 1, RECENCY - 1)
        np.add.at(self.won, (place[wins], drawn[wins], k[wins], last[wins]), weight[wins])
        for k_won, many in runs.filter("wins").group_by("k").len().iter_rows():
            self.converters[k_won] = self.converters.get(k_won, 0) + many

    def _count_unexposed(self, people: pl.DataFrame, known: pl.DataFrame, runs: pl.DataFrame) -> None:
        """Days on which nothing counted, by day: everybody, less those in a run, at rest, or gone."""
        days = self._today - self._first
        away = np.zeros((*self._shape, days + 1))
        rest = self._worth.rest
        absent = (
            (runs, pl.col("day"), pl.col("day") + pl.col("length")),
            (known.filter(pl.col("kind") == _WON), pl.col("day") + 1, pl.col("day") + 1 + rest),
            (known.filter(pl.col("kind") == _LEFT), pl.col("day"), pl.lit(self._today, pl.Int32)),
        )
        for frame, begins, ends in absent:
            for edge, sign in ((begins, 1.0), (ends, -1.0)):
                at = (pl.min_horizontal(edge, pl.lit(self._today)) - self._first).alias("at")
                for place, drawn, when, many in (
                    frame.select("place", "drawn", at).group_by("place", "drawn", "at").len().iter_rows()
                ):
                    away[place, drawn, when] += sign * many
        whole = np.zeros(self._shape)
        sizes = people.group_by("place", pl.col("randomised").cast(pl.Int8)).len()
        for place, drawn, many in sizes.iter_rows():
            whole[place, drawn] = many
        there = np.maximum(whole[..., None] - np.cumsum(away, axis=-1)[..., :days], 0.0)
        ages = days - 1 - np.arange(days)
        self.at_risk[:, :, 0, 0] += there @ 2.0 ** (-ages / self._half_life)
        inside = pl.col("last_kind").eq(_EXPOSED) & (pl.col("day") - pl.col("last_day") < self._worth.window)
        alone = known.filter((pl.col("kind") == _WON) & ~inside.fill_null(value=False))
        for place, drawn, weight in self._weighed(alone, ("place", "drawn")).iter_rows():
            self.won[place, drawn, 0, 0] += weight

    def _weighed(self, rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
        """keys, weight: summed in one order, so that the same rows come to the same digits."""
        many = rows.group_by(*keys, "day").len().sort(*keys, "day")
        age = (self._today - 1 - pl.col("day")).cast(pl.Float64)
        weight = pl.col("len") * pl.lit(2.0).pow(-age / self._half_life)
        many = many.with_columns(weight.alias("weight"))
        return many.group_by(keys, maintain_order=True).agg(pl.col("weight").sum())

    def _count_leaves(self, known: pl.DataFrame) -> None:
        """An opt-out belongs to the last exposure before it, if that can still tire."""
        tires, most = self._worth.tires, self.touched.shape[2] - 1
        marks = known.filter(pl.col("kind") != _WON).select("user", "place", "drawn", "day", "kind")
        after = pl.col("kind", "day").shift(-1).over("user")
        marks = marks.with_columns(after.name.prefix("next_")).filter(pl.col("kind") == _EXPOSED)
        if marks.is_empty():
            return
        near = marks.rolling("day", period=f"{tires}i", group_by="user").agg(pl.len().alias("n"))
        tired = (pl.col("next_kind") == _LEFT) & (pl.col("next_day") - pl.col("day") <= tires)
        marks = marks.with_columns(n=near["n"].clip(upper_bound=most), tired=tired.fill_null(value=False))
        for counts, some in ((self.touched, marks), (self.left, marks.filter("tired"))):
            for place, drawn, n, weight in self._weighed(some, ("place", "drawn", "n")).iter_rows():
                counts[place, drawn, n, 0] += weight

    def _count_totals(self, known: pl.DataFrame) -> None:
        for kind, many in known.group_by("kind").len().iter_rows():
            self.totals[("exposures", "outcomes", "opt_outs")[kind]] += many

    def _standing(self, people: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        worth, since = self._worth, pl.lit(self._today) - pl.col("day")
        last = known.group_by("user", maintain_order=True).last()
        counts = (pl.col("kind") == _EXPOSED) & (since < worth.window)
        last = last.select(
            "user",
            k=pl.when(counts).then(pl.col("k")).otherwise(0),
            r=pl.when(counts).then(since).otherwise(0),
            left=pl.col("kind") == _LEFT,
            rests=(pl.col("kind") == _WON) & (since <= worth.rest),
        )
        tired = known.filter((pl.col("kind") == _EXPOSED) & (since < worth.tires))
        near = tired.group_by("user").agg(pl.len().alias("n"))
        found = people.join(last, on="user", how="left", maintain_order="left")
        found = found.join(near, on="user", how="left", maintain_order="left")
        return found.with_columns(
            pl.col("k", "r", "n").fill_null(0).cast(pl.Int32),
            pl.col("left", "rests").fill_null(value=False),
        )
