"""Every case by name. A new one is a module with a `CASE` and a line here."""

from __future__ import annotations

from benchmarks import allocation, audience_spark, files, gap, membership, mkp, mmkp, questions, scale, spark
from benchmarks.case import Case

CASES: dict[str, Case] = {
    "allocation": allocation.CASE,
    "audience_spark": audience_spark.CASE,
    "files": files.CASE,
    "gap": gap.CASE,
    "membership": membership.CASE,
    "mkp": mkp.CASE,
    "mmkp": mmkp.CASE,
    "questions": questions.CASE,
    "scale": scale.CASE,
    "spark": spark.CASE,
}
