"""A copy of a workspace to play days in: whatever happens there, the workspace itself stays as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine.settings import FILE, load_settings
from insight.api import load_catalog
from kernel.errors import BadInput

#: of sources whose future can be written
PARQUET = "parquet://"
#: under the workspace: what is on its way to users stays where it is
_LEFT_OUT = ("var/outbox", "var/dispatch", "var/journal")
_CHUNK = 1 << 20


def copy_workspace(root: Path, target: Path) -> None:
    """Everything that a plan needs, without what waits to be sent.

    Raises BadInput for a workspace that is not all in its folder: a server cannot be copied, and a source
    elsewhere would be written to.
    """
    settings = load_settings(root)
    for name in ("database", "mlflow"):
        url = str(getattr(settings, name))
        if not url.startswith("sqlite:///") or url.startswith("sqlite:////"):
            raise BadInput("is not a file of the workspace, so no copy of it can be played in",
                           where=FILE, field=name, value=url)  # fmt: skip
    if "://" in settings.store:
        raise BadInput("is a server, so no copy of it can be played in", where=FILE, field="store",
                       value=settings.store)  # fmt: skip
    catalog = load_catalog(root / settings.catalog)
    for name, source in catalog.sources.items():
        folder = source.url.removeprefix(PARQUET)
        if folder == source.url or Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise BadInput(
                "is no folder of Parquet files below the workspace: days to come are written there",
                where=catalog.file, field=f"sources.{name}.url", value=source.url,
            )  # fmt: skip
    left_out = {root / each for each in _LEFT_OUT}
    for source_file in sorted(root.rglob("*")):
        if any(each == source_file or each in source_file.parents for each in left_out):
            continue
        place = target / source_file.relative_to(root)
        if source_file.is_symlink() or source_file.is_dir():
            if source_file.is_dir():
                place.mkdir(parents=True, exist_ok=True)
        elif source_file.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(source_file, place)


def _copy(source: Path, target: Path) -> None:
    """With its holes: an embedded store reserves far more than it uses."""
    size = source.stat().st_size
    if source.stat().st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as read, target.open("wb") as write:
        write.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but holes from here on
                return
            end = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            read.seek(at)
            write.seek(at)
            while at < end:
                part = read.read(min(_CHUNK, end - at))
                if not part:
                    return
                write.write(part)
                at += len(part)
