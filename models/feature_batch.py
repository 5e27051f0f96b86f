"""Declared features of everybody as of an instant, as one lazy Polars query: scans, group-bys and joins.

Distinct values, and events of several lines, go through pairs (user, value) with their youngest age, so that
one group-by serves all windows and nothing holds a set a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from kernel.clock import aware, parse_window
from kernel.errors import BadInput
from models.exact_sums import joined, parts
from models.feature_definitions import (
    CELL,
    ZERO,
    Aggregate,
    FeatureSet,
    Label,
    OfCell,
    OfEvent,
    OfField,
    Ratio,
    Rhythm,
    Since,
    Slope,
    Test,
)
from models.feature_facts import DAY, Facts, check_facts

#: digits that a model need not see
STEADY = pl.col(pl.Float64).round_sig_figs(12)
_TINY = timedelta(microseconds=1)
#: columns that help others, and their own
_HELP = "//"


def derive(
    features: FeatureSet, facts: Facts, as_of: datetime, users: pl.LazyFrame | None = None
) -> pl.LazyFrame:
    """user, then the columns of `features` as of `as_of` (aware), one row for each of `users`, by default
    for everybody with a line of `features.among`.

    Days, counts, money, shares; what has never happened is 0 for counts and sums, and missing for the rest.
    Raises BadInput for a field that is not there or of another type, and for labels that are not settled.
    """
    as_of = aware(as_of, "as_of")
    check_facts(features, facts)
    for column in features.unsettled:
        said = "has labels that are still to be found in the data"
        raise BadInput(said, where=f"features {features.name}", field=column)
    frame = _population(features, facts, as_of) if users is None else users.select("user").unique()
    for event in features.events:
        for before in (False, True):
            mine = features.of_event(event, before=before)
            if mine:
                lines = facts.known(features, event, as_of)
                lines = lines.filter(pl.col("age") > 0) if before else lines
                gathered = _Gathered(whole=event in facts.whole)
                for each in mine:
                    gathered.add(each)
                for part in gathered.parts(lines):
                    frame = frame.join(part, on="user", how="left")
    if any(isinstance(each, OfCell) for each in features.features):
        frame = frame.join(_cells(features, facts, as_of), on="user", how="left")
    if facts.fields is not None and features.fields:
        frame = frame.join(facts.fields.select("user", *features.fields), on="user", how="left")
    for feature in features.features:
        frame = frame.with_columns(_finished(feature, features, facts, as_of))
    return frame.select("user", *features.columns).with_columns(STEADY)


def derive_at(
    features: FeatureSet, facts: Facts, instants: Sequence[datetime], users: pl.LazyFrame | None = None
) -> pl.DataFrame:
    """The same at several instants: `at`, user, features; sorted by both."""
    parts = [
        derive(features, facts, at, users).with_columns(at=pl.lit(aware(at, "as_of"))).collect()
        for at in sorted(set(instants))
    ]
    return pl.concat(parts).select("at", "user", *features.columns).sort("at", "user")


def _population(features: FeatureSet, facts: Facts, as_of: datetime) -> pl.LazyFrame:
    events = (
        [each for each in features.events if each != CELL] if features.among is None else [features.among]
    )
    return pl.concat([facts.known(features, each, as_of).select("user") for each in events]).unique()


def inside(window: str | None) -> pl.Expr:
    """Lines of (as_of − window, as_of]; never a literal, which would count once a group."""
    return pl.col("age") >= 0 if window is None else pl.col("age") < parse_window(window) // _TINY


def holds(where: dict[str, tuple[Label, ...] | Test]) -> pl.Expr:
    found = pl.lit(True)
    for name, test in where.items():
        if isinstance(test, Test):
            for how, bound in test.bounds.items():
                found &= getattr(_value(name), how)(bound)
        else:
            found &= pl.col(name).is_in(list(test))
    return found


def _value(name: str | None) -> pl.Expr:
    """A number that can be added up; 1 for a line."""
    return pl.lit(1.0) if name is None else pl.col(name).cast(pl.Float64).fill_nan(None)


def _split(name: str) -> tuple[str, str]:
    """Columns that hold a field's two exact parts."""
    return f"{_HELP}{name}{_HELP}whole", f"{_HELP}{name}{_HELP}rest"


def _help(each: OfEvent, tail: str) -> str:
    return f"{_HELP}{each.columns[0] if each.columns else each.event}{_HELP}{tail}"


@dataclass
class _Gathered:
    """What is to be added up of one event, by the group-by that it needs."""

    whole: bool
    lines: list[pl.Expr] = field(default_factory=list)
    #: (columns of a pair, condition) → sums over pairs
    pairs: dict[tuple[tuple[str, ...], str], tuple[pl.Expr, list[pl.Expr]]] = field(default_factory=dict)
    rhythms: list[Rhythm] = field(default_factory=list)
    #: fields that are summed
    numbers: set[str] = field(default_factory=set)

    def add(self, each: OfEvent) -> None:
        if isinstance(each, Rhythm):
            self.rhythms.append(each)
        elif isinstance(each, Since):
            age = pl.when(holds(each.where)).then("age")
            found = age.min() if each.since == "last" else age.max()
            self.lines.append((found / DAY).alias(each.columns[0]))
        elif isinstance(each, Slope):
            self.lines.append(self._slope(each).alias(each.columns[0]))
        else:
            self._aggregate(each)

    def _aggregate(self, each: Aggregate) -> None:
        if each.per == "week of life":
            self.lines.append(pl.when(holds(each.where)).then("age").max().alias(_help(each, "life")))
        if each.agg == "last":
            for window in each.within or (None,):
                self._newest(each, window)
            return
        for window, label in each.cells():
            self._one(each, window, label, each.column(window, label))
        if each.share:
            for window in each.within or (None,):
                self._one(each, window, None, _help(each, f"all{window}"))

    def _one(self, each: Aggregate, window: str | None, label: Label | None, name: str) -> None:
        is_label = pl.lit(True) if label is None or each.by is None else pl.col(each.by) == pl.lit(label)
        paired = each.of if each.agg == "distinct" else "event_id"
        if each.agg == "distinct" or (each.agg == "count" and not self.whole):
            columns = tuple(
                dict.fromkeys([paired or "event_id", *([each.by] if label is not None and each.by else [])])
            )
            key = (columns, repr(sorted(each.where.items(), key=lambda item: item[0])))
            _, sums = self.pairs.setdefault(key, (holds(each.where), []))
            sums.append((inside(window) & is_label).sum().cast(pl.Float64).alias(name))
            return
        mask = inside(window) & holds(each.where) & is_label
        if each.agg in ("count", "lines"):
            self.lines.append(mask.sum().cast(pl.Float64).alias(name))
        elif each.agg in ("min", "max"):
            numbers = pl.when(mask).then(_value(each.of))
            self.lines.append(getattr(numbers, each.agg)().alias(name))
        else:
            found = self._sum(each.of or "", lambda part: pl.when(mask).then(part))
            if each.agg == "mean":
                count = pl.when(mask).then(_value(each.of)).count()
                found = pl.when(count > 0).then(found / count)
            self.lines.append(found.alias(name))

    def _sum(self, of: str, chosen: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
        whole, rest = _split(of)
        self.numbers.add(of)
        return joined(chosen(pl.col(whole)).sum(), chosen(pl.col(rest)).sum())

    def _slope(self, each: Slope) -> pl.Expr:
        """Σ (t − t̄) y / Σ (t − t̄)², where t counts steps and the newest is the last."""
        length, steps = parse_window(each.slope) // _TINY, each.steps
        doubled = steps - 1 - 2 * (pl.col("age") // length)
        within = (pl.col("age") < length * steps) & holds(each.where)
        if each.of is None:
            total = pl.when(within).then(doubled).sum().cast(pl.Float64)
        else:
            total = self._sum(each.of, lambda part: pl.when(within).then(part * doubled))
        return total / 2 / (steps * (steps**2 - 1) / 12)

    def _newest(self, each: Aggregate, window: str | None) -> None:
        of, mask = each.of or "", inside(window) & holds(each.where) & pl.col(each.of or "").is_not_null()
        order = [pl.col(name).filter(mask) for name in ("at", "event_id", of)]
        self.lines.append(pl.col(of).filter(mask).sort_by(order).last().alias(_help(each, f"last{window}")))

    def parts(self, lines: pl.LazyFrame) -> Iterable[pl.LazyFrame]:
        """[user, sums] each."""
        if self.lines:
            for name in sorted(self.numbers):
                whole, rest = parts(pl.col(name))
                lines = lines.with_columns(whole.alias(_split(name)[0]), rest.alias(_split(name)[1]))
            yield lines.group_by("user").agg(self.lines)
        for (columns, _), (mask, sums) in self.pairs.items():
            known = mask & pl.all_horizontal(pl.col(list(columns)).is_not_null())
            youngest = lines.filter(known).group_by("user", *columns).agg(pl.col("age").min())
            yield youngest.group_by("user").agg(sums)
        for each in self.rhythms:
            yield _rhythm(lines, each)


def _rhythm(lines: pl.LazyFrame, each: Rhythm) -> pl.LazyFrame:
    """Gaps between days with the event. [user, the parts]"""
    days = (
        lines.filter(holds(each.where)).select("user", day=pl.col("age") // DAY).unique().sort("user", "day")
    )
    same = pl.col("user") == pl.col("user").shift(1)
    gaps = days.with_columns(gap=pl.when(same).then(pl.col("day") - pl.col("day").shift(1)))
    gap = pl.col("gap")
    found = gaps.group_by("user").agg(
        n=gap.count(), total=gap.sum(), squares=(gap * gap).sum(), now=pl.col("day").min()
    )
    n, total = pl.col("n").cast(pl.Int64), pl.col("total")
    found = found.with_columns(
        mean=pl.when(n > 0).then(total / n),
        # whole numbers up to here: the same whatever the order
        spread=pl.when(n > 1).then(((n * pl.col("squares") - total * total) / (n * (n - 1))).sqrt()),
    )
    named = {
        "gap_mean_days": pl.col("mean"),
        "gap_spread_days": pl.col("spread"),
        "gap_cv": pl.col("spread") / pl.col("mean"),
        "lateness": pl.col("now") / pl.col("mean").clip(1),
    }
    return found.select(
        "user", *(named[part].alias(name) for part, name in zip(each.parts, each.columns, strict=True))
    )


def _cells(features: FeatureSet, facts: Facts, as_of: datetime) -> pl.LazyFrame:
    """[user, stage, cluster, tier that are asked for] by the newest plan."""
    wanted = sorted({each.cell for each in features.features if isinstance(each, OfCell)})
    newest = facts.known(features, CELL, as_of).sort("at", "event_id")
    return newest.group_by("user").agg(pl.col(name).last().alias(_HELP + name) for name in wanted)


def _finished(each: object, features: FeatureSet, facts: Facts, as_of: datetime) -> list[pl.Expr]:
    """What is left to do when all has been added up, in the order of the declarations."""
    if isinstance(each, Ratio):
        return [_ratio(each)]
    if isinstance(each, OfField):
        if not each.labels:
            return [pl.col(each.field).cast(pl.Float64).alias(each.columns[0])]
        return [
            _is(pl.col(each.field), label).alias(name)
            for label, name in zip(each.labels, each.columns, strict=True)
        ]
    if isinstance(each, OfCell):
        column = pl.col(_HELP + each.cell)
        return [_is(column, label).alias(name) for label, name in zip(each.labels, each.columns, strict=True)]
    if isinstance(each, Since) and each.share:
        return [pl.col(each.columns[0]) / facts.covered(features, each.event, as_of)]
    if isinstance(each, Slope):
        return [pl.col(each.columns[0]).fill_null(0.0)]
    if not isinstance(each, Aggregate):
        return []
    found = []
    for window, label in each.cells():
        if each.agg == "last":
            newest = pl.col(_help(each, f"last{window}"))
            value = newest.cast(pl.Float64) if label is None else _is(newest, label)
            found.append(value.alias(each.column(window, label)))
            continue
        column = pl.col(each.column(window, label))
        value = column.fill_null(0.0) if each.agg in ZERO else column.cast(pl.Float64)
        if each.share:
            total = pl.col(_help(each, f"all{window}"))
            value = pl.when(total != 0).then(value / total)
        elif each.per == "week":
            covered = facts.covered(features, each.event, as_of)
            length = covered if window is None else min(parse_window(window) / timedelta(days=1), covered)
            value = value / (length / 7)
        elif each.per == "week of life":
            value = value / ((pl.col(_help(each, "life")) / DAY).clip(7) / 7).fill_null(1.0)
        found.append(value.alias(each.column(window, label)))
    return found


def _is(column: pl.Expr, label: Label) -> pl.Expr:
    """1, 0, or missing where the column is."""
    return (column.cast(pl.String) == as_text(label)).cast(pl.Float64)


def as_text(label: Label) -> str:
    """A label as Polars writes it."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


def _ratio(each: Ratio) -> pl.Expr:
    below = pl.sum_horizontal(pl.col(name) for name in each.over) + each.plus[1]
    value: pl.Expr = pl.when(below != 0).then((pl.col(each.ratio) + each.plus[0]) / below)
    if each.log:
        value = pl.when(value > 0).then(value).log()
    return value.alias(each.columns[0])
