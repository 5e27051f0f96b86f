"""Files that are whole or absent: written beside, then moved into place."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl


@contextmanager
def folder(target: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `target` when the block ends, and never before.

    A kill in between leaves either the old folder or the new one (or, between two renames, the old one
    under `.NAME.before`), and what was begun. The next write puts both away; what another process is still
    filling is locked, and stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = target.with_name(f".{target.name}.{os.getpid()}"), target.with_name(f".{target.name}.before")
    begun = (each for each in target.parent.iterdir() if each.name.startswith(f".{target.name}."))
    for each in [each for each in begun if each.suffix[1:].isdigit() and each.stem == f".{target.name}"]:
        with _held(each) as free:
            if free:
                shutil.rmtree(each, ignore_errors=True)
    fresh.mkdir()
    with _held(fresh):
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether the folder could be locked, which it is then; the system unlocks what a killed process held."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # another has put it away, or it is no folder
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """The file with this text, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    frame.write_parquet(fresh, compression="zstd")
    fresh.replace(path)
