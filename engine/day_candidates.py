"""The candidates of a day, a part of the users at a time; of very many only those that can matter.

Few are all kept, so that a small plan is exact. Of more than `keep.above`, samples of users are allocated
first: their prices say where the day's will lie; what cannot matter there is left out (`planner.pruning`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from conflict.api import allocate
from kernel.choices import Allocation, DailyLimits, Limit, Limits
from kernel.work import Task
from planner.api import (
    LABELS,
    WHY,
    Candidates,
    Keep,
    Pruner,
    Resources,
    Scores,
    Steered,
    all_limits,
    box_of,
    by_task,
    derive_candidates,
    present,
    pruner,
    scaled,
    scarce_floors,
    signed,
    typical_of,
)

#: file of a plan: each candidate that never came to the allocation
LEFT_OUT = "left_out.parquet"
#: pairs of user and task that are worked on at a time
CHUNK = 1_000_000
#: pairs of a sample, samples, fewest users of one
_SAMPLE, _SAMPLES, _FEWEST = 150_000, 3, 2_000
#: relative gap and seconds that prices of a sample need
_NEAR, _SECONDS = 1e-3, 20.0
#: left out one by one, at most
_EACH = 50_000_000

Part = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What candidates are derived from; see `planner.candidates.derive_candidates`."""

    audiences: pl.DataFrame
    scores: Scores
    blocked: pl.DataFrame | None = None
    withheld: pl.DataFrame | None = None
    steered: tuple[Steered, ...] = ()

    def of(self, part: Part) -> Known:
        """The same of some of the users."""

        def some(frame: pl.DataFrame | None) -> pl.DataFrame | None:
            return None if frame is None else part(frame)

        told = self.scores
        return Known(
            audiences=part(self.audiences),
            scores=replace(
                told, users=part(told.users), responses=part(told.responses), effects=some(told.effects)
            ),
            blocked=some(self.blocked),
            withheld=some(self.withheld),
            steered=tuple(replace(each, users=part(each.users)) for each in self.steered),
        )


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What was left out, and what that may have cost."""

    #: candidates there were
    considered: int
    #: of the day, whether or not a kept candidate is in them
    limits: Limits
    #: what cutting off beyond the most a user may cost the objective
    lost: float
    #: limit → lowest and highest price that was reckoned with
    box: dict[str, tuple[float, float]]
    scarce: tuple[str, ...]
    most: int
    #: task, reason, count
    left_out: pl.DataFrame
    #: user, task, value, reason: each of them, by user; None where they are too many to keep
    each: pl.DataFrame | None

    def write(self, folder: Path) -> None:
        """`left_out_counts.parquet`, and `left_out.parquet` where each is kept."""
        self.left_out.write_parquet(folder / "left_out_counts.parquet")
        if self.each is not None:
            self.each.write_parquet(folder / LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class Proposed:
    candidates: Candidates
    limits: Limits
    #: None where everything was kept
    pruning: Pruning | None


def propose(
    tasks: Sequence[Task],
    resources: Resources,
    known: Known,
    daily: DailyLimits | None,
    of_rules: Sequence[Limit] = (),
    *,
    besides: Mapping[str, float] | None = None,
    floors: DailyLimits | None = None,
    keep: Keep,
    seed: int,
    told: Callable[[int], None] = lambda _: None,
    chunk: int = CHUNK,
) -> Proposed:
    """The day's candidates under its limits. `daily` limits the day; `floors`: limits whose floors may need
    candidates that are worth nothing, by default the same. `told`: candidates so far.

    Memory: what is kept, and `chunk` pairs of user and task. Raises BadInput as `derive_candidates` and
    `day_limits`.
    """
    floors = daily if floors is None else floors
    whole = all_limits(daily, resources, of_rules)

    def derive(some: Known) -> Candidates:
        return derive_candidates(
            tasks, resources, some.audiences, some.scores, some.blocked, floors, some.withheld,
            steered=some.steered, besides=besides,
        )  # fmt: skip

    rows = _pairs(tasks, known.audiences)
    pruned = _pruner(tasks, known, whole, derive, rows, keep, seed) if rows > keep.above else None
    parts, counts, lost, considered = list[Candidates](), dict[str, int](), 0.0, 0
    left, rest, gone_by_now = list[pl.DataFrame](), list[pl.DataFrame](), 0
    for some in _chunks(known, rows, chunk):
        found = derive(some)
        considered += found.frame.height
        if pruned is not None:
            found, away, cost = _kept(pruned, found)
            left.append(away.group_by("task", "reason").agg(pl.len().cast(pl.Int64).alias("count")))
            gone_by_now += away.height
            if gone_by_now <= _EACH:
                rest.append(away)
            lost += cost
        parts.append(found)
        for reason, count in found.pruned.items():
            counts[reason] = counts.get(reason, 0) + count
        told(considered)
    frame = pl.concat([each.frame for each in parts], rechunk=True)
    withheld = [each.withheld for each in parts if each.withheld is not None]
    pruning = None
    if pruned is not None:
        gone = pl.concat(left).group_by("task", "reason").agg(pl.col("count").sum())
        gone = gone.with_columns(pl.col("task", "reason").cast(pl.String)).sort("task", "reason")
        each = pl.concat(rest) if gone_by_now <= _EACH else None
        for reason, count in gone.group_by("reason").agg(pl.col("count").sum()).sort("reason").iter_rows():
            counts[reason] = count
        names = [limit.name for limit in whole.limits]
        edges = zip(pruned.low.tolist(), pruned.high.tolist(), strict=True)
        pruning = Pruning(
            considered=considered, limits=whole, lost=lost, box=dict(zip(names, edges, strict=True)),
            scarce=pruned.scarce, most=pruned.most, left_out=gone, each=each,
        )  # fmt: skip
    return Proposed(
        candidates=Candidates(
            frame=frame, pruned=counts, withheld=pl.concat(withheld, rechunk=True) if withheld else None
        ),
        limits=present(whole, frame),
        pruning=pruning,
    )


def pruning_told(
    pruning: Pruning, tasks: Sequence[Task], candidates: pl.DataFrame, allocation: Allocation
) -> dict[str, Any]:
    """`{considered, kept, most_each, lost_at_most}` for `plan.json`: by what part of its worth an allocation
    may be behind the best of all candidates, those left out among them, proven; None where nothing is."""
    pruned = pruner(_labels(tasks), pruning.limits, pruning.box, pruning.most)
    prices = {use.name: use.price for use in allocation.limits}
    bound = pruned.bound(pruned.worth(pruned.columns(candidates), prices), pruning.lost, prices)
    objective = allocation.objective or 0.0
    behind = (bound - objective) / max(abs(objective), 1e-9)
    return {
        "considered": pruning.considered,
        "kept": candidates.height,
        "most_each": pruning.most,
        "lost_at_most": behind if np.isfinite(behind) else None,
    }


def _pairs(tasks: Sequence[Task], audiences: pl.DataFrame) -> int:
    sizes = dict(audiences.group_by("audience").len().iter_rows())
    return sum(sizes.get(task.audience, 0) for task in tasks)


def _chunks(known: Known, rows: int, chunk: int) -> Iterator[Known]:
    """By user, so that the candidates of all chunks stand as those of one would."""
    if rows <= chunk:
        yield known
        return
    known = known.of(lambda frame: frame.sort("user", maintain_order=True))
    people = known.audiences["user"].unique(maintain_order=True)
    step = max(len(people) * chunk // rows, 1)
    for begin in range(0, len(people), step):
        low, high = people[begin], people[min(begin + step, len(people)) - 1]

        yield known.of(partial(_between, low, high))


def _between(low: int | str, high: int | str, frame: pl.DataFrame) -> pl.DataFrame:
    """Of a frame sorted by user."""
    user = frame["user"]
    return frame[user.search_sorted(low, "left") : user.search_sorted(high, "right")]


def _pruner(
    tasks: Sequence[Task], known: Known, limits: Limits, derive: Callable[[Known], Candidates], rows: int,
    keep: Keep, seed: int,
) -> Pruner | None:  # fmt: skip
    """None where samples cannot hold the limits, or limits select on more than the task's labels: then
    everything is kept, and the allocation says what is wrong."""
    if not by_task(limits, LABELS):
        return None
    people = known.audiences["user"].unique().sort()
    size = min(max(len(people) * _SAMPLE // rows, _FEWEST), len(people) // _SAMPLES)
    order = np.random.default_rng(seed).permutation(len(people))
    share, found, typical = size / len(people), list[dict[str, float]](), dict[str, float]()
    drawn = pl.DataFrame()
    for place in range(_SAMPLES):
        some = people.gather(np.sort(order[place * size : (place + 1) * size])).to_frame()
        drawn = derive(known.of(partial(_only, some))).frame
        mine = present(scaled(limits, share), drawn, floors=False)
        answer = allocate(drawn, mine, time_limit=_SECONDS, gap=_NEAR, seed=seed)
        if answer.objective is None:
            return None
        found.append({use.name: use.price for use in answer.limits})
        typical = typical or typical_of(drawn, limits)
    told = [{limit.name: each.get(limit.name, 0.0) for limit in limits.limits} for each in found]
    box = box_of(told, typical)
    # of what no sample has a candidate any price may be
    highest = float(drawn["value"].max() or 0.0)  # type: ignore[arg-type]  # a number, as value is
    seen = {name for each in found for name in each}
    box |= {limit.name: (-highest, highest) for limit in limits.limits if limit.name not in seen}
    made = pruner(_labels(tasks), limits, signed(box, limits), keep.most)
    columns = made.columns(drawn)
    return replace(made, scarce=scarce_floors(made, columns, made.prune(columns), share))


def _only(people: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.join(people, on="user", how="semi", maintain_order="left")


def _labels(tasks: Sequence[Task]) -> pl.DataFrame:
    return pl.DataFrame([task.model_dump() for task in tasks]).rename({"name": "task"}).select(LABELS)


def _kept(pruned: Pruner, found: Candidates) -> tuple[Candidates, pl.DataFrame, float]:
    """What stays, [user, task, value, reason] of what goes, and what cutting may cost."""
    fates = pruned.prune(pruned.columns(found.frame))
    # of the held-out stays what would have been meant for them
    back = found.withheld
    if back is not None and back.height:
        back = back.filter(pruned.prune(pruned.columns(back)).kept)
    said = pl.Enum(list(WHY.values()))
    reason = pl.Series("_fate", fates.fate).replace_strict(WHY, default=None, return_dtype=pl.String)
    gone = found.frame.select(
        "user",
        pl.col("task").cast(pl.Enum(pruned.tasks)),
        pl.col("value").cast(pl.Float32),
        reason.cast(said).alias("reason"),
    ).drop_nulls("reason")
    return replace(found, frame=found.frame.filter(fates.kept), withheld=back), gone, fates.lost
