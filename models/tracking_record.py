"""What the registry keeps of anything learned: made by those who know the model, kept without knowing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kernel.learning import Interval


class Predicts(Protocol):
    """A model that can be pickled and served."""

    def predict(self, frame: pl.DataFrame) -> NDArray[np.float64]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A model with its evidence, ready to be kept as one run and one version."""

    #: of the registered model
    name: str
    #: nothing after this instant was known to it
    as_of: datetime
    model: Predicts
    #: the same, learned before the held-out time only: what a later model is compared with; None: not kept
    judged: object | None = None
    #: some rows as `predict` takes them
    sample: pl.DataFrame
    #: what it was learned from: only names and types of the columns are kept
    dataset: pl.DataFrame
    params: Mapping[str, Any]
    #: figures by name; `NAME_low` and `NAME_high` for the ends of an interval (see `flat`)
    metrics: Mapping[str, float]
    #: of the run
    tags: Mapping[str, str] = field(default_factory=dict)
    #: file → picture, such as reliability.png
    figures: Mapping[str, Figure] = field(default_factory=dict)
    #: file → text, such as card.md and card.html
    texts: Mapping[str, str] = field(default_factory=dict)
    #: child run → parameters and metrics, such as the trials of a search
    trials: Mapping[str, tuple[Mapping[str, Any], Mapping[str, float]]] = field(default_factory=dict)
    #: it beat every trivial baseline: it may predict
    trusted: bool
    #: it becomes the champion; else it is the challenger
    promote: bool
    #: the gate's sentence
    reason: str


def flat(figures: Mapping[str, Interval], prefix: str = "") -> dict[str, float]:
    """Intervals as metrics: the figure, its ends under `_low` and `_high`; what is unknown is left out."""
    found = {}
    for name, value in figures.items():
        found[f"{prefix}{name}"] = value.mean
        found[f"{prefix}{name}_low"], found[f"{prefix}{name}_high"] = value.low, value.high
    return {name: value for name, value in found.items() if value == value}
