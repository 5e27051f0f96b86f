"""The one error tree.

GrowthError
├── BadInput        the caller gave something wrong: one sentence names place, field and value
│   ├── NotFound    a name that nothing answers to
│   └── Infeasible  limits that cannot hold together
├── Stale           someone changed it meanwhile, or what it depends on is out of date
└── Unavailable     a store, learner or provider did not answer

The shells translate: the command line exits 2 on BadInput and 1 on the others; HTTP answers
problem+json. No codes of any shell live here.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GrowthError(Exception):
    """Something that the engine knows how to say to a person."""


class BadInput(GrowthError):
    """`where: field 'x' = value: problem`. `where` is a file or the name of a definition."""

    def __init__(self, problem: str, *, where: str = "", field: str = "", value: object = None) -> None:
        self.problem, self.where, self.field, self.value = problem, where, field, value
        named = f"{field} = {value!r}" if field and value is not None else field
        super().__init__(": ".join(part for part in (where, named, problem) if part))


class NotFound(BadInput):
    """A name that nothing answers to, with the nearest known one."""

    def __init__(
        self, kind: str, name: object, known: Iterable[object], *, where: str = "", field: str = ""
    ) -> None:
        names = sorted(str(each) for each in known)
        near = get_close_matches(str(name), names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names[:8]) or 'none'}"
        super().__init__(f"unknown {kind}{hint}", where=where, field=field or kind, value=str(name))


class Infeasible(BadInput):
    """Limits that cannot hold together; `conflicting` names them."""

    def __init__(self, conflicting: Iterable[str], *, where: str = "") -> None:
        self.conflicting = tuple(conflicting)
        super().__init__(
            f"these cannot hold together: {', '.join(self.conflicting)}", where=where, field="limits"
        )


class Stale(GrowthError):
    """What was read has changed meanwhile, or is older than it may be."""


class Unavailable(GrowthError):
    """A store, learner or provider did not answer. Nothing was half done."""
