"""An allocation as files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from kernel.choices import Allocation
from kernel.errors import BadInput


def write_report(allocation: Allocation, out: Path) -> None:
    """`allocation.json` alone, where assignments are written already."""
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".allocation-") as draft:
            (Path(draft) / "allocation.json").write_text(_text(allocation), encoding="utf-8")
            os.replace(Path(draft) / "allocation.json", out / "allocation.json")
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(out), field="out") from None


def _text(allocation: Allocation) -> str:
    return json.dumps(allocation.as_json(), indent=2, allow_nan=False, default=str) + "\n"


def write_allocation(allocation: Allocation, out: Path) -> None:
    """`assignments.parquet` and `allocation.json` in the folder `out`, both or neither.

    Both are written beside their places first and then renamed; a reader never sees half a file. Raises
    BadInput when the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".allocation-") as draft:
            allocation.assignments.write_parquet(Path(draft) / "assignments.parquet")
            (Path(draft) / "allocation.json").write_text(_text(allocation), encoding="utf-8")
            for name in ("assignments.parquet", "allocation.json"):
                os.replace(Path(draft) / name, out / name)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(out), field="out") from None
