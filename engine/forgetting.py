"""`growth forget`: a person taken out of everything that this workspace keeps.

Every step finds nothing when it is done again, so whoever is stopped in the middle starts over. The tombstone
comes first, so that nothing brings her back meanwhile, and the dictionary nearly last, since her number is
needed until then. The sources are the company's own: they are named in the answer, not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroaring import BitMap

from engine.dispatch_forgetting import forget_addresses, providers_told
from engine.identities import merges_of
from engine.online import open_store
from engine.plan_work import clear_all_work
from engine.wiring import Workspace
from insight.api import Catalog, as_user
from kernel.errors import NotFound, Stale
from realtime.api import decision_of, without
from storage.forget_files import described_files, forget_in_files, traces
from storage.forget_sql import SqlForgotten, forget_in_database, is_sqlite, sqlite_file
from storage.journal import FileJournalReader, amend
from storage.redaction import Person

#: told the name of each step when it begins
Progress = Callable[[str], None]


@dataclass
class Forgotten:
    """What was removed where."""

    #: the ids that are one person by merges, as text
    users: tuple[str, ...]
    dry_run: bool
    #: whether she had a number
    in_dictionary: bool = False
    #: group → published versions that held her
    groups: dict[str, int] = field(default_factory=dict)
    #: `database.table` → rows that went, and rows in which she was named
    rows_deleted: dict[str, int] = field(default_factory=dict)
    rows_redacted: dict[str, int] = field(default_factory=dict)
    #: file → rows or places that went
    files: dict[str, int] = field(default_factory=dict)
    #: manifests with a new hash and count
    manifests: list[str] = field(default_factory=list)
    #: what still names her, a sentence each, with what to do
    left: list[str] = field(default_factory=list)
    #: what cannot be reached from here, and is the company's to do
    beyond: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.left


def forget_user(
    workspace: Workspace, user: str, *, dry_run: bool = False, progress: Progress = lambda _: None
) -> Forgotten:
    """Everything of one person, by any of her ids. Whom nobody knows is forgotten too: she cannot come.

    Raises BadInput for what can be no id, Unavailable when a store does not answer: then do it again.
    """
    one = as_user(workspace.catalog, user, "USER")
    ids = _of_one_person(workspace, one)
    person = Person(ids=ids, keys=_user_columns(workspace.catalog))
    found = Forgotten(users=tuple(map(str, ids)), dry_run=dry_run, beyond=_beyond(workspace))
    if not dry_run:
        progress("noting that she is not to come back")
        workspace.tombstones.begin(ids, workspace.clock.now())
        clear_all_work(workspace)  # plans that were not ended are begun anew, without her
    progress("published groups")
    numbers = _numbers(workspace, ids)
    found.in_dictionary = bool(numbers)
    if numbers:
        _forget_memberships(workspace, numbers, found)
    progress("files")
    theirs = _source_files(workspace)
    ours = [path for path in _files(workspace) if path not in theirs]
    databases = [path for path in ours if is_sqlite(path)]
    kept = (workspace.root / "var" / "insight", workspace.journal)
    plain = [path for path in ours if path not in databases and not any(map(path.is_relative_to, kept))]
    told = forget_in_files(
        [path for path in plain if not _is_definition(path)], person, workspace.clock.now(), dry_run=dry_run
    )
    found.files, found.manifests = told.changed, told.manifests
    found.left += told.left
    progress("journals")
    _forget_decisions(workspace, person, found)
    progress("databases")
    if not dry_run:
        forget_addresses(workspace, found.users)
    _forget_rows(workspace, person, databases, found)
    if not dry_run:
        progress("bitmaps and dictionary")
        workspace.leaves.clear()
        for number in numbers.values():
            _forget_id(workspace, number)
        progress("looking for her bytes")
        for path in traces([path for path in _files(workspace) if path not in theirs], person):
            found.left.append(f"{path} still names her; {_advice(path)}")
        if found.complete:
            workspace.tombstones.finish(ids, workspace.clock.now())
    return found


def readmit_user(workspace: Workspace, user: str) -> None:
    """Takes the tombstone away: the next batch may bring her back. Raises NotFound without one."""
    one = as_user(workspace.catalog, user, "USER")
    if not workspace.tombstones.readmit(one):
        raise NotFound("forgotten user", one, (), field="USER")
    workspace.leaves.clear()  # who exists was worked out without her


def _of_one_person(workspace: Workspace, user: int | str) -> tuple[Any, ...]:
    merges = merges_of(workspace)
    stands = merges.survivor(user)
    same = (each for each in merges.people if merges.survivor(each) == stands)
    return tuple(dict.fromkeys([user, stands, *same]))


def _user_columns(catalog: Catalog) -> frozenset[str]:
    """Names under which files and tables hold users' ids."""
    names = {catalog.entity.key, *(event.user for event in catalog.events.values())}
    for mapping in catalog.mappings.values():
        names |= {mapping.from_column} if mapping.from_ == "user" else set()
        names |= {mapping.to_column} if mapping.to == "user" else set()
    return frozenset(name.lower() for name in names)


def _numbers(workspace: Workspace, ids: Iterable[int | str]) -> dict[int | str, int]:
    found = {}
    for one in ids:
        try:
            found[one] = workspace.dictionary.position(one)
        except NotFound:
            continue
    return found


def _forget_id(workspace: Workspace, number: int) -> None:
    users = workspace.dictionary.users(BitMap([number]))
    if len(users):
        workspace.dictionary.forget(users[0])


def _forget_memberships(workspace: Workspace, numbers: dict[int | str, int], found: Forgotten) -> None:
    """Every kept version of every group, not only the one in force."""
    groups, hers = workspace.groups, BitMap(numbers.values())
    for name in groups.names():
        for version in groups.versions(name):
            while True:
                try:
                    members = BitMap.deserialize(groups.members(version))
                    if not members & hers:
                        break
                    found.groups[name] = found.groups.get(name, 0) + 1
                    if not found.dry_run:
                        fewer = members - hers
                        lost = len(members) - len(fewer)
                        groups.amend(
                            version,
                            members=fewer.serialize(),
                            count=len(fewer),
                            universe=max(version.universe - lost, len(fewer)),
                        )
                    break
                except Stale:  # amended or pruned by somebody else meanwhile: look again
                    same = [each for each in groups.versions(name) if each.version == version.version]
                    if not same:
                        break
                    version = same[0]


def _forget_decisions(workspace: Workspace, person: Person, found: Forgotten) -> None:
    """Her decisions, their outcomes, what names her in those of others, and what is shared of her."""
    reader, hers, named = FileJournalReader(workspace.journal), set[str](), dict[str, int]()
    for record in _records(reader):
        if (mine := decision_of(record, person)) is not None:
            hers.add(mine)
    for record in _records(reader):
        if without(record, person, hers) != record:
            named["var/journal"] = named.get("var/journal", 0) + 1
    found.files |= named
    if found.dry_run:
        return

    def change(record: bytes) -> bytes:
        if (mine := decision_of(record, person)) is not None:
            hers.add(mine)
        return without(record, person, hers)

    amend(workspace.journal, change)
    amend(workspace.journal, change)  # outcomes of what was written after we looked
    if "://" in workspace.settings.store or (workspace.root / workspace.settings.store / "boot").exists():
        store, ledger = open_store(workspace), workspace.ledger
        try:
            for each in person.texts:
                ledger.forget(each)  # first: what her household holds of her is found by what she holds
                store.forget(each)
        finally:
            store.close()


def _records(reader: FileJournalReader) -> Iterator[bytes]:
    for writer in reader.writers():
        after = (0, 0)
        while records := reader.read(writer, after):
            after = records[-1][0]
            yield from (record for _, record in records)


def _forget_rows(workspace: Workspace, person: Person, databases: list[Path], found: Forgotten) -> None:
    """Our own database, and any SQLite file beside it: MLflow's, DBOS's."""
    own = workspace.database.url.database
    _count(found, "growth", forget_in_database(workspace.database, person, dry_run=found.dry_run))
    for path in databases:
        if own is None or not _same_file(path, Path(own)):
            with sqlite_file(path) as engine:
                _count(found, path.name, forget_in_database(engine, person, dry_run=found.dry_run))


def _count(found: Forgotten, name: str, told: SqlForgotten) -> None:
    found.rows_deleted |= {f"{name}.{table}": rows for table, rows in told.deleted.items()}
    found.rows_redacted |= {f"{name}.{table}": rows for table, rows in told.redacted.items()}
    found.left += told.left


def _files(workspace: Workspace) -> Iterator[Path]:
    """Every file of the workspace, and of plans that were written elsewhere."""
    roots = {workspace.root, *(Path(folder).resolve() for folder in workspace.plans.folders())}
    for root in sorted(roots):
        if root != workspace.root and root.is_relative_to(workspace.root):
            continue
        for folder, _, names in os.walk(root):
            if Path(folder) == _shared(
                workspace
            ):  # hashes only, in sparse files that are larger than any disk
                continue
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    yield path
    for manifest in _exports(workspace)[0]:
        if manifest.is_file() and not manifest.is_relative_to(workspace.root):
            yield from (path for path in (manifest, *described_files(manifest)) if path.is_file())


def _shared(workspace: Workspace) -> Path:
    return workspace.root / workspace.settings.store / "store"


def _exports(workspace: Workspace) -> tuple[list[Path], list[str]]:
    """Manifests of audiences that were written: those on this machine, and addresses of the others."""
    here, away = [], []
    for export in workspace.exports.all():
        scheme, _, rest = export.address.rpartition("://")
        if scheme in ("", "file", "local"):
            here.append((workspace.root / rest).resolve())
        else:
            away.append(f"export of group {export.name} at {export.address}: select it there again")
    return here, away


def _source_files(workspace: Workspace) -> set[Path]:
    """Files below the workspace that the catalog calls sources: the company's own."""
    found = set()
    for route in workspace.catalog.sources.values():
        _, _, rest = route.url.partition("://")
        place = (workspace.catalog.folder / rest.partition("?")[0]).resolve()
        if place.is_dir():
            found |= {path for path in place.rglob("*") if path.is_file()}
        elif place.is_file():
            found |= {path for path in place.parent.glob(f"{place.name}*") if path.is_file()}
    return found


def _beyond(workspace: Workspace) -> list[str]:
    sources = [f"source {name} ({route.url.partition('?')[0].rpartition('@')[2]})"
               for name, route in workspace.catalog.sources.items()]  # fmt: skip
    others = [] if workspace.database.dialect.name == "sqlite" else ["the database's own archives of its log"]
    return [
        *_exports(workspace)[1],
        *providers_told(workspace),
        *(f"{each}: to be deleted by its owner; until then she is refused here" for each in sources),
        *(f"{each}: beyond this engine" for each in (*others, "files that were copied away", "backups")),
    ]


def _is_definition(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml", ".toml")


def _advice(path: Path) -> str:
    if _is_definition(path):
        return "it is your own text: edit it, and run growth forget again"
    return "nothing here knows how to change such a file: remove it, and run growth forget again"


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
