"""Published groups: what belongs together changes in one transaction; members lie beside, named by hash.

A version's bitmap is written and flushed to disk before its row, so that a row always has its members;
a kill in between leaves a file that no row names, which `prune` takes away. In force is the version
with the latest `as_of`, of those the newest: a backfill adds history and never takes the place of today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pyroaring import BitMap
from sqlalchemy import Connection, Engine, and_, bindparam, func, select

from kernel.audiences import GroupVersion
from kernel.clock import aware, micros
from kernel.errors import BadInput, Stale, Unavailable
from storage.database import chunks, reading, writing
from storage.group_exports import group_exports
from storage.group_files import MemberFiles, mark_of
from storage.group_tables import group_holds, group_versions, version_of


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is to be published of a group."""

    name: str
    #: of the definition that decided who belongs
    fingerprint: str
    as_of: datetime
    #: serialised Roaring bitmap of user numbers
    members: bytes
    #: users who belong; must be what the bitmap holds
    count: int
    #: users that existed then
    universe: int
    #: `source.table` → version of what was read
    sources: Mapping[str, str]
    calculated_at: datetime
    #: a static group: the first version of a fingerprint stays
    pinned: bool = False


#: writes more in the transaction that publishes; told each version and whether it is new
Then = Callable[[Connection, Sequence[tuple[GroupVersion, bool]]], None]


class GroupStore:
    """Versions of groups in SQL, their bitmaps in a folder. Safe for many threads and processes.

    Every method raises Unavailable when the database does not answer, with nothing half done.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._files = engine, MemberFiles(folder)

    def publish(
        self,
        *,
        name: str,
        fingerprint: str,
        as_of: datetime,
        members: bytes,
        count: int,
        universe: int,
        sources: Mapping[str, str],
        calculated_at: datetime,
        pinned: bool = False,
    ) -> GroupVersion:
        """The version that now stands for these inputs; saying the same again changes nothing."""
        return self.publish_many(
            [
                Publication(
                    name=name,
                    fingerprint=fingerprint,
                    as_of=as_of,
                    members=members,
                    count=count,
                    universe=universe,
                    sources=sources,
                    calculated_at=calculated_at,
                    pinned=pinned,
                )
            ]
        )[0]

    def publish_many(
        self, publications: Sequence[Publication], then: Then | None = None
    ) -> list[GroupVersion]:
        """All or none, in order, together with what `then` writes. Raises BadInput when a count is not
        that of its members."""
        hashes = [_hash_of(each) for each in publications]
        self._files.write({mark: each.members for mark, each in zip(hashes, publications, strict=True)})
        with self._writing() as connection:
            for mark, each in zip(hashes, publications, strict=True):
                if not self._files.exists(mark):  # pruned since it was found there
                    self._files.write({mark: each.members})
            made = [_publish(connection, each, mark) for mark, each in zip(hashes, publications, strict=True)]
            if then is not None:
                then(connection, made)
            return [version for version, _ in made]

    def current(self, name: str) -> GroupVersion | None:
        """The version in force; None when the group was never published."""
        return self.current_many([name]).get(name)

    def current_many(self, names: Iterable[str] | None = None) -> dict[str, GroupVersion]:
        """Group → version in force, of these groups or of all that were published."""
        ranked = select(
            group_versions.c.name,
            group_versions.c.version,
            func.row_number()
            .over(
                partition_by=group_versions.c.name,
                order_by=(group_versions.c.as_of.desc(), group_versions.c.version.desc()),
            )
            .label("place"),
        ).subquery()
        query = select(group_versions).join(
            ranked,
            and_(
                ranked.c.name == group_versions.c.name,
                ranked.c.version == group_versions.c.version,
                ranked.c.place == 1,
            ),
        )
        parts = [None] if names is None else list(chunks(list(dict.fromkeys(names))))
        found: dict[str, GroupVersion] = {}
        with self._reading() as connection:
            for some in parts:
                asked = query if some is None else query.where(ranked.c.name.in_(some))
                found |= {row.name: version_of(row) for row in connection.execute(asked)}
        return found

    def versions(self, name: str) -> list[GroupVersion]:
        """Every version that is kept, the oldest first."""
        query = select(group_versions).where(group_versions.c.name == name)
        with self._reading() as connection:
            return [version_of(row) for row in connection.execute(query.order_by(group_versions.c.version))]

    def at(self, name: str, as_of: datetime) -> GroupVersion | None:
        """The newest version of exactly this instant."""
        return self.at_many([name], as_of).get(name)

    def at_many(self, names: Iterable[str], as_of: datetime) -> dict[str, GroupVersion]:
        """Group → its newest version of exactly this instant, of these groups."""
        then = group_versions.c.as_of == micros(as_of, "as_of")
        found: dict[str, GroupVersion] = {}
        with self._reading() as connection:
            for some in chunks(list(dict.fromkeys(names))):
                query = select(group_versions).where(group_versions.c.name.in_(some), then)
                for row in connection.execute(query.order_by(group_versions.c.version)):
                    found[row.name] = version_of(row)
        return found

    def pinned(self, name: str, fingerprint: str) -> GroupVersion | None:
        """The one version of a static group with this definition."""
        with self._reading() as connection:
            row = connection.execute(_pin(name, fingerprint)).first()
        return None if row is None else version_of(row)

    def names(self) -> list[str]:
        """Every group that was published, sorted."""
        with self._reading() as connection:
            query = select(group_versions.c.name).distinct().order_by(group_versions.c.name)
            return list(connection.execute(query).scalars())

    def members(self, version: GroupVersion) -> bytes:
        """The serialised bitmap. Raises Stale when it was pruned, Unavailable when it is damaged."""
        try:
            found = self._files.read(version.members)
        except FileNotFoundError:
            raise Stale(f"version {version.version} of group {version.name} is no longer kept") from None
        except OSError as error:
            raise Unavailable(f"the members of group {version.name} cannot be read: {error}") from error
        if mark_of(found) != version.members:
            raise Unavailable(f"the members of group {version.name} are damaged on disk; select it again")
        return found

    def amend(self, version: GroupVersion, *, members: bytes, count: int, universe: int) -> GroupVersion:
        """The same version with other members, as when a person is forgotten; the old bitmap goes with
        the last row that names it. Raises Stale when the version is gone or was amended meanwhile."""
        mark = mark_of(members)
        _check_count(version.name, members, count)
        self._files.write({mark: members})
        mine = and_(
            group_versions.c.name == version.name,
            group_versions.c.version == version.version,
            group_versions.c.members == version.members,
        )
        with self._writing() as connection:
            changed = connection.execute(
                group_versions.update().where(mine).values(members=mark, count=count, universe=universe)
            )
            if changed.rowcount != 1:
                raise Stale(f"version {version.version} of group {version.name} has changed meanwhile")
            if not self._files.exists(mark):
                self._files.write({mark: members})
            named = select(func.count()).where(group_versions.c.members == version.members)
            if not connection.execute(named).scalar_one():
                self._files.remove(version.members)
            same = and_(group_versions.c.name == version.name, group_versions.c.version == version.version)
            return version_of(connection.execute(select(group_versions).where(same)).one())

    def hold(self, version: GroupVersion, holder: str) -> None:
        """Keeps the version until `release(holder)`. Raises Stale when it is gone already."""
        key = {"name": version.name, "version": version.version, "holder": holder}
        mine = and_(group_versions.c.name == version.name, group_versions.c.version == version.version)
        with self._writing() as connection:
            if connection.execute(select(group_versions.c.name).where(mine)).first() is None:
                raise Stale(f"version {version.version} of group {version.name} is no longer kept")
            held = and_(*(group_holds.c[column] == value for column, value in key.items()))
            if connection.execute(select(group_holds.c.name).where(held)).first() is None:
                connection.execute(group_holds.insert().values(key))

    def release(self, holder: str) -> None:
        """Lets go of everything that `holder` held."""
        with self._writing() as connection:
            connection.execute(group_holds.delete().where(group_holds.c.holder == holder))

    def prune(self, *, now: datetime, newest: int = 14, younger: timedelta = timedelta(days=35)) -> int:
        """Takes away versions that are neither among the `newest` of their group, nor calculated less than
        `younger` ago, nor in force, pinned, held or what an export is of; and bitmaps that no version names.
        Returns how many versions went."""
        columns = group_versions.c
        query = select(columns.name, columns.version, columns.calculated_at, columns.pinned)
        with self._writing() as connection:
            kept = {
                (row.name, row.version)
                for used in (group_holds, group_exports)
                for row in connection.execute(select(used.c.name, used.c.version))
            }
            since, place, gone = micros(now - younger, "now"), dict[str, int](), []
            for row in connection.execute(
                query.order_by(columns.name, columns.as_of.desc(), columns.version.desc())
            ):
                place[row.name] = rank = place.get(row.name, 0) + 1
                young = rank <= max(newest, 1) or row.calculated_at > since
                if not (young or row.pinned or (row.name, row.version) in kept):
                    gone.append({"gone_name": row.name, "gone_version": row.version})
            if gone:
                mine = and_(
                    columns.name == bindparam("gone_name"), columns.version == bindparam("gone_version")
                )
                connection.execute(group_versions.delete().where(mine), gone)
            self._files.sweep(set(connection.execute(select(columns.members).distinct()).scalars()))
        return len(gone)

    def _writing(self) -> AbstractContextManager[Connection]:
        """One writer at a time; readers go on."""
        return writing(self._engine, "the store of groups", lock="group_versions")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the store of groups")


def _publish(connection: Connection, wanted: Publication, mark: str) -> tuple[GroupVersion, bool]:
    """The version that stands, and whether it is new."""
    if wanted.pinned:
        standing = connection.execute(_pin(wanted.name, wanted.fingerprint)).first()
        if standing is not None:
            return version_of(standing), False
    as_of, sources = micros(wanted.as_of, "as_of"), dict(sorted(wanted.sources.items()))
    mine = group_versions.c.name == wanted.name
    newest = connection.execute(
        select(group_versions)
        .where(mine, group_versions.c.as_of == as_of)
        .order_by(group_versions.c.version.desc())
        .limit(1)
    ).first()
    said = (wanted.fingerprint, mark, wanted.universe, sources, wanted.pinned)
    if newest is not None and said == (
        newest.fingerprint,
        newest.members,
        newest.universe,
        newest.sources,
        newest.pinned,
    ):
        return version_of(newest), False
    last = connection.execute(select(func.max(group_versions.c.version)).where(mine)).scalar()
    row = {
        "name": wanted.name,
        "version": (last or 0) + 1,
        "fingerprint": wanted.fingerprint,
        "as_of": as_of,
        "count": wanted.count,
        "universe": wanted.universe,
        "sources": sources,
        "members": mark,
        "calculated_at": micros(wanted.calculated_at, "calculated_at"),
        "pinned": wanted.pinned,
    }
    connection.execute(group_versions.insert().values(row))
    version = GroupVersion(
        name=wanted.name,
        version=(last or 0) + 1,
        fingerprint=wanted.fingerprint,
        as_of=aware(wanted.as_of, "as_of"),
        count=wanted.count,
        universe=wanted.universe,
        sources=sources,
        members=mark,
        calculated_at=aware(wanted.calculated_at, "calculated_at"),
    )
    return version, True


def _pin(name: str, fingerprint: str) -> Any:
    return (
        select(group_versions)
        .where(
            group_versions.c.name == name,
            group_versions.c.fingerprint == fingerprint,
            group_versions.c.pinned,
        )
        .order_by(group_versions.c.version)
        .limit(1)
    )


def _hash_of(wanted: Publication) -> str:
    _check_count(wanted.name, wanted.members, wanted.count)
    if not 0 <= wanted.count <= wanted.universe:
        problem = f"is more than the {wanted.universe} users that there are"
        raise BadInput(problem, where=f"group {wanted.name}", field="count", value=wanted.count)
    return mark_of(wanted.members)


def _check_count(name: str, members: bytes, count: int) -> None:
    held = len(BitMap.deserialize(members))
    if held != count:
        raise BadInput(f"but {held} members", where=f"group {name}", field="count", value=count)
