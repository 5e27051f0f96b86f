"""Who is in which published group, from memory: one user or many, one group or all.

Each published group is a Roaring bitmap of user numbers; a new version takes the place of the old one in one
assignment, so that an answer is of one version or of the other. Over it lies what the speed layer says of the
users it has touched. One thread refreshes; any may ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, Protocol

import polars as pl
from pyroaring import BitMap

from insight.fresh import SpeedLayer
from insight.fresh_events import EventDoor
from insight.fresh_groups import Cutter, FreshGroup, Members, Overlay
from insight.groups import Group
from insight.reverse import Reverse
from kernel.audiences import GroupVersion
from kernel.errors import BadInput, GrowthError, NotFound, Stale, Unavailable

#: ids whose numbers are remembered, above which they are forgotten together
_REMEMBERED = 1_000_000
#: users asked for in one batch
MOST_ASKED = 10_000


class Published(Protocol):
    """The store of group versions. Raises Unavailable; `members` also Stale."""

    def current_many(self, names: Iterable[str] | None = None) -> Mapping[str, GroupVersion]: ...
    def members(self, version: GroupVersion) -> bytes: ...


class Dictionary(Protocol):
    """User id → number. `position` raises NotFound; `numbers` has NULL for ids without one."""

    def position(self, user: object) -> int: ...
    def numbers(self, users: pl.Series) -> pl.Series: ...


@dataclass(frozen=True, kw_only=True)
class People:
    """How ids become numbers."""

    dictionary: Dictionary
    #: merged id → survivor
    merged: Mapping[int | str, int | str]
    #: numbers that are nobody's any more
    forgotten: BitMap

    def says_the_same(self, later: People) -> bool:
        """Whether every id that had a number still has it: numbers never change, people are forgotten."""
        same = self.dictionary is later.dictionary and self.forgotten == later.forgotten
        return same and self.merged == later.merged


class Served:
    """A group as it is answered from now. `number in served`: about ten million a second."""

    __slots__ = ("members", "no", "overlay", "tail", "version", "yes")

    def __init__(self, version: GroupVersion, members: BitMap, overlay: Overlay | None) -> None:
        self.version, self.members, self.overlay = version, members, overlay
        published = "" if version.version else ',"published":false'
        self.tail = f',"version":{version.version}{published}}}'.encode()
        as_of = f',"as_of":"{version.as_of.isoformat()}"'.encode() + self.tail
        self.yes, self.no = b'{"member":true' + as_of, b'{"member":false' + as_of

    def __contains__(self, number: int) -> bool:
        overlay = self.overlay
        if overlay is not None and number in overlay.touched:
            return number in overlay.inside
        return number in self.members

    @property
    def count(self) -> int:
        """Members now, fresh events included."""
        if self.overlay is None:
            return self.version.count
        touched = self.overlay.touched
        return len(self.members) - self.members.intersection_cardinality(touched) + len(self.overlay.inside)


class Membership:
    """`groups`: the definitions in force. `people`: how ids become numbers now. `members`: who fulfils
    conditions as of an instant, for what the speed layer does not answer."""

    def __init__(
        self,
        store: Published,
        *,
        door: EventDoor,
        groups: Callable[[], Mapping[str, Group]],
        people: Callable[[], People],
        members: Members,
        layer: SpeedLayer,
        real_time: Iterable[str],
    ) -> None:
        self._store, self._door, self._groups, self._people = store, door, groups, people
        self._members, self._layer, self._real_time = members, layer, frozenset(real_time)
        self._lock = RLock()
        self._served: dict[str, Served] = {}
        self._known: Mapping[str, Group] = {}
        self._who: People | None = None
        self._ids: dict[str, int] = {}
        self._calculated: dict[str, tuple[GroupVersion, BitMap]] = {}
        self._cut: dict[str, tuple[GroupVersion, FreshGroup | None]] = {}
        self._said: tuple[tuple[str, str], ...] = ()
        self._reverse: Reverse | None = None
        #: group → why its newest version is not served
        self.problems: dict[str, str] = {}

    @property
    def served(self) -> Mapping[str, Served]:
        """Group → what is answered. Never changed, only replaced."""
        return self._served

    @property
    def known(self) -> Mapping[str, Group]:
        """Definitions as of the last refresh."""
        return self._known

    def refresh(self) -> int:
        """Serves what was published since; how many groups changed. Raises Unavailable."""
        with self._lock:
            known, problems = self._groups(), dict[str, str]()
            versions = dict(self._store.current_many())
            for name, (version, _) in list(self._calculated.items()):
                if name in versions or name not in known or known[name].fingerprint != version.fingerprint:
                    del self._calculated[name]
                else:
                    versions[name] = version
            bitmaps: dict[str, BitMap] = {}
            for name, version in versions.items():
                old = self._served.get(name)
                if old is not None and old.version == version:
                    continue
                try:
                    bitmaps[name] = self._load(version)
                except (Stale, Unavailable) as error:
                    problems[name] = str(error)
            gone = self._served.keys() - versions.keys()
            before, self._who = self._who, self._people()
            if before is None or not before.says_the_same(self._who):
                self._ids = {}
            overlays = self._overlays(known, versions, bitmaps, problems)
            served = {name: each for name, each in self._served.items() if name not in gone}
            for name, members in bitmaps.items():
                served[name] = Served(versions[name], members, overlays.get(name))
            for name, each in served.items():
                if each.overlay is not overlays.get(name):
                    served[name] = Served(each.version, each.members, overlays.get(name))
            if self._reverse is not None:
                self._reverse.put(
                    {**dict.fromkeys(gone), **{name: each.serialize() for name, each in bitmaps.items()}}
                )
            self._known, self.problems, self._served = known, problems, served
            return len(bitmaps) + len(gone)

    def add(self, version: GroupVersion, members: BitMap) -> None:
        """A group that was never published, worked out as version 0; served until it is."""
        with self._lock:
            self._calculated[version.name] = (version, members)
            self.refresh()

    def _load(self, version: GroupVersion) -> BitMap:
        if version.version == 0:
            return self._calculated[version.name][1]
        return BitMap.deserialize(self._store.members(version))

    def _overlays(
        self,
        known: Mapping[str, Group],
        versions: Mapping[str, GroupVersion],
        loaded: Mapping[str, BitMap],
        problems: dict[str, str],
    ) -> dict[str, Overlay]:
        """What the speed layer lays over each group. Where it fails, its groups stay as they were."""
        said = tuple(sorted((name, group.fingerprint) for name, group in known.items()))
        before = self._cut if said == self._said else {}
        standing = {name: each.overlay for name, each in self._served.items() if each.overlay is not None}
        cutter, cut = Cutter(self._door.catalog, known, self._real_time, self._members), dict(before)
        try:
            for name in set(cut) - set(versions):
                del cut[name]
            for name, version in versions.items():
                served = name in loaded or name in self._served
                if served and name not in problems and (name not in cut or cut[name][0] != version):
                    cut[name] = (version, cutter.cut(version))
            now = {name: group for name, (_, group) in cut.items() if group is not None}
            if {name: group.version for name, group in now.items()} != {
                name: group.version for name, group in self._layer.groups.items()
            } or said != self._said:
                standing = self._layer.rebase(now.values())
            self._cut, self._said = cut, said
        except GrowthError as error:
            for name in {*standing, *(name for name, (_, group) in cut.items() if group is not None)}:
                problems[name] = f"its fresh events are not applied: {error}"
        return standing

    def number(self, user_id: str) -> int:
        """The number of a user as the outside names her. Raises NotFound, also for an id of another type."""
        found = self._ids.get(user_id)
        if found is not None:
            return found
        who = self._who
        if who is None:
            raise Unavailable("groups are still being loaded")
        try:
            user = self._door.user(user_id)
        except BadInput:
            raise NotFound("user", user_id, (), field="user_id") from None
        try:
            number = who.dictionary.position(who.merged.get(user, user))
        except NotFound:
            raise NotFound("user", user_id, (), field="user_id") from None
        ids = self._ids
        if len(ids) >= _REMEMBERED:
            self._ids = ids = {}
        ids[user_id] = number
        return number

    def answer(self, name: str, user_id: str) -> bytes | None:
        """`{member, as_of, version}` as JSON; None for a group that is not served. Raises NotFound."""
        served = self._served.get(name)
        if served is None:
            return None
        number = self.number(user_id)
        overlay = served.overlay
        if overlay is not None and number in overlay.touched:
            return self._fresh(served, overlay, number)
        return served.yes if number in served.members else served.no

    def _fresh(self, served: Served, overlay: Overlay, number: int) -> bytes:
        at = self._layer.evaluated.get(number, served.version.as_of)
        member = b"true" if number in overlay.inside else b"false"
        return b'{"member":' + member + f',"as_of":"{at.isoformat()}"'.encode() + served.tail

    def many(self, name: str, user_ids: Sequence[str]) -> dict[str, bool | None] | None:
        """User → whether she belongs, None for one that is not known; None for a group that is not served.

        Raises BadInput for more than MOST_ASKED."""
        if len(user_ids) > MOST_ASKED:
            raise BadInput(f"are more than {MOST_ASKED:,}", field="users", value=len(user_ids))
        served, who = self._served.get(name), self._who
        if served is None or who is None:
            return None
        found: dict[str, bool | None] = dict.fromkeys(user_ids)
        asked: dict[str, int | str] = {}
        for user_id in found:
            try:
                user = self._door.user(user_id)
            except BadInput:
                continue
            asked[user_id] = who.merged.get(user, user)
        kind = pl.Int64 if self._door.whole_users else pl.String
        numbers = who.dictionary.numbers(pl.Series(list(asked.values()), dtype=kind)).to_list()
        for user_id, number in zip(asked, numbers, strict=True):
            if number is not None:
                found[user_id] = number in served
        return found

    def groups_of(self, user_id: str) -> list[str]:
        """Every served group that the user is in, sorted. Raises NotFound."""
        number = self.number(user_id)
        if self._reverse is None:
            with self._lock:
                if self._reverse is None:
                    reverse = Reverse()
                    reverse.put({name: each.members.serialize() for name, each in self._served.items()})
                    self._reverse = reverse
        found, served = self._reverse.groups_of(number), self._served
        if number in self._layer.evaluated:
            touched = {
                name
                for name, each in served.items()
                if each.overlay is not None and number in each.overlay.touched
            }
            found = [name for name in found if name not in touched]
            found += [name for name in touched if number in served[name]]
        return sorted(found)

    def describe(self, name: str) -> dict[str, Any]:
        """What is known of a group: definition, version, how fresh, what is wrong. Raises NotFound."""
        group, served = self._known.get(name), self._served.get(name)
        if group is None and served is None:
            raise NotFound("group", name, {*self._known, *self._served})
        said: dict[str, Any] = {
            "name": name,
            "label": group.title if group else name,
            "description": group.description if group else "",
            "mode": group.mode if group else None,
            "freshness": "real_time" if name in self._layer.groups else "batch",
            "count": None,
            "universe": None,
            "as_of": None,
            "version": None,
            "calculated_at": None,
            "published": False,
            "problem": self.problems.get(name),
        }
        if served is None:
            return {**said, "problem": said["problem"] or "it has not been selected yet"}
        version = served.version
        if group is None:
            said["problem"] = said["problem"] or "its definition is gone"
        elif version.fingerprint != group.fingerprint:
            said["problem"] = said["problem"] or "its definition has changed since; select it again"
        return {
            **said,
            "count": served.count,
            "universe": version.universe,
            "as_of": version.as_of.isoformat(),
            "version": version.version,
            "calculated_at": version.calculated_at.isoformat(),
            "published": version.version > 0,
        }

    def touched(self, name: str, user_id: str) -> bool:
        """Whether the speed layer answers for this user in this group. Raises NotFound."""
        served = self._served.get(name)
        overlay = served.overlay if served else None
        return overlay is not None and self.number(user_id) in overlay.touched
