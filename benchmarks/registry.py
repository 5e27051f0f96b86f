"""Every case by name. A new one is a module with a `CASE` and a line here."""

from __future__ import annotations

from benchmarks import (
    allocation,
    audience_spark,
    audiences,
    cells,
    decide,
    files,
    gap,
    learning,
    limits,
    membership,
    mkp,
    mmkp,
    nightly,
    offpolicy,
    policies,
    questions,
    scale,
    seeds,
    sequence,
    spark,
    windows,
    windows_id,
)
from benchmarks.case import Case

CASES: dict[str, Case] = {
    "allocation": allocation.CASE,
    "audience_spark": audience_spark.CASE,
    "audiences": audiences.CASE,
    "cells": cells.CASE,
    "decide": decide.CASE,
    "files": files.CASE,
    "gap": gap.CASE,
    "learning": learning.CASE,
    "limits": limits.CASE,
    "membership": membership.CASE,
    "mkp": mkp.CASE,
    "mmkp": mmkp.CASE,
    "nightly": nightly.CASE,
    "offpolicy": offpolicy.CASE,
    "policies": policies.CASE,
    "questions": questions.CASE,
    "scale": scale.CASE,
    "seeds": seeds.CASE,
    "sequence": sequence.CASE,
    "spark": spark.CASE,
    "windows": windows.CASE,
    "windows_id": windows_id.CASE,
}
