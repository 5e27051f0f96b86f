"""Candidates as Spark reads them: checked by one aggregation, and laid out by user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from conflict.candidates import check_candidates
from conflict.limits import check_limits
from conflict.problem import WIDE, Rules, compile_rules, label_columns, summed_columns
from conflict.spark_chunks import Columns
from conflict.spark_open import translated
from kernel.choices import Limits
from kernel.errors import BadInput

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: candidates of a partition, at most, unless one user has more
_PARTITION = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where candidates come from."""

    path: str
    #: all rows, laid out by hash of the user and sorted by user and task; columns are c0, c1, …
    rows: DataFrame
    #: names of the columns
    names: tuple[str, ...]
    #: columns that the allocation needs
    needed: tuple[str, ...]
    columns: Columns
    rules: Rules

    @staticmethod
    def absolute(path: str) -> str:
        """Workers have working folders of their own."""
        return path if "://" in path else f"file://{Path(path).expanduser().resolve()}"


def read_source(spark: SparkSession, path: str, limits: Limits, partitions: int | None, chunk: int) -> Source:
    """Raises BadInput for candidates or limits that make no sense; two rows alike are found later."""
    with translated(path, field="candidates"):
        frame = spark.read.parquet(Source.absolute(path))
        names = tuple(frame.columns)
        # a dot in a name would be taken for a path into the column
        plain = frame.toDF(*(f"c{place}" for place in range(len(names))))
        head = pl.DataFrame(pl.from_arrow(plain.limit(0).toArrow())).rename(_back(names))
    check_candidates(head, path)
    check_limits(head, limits)
    labels, sums = label_columns(limits), summed_columns(limits)
    kinds, size = _checked(plain, names, labels, sums, path)
    check_limits(_stand_in(head, kinds, labels, size), limits)
    rules = compile_rules(kinds, limits)
    place = {name: f"c{at}" for at, name in enumerate(names)}
    columns = Columns(
        user=place["user"],
        task=place["task"],
        value=place["value"],
        sums=tuple(place[name] for name in sums),
        labels=tuple(place[name] for name in labels),
        kinds=kinds.rename({name: place[name] for name in labels}),
        rules=replace(rules, at_most=np.zeros(rules.limits), at_least=np.zeros(rules.limits)),
        width="float32" if size > WIDE else "float64",
        chunk=chunk,
    )
    if partitions is None:
        at_once = spark.sparkContext.defaultParallelism
        partitions = at_once * max(1, -(-size // (at_once * _PARTITION)))
    user, task = columns.user, columns.task
    return Source(
        path=path,
        rows=plain.repartition(partitions, user).sortWithinPartitions(user, task),
        names=names,
        needed=tuple(dict.fromkeys((user, task, columns.value, *columns.sums, *columns.labels))),
        columns=columns,
        rules=rules,
    )


def exists(spark: SparkSession, url: str) -> bool:
    """Whether there is a file or folder, wherever Spark writes."""
    system, path = _place(spark, url)
    return bool(system.exists(path))


def remove(spark: SparkSession, url: str) -> None:
    """A folder with all that is in it, if it is there."""
    system, path = _place(spark, url)
    system.delete(path, True)


def _place(spark: SparkSession, url: str) -> tuple[Any, Any]:
    context = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(url)
    return path.getFileSystem(context._jsc.hadoopConfiguration()), path


def _back(names: tuple[str, ...]) -> dict[str, str]:
    return {f"c{place}": name for place, name in enumerate(names)}


def _checked(
    plain: DataFrame, names: tuple[str, ...], labels: list[str], sums: list[str], path: str
) -> tuple[pl.DataFrame, int]:
    """Combinations of labels in ascending order, and how many candidates there are; in one pass."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    place = {name: f"c{at}" for at, name in enumerate(names)}
    numbers = list(dict.fromkeys(["value", *sums]))
    present = list(dict.fromkeys(["user", "task", *numbers, *labels]))
    figures = [F.count(F.lit(1)).alias("rows")]
    figures += [F.count_if(F.col(place[name]).isNull()).alias(f"null:{name}") for name in present]
    for name in numbers:
        number = F.col(place[name]).cast("double")
        bad = F.isnan(number) | (F.abs(number) == float("inf"))
        figures += [F.count_if(bad).alias(f"bad:{name}"), F.min(F.when(bad, number)).alias(f"which:{name}")]
    with translated(path):
        grouped = plain.groupBy(*(place[name] for name in labels)).agg(*figures).toArrow()
    found = pl.DataFrame(pl.from_arrow(grouped))
    found = found.rename({place[name]: name for name in labels})
    for name in present:
        if nulls := int(found[f"null:{name}"].sum()):
            raise BadInput(f"is empty in {_rows(nulls)}", where=path, field=name)
        if name in numbers and (bad_ := int(found[f"bad:{name}"].sum())):
            which = found[f"which:{name}"].drop_nulls()[0]
            raise BadInput(f"is not a finite number, in {_rows(bad_)}", where=path, field=name, value=which)
    return found.select(labels).sort(labels) if labels else pl.DataFrame(), int(found["rows"].sum())


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _stand_in(head: pl.DataFrame, kinds: pl.DataFrame, labels: list[str], size: int) -> pl.DataFrame:
    """A row for each combination of labels, so that limits are checked as in one process."""
    rows = min(1, size) if not labels else kinds.height
    number = pl.Series(np.arange(rows))

    def column(name: str, dtype: pl.DataType) -> pl.Series:
        if name in labels:
            return kinds[name]
        if name in ("user", "task"):
            return number
        return pl.repeat(0, rows, eager=True).cast(dtype) if dtype.is_numeric() else pl.Series([None] * rows)

    return pl.DataFrame({name: column(name, dtype) for name, dtype in head.schema.items()})
