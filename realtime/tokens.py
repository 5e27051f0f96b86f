"""Features as tokens that no learner's text can misread: names and values, plain or hashed."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from functools import lru_cache

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
#: numbers beyond these sizes are taken for the largest, or for zero: squared products of two of them
#: must fit in a 32-bit float, else one lesson (or one tiny number) turns a learner's weights to NaN
LARGEST, SMALLEST = 1e6, 1e-6
#: names and values up to this length are remembered with their token
_SHORT = 64


def bounded(number: float) -> float:
    """A finite number as one that a 32-bit float can square."""
    return 0.0 if abs(number) < SMALLEST else float(max(-LARGEST, min(LARGEST, number)))


def terms(pairs: Iterable[tuple[object, object]]) -> list[tuple[str, float | None]]:
    """Each name and value as (token, number). A finite number keeps its size; anything else is a
    category, whose token holds its value and whose number is None. A value of None is left out: it says
    nothing. No token holds a space, line end, `:` or `|`."""
    found: list[tuple[str, float | None]] = []
    for name, value in pairs:
        if type(value) is str:
            found.append((_category(str(name), value), None))
        elif type(value) is float or type(value) is int:
            if SMALLEST <= value < LARGEST:  # nearly always
                found.append((_name(str(name)), float(value)))
            elif type(value) is int or math.isfinite(value):
                found.append((_name(str(name)), bounded(value)))
            else:
                found.append((f"{token(name)}={token(value)}", None))
        elif value is not None:
            found.append((f"{token(name)}={token(value)}", None))
    return found


def token(text: object) -> str:
    """`text` itself when it is plain, else its hash."""
    text = str(text)
    if _PLAIN.fullmatch(text):
        return text
    return "#" + hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _name(name: str) -> str:
    return _remembered_name(name) if len(name) <= _SHORT else token(name)


def _category(name: str, value: str) -> str:
    if len(name) <= _SHORT and len(value) <= _SHORT:
        return _remembered_category(name, value)
    return f"{token(name)}={token(value)}"


@lru_cache(maxsize=1 << 12)
def _remembered_name(name: str) -> str:
    return token(name)


@lru_cache(maxsize=1 << 15)
def _remembered_category(name: str, value: str) -> str:
    return f"{token(name)}={token(value)}"
