"""A person taken out of a value: JSON, a line of text. What names her goes; what only looks alike stays.

An id that can be nothing else (text of five characters or more, not all letters or all digits) is looked for
as a whole word anywhere. Any other id (42, `anna`) is hers only where it says so: under a name of `KEYS` or
of the catalog's user columns; 42 may as well be an age.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: what stands where an id stood
GONE = "[forgotten]"
#: names under which a value is a user's id
KEYS = frozenset({"user", "users", "user_id", "user_ids", "userid", "uid", "into_id", "survivor"})


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who is to be forgotten."""

    #: her ids: all of them whole numbers, or all text
    ids: tuple[int, ...] | tuple[str, ...]
    #: names of columns and keys that hold users' ids, besides KEYS; in small letters
    keys: frozenset[str] = frozenset()

    @cached_property
    def texts(self) -> frozenset[str]:
        return frozenset(map(str, self.ids))

    @cached_property
    def distinctive(self) -> bool:
        """Whether her ids can be nothing else wherever they stand."""
        return all(
            isinstance(each, str) and len(each) >= 5 and not each.isalpha() and not each.isdigit()
            for each in self.ids
        )

    def is_key(self, name: object) -> bool:
        short = str(name).lower().rpartition(".")[2]
        return short in KEYS or short in self.keys or short.endswith("_user_id")

    def is_her(self, value: object) -> bool:
        return isinstance(value, int | str) and not isinstance(value, bool) and str(value) in self.texts

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        ids = "|".join(re.escape(each) for each in sorted(self.texts, key=len, reverse=True))
        if self.distinctive:
            return re.compile(rf"(?<!\w)()(?:{ids})(?!\w)")
        names = "|".join(re.escape(each) for each in sorted(KEYS | self.keys, key=len, reverse=True))
        return re.compile(rf"(?i)(?<!\w)((?:{names})[\"']?\s*[=:/]?\s*[\"']?)(?:{ids})(?![\w.]\w)(?!\w)")

    def in_text(self, text: str) -> str:
        """The text without her."""
        return self._pattern.sub(rf"\g<1>{GONE}", text)

    def in_json(self, value: Any, key: object = "") -> Any:
        """The value without her: entries of lists that are hers go, single values become GONE."""
        if isinstance(value, dict):
            return {
                name: self.in_json(each, name)
                for name, each in value.items()
                if not (self.distinctive and self.is_her(name))
            }
        if isinstance(value, list):
            return [self.in_json(each, key) for each in value if not self._hers(each, key)]
        if self.is_her(value) and (self.distinctive or self.is_key(key)):
            return GONE
        return self.in_text(value) if isinstance(value, str) else value

    def _hers(self, entry: Any, key: object) -> bool:
        """Whether an entry of a list is about her."""
        if isinstance(entry, dict):
            return any(self.is_her(each) and self.is_key(name) for name, each in entry.items())
        return self.is_her(entry) and (self.distinctive or self.is_key(key))
