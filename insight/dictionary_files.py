"""How the dictionary lies on disk.

`ids` and `text` only ever grow, and what lies in them beyond the lengths in `head.json` does not count.
`NAME.table`, `.keys`, `.numbers`, `.starts` are the parts of a segment of the index, which is written once.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from insight.numbering import Segment

HEAD = "head.json"
_PARTS: dict[str, Any] = {
    "table": np.uint32,
    "keys": np.uint64,
    "numbers": np.uint32,
    "starts": np.uint32,
}


def mapped(path: Path, kind: Any, length: int) -> Any:
    """The first `length` values of a file, not read before they are used."""
    return np.memmap(path, kind, "r", shape=(length,)) if length else np.zeros(0, kind)


def appended(path: Path, old: Any, added: Any) -> Any:
    """`old` and then `added`, safely on disk."""
    with path.open("ab") as handle:
        handle.truncate(old.nbytes)
        handle.write(added.data)
        _sync(handle)
    return mapped(path, old.dtype, len(old) + len(added))


def write_segment(folder: Path, segment: Segment, name: str) -> Segment:
    """The same, mapped from its files."""
    for part in _PARTS:
        array = getattr(segment, part)
        if array is not None:
            with (folder / f"{name}.{part}").open("wb") as handle:
                handle.write(np.ascontiguousarray(array).data)
                _sync(handle)
    return read_segment(folder, describe(replace(segment, name=name)))


def describe(segment: Segment) -> dict[str, Any]:
    """What of a segment stands in the head."""
    lengths = {part: len(array) for part in _PARTS if (array := getattr(segment, part)) is not None}
    plain = {each: getattr(segment, each) for each in ("name", "begin", "end", "low", "least", "shift")}
    return {**plain, "parts": lengths}


def read_segment(folder: Path, described: dict[str, Any]) -> Segment:
    plain = {key: value for key, value in described.items() if key != "parts"}
    parts = {
        part: mapped(folder / f"{plain['name']}.{part}", _PARTS[part], length)
        for part, length in described["parts"].items()
    }
    return Segment(**plain, **parts)


def remove_unnamed(folder: Path, names: set[str]) -> None:
    """Files of segments that are no longer, or never became, part of the index."""
    for part in _PARTS:
        for path in folder.glob(f"*.{part}"):
            if path.stem not in names:
                path.unlink(missing_ok=True)


def replace_head(folder: Path, head: dict[str, Any]) -> None:
    """The one step that makes a change count."""
    beside = folder / f"{HEAD}.new"
    with beside.open("w", encoding="utf-8") as handle:
        json.dump(head, handle)
        _sync(handle)
    beside.replace(folder / HEAD)
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def read_head(folder: Path) -> dict[str, Any]:
    head: dict[str, Any] = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    return head


def head_stamp(folder: Path) -> tuple[int, int]:
    """Changes with the head."""
    state = (folder / HEAD).stat()
    return state.st_mtime_ns, state.st_ino


def _sync(handle: Any) -> None:
    handle.flush()
    os.fsync(handle.fileno())
