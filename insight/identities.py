"""Merged users: two ids of one person, as one, for as long as the merge stands.

A merge changes no source and no number. Leaves are worked out, and kept, as if nobody were merged; then the
answer is put right for the few who are. So nothing is slower without merges, and taking one back restores
exactly what was.

- The **survivor** stands for all ids merged into her: they are users no more.
- **Events** of all her ids are hers.
- **Fields** are those of her own id.
- **Memberships** in pinned groups and links of mappings are the union of those of all her ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from pyroaring import BitMap

from insight.conditions import FieldTest, Leaf, LinkedFields
from kernel.errors import BadInput
from kernel.ids import fingerprint

User = int | str


@dataclass(frozen=True, kw_only=True)
class Merges:
    """Who stands for whom."""

    #: merged id → survivor, who is merged into nobody
    survivors: Mapping[User, User] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.survivors)

    @cached_property
    def fingerprint(self) -> str:
        """Of all of them; empty without any."""
        return fingerprint(sorted(map(repr, self.survivors.items()))) if self.survivors else ""

    def survivor(self, user: User) -> User:
        """Whom to ask about a user: the survivor, or the user."""
        return self.survivors.get(user, user)

    @cached_property
    def frame(self) -> pl.DataFrame | None:
        """[user, survivor]; None without any."""
        if not self.survivors:
            return None
        return pl.DataFrame({"user": list(self.survivors), "survivor": list(self.survivors.values())})

    @cached_property
    def people(self) -> tuple[User, ...]:
        """Every id that a merge touches, on either side."""
        return tuple(dict.fromkeys([*self.survivors, *self.survivors.values()]))


def resolve_merges(merged: Mapping[User, User]) -> Merges:
    """From direct merges (id → id) to survivors. Raises BadInput for a circle."""
    survivors: dict[User, User] = {}
    for user in merged:
        seen, at = [user], merged[user]
        while at in merged:
            if at in seen:
                raise BadInput("is merged into itself", field="merge", value=at)
            seen.append(at)
            at = merged[at]
        survivors[user] = at
    return Merges(survivors=survivors)


@dataclass(frozen=True, kw_only=True)
class Renumbered:
    """Merges in the numbers of a dictionary."""

    #: number of a merged id → number of the survivor
    into: Mapping[int, int]

    @classmethod
    def of(cls, merges: Merges, numbers: Callable[[pl.Series], pl.Series]) -> Renumbered:
        """`numbers`: of users, NULL where there is none."""
        if merges.frame is None:
            return cls(into={})
        pairs = zip(numbers(merges.frame["user"]), numbers(merges.frame["survivor"]), strict=True)
        return cls(into={a: b for a, b in pairs if a is not None and b is not None})

    @cached_property
    def gone(self) -> BitMap:
        return BitMap(self.into)

    @cached_property
    def people(self) -> BitMap:
        """Merged ids and survivors."""
        return self.gone | BitMap(self.into.values())

    def alias(self, members: BitMap) -> BitMap:
        """The set with each merged id as its survivor: whoever had one of them in has the person in."""
        merged = members & self.gone
        if not merged:
            return members
        return (members - merged) | BitMap(np.array([self.into[number] for number in merged], np.uint32))


def corrected(
    leaf: Leaf,
    members: BitMap,
    merged: Renumbered,
    everyone: BitMap,
    answer: Callable[[Leaf], tuple[pl.Series, bool]],
    positions: Callable[[pl.Series], BitMap],
) -> BitMap:
    """A leaf's members with merged people as one each, from `members` as if nobody were merged.

    `everyone`: the universe as if nobody were merged; `answer`: the leaf asked again of the lines of merged
    people alone, as `LeafCompiler.members` does.
    """
    if not merged.into:
        return members
    universe = merged.alias(everyone)
    if isinstance(leaf, FieldTest):
        asked = universe - everyone  # survivors who are users only by those merged into them
        if not asked:
            return members - merged.gone
    else:
        asked = universe if isinstance(leaf, LinkedFields) else merged.people & universe
    found, inside = answer(leaf)
    met = positions(found) & asked
    return (members - merged.gone - asked) | (met if inside else asked - met)
