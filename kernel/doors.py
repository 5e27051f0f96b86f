"""Doors that fetch a thing when somebody asks for it: commands need few, and each has its libraries."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def door(name: str, file: str) -> Callable[[str], Any]:
    """`__getattr__` (PEP 562) for the module `name` in `file`, whose imports stand under `if TYPE_CHECKING`:
    each is made when its name is asked for first."""
    places = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in ast.parse(Path(file).read_bytes()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def fetch(wanted: str) -> Any:
        module, what = places.get(wanted, (None, wanted))
        if module is None:
            raise AttributeError(f"module {name!r} has no attribute {wanted!r}")
        found = getattr(import_module(module), what)
        setattr(sys.modules[name], wanted, found)
        return found

    return fetch
