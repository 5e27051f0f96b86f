"""Names that stay the same when nothing changed: hashes of content, never of time or memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl


def stable_hash(*parts: object) -> int:
    """A 64-bit hash of the parts' text, the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def short_id(*parts: object) -> str:
    """Sixteen hexadecimal digits of `stable_hash`: an id for what these parts name."""
    return f"{stable_hash(*parts):016x}"


def fingerprint(value: object) -> str:
    """Of anything that JSON can hold (keys sorted, other objects by their text): 16 digits."""
    return short_id(json.dumps(value, sort_keys=True, default=str))


def frame_fingerprint(frame: pl.DataFrame) -> str:
    """Of a frame's column names, types and values, in order: 16 digits."""
    digest = hashlib.blake2b(repr(frame.schema).encode(), digest_size=8)
    if frame.height:
        digest.update(frame.hash_rows(seed=7).to_numpy().tobytes())
    return digest.hexdigest()


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Of files by name and content: 16 digits."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(paths):
        digest.update(path.name.encode())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "blake2b").digest())
    return digest.hexdigest()
