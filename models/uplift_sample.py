"""The rows that uplift is learned from: who was treated how when, as they were then, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from kernel.errors import BadInput
from kernel.ids import frame_fingerprint
from models.features import user_features
from models.hashing import units
from models.history import History
from models.uplift_recipe import UpliftRecipe
from models.uplift_trial import FEWEST, Floats

#: label of those who got nothing
CONTROL = "control"
#: columns of a sample that are no features
KEYS = ("user", "at", "treatment", "y", "reach")
#: what a column of P(treatment) begins with
CHANCE = "p_"
#: part of the rows on which a model is judged
HELD_OUT = 0.3


@dataclass(frozen=True, kw_only=True)
class UpliftSample:
    """`user`, `at`, `treatment` (`control`, or a benefit), `y`, `p_…` where chances are known, features.

    Features know nothing after `at`, outcomes are of (at, at + within], and no two windows of one user
    overlap.
    """

    frame: pl.DataFrame
    within: timedelta
    #: no outcome looks past this instant
    as_of: datetime
    #: rows whose window was not over yet
    immature: int = 0

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that say something: numbers that are known for some and not the same for all."""
        frame = self.frame
        return tuple(
            name
            for name in frame.columns
            if name not in KEYS
            and not name.startswith(CHANCE)
            and frame.schema[name].is_numeric()
            and frame[name].cast(pl.Float64).fill_nan(None).drop_nulls().n_unique() > 1
        )

    @property
    def treatments(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.frame["treatment"].unique().to_list()) - {CONTROL}))

    @property
    def propensity(self) -> pl.DataFrame | None:
        """users × treatments, where it is known: as it is among rows of their weight, for arms that are seen
        less often weigh less."""
        names = {f"{CHANCE}{each}": each for each in self.treatments}
        if not set(names) <= set(self.frame.columns):
            return None
        known = self.frame.select(pl.col(own).alias(each) for own, each in names.items())
        if "reach" not in self.frame.columns:
            return known
        seen = self.frame.group_by("treatment").agg((pl.col("reach") ** 2).mean())
        of = dict(seen.iter_rows())
        parts = [pl.col(each) * of[each] for each in known.columns]
        nothing = (1 - pl.sum_horizontal(known.columns)) * of[CONTROL]
        return known.select(part / (nothing + pl.sum_horizontal(parts)) for part in parts)

    def weight(self, forgets: timedelta | None) -> Floats | None:
        """One a row, halved with every `forgets` of age, times the square of its reach: what is rarely seen
        tells little. None where all weigh alike."""
        found = np.ones(self.frame.height)
        if forgets is not None:
            age = self.frame.select(((pl.lit(self.as_of) - pl.col("at")) / forgets).alias("age"))["age"]
            found = found * 0.5 ** age.to_numpy()
        if "reach" in self.frame.columns:
            found = found * self.frame["reach"].to_numpy() ** 2
        return None if forgets is None and "reach" not in self.frame.columns else np.asarray(found)

    @property
    def y(self) -> Floats:
        return np.asarray(self.frame["y"].to_numpy(), dtype=np.float64)

    def part(self, kept: pl.Series) -> UpliftSample:
        return UpliftSample(frame=self.frame.filter(kept), within=self.within, as_of=self.as_of)

    def fingerprint(self) -> str:
        return frame_fingerprint(self.frame)

    def split(self, salt: str, share: float = HELD_OUT) -> Split:
        """Those learned from, and those judged on.

        Later days where there are several, and enough of every arm on either side: what is learned from is
        then what had ended when they began, if that is enough. Otherwise other users, always the same ones.
        """
        days = self.frame.group_by("at").len().sort("at", descending=True)
        after = days.filter(pl.col("len").cum_sum() >= share * self.frame.height)["at"]
        if days.height > 1 and len(after):
            late = self.frame["at"] >= after[0]
            for early in (self.frame["at"] + self.within <= after[0], ~late):
                if self._enough(early) and self._enough(late):
                    return Split(early=self.part(early), late=self.part(late), begin=after[0])
        late = pl.Series(units(self.frame["user"], f"uplift held out:{salt}") < share)
        for name, kept in (("learn from", ~late), ("judge on", late)):
            if not self._enough(kept):
                raise BadInput(
                    f"leaves too few users to {name}: {FEWEST} of every arm are needed", field="uplift",
                    value=salt,
                )  # fmt: skip
        return Split(early=self.part(~late), late=self.part(late), begin=None)

    def _enough(self, kept: pl.Series) -> bool:
        counts = dict(self.frame.filter(kept)["treatment"].value_counts().iter_rows())
        return all(counts.get(each, 0) >= FEWEST for each in (CONTROL, *self.treatments))


@dataclass(frozen=True, kw_only=True)
class Split:
    """A sample in two, that share no user's window."""

    #: learned from
    early: UpliftSample
    #: judged on
    late: UpliftSample
    #: first instant of those judged on; None: they are other users, chosen by hash
    begin: datetime | None

    @property
    def title(self) -> str:
        return "other users, by hash" if self.begin is None else f"from {self.begin:%Y-%m-%d} on"

    def unseen_by(self, begin: datetime | None) -> bool:
        """Whether a model that was judged on what began then learned from none of `late`."""
        if self.begin is None or begin is None:
            return self.begin is begin
        return begin <= self.begin


def uplift_sample(
    history: History, assigned: pl.DataFrame, recipe: UpliftRecipe, within: timedelta, as_of: datetime
) -> UpliftSample:
    """`assigned`: user, at, treatment (`control` or a benefit), maybe `p_TREATMENT`, in any order.

    Of one user the earliest row counts, and then the next whose window does not overlap. Raises BadInput
    when there is no row left, or chances are missing in some.
    """
    for name in ("user", "at", "treatment"):
        if name not in assigned.columns or assigned[name].null_count():
            raise BadInput("is missing", where="assignments", field=name)
    mature = assigned.filter(pl.col("at") + within <= as_of)
    rows = _apart(mature.sort("at", "treatment", "user"), within)
    if rows.is_empty():
        raise BadInput(
            "has no user whose window is over", where=f"uplift {recipe.name}", field="as_of",
            value=as_of.isoformat(),
        )  # fmt: skip
    chances = [name for name in rows.columns if name.startswith(CHANCE)]
    for name in chances:
        if rows[name].cast(pl.Float64).is_finite().fill_null(value=False).not_().any():
            raise BadInput("is missing for some users", where="assignments", field=name)
    frame = rows.select("user", "at", "treatment", *chances, *({"reach"} & set(rows.columns)))
    frame = frame.join(_outcomes(history, frame, recipe, within), on=["user", "at"], how="left")
    frame = frame.with_columns(pl.col("y").fill_null(0.0))
    parts = []
    for (at,), same in frame.group_by("at", maintain_order=True):
        if not isinstance(at, datetime):
            raise BadInput("is not a time in UTC", where="assignments", field="at", value=at)
        seen = user_features(history.until(at), at, recipe.history)
        parts.append(same.join(seen, on="user", how="left", maintain_order="left"))
    whole = pl.concat(parts, how="diagonal_relaxed").sort("at", "user")
    return UpliftSample(frame=whole, within=within, as_of=as_of, immature=assigned.height - mature.height)


def _apart(rows: pl.DataFrame, within: timedelta) -> pl.DataFrame:
    """Of each user the first row, then the first after its window, and so on."""
    kept, rest = [], rows
    while rest.height:
        first = rest.unique("user", keep="first", maintain_order=True)
        kept.append(first)
        until = first.select("user", (pl.col("at") + within).alias("_until"))
        rest = (
            rest.join(until, on="user", maintain_order="left")
            .filter(pl.col("at") >= pl.col("_until"))
            .drop("_until")
        )
    return pl.concat(kept) if kept else rows


def _outcomes(history: History, rows: pl.DataFrame, recipe: UpliftRecipe, within: timedelta) -> pl.DataFrame:
    """user, at, y of those who bought in the window."""
    lines = history.purchases.lazy().select("user", "event_id", pl.col("at").alias("_at"), "amount")
    inside = (pl.col("_at") > pl.col("at")) & (pl.col("_at") <= pl.col("at") + within)
    value = {
        "bought": pl.lit(1.0),
        "purchases": pl.col("event_id").n_unique().cast(pl.Float64),
        "spend": pl.col("amount").sum().cast(pl.Float64),
    }[recipe.outcome]
    return (
        rows.lazy()
        .select("user", "at")
        .join(lines, on="user")
        .filter(inside)
        .group_by("user", "at")
        .agg(value.round_sig_figs(12).alias("y"))
        .collect()
    )
