"""Snapshots as numbered files: written beside, flushed, renamed; the newest few are kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kernel.errors import BadInput, Unavailable

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class FileSnapshots:
    """Satisfies `realtime.ports.Snapshots`, for the processes of one machine. One writer a name.

    Raises Unavailable when the disk refuses, with the newest one untouched.
    """

    def __init__(self, folder: Path, *, kept: int = 20) -> None:
        self._folder, self._kept = folder, kept

    def put(self, name: str, state: bytes) -> int:
        if not _NAME.fullmatch(name):
            raise BadInput("is not letters, digits, '-' and '_'", where="snapshot", field="name", value=name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            numbers = self._numbers(name)
            number = max(numbers, default=0) + 1
            beside = self._folder / f"{name}.new"
            with beside.open("wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path(name, number))
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            for old in sorted(numbers)[: -(self._kept - 1) or None]:
                self._path(name, old).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"the snapshot cannot be kept: {error}") from error
        return number

    def newest(self, name: str, than: int = 0) -> tuple[int, bytes] | None:
        try:
            number = max(self._numbers(name), default=0)
            return (number, self._path(name, number).read_bytes()) if number > than else None
        except OSError as error:
            raise Unavailable(f"the snapshot cannot be read: {error}") from error

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{name}.{number:010d}.snapshot"

    def _numbers(self, name: str) -> list[int]:
        if not self._folder.exists():
            return []
        pattern = re.compile(re.escape(name) + r"\.([0-9]{10})\.snapshot")
        found = (pattern.fullmatch(each) for each in os.listdir(self._folder))
        return [int(each[1]) for each in found if each]
