"""Selection: a group's members written to a file, whole or not at all, with a manifest beside it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from insight.population import Population
from kernel.errors import BadInput, NotFound

FORMATS = (".parquet", ".csv")


def select(population: Population, name: str, out: Path) -> dict[str, Any]:
    """Writes the members' own ids (one column, named as the entity's key) to `out`.

    Beside it `NAME.manifest.json`, whose contents are returned; it is written last, so a manifest
    whose `sha256` is the file's speaks for a whole file. Raises BadInput for a group without members,
    a format other than Parquet and CSV, or a folder that is not there; then nothing is written.
    """
    if name not in population.groups:
        raise NotFound("group", name, population.groups)
    if out.suffix not in FORMATS:
        raise BadInput(f"does not end in {' or '.join(FORMATS)}", field="out", value=str(out))
    if not out.parent.is_dir():
        raise BadInput("is in a folder that does not exist", field="out", value=str(out))
    members = population.members(name)
    if not members:
        raise BadInput(
            "has no members", where=f"group {name}", field="as_of", value=population.as_of.isoformat()
        )
    frame = pl.DataFrame({population.catalog.entity.key: population.users(members)})
    write = frame.write_parquet if out.suffix == ".parquet" else frame.write_csv
    _replace(out, lambda path: write(path))
    manifest = {
        "group": name,
        "file": out.name,
        "count": len(members),
        "universe": len(population.universe),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "as_of": population.as_of.isoformat(),
        "group_fingerprint": population.groups[name].fingerprint,
        "catalog_fingerprint": population.catalog.fingerprint,
        "source_fingerprint": population.source_fingerprint,
    }
    text = json.dumps(manifest, indent=2) + "\n"
    _replace(out.with_name(f"{name}.manifest.json"), lambda path: path.write_text(text, encoding="utf-8"))
    return manifest


def _replace(out: Path, write: Callable[[Path], Any]) -> None:
    """The file appears whole under its name, or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    os.close(handle)
    path = Path(temporary)
    try:
        write(path)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        path.chmod(0o644)
        path.replace(out)
    finally:
        path.unlink(missing_ok=True)
