"""A person taken out of files: tables lose her rows, manifests tell so, text loses her name.

Every file is replaced whole, flushed to disk before it takes the name. Again, nothing is found.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from storage.redaction import Person

_TABLES = (".parquet", ".csv")
_JSON = (".json", ".jsonl", ".ndjson")
#: in a manifest: its files are being changed
_OPEN = "redacting"
_WORDS = (".html", ".log", ".txt", ".md", ".svg", ".tsv")
#: rows of a table that are in memory at once, and the bytes of a file
_ROWS, _PIECE = 500_000, 1 << 24


@dataclass
class FilesForgotten:
    """What was found in files."""

    #: file → rows that went, or places that were redacted
    changed: dict[str, int] = field(default_factory=dict)
    #: manifests that were brought up to date
    manifests: list[str] = field(default_factory=list)
    #: where she is named and was left, each a sentence
    left: list[str] = field(default_factory=list)


def forget_in_files(
    paths: Iterable[Path], person: Person, at: datetime, *, dry_run: bool = False
) -> FilesForgotten:
    """`paths`: files that are ours to change. Whatever else names her by her bytes is told in `left`."""
    found, files = FilesForgotten(), sorted(set(paths))
    hers: dict[Path, int] = {}
    for path in files:
        try:
            count = _forget(path, person, dry_run=True)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            found.left.append(f"{path} cannot be read: {str(error).splitlines()[0]}")
            continue
        if count:
            hers[path] = count
    manifests = [path for path in files if path.name.endswith("manifest.json") and _concerns(path, hers)]
    found.changed = {str(path): count for path, count in hers.items()}
    found.manifests = [str(path) for path in manifests]
    if not dry_run:
        for path in manifests:  # so that who takes over after a kill knows that the hash is ours to renew
            _note(path, {_OPEN: True})
        for path in hers:
            _forget(path, person, dry_run=False)
        for path in manifests:
            _tell_anew(path, at)
    return found


def described_files(manifest: Path) -> list[Path]:
    """The files that a manifest tells of, whether they are there or not; none of what is no manifest."""
    try:
        raw = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return list(dict.fromkeys(target for _, target in _described(raw, manifest)))


def traces(paths: Iterable[Path], person: Person) -> list[Path]:
    """Files that hold the bytes of a distinctive id; none for others, which may be anything."""
    if not person.distinctive:
        return []
    wanted = {form for text in person.texts for form in (text.encode(), json.dumps(text)[1:-1].encode())}
    return [path for path in sorted(set(paths)) if _holds(path, wanted)]


def _holds(path: Path, wanted: set[bytes]) -> bool:
    longest = max(map(len, wanted))
    try:
        with path.open("rb") as handle:
            tail = b""
            while piece := handle.read(_PIECE):
                whole = tail + piece
                if any(each in whole for each in wanted):
                    return True
                tail = whole[-longest:]
    except FileNotFoundError:
        pass
    return False


def _forget(path: Path, person: Person, dry_run: bool) -> int:
    """How many rows or places were hers."""
    if path.suffix == ".parquet":
        return _forget_rows(path, person, dry_run)
    if path.suffix == ".csv":
        return _forget_lines(path, person, dry_run)
    if path.suffix in _JSON:
        return _forget_json(path, person, dry_run)
    if path.suffix in _WORDS:
        return _forget_words(path, person, dry_run)
    return 0


def _forget_rows(path: Path, person: Person, dry_run: bool) -> int:
    """Of a Parquet file, in pieces: memory does not grow with it."""
    file = pq.ParquetFile(path)
    hers = _hers(pl.from_arrow(file.schema_arrow.empty_table()), person)
    if hers is None:
        return 0
    wanted = pl.scan_parquet(path, glob=False).filter(hers).select(pl.len()).collect().item()
    if not wanted or dry_run:
        return int(wanted)
    with _replacing(path) as fresh:
        writer = pq.ParquetWriter(fresh, file.schema_arrow, compression="zstd")
        for batch in file.iter_batches(batch_size=_ROWS):
            frame = pl.DataFrame(pl.from_arrow(batch))
            kept = frame.filter(~hers).to_arrow().cast(file.schema_arrow)
            writer.write_table(kept)
        writer.close()
    return int(wanted)


def _hers(schema: Any, person: Person) -> pl.Expr | None:
    """Whether a row is hers; None when no column could say so."""
    frame = pl.DataFrame(schema)
    tests = []
    for name, kind in frame.schema.items():
        text = kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum)
        if (text and person.distinctive) or ((text or kind.is_integer()) and person.is_key(name)):
            tests.append(pl.col(name).cast(pl.String).is_in(sorted(person.texts)).fill_null(False))
        elif isinstance(kind, pl.List) and (person.distinctive or person.is_key(name)):
            some = pl.col(name).list.eval(pl.element().cast(pl.String).is_in(sorted(person.texts)))
            tests.append(some.list.any().fill_null(False))
    return pl.any_horizontal(tests) if tests else None


def _forget_lines(path: Path, person: Person, dry_run: bool) -> int:
    """Of a CSV file, line by line."""
    gone = 0
    with path.open(encoding="utf-8", newline="") as handle:
        rows = csv.reader(handle)
        heads = next(rows, [])
        mine = [i for i, name in enumerate(heads) if person.distinctive or person.is_key(name)]
        gone = sum(_is_hers(row, mine, person) for row in rows)
    if not gone or dry_run:
        return gone
    with (
        path.open(encoding="utf-8", newline="") as handle,
        _replacing(path) as fresh,
        fresh.open("w", encoding="utf-8", newline="") as out,
    ):
        for line in _records(handle):
            row = next(csv.reader(io.StringIO(line, newline="")), [])
            if not _is_hers(row, mine, person):
                out.write(line)
    return gone


def _is_hers(row: list[str], mine: list[int], person: Person) -> bool:
    return any(i < len(row) and row[i] in person.texts for i in mine)


def _records(handle: Iterable[str]) -> Iterator[str]:
    """Each record as it is written, also where a quoted value holds line ends."""
    whole = ""
    for line in handle:
        whole += line
        if whole.count('"') % 2 == 0:
            yield whole
            whole = ""
    if whole:
        yield whole


def _forget_json(path: Path, person: Person, dry_run: bool) -> int:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        raw = json.loads(text)
        clean = person.in_json(raw)
        if clean == raw:
            return 0
        written = json.dumps(clean, indent=2, ensure_ascii=False) + "\n"
        changed = 1
    else:
        lines, changed = [], 0
        for line in text.splitlines():
            raw = json.loads(line) if line.strip() else None
            if isinstance(raw, dict) and any(person.is_her(v) and person.is_key(k) for k, v in raw.items()):
                changed += 1
                continue
            clean = person.in_json(raw) if raw is not None else None
            changed += clean != raw
            lines.append(line if clean == raw else json.dumps(clean, ensure_ascii=False))
        written = "".join(f"{line}\n" for line in lines)
    if changed and not dry_run:
        with _replacing(path) as fresh:
            fresh.write_text(written, encoding="utf-8")
    return changed


def _forget_words(path: Path, person: Person, dry_run: bool) -> int:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    clean = person.in_text(text)
    if clean == text:
        return 0
    if not dry_run:
        with _replacing(path) as fresh:
            fresh.write_text(clean, encoding="utf-8", errors="surrogateescape")
    return 1


def _concerns(path: Path, hers: Mapping[Path, int]) -> bool:
    """Whether a manifest describes a file that is about to change, or was being changed at a kill."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(raw, dict) and (_OPEN in raw or any(each in hers for _, each in _described(raw, path)))


def _described(value: Any, manifest: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Each mapping in a manifest that has a `sha256` and names its file, with that file."""
    if isinstance(value, dict):
        name = next((value[key] for key in ("file", "path", "name") if isinstance(value.get(key), str)), "")
        if name and "sha256" in value:
            yield value, manifest.parent / Path(name).name
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _described(part, manifest)


def _tell_anew(path: Path, at: datetime) -> None:
    """Counts, hashes and sizes of what the files now are; and that they are redacted."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    gone, counted = dict[Path, int](), False
    for entry, target in _described(raw, path):
        if not target.is_file() or _digest(target) == entry["sha256"]:
            continue
        entry["sha256"] = _digest(target)
        for name in ("count", "rows"):
            if isinstance(entry.get(name), int) and target.suffix in _TABLES:
                before, entry[name] = entry[name], _rows(target)
                gone[target] = before - entry[name]
                counted = counted or entry is raw
        for name in ("bytes", "size"):
            if isinstance(entry.get(name), int):
                entry[name] = target.stat().st_size
    lost = sum(gone.values())
    if isinstance(raw.get("count"), int) and not counted:
        raw["count"] -= lost
    raw.pop(_OPEN, None)
    rows = lost + raw.get("redacted", {}).get("rows", 0)
    _note(path, {"redacted": {"at": at.isoformat(), "rows": rows}}, raw)


def _note(path: Path, said: dict[str, Any], raw: dict[str, Any] | None = None) -> None:
    raw = json.loads(path.read_text(encoding="utf-8")) if raw is None else raw
    with _replacing(path) as fresh:
        fresh.write_text(json.dumps({**raw, **said}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rows(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    with path.open(encoding="utf-8", newline="") as handle:
        return max(sum(1 for _ in csv.reader(handle)) - 1, 0)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class _replacing:  # noqa: N801  reads as a verb
    """A new file that takes the place of `path`, with its mode, when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path, self._fresh = path, path.with_name(f".{path.name}.{os.getpid()}.forgetting")

    def __enter__(self) -> Path:
        return self._fresh

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is not None:
            self._fresh.unlink(missing_ok=True)
            return
        with self._fresh.open("rb") as written:
            os.fsync(written.fileno())
        self._fresh.chmod(self._path.stat().st_mode)
        self._fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
