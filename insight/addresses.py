"""Addresses of files anywhere: a path, or any URL that an installed fsspec driver knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from kernel.errors import BadInput


def is_local(address: str) -> bool:
    """A path, with or without `file://`."""
    return "://" not in address or address.startswith(("file://", "local://"))


def local_path(address: str) -> Path:
    return Path(address.partition("://")[2] if "://" in address else address)


def system_of(address: str, field: str = "address") -> tuple[Any, str]:
    """The file system and the path in it. Raises BadInput for a protocol without a driver."""
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise BadInput(f"cannot be used: {error}", field=field, value=address) from None
    return system, str(path)
