"""Where everything is built: one workspace from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.definitions import Definitions
from engine.settings import Settings, load_settings
from insight.api import Catalog, LeafCache, UserDictionary, load_catalog
from kernel.clock import Clock, SystemClock
from storage.database import Engine, open_database
from storage.definitions import DefinitionStore
from storage.group_exports import GroupExports
from storage.groups import GroupStore
from storage.identities import IdentityStore
from storage.outbox import SqlOutbox
from storage.outbox_receipts import Receipts
from storage.plan_runs import PlanRuns
from storage.plans import PlanRegister
from storage.rule_firings import RuleFirings
from storage.rules import RuleStore
from storage.selection_runs import SelectionRuns
from storage.snapshots import FileSnapshots
from storage.suppress import Suppressions
from storage.tombstones import Tombstones
from touchpoint.api import Ledger

if TYPE_CHECKING:
    from models.api import Registry


@dataclass(frozen=True)
class Workspace:
    """Everything that the commands need, built when first asked for."""

    root: Path
    settings: Settings
    clock: Clock

    @cached_property
    def catalog(self) -> Catalog:
        return load_catalog(self.root / self.settings.catalog)

    @cached_property
    def database(self) -> Engine:
        return open_database(_inside(self.root, self.settings.database))

    @cached_property
    def registry(self) -> Registry:
        from models.api import Registry  # takes a second to load

        return Registry(_inside(self.root, self.settings.mlflow), self.root / self.settings.artifacts)

    @cached_property
    def store(self) -> DefinitionStore:
        return DefinitionStore(self.database)

    @cached_property
    def plans(self) -> PlanRegister:
        return PlanRegister(self.database)

    @cached_property
    def ledger(self) -> Ledger:
        """Reserved and confirmed touches: in what deciders share."""
        from engine.online import open_ledger  # what deciders share is opened by those who know this module

        return open_ledger(self)

    @cached_property
    def outbox(self) -> SqlOutbox:
        return SqlOutbox(self.database, self.root / "var" / "dispatch")

    @cached_property
    def suppressions(self) -> Suppressions:
        return Suppressions(self.database, self.tombstones)

    @cached_property
    def receipts(self) -> Receipts:
        return Receipts(self.database, self.outbox, self.suppressions)

    @cached_property
    def leaves(self) -> LeafCache:
        return LeafCache(self.root / "var" / "insight" / "leaves")

    @cached_property
    def dictionary(self) -> UserDictionary:
        folder = self.root / "var" / "insight" / "dictionary"
        return UserDictionary(folder, refused=self.tombstones.refused)

    @cached_property
    def groups(self) -> GroupStore:
        return GroupStore(self.database, self.root / "var" / "insight" / "groups")

    @cached_property
    def runs(self) -> SelectionRuns:
        return SelectionRuns(self.database, self.groups)

    @cached_property
    def plan_runs(self) -> PlanRuns:
        return PlanRuns(self.database)

    @cached_property
    def rules(self) -> RuleStore:
        return RuleStore(self.database)

    @cached_property
    def rule_firings(self) -> RuleFirings:
        return RuleFirings(self.database)

    @property
    def jobs_url(self) -> str:
        """Of the durable jobs' own database."""
        return _inside(self.root, self.settings.jobs)

    @cached_property
    def exports(self) -> GroupExports:
        return GroupExports(self.database)

    @cached_property
    def identities(self) -> IdentityStore:
        return IdentityStore(self.database)

    @cached_property
    def tombstones(self) -> Tombstones:
        return Tombstones(self.database, self.root / "var" / "secret")

    @property
    def journal(self) -> Path:
        """Decisions and outcomes, as every worker writes them."""
        return self.root / "var" / "journal"

    @cached_property
    def snapshots(self) -> FileSnapshots:
        return FileSnapshots(self.root / "var" / "snapshots")

    def definitions(self) -> Definitions:
        """Those in force now; parsed again only when something was applied."""
        stamp = self.store.stamp()
        kept = self._definitions.get(stamp)
        if kept is None:
            kept = Definitions(self.store)
            self._definitions.clear()
            self._definitions[stamp] = kept
        return kept

    @cached_property
    def _definitions(self) -> dict[tuple[object, ...], Definitions]:
        """By the store's stamp, the newest alone."""
        return {}


def open_workspace(root: Path, clock: Clock | None = None) -> Workspace:
    """Raises BadInput when `root` is no workspace."""
    return Workspace(root.resolve(), load_settings(root), clock or SystemClock())


def _inside(root: Path, url: str) -> str:
    """A relative SQLite file as one of the workspace; other URLs as they are."""
    file = url.removeprefix("sqlite:///")
    if file == url or file.startswith("/"):
        return url
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"
