"""What the steps of a day's plan have come to, as files: whole or absent, and found again only by the same
inputs and after the same steps.

A step is a folder: its frames as Parquet, what holds them together pickled (it is our own, written and read
by one program), and `step.json` with its facts, the fingerprint of what it was made from and of its files.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kernel.errors import Unavailable
from kernel.ids import files_fingerprint, fingerprint

#: raised when products of before cannot be gone on with
_FORMAT = "1"
_VALUE, _FACTS = "value.pickle", "step.json"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A step that was ended."""

    value: Any
    #: rows, seconds and whatever else was said of it
    facts: dict[str, Any]


class PlanWork:
    """The steps of one plan, in order. One writer at a time."""

    def __init__(self, folder: Path, inputs: str) -> None:
        """`inputs`: fingerprint of all that the plan follows from."""
        self.folder = folder
        #: of all that the next step is made from
        self._after = fingerprint([_FORMAT, inputs])

    @property
    def begun(self) -> bool:
        """Whether something lies here: a plan that was not ended."""
        return self.folder.exists()

    def find(self, step: str) -> Kept | None:
        """What the step came to, if it was ended from the same inputs after the same steps and its files are
        as they were written; else None, and it is to be done again."""
        place = self.folder / step
        try:
            told = json.loads((place / _FACTS).read_text(encoding="utf-8"))
            if told["after"] != self._after or told["files"] != _digest(place):
                return None
            with (place / _VALUE).open("rb") as handle:
                value = _Reader(handle, place).load()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, EOFError,
                pickle.UnpicklingError, pl.exceptions.PolarsError):  # fmt: skip
            return None
        self._pass(told["files"])
        return Kept(value=value, facts=told["facts"])

    def keep(self, step: str, value: Any, facts: dict[str, Any]) -> Any:
        """Writes it, and returns it as it was read back: a plan goes on from the same bytes whether or not it
        was interrupted. Raises Unavailable when the disk refuses."""
        place, fresh = self.folder / step, self.folder / f".{step}"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            with (fresh / _VALUE).open("wb") as handle:
                _Writer(handle, fresh).dump(value)
            digest = _digest(fresh)
            told = {"step": step, "after": self._after, "files": digest, "facts": facts}
            (fresh / _FACTS).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
            for path in (*fresh.iterdir(), fresh):
                _flush(path)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            _flush(self.folder)
            with (place / _VALUE).open("rb") as handle:
                found = _Reader(handle, place).load()
        except OSError as error:
            raise Unavailable(f"step {step} of the plan cannot be kept: {error}") from error
        self._pass(digest)
        return found

    def clear(self) -> None:
        """Takes everything away: the plan is out, or the work is of no use."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pass(self, digest: str) -> None:
        self._after = fingerprint([self._after, digest])


class _Writer(pickle.Pickler):
    def __init__(self, handle: Any, folder: Path) -> None:
        super().__init__(handle, protocol=5)
        self._folder, self._frames = folder, dict[int, tuple[str, pl.DataFrame]]()

    def persistent_id(self, obj: Any) -> str | None:
        if not isinstance(obj, pl.DataFrame):
            return None
        if id(obj) not in self._frames:
            name = f"{len(self._frames)}.parquet"
            obj.write_parquet(self._folder / name, compression="lz4")
            self._frames[id(obj)] = (name, obj)  # held, so that no other frame gets its id
        return self._frames[id(obj)][0]


class _Reader(pickle.Unpickler):
    def __init__(self, handle: Any, folder: Path) -> None:
        super().__init__(handle)
        self._folder, self._frames = folder, dict[str, pl.DataFrame]()

    def persistent_load(self, pid: str) -> pl.DataFrame:
        if pid not in self._frames:
            self._frames[pid] = pl.read_parquet(self._folder / pid, glob=False, memory_map=False).rechunk()
        return self._frames[pid]


def _digest(folder: Path) -> str:
    return files_fingerprint(path for path in folder.iterdir() if path.name != _FACTS)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
