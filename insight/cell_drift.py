"""How today's cells differ from those of an earlier day, and what of a day must be kept to say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from insight.cluster_match import match_centres, moved, stability_index
from insight.clusters import Axis, ClusterModel
from kernel.errors import BadInput

SIDES = ("stage", "cluster", "tier", "cell")


@dataclass(frozen=True, kw_only=True)
class CellMemory:
    """What is kept of a day's cells."""

    model: ClusterModel
    #: stage, cluster, tier, cell → name → its part of all users
    shares: Mapping[str, Mapping[str, float]]

    def as_json(self) -> dict[str, Any]:
        return {"model": asdict(self.model), "shares": self.shares}

    @classmethod
    def from_json(cls, raw: Any, where: str = "") -> CellMemory:
        """Raises BadInput for what `as_json` never gave."""
        try:
            model = ClusterModel(
                axes=tuple(Axis(**axis) for axis in raw["model"]["axes"]),
                centres=tuple(tuple(float(x) for x in centre) for centre in raw["model"]["centres"]),
                names=tuple(str(name) for name in raw["model"]["names"]),
            )
            if {len(centre) for centre in model.centres} - {max(len(model.axes), 1)} or not model.names:
                raise ValueError("centres and axes do not fit")
            if len(model.centres) != len(model.names):
                raise ValueError("centres and names do not fit")
            shares = {side: {name: float(x) for name, x in raw["shares"][side].items()} for side in SIDES}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"is not what was kept of a day's cells: {error}", where=where, field="clusters"
            ) from None
        return cls(model=model, shares=shares)


def shares_of(cells: pl.DataFrame) -> dict[str, dict[str, float]]:
    """`cells`: kernel.people.Cells → side → name → part of all users."""
    found = {}
    for side in SIDES:
        counted = cells.group_by(pl.col(side).cast(pl.String)).len().sort(side)
        found[side] = {name: count / max(cells.height, 1) for name, count in counted.iter_rows()}
    return found


@dataclass(frozen=True, kw_only=True)
class CellDrift:
    """Today against an earlier day."""

    #: stage, cluster, tier, cell → population stability index of the shares
    psi: Mapping[str, float]
    #: cluster that both days have → how far its centre has moved, as a part of the way to the next centre
    shift: Mapping[str, float]
    #: clusters that only today has, and that only the earlier day had
    new: tuple[str, ...]
    gone: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "psi": {side: round(value, 6) for side, value in self.psi.items()},
            "shift": {name: round(value, 6) for name, value in self.shift.items()},
            "new": list(self.new),
            "gone": list(self.gone),
        }


def derive_drift(before: CellMemory, now: CellMemory) -> CellDrift:
    """`now` must have been found with `before`, so that names mean the same."""
    known = set(before.model.names) & set(now.model.names)
    centres = np.array(now.model.centres).reshape(len(now.model.names), -1)
    then = np.array(before.model.centres).reshape(len(before.model.names), -1)
    match = match_centres(moved(then, before.model.axes, now.model.axes), centres)
    return CellDrift(
        psi={side: stability_index(before.shares[side], now.shares[side]) for side in SIDES},
        shift={now.model.names[i]: match.shift[i] for i in sorted(match.same) if now.model.names[i] in known},
        new=tuple(name for name in now.model.names if name not in known),
        gone=tuple(name for name in before.model.names if name not in known),
    )
