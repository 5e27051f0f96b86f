"""Each user's zone and household, in memory, as far as caps ask for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from time import monotonic

import polars as pl

from engine.identities import merges_of
from engine.wiring import Workspace
from insight.api import derive_belonging, read_fields
from kernel.caps import Caps
from kernel.contact import Cap
from kernel.errors import GrowthError, Unavailable

#: seconds between readings of the sources
_EVERY = 300.0

_log = logging.getLogger(__name__)


class People:
    """Asked for every touch. Nothing is read while no cap counts by the calendar or by an entity; else it
    takes about 100 bytes a user for each of them.

    While what a cap needs was never read, asking raises Unavailable: nobody is touched by a guess. When it
    cannot be read anew, what was read last stands.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._usual = workspace.settings.timezone
        self._zones: dict[str, str] | None = None
        self._entities: dict[str, dict[str, str]] = {}
        self._wanted: tuple[bool, tuple[str, ...]] = (False, ())
        self._read_at = -_EVERY

    def refresh(self, caps: Caps, *, zones: bool = False) -> None:
        """Reads the sources when it is time, or a cap asks for more; may take as long as that takes. `zones`:
        also when no cap asks for them."""
        wanted = (zones or caps.calendar, caps.entities)
        if wanted == self._wanted and monotonic() - self._read_at < _EVERY:
            return
        try:
            if wanted[0]:
                self._zones = self._read_zones()
            self._entities = {name: as_map(entity_frame(self._space, name)) for name in caps.entities}
            self._read_at = monotonic()
        except GrowthError as error:
            _log.warning("zones and households cannot be read: %s", error)
            self._read_at = monotonic() - 0.9 * _EVERY
        self._wanted = wanted

    def zone(self, user: str) -> str:
        """Of the user; the workspace's where none is known, and where no cap asks for it."""
        if self._zones is None:
            if self._wanted[0]:
                raise Unavailable("users' zones are not read yet")
            return self._usual
        return self._zones.get(user, self._usual)

    def entities(self, user: str) -> Mapping[str, str]:
        """Entity → the one to which the user belongs, of those that caps ask for."""
        found = {}
        for name in self._wanted[1]:
            if name not in self._entities:
                raise Unavailable(f"who belongs to which {name} is not read yet")
            one = self._entities[name].get(user)
            if one is not None:
                found[name] = one
        return found

    def _read_zones(self) -> dict[str, str]:
        field = self._space.catalog.field_of_role("timezone")
        if field is None:
            return {}
        return as_map(read_fields(self._space.catalog, [field]).rename({field: "entity"}).drop_nulls())


def entity_frame(workspace: Workspace, entity: str) -> pl.DataFrame:
    """[user, entity (text)] now. Raises NotFound for one to which no mapping leads."""
    return derive_belonging(workspace.catalog, entity, workspace.clock.now(), merges_of(workspace))


def entity_frames(workspace: Workspace, caps: Iterable[Cap]) -> dict[str, pl.DataFrame]:
    """For every entity that a cap counts by. Raises NotFound naming the cap."""
    merges, now = merges_of(workspace), workspace.clock.now()
    return {
        cap.by: derive_belonging(workspace.catalog, cap.by, now, merges, f"cap {cap.name}")
        for cap in caps
        if cap.by != "user"
    }


def as_map(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.select(pl.col("user").cast(pl.String), pl.col("entity").cast(pl.String)).iter_rows())
