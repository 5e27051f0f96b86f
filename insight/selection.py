"""Selection: a group's members written to files anywhere, piece by piece, with a manifest that comes last.

The first column is the users' own id, named as the entity's key; further columns are fields of the catalog. A
local file appears whole under its name or not at all; elsewhere as its store does it. A manifest whose sums
are those of its files speaks for the whole audience. Users are in the order of their numbers, `PIECE` at a
time, and by id within each; nothing here holds more of them at once, besides the bitmap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pyroaring import BitMap

from insight.addresses import is_local, local_path, system_of
from insight.population import Population
from insight.selection_columns import Columns
from insight.selection_files import (
    FORMATS,
    exists,
    pieces_of,
    read_json,
    remove,
    sum_of,
    write_frames,
    write_json,
)
from kernel.errors import BadInput, NotFound

#: users written at once
PIECE = 500_000


def select(
    population: Population,
    name: str,
    out: Path | str,
    *,
    fields: Sequence[str] = (),
    part_rows: int | None = None,
    version: int | Callable[[], int] | None = None,
    members: BitMap | None = None,
) -> dict[str, Any]:
    """Writes the members to `out`, a path or fsspec URL ending in `.parquet` or `.csv`, and returns the
    manifest, which lies beside as `NAME.manifest.json`, with `unchanged` when all was there already.

    `fields`: catalog fields as further columns. `part_rows`: so many users a file, named `STEM-00000.parquet`
    and so on. `version`: the published version that this is of, asked for when nothing else is wrong;
    `members`: its own. Raises BadInput for a group without members, another format or a folder that is not
    there, NotFound for an unknown group or field; then nothing is written.
    """
    address, suffix = str(out), check_request(population, name, out, fields, part_rows)
    found = population.members(name) if members is None else members
    if not found:
        raise BadInput(
            "has no members", where=f"group {name}", field="as_of", value=population.as_of.isoformat()
        )
    beside = address[: address.rfind("/") + 1]
    stem = address.removeprefix(beside).removesuffix(suffix)
    own = version() if callable(version) else version
    said = _said(population, name, found, fields, own)
    manifest_at = f"{beside}{name}.manifest.json"
    before = read_json(manifest_at) if exists(manifest_at) else {}
    files = _files(stem, suffix, len(found), part_rows)
    if _stands(before, said, beside, files):
        return {**before, "unchanged": True}
    with Columns(population, found, fields, PIECE) as columns:
        written = [write_frames(f"{beside}{file}", _frames(columns, *rows)) for file, rows in files.items()]
    manifest = {**said, "files": written}
    if len(written) == 1:
        manifest |= {"file": written[0]["file"], "sha256": written[0]["sha256"]}
    write_json(manifest_at, manifest)
    for each in before.get("files", []):
        if isinstance(each, dict) and each.get("file") not in files and "/" not in str(each.get("file")):
            remove(f"{beside}{each.get('file')}")
    return {**manifest, "unchanged": False}


def check_request(
    population: Population,
    name: str,
    out: Path | str,
    fields: Sequence[str] = (),
    part_rows: int | None = None,
) -> str:
    """The format of `out`, as its suffix, when nothing asked of `select` is wrong; raises as it does."""
    address = str(out)
    if name not in population.groups:
        raise NotFound("group", name, population.groups)
    suffix = next((each for each in FORMATS if address.endswith(each)), None)
    if suffix is None:
        raise BadInput(f"does not end in {' or '.join(FORMATS)}", field="out", value=address)
    system_of(address, "out")
    if is_local(address) and not local_path(address).parent.is_dir():
        raise BadInput("is in a folder that does not exist", field="out", value=address)
    if part_rows is not None and part_rows < 1:
        raise BadInput("is less than one user a file", field="part_rows", value=part_rows)
    for field in fields:
        population.catalog.field(field, at="--with")
    if len(fields) != len(set(fields)):
        raise BadInput("names a field twice", field="--with", value=", ".join(fields))
    return suffix


def _said(
    population: Population, name: str, members: BitMap, fields: Sequence[str], version: int | None
) -> dict[str, Any]:
    """What a selection is of: the same for the same files."""
    return {
        "group": name,
        "version": version,
        "count": len(members),
        "universe": len(population.universe),
        "as_of": population.as_of.isoformat(),
        "columns": [population.catalog.entity.key, *fields],
        "members": hashlib.blake2b(members.serialize(), digest_size=16).hexdigest(),
        "group_fingerprint": population.groups[name].fingerprint,
        "catalog_fingerprint": population.catalog.fingerprint,
        "source_fingerprint": population.source_fingerprint,
        "identities": population.merges.fingerprint,
    }


def _files(stem: str, suffix: str, count: int, part_rows: int | None) -> dict[str, tuple[int, int]]:
    """File → (first, last + 1) of its users, counted in order."""
    if part_rows is None:
        return {f"{stem}{suffix}": (0, count)}
    return {
        f"{stem}-{part:05}{suffix}": (start, min(start + part_rows, count))
        for part, start in enumerate(range(0, count, part_rows))
    }


def _frames(columns: Columns, start: int, stop: int) -> Iterator[pl.DataFrame]:
    """The users from `start` to before `stop`, cut out of whole pieces."""
    while start < stop:
        frame = columns.frame(start // PIECE).slice(start % PIECE, stop - start)
        yield frame
        start += frame.height


def _stands(
    before: Mapping[str, Any], said: Mapping[str, Any], beside: str, files: Mapping[str, tuple[int, int]]
) -> bool:
    """Whether the manifest says the same of the same files, and they are as it says."""
    listed = before.get("files")
    if {key: before.get(key) for key in said} != dict(said) or not isinstance(listed, list):
        return False
    rows = {each["file"]: each["rows"] for each in listed}
    if rows != {file: stop - start for file, (start, stop) in files.items()}:
        return False
    return not any(_file_problems(f"{beside}{each['file']}", each) for each in listed)


def check_selection(address: str) -> dict[str, Any]:
    """Reads the files of a manifest again: `{ok, problems, count, files}`. Raises BadInput when the manifest
    itself is missing or is none."""
    manifest = read_json(address)
    listed, columns = manifest.get("files"), manifest.get("columns")
    if not isinstance(listed, list) or not listed or not isinstance(columns, list):
        raise BadInput("is not the manifest of a selection", field="manifest", value=address)
    beside, problems, count = address[: address.rfind("/") + 1], [], 0
    for each in listed:
        file = f"{beside}{each['file']}"
        wrong = _file_problems(file, each)
        problems += wrong
        if not wrong:
            rows = 0
            for frame in pieces_of(file):
                rows += frame.height
                if frame.columns != columns:
                    problems.append(f"{each['file']} has the columns {', '.join(frame.columns)}")
                    break
            if rows != each["rows"]:
                problems.append(f"{each['file']} has {rows} rows, and the manifest says {each['rows']}")
            count += rows
    if not problems and count != manifest.get("count"):
        problems.append(f"the files have {count} users, and the manifest says {manifest.get('count')}")
    return {"ok": not problems, "problems": problems, "count": count, "files": len(listed)}


def _file_problems(address: str, listed: Mapping[str, Any]) -> list[str]:
    try:
        size, digest = sum_of(address)
    except FileNotFoundError:
        return [f"{listed['file']} is not there"]
    if size != listed["bytes"]:
        return [f"{listed['file']} has {size} bytes, and the manifest says {listed['bytes']}"]
    return [] if digest == listed["sha256"] else [f"{listed['file']} has another checksum"]
