"""Published groups: what belongs together changes in one transaction; members lie beside, named by hash.

A version's bitmap is written and flushed to disk before its row, so that a row always has its members;
a kill in between leaves a file that no row names, which `prune` takes away. In force is the version
with the latest `as_of`, of those the newest: a backfill adds history and never takes the place of today.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pyroaring import BitMap
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    and_,
    func,
    select,
)

from kernel.audiences import GroupVersion
from kernel.clock import aware, instant, micros
from kernel.errors import BadInput, Stale, Unavailable
from storage.database import chunks, reading, writing
from storage.tables import metadata

group_versions = Table(
    "group_versions",
    metadata,
    # of the group; `tag:NAME` and `tag:NAME=LABEL` of a tag
    Column("name", String(300), primary_key=True),
    # counted from 1 for each name
    Column("version", Integer, primary_key=True),
    Column("fingerprint", String(16), nullable=False),
    # instants are whole microseconds since 1970 in UTC
    Column("as_of", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("universe", BigInteger, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("members", String(32), nullable=False, index=True),
    Column("calculated_at", BigInteger, nullable=False),
    # true: a static group, worked out once for this fingerprint
    Column("pinned", Boolean, nullable=False),
    Index(None, "name", "as_of", "version"),
)
#: versions that somebody still reads: a run, an export, a plan
group_holds = Table(
    "group_holds",
    metadata,
    Column("name", String(300), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("holder", String(200), primary_key=True),
    ForeignKeyConstraint(["name", "version"], ["group_versions.name", "group_versions.version"]),
)
#: a file that no row names may be one that is about to get its row, seconds
_GRACE = 3600.0
#: files written at once
_WRITERS = 8


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
        self._engine, self._folder = engine, folder

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
        self._write({mark: each.members for mark, each in zip(hashes, publications, strict=True)})
        with self._writing() as connection:
            for mark, each in zip(hashes, publications, strict=True):
                if not self._path(mark).exists():  # pruned since it was found there
                    self._write({mark: each.members})
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
                found |= {row.name: _version(row) for row in connection.execute(asked)}
        return found

    def versions(self, name: str) -> list[GroupVersion]:
        """Every version that is kept, the oldest first."""
        query = select(group_versions).where(group_versions.c.name == name)
        with self._reading() as connection:
            return [_version(row) for row in connection.execute(query.order_by(group_versions.c.version))]

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
                    found[row.name] = _version(row)
        return found

    def pinned(self, name: str, fingerprint: str) -> GroupVersion | None:
        """The one version of a static group with this definition."""
        with self._reading() as connection:
            row = connection.execute(_pin(name, fingerprint)).first()
        return None if row is None else _version(row)

    def names(self) -> list[str]:
        """Every group that was published, sorted."""
        with self._reading() as connection:
            query = select(group_versions.c.name).distinct().order_by(group_versions.c.name)
            return list(connection.execute(query).scalars())

    def members(self, version: GroupVersion) -> bytes:
        """The serialised bitmap. Raises Stale when it was pruned, Unavailable when it is damaged."""
        try:
            found = self._path(version.members).read_bytes()
        except FileNotFoundError:
            raise Stale(f"version {version.version} of group {version.name} is no longer kept") from None
        except OSError as error:
            raise Unavailable(f"the members of group {version.name} cannot be read: {error}") from error
        if _digest(found) != version.members:
            raise Unavailable(f"the members of group {version.name} are damaged on disk; select it again")
        return found

    def amend(self, version: GroupVersion, *, members: bytes, count: int, universe: int) -> GroupVersion:
        """The same version with other members, as when a person is forgotten; the old bitmap goes with
        the last row that names it. Raises Stale when the version is gone or was amended meanwhile."""
        mark = _digest(members)
        _check_count(version.name, members, count)
        self._write({mark: members})
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
            if not self._path(mark).exists():
                self._write({mark: members})
            named = select(func.count()).where(group_versions.c.members == version.members)
            if not connection.execute(named).scalar_one():
                self._path(version.members).unlink(missing_ok=True)
            same = and_(group_versions.c.name == version.name, group_versions.c.version == version.version)
            return _version(connection.execute(select(group_versions).where(same)).one())

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
        `younger` ago, nor in force, pinned or held; and bitmaps that no version names. Returns how many
        versions went."""
        with self._writing() as connection:
            rows = connection.execute(
                select(group_versions).order_by(
                    group_versions.c.name, group_versions.c.as_of.desc(), group_versions.c.version.desc()
                )
            ).all()
            held = {
                tuple(row) for row in connection.execute(select(group_holds.c.name, group_holds.c.version))
            }
            since, place, gone = micros(now - younger, "now"), dict[str, int](), []
            for row in rows:
                place[row.name] = rank = place.get(row.name, 0) + 1
                kept = rank <= max(newest, 1) or row.calculated_at > since or row.pinned
                if not kept and (row.name, row.version) not in held:
                    gone.append((row.name, row.version))
            for name, version in gone:
                mine = and_(group_versions.c.name == name, group_versions.c.version == version)
                connection.execute(group_versions.delete().where(mine))
            named = set(connection.execute(select(group_versions.c.members).distinct()).scalars())
            self._sweep(named)
        return len(gone)

    def _sweep(self, named: set[str]) -> None:
        edge = time.time() - _GRACE
        for path in self._folder.glob("??/*"):
            if path.stem not in named and path.stat().st_mtime < edge:
                path.unlink(missing_ok=True)

    def _path(self, mark: str) -> Path:
        return self._folder / mark[:2] / f"{mark}.roaring"

    def _write(self, files: Mapping[str, bytes]) -> None:
        """Each file whole and on disk under its name, or not there. Disks flush many as fast as one."""
        if len(files) == 1:
            written = {self._write_one(file) for file in files.items()}
        else:
            with ThreadPoolExecutor(_WRITERS) as pool:
                written = set(pool.map(self._write_one, files.items()))
        folders = {folder for folder in written if folder is not None}
        for folder in {*folders, self._folder} if folders else folders:
            _flush(folder)

    def _write_one(self, file: tuple[str, bytes]) -> Path | None:
        """The folder in which it was written; None when it was there."""
        mark, content = file
        path = self._path(mark)
        if path.exists() and path.read_bytes() == content:
            os.utime(path)  # young again, so that no sweep takes it before its row is there
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{mark}.{os.getpid()}.{time.monotonic_ns()}")
        with fresh.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
        return path.parent

    def _writing(self) -> AbstractContextManager[Connection]:
        """One writer at a time; readers go on."""
        return writing(self._engine, "the store of groups", lock="group_versions")

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, "the store of groups")


def _flush(folder: Path) -> None:
    """A folder's own entries, to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(connection: Connection, wanted: Publication, mark: str) -> tuple[GroupVersion, bool]:
    """The version that stands, and whether it is new."""
    if wanted.pinned:
        standing = connection.execute(_pin(wanted.name, wanted.fingerprint)).first()
        if standing is not None:
            return _version(standing), False
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
        return _version(newest), False
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
    return _digest(wanted.members)


def _check_count(name: str, members: bytes, count: int) -> None:
    held = len(BitMap.deserialize(members))
    if held != count:
        raise BadInput(f"but {held} members", where=f"group {name}", field="count", value=count)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _version(row: Any) -> GroupVersion:
    return GroupVersion(
        name=row.name,
        version=row.version,
        fingerprint=row.fingerprint,
        as_of=instant(row.as_of),
        count=row._mapping["count"],  # a row is a tuple, which has a count of its own
        universe=row.universe,
        sources=row.sources,
        members=row.members,
        calculated_at=instant(row.calculated_at),
    )
