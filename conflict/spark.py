"""A crowd whose candidates are spread over a Spark cluster: the twin of `Here` in `conflict.reply`.

A user's candidates stand in one partition (by hash of the user), sorted by user and task, as compact columns
that the cluster keeps. Each round is one `mapInArrow` over those: the driver sends prices, and gets back sums
and the columns of users who are still open. Rows are read twice: to make the columns, and to write those that
were chosen, which stay distributed as Parquet.

When an executor is lost, Spark makes its columns again from the source. Hash and order depend on nothing
but the rows, so candidates get the same places; each answer carries a checksum of its columns, and a source
that changed meanwhile ends the search with `Stale`. A result is complete when Spark's `_SUCCESS` stands
beside it; one that fails is removed.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conflict import spark_chunks
from conflict import spark_job as job
from conflict.problem import Floats, Problem, Rules
from conflict.reply import Box, Here, Worth
from conflict.spark_choice import Choice, Totals, choice_of, decided
from conflict.spark_open import close_spark, open_spark, translated
from conflict.spark_source import Source, exists, read_source, remove
from kernel.choices import Limits
from kernel.errors import BadInput, Stale

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Choice", "Round", "SparkCrowd", "Totals", "choice_of", "close_spark", "open_spark", "read_crowd"]

#: candidates held by the driver from which small samples are drawn, so that those cost no round
_RESERVOIR = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Round:
    """One pass over the cluster."""

    what: str
    seconds: float


@dataclass(kw_only=True, eq=False)
class SparkCrowd:
    """A `Crowd` in a cluster. `origin` of what it answers is partition · 2^40 + place in the partition."""

    rules: Rules
    size: int
    users: int
    source: Source
    #: a row of `spark_chunks.CHUNK` for each chunk, kept by the cluster
    chunks: DataFrame
    #: users before each chunk, by (partition, first candidate)
    before: dict[tuple[int, int], int]
    #: checksum of each chunk
    seals: dict[tuple[int, int], int]
    #: every pass so far
    rounds: list[Round]
    elsewhere: float = 0.0
    _reservoir: Problem | None = field(default=None, init=False)

    def sample(self, size: int, seed: int) -> Problem:
        """As of `Here`; the users of a small sample are drawn from those of a larger one."""
        if self.size == 0:
            return Problem.nothing(self.rules)
        if 4 * size > _RESERVOIR:
            return self._drawn(size, seed)
        if self._reservoir is None:
            self._reservoir = self._drawn(_RESERVOIR, 0)
        return Here(problem=self._reservoir).sample(min(size, self._reservoir.size), seed)

    def narrowed(self, box: Box) -> Problem:
        """As the function of that name in `conflict.reply`."""
        rows = self._round("narrowed", job.SOME, job.narrowings(self._bare, self._width, box))
        settled = float(sum(row["settled"] for row in rows))
        use = self._use(rows)
        return self._gathered(rows).bounded(self.rules.at_most - use, self.rules.at_least - use, settled)

    def worth(self, prices: Floats) -> Worth:
        """As the function of that name in `conflict.reply`."""
        rows = self._round("worth", job.WORTH, job.worths(self._bare, self._width, prices))
        return Worth(
            net=float(sum(row["net"] for row in rows)),
            gross=float(sum(row["gross"] for row in rows)),
            use=self._use(rows),
        )

    def totals(self, choice: Choice) -> Totals:
        """What a choice comes to. Raises Stale when other users are open than those of the choice."""
        rows = self._round("totals", job.TOTALS, job.totals(self._bare, self._width, decided(choice)))
        if choice.pool is not None:
            self._same_pool(choice.pool, rows)
        return Totals(
            objective=float(sum(row["objective"] for row in rows)),
            used=self._use(rows),
            chosen=sum(row["chosen"] for row in rows),
        )

    def write(self, choice: Choice, out: str) -> Totals:
        """The chosen rows, all their columns, as a folder of Parquet files; what they come to.

        Raises BadInput when `out` is there already or cannot be written, Stale when the candidates are not
        those of the first reading; then nothing is left behind.
        """
        session, folder = self.source.rows.sparkSession, Source.absolute(out)
        if exists(session, folder):
            raise BadInput("is there already", where=out, field="out")
        totals = self.totals(choice)
        rows = self.source.rows
        run = job.writing(self.source.columns, decided(choice), self.seals)
        start = time.monotonic()
        try:
            with self._batches_of(spark_chunks.READ), translated(out, field="out"):
                chosen = rows.mapInArrow(run, rows.schema).toDF(*self.source.names)
                chosen.write.mode("error").parquet(folder)
        except BaseException:
            remove(session, folder)
            raise
        self.rounds.append(Round(what="write", seconds=time.monotonic() - start))
        return totals

    def close(self) -> None:
        """The cluster may forget the candidates."""
        self.chunks.unpersist()

    @property
    def _width(self) -> str:
        return self.source.columns.width

    @property
    def _bare(self) -> Rules:
        return self.source.columns.rules

    def _round(self, what: str, schema: str, run: spark_chunks.Round) -> list[dict[str, Any]]:
        """One answer for each chunk, in the order of the crowd."""
        start = time.monotonic()
        with self._batches_of(1), translated(self.source.path):
            rows: list[dict[str, Any]] = self.chunks.mapInArrow(run, schema).toArrow().to_pylist()
        self.rounds.append(Round(what=what, seconds=time.monotonic() - start))
        rows.sort(key=lambda row: (row["partition"], row["first"]))
        if {(row["partition"], row["first"]): row["seal"] for row in rows} != self.seals:
            raise Stale(f"{self.source.path}: the candidates have changed since they were first read")
        return rows

    @contextmanager
    def _batches_of(self, rows: int) -> Iterator[None]:
        with batches_of(self.source.rows.sparkSession, rows):
            yield

    def _use(self, rows: list[dict[str, Any]]) -> Floats:
        uses = [np.frombuffer(row["use"], np.float64) for row in rows]
        return np.asarray(np.sum(uses, axis=0)) if uses else np.zeros(self.rules.limits)

    def _gathered(self, rows: list[dict[str, Any]]) -> Problem:
        """The open users of all chunks as one problem."""
        parts = [spark_chunks.problem_of(row, self.rules, self._width, "counts") for row in rows]
        if not parts:
            return replace(Problem.nothing(self.rules), origin=np.zeros(0, np.int64))
        return replace(
            parts[0],
            value=np.concatenate([part.value for part in parts]),
            amounts=np.ascontiguousarray(np.concatenate([part.amounts for part in parts], axis=1)),
            kind=np.concatenate([part.kind for part in parts]),
            starts=np.r_[0, np.cumsum(np.concatenate([np.diff(part.starts) for part in parts]))].astype(
                np.int64
            ),
            origin=np.concatenate([spark_chunks.places(part) for part in parts]),
        )

    def _drawn(self, size: int, seed: int) -> Problem:
        draw = job.Draw(of=self.users, wanted=max(1, round(self.users * size / self.size)), seed=seed)
        rows = self._round("sample", job.SOME, job.samples(self._bare, self._width, draw, self.before))
        drawn = self._gathered(rows)
        share = drawn.users / self.users
        return drawn.bounded(self.rules.at_most * share, self.rules.at_least * share)

    def _same_pool(self, pool: Problem, rows: list[dict[str, Any]]) -> None:
        origin = spark_chunks.places(pool)
        keys = [(row["partition"] << spark_chunks.PARTITION) + row["first"] for row in rows]
        edges = np.r_[np.searchsorted(origin, keys), pool.size]
        for row, low, high in zip(rows, edges[:-1], edges[1:], strict=True):
            if row["open"] != high - low or row["mark"] != zlib.crc32(origin[low:high].tobytes()):
                raise Stale(f"{self.source.path}: other users are open than those that were decided")


def read_crowd(
    spark: SparkSession, path: str, limits: Limits, *, partitions: int | None = None, chunk: int = 250_000
) -> SparkCrowd:
    """Candidates from Parquet (a file or folder that all workers can read), checked and held by the cluster.

    `partitions` (by default what the cluster does at once, so often that none has more than 4 million
    candidates) and `chunk`, most candidates of a piece of work, change where candidates stand, not what
    comes out. Raises BadInput as `check_limits` does, with numbers of rows for places.
    """
    from pyspark import StorageLevel

    start = time.monotonic()
    source = read_source(spark, path, limits, partitions, chunk)
    rounds = [Round(what="check", seconds=time.monotonic() - start)]
    start = time.monotonic()
    with batches_of(spark, spark_chunks.READ), translated(path):
        needed = source.rows.select(*source.needed)
        chunks = needed.mapInArrow(spark_chunks.packing(source.columns), spark_chunks.CHUNK).persist(
            StorageLevel.MEMORY_AND_DISK
        )
        heads = chunks.select("partition", "first", "users", "size", "seal", "fault").toArrow().to_pylist()
    rounds.append(Round(what="pack", seconds=time.monotonic() - start))
    heads.sort(key=lambda row: (row["partition"], row["first"]))
    for row in heads:
        if row["fault"] is not None:
            chunks.unpersist()
            raise BadInput(
                "stands in two rows", where=path, field="(user, task)", value=tuple(json.loads(row["fault"]))
            )
    before = np.cumsum([0, *(row["users"] for row in heads)])
    keys = [(row["partition"], row["first"]) for row in heads]
    return SparkCrowd(
        rules=source.rules,
        size=sum(row["size"] for row in heads),
        users=int(before[-1]),
        source=source,
        chunks=chunks,
        before=dict(zip(keys, before.tolist(), strict=False)),
        seals={key: row["seal"] for key, row in zip(keys, heads, strict=True)},
        rounds=rounds,
    )


@contextmanager
def batches_of(spark: SparkSession, rows: int) -> Iterator[None]:
    """Rows of a batch that goes to a worker: chunks go one by one, as each is megabytes."""
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, str(rows))
    try:
        yield
    finally:
        spark.conf.set(name, str(before))
