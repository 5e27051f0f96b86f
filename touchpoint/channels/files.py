"""Touches as files for those who execute by themselves: one a task and run, whole or absent, anywhere."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import fsspec
import polars as pl

from kernel.errors import Unavailable
from touchpoint.channels.definitions import Provider
from touchpoint.channels.message import ACCEPTED, Answer, Handed, Message

_COLUMNS = (
    "user", "address", "touch_id", "send_at", "local_time", "subject", "text", "html", "code", "channel",
    "task", "run", "message_class", "unsubscribe",
)  # fmt: skip


class FileDrop:
    """`FOLDER/RUN/TASK.parquet`, or `.csv`. Writing the same touches again writes the same file."""

    together = 1
    connections = 1

    def __init__(self, provider: Provider, base: Path) -> None:
        """`base`: where a relative folder begins."""
        local = "://" not in provider.url
        self._root = str((base / provider.url).resolve()) if local else provider.url.rstrip("/")
        self._format = provider.format

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        return await self.write(messages, 1)

    async def write(self, messages: Sequence[Message], part: int) -> Sequence[Handed]:
        """All of one task and run; `part` counts its files from 1."""
        path = self.place(messages[0], part)
        try:
            await asyncio.to_thread(put, path, content(messages, self._format))
        except Unavailable as error:
            down = Handed(answer=Answer.RETRIABLE, reason=str(error), down=True)
            return [down] * len(messages)
        return [ACCEPTED] * len(messages)

    def place(self, message: Message, part: int) -> str:
        number = "" if part == 1 else f".{part}"
        run, task = quote(message.run, safe=""), quote(message.task, safe="")
        return f"{self._root}/{run}/{task}{number}.{self._format}"

    async def close(self) -> None:
        return None


def content(messages: Sequence[Message], form: str) -> bytes:
    """Rows in order of (send_at, touch_id), the user first; times are ISO 8601 in UTC in a CSV."""
    rows = [[getattr(each, name) for name in ("touch_id", *_COLUMNS)] for each in messages]
    frame = pl.DataFrame(
        {name: [row[i + 1] for row in rows] for i, name in enumerate(_COLUMNS)},
        schema={name: pl.Datetime("us", "UTC") if name == "send_at" else pl.String for name in _COLUMNS},
    ).sort("send_at", "touch_id")
    buffer = io.BytesIO()
    if form == "parquet":
        frame.write_parquet(buffer, compression="zstd")
    else:
        frame.with_columns(pl.col("send_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(buffer)
    return buffer.getvalue()


def put(address: str, data: bytes) -> None:
    """The file with these bytes, whole or not at all. Raises Unavailable when it cannot be written."""
    try:
        if "://" not in address:
            path = Path(address)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with draft.open("wb") as handle:
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            return
        system, path_ = fsspec.core.url_to_fs(address)
        system.makedirs(path_.rpartition("/")[0], exist_ok=True)
        # object stores show a file when its upload is complete; other systems by the rename
        draft_ = f"{path_}.draft"
        system.pipe_file(draft_, data)
        system.mv(draft_, path_)
    except (OSError, ValueError, ImportError) as error:
        raise Unavailable(f"{address} cannot be written: {error}") from error
