"""The steps of a day's plan: each is told while it runs, and done once however often the plan is begun."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar

import polars as pl

from storage.plan_work import PlanWork

Product = TypeVar("Product")
#: told all steps so far whenever one begins, gets on or ends: `{step, state, began_at, seconds, rows, doing}`
Watch = Callable[[list[dict[str, Any]]], None]
#: seconds between two words on how far a step is
_EVERY = 1.0
RUNNING, DONE, KEPT = "running", "done", "kept"


class Steps:
    """Without a watch and a folder of work it only tells what begins."""

    def __init__(
        self,
        progress: Callable[[str], None],
        *,
        watch: Watch = lambda _: None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._progress, self._watch, self._now = progress, watch, now
        self.told: list[dict[str, Any]] = []
        #: where products are kept, from when the inputs are known
        self.work: PlanWork | None = None
        #: raises what must stop the plan before a product is taken for good
        self.check: Callable[[], None] = lambda: None
        self._begun = self._said = 0.0

    def __call__(self, doing: str) -> None:
        """Something within the step: what, for whoever watches."""
        self._progress(doing)
        if self.told and self.told[-1]["state"] == RUNNING:
            self.told[-1]["doing"] = doing
            self._tell()

    def rows(self, so_far: int) -> None:
        """How many rows the step has done; told once a second at most."""
        if self.told and self.told[-1]["state"] == RUNNING:
            self.told[-1]["rows"] = so_far
            if monotonic() - self._said >= _EVERY:
                self._tell()

    def do(self, name: str, make: Callable[[], Product], *, rows: Callable[[Product], int]) -> Product:
        """What `make` gives; what it gave an earlier try of the same plan, if that came so far."""
        self.begin(name)
        work = self.work
        found = None if work is None else work.find(name)
        if found is not None:
            value: Product = found.value
            self.end(rows=found.facts["rows"], state=KEPT)
            return value
        value = make()
        self.check()
        count = rows(value)
        if work is not None:
            value = work.keep(name, value, {"rows": count})
        self.end(rows=count)
        return value

    def begin(self, name: str) -> None:
        self._begun = monotonic()
        self._progress(name)
        at = {} if self._now is None else {"began_at": self._now().isoformat()}
        self.told.append({"step": name, "state": RUNNING, **at})
        self._tell()

    def end(self, *, rows: int | None = None, state: str = DONE) -> None:
        last = self.told[-1]
        last.pop("doing", None)
        last |= {"state": state, "seconds": round(monotonic() - self._begun, 3)}
        if rows is not None:
            last["rows"] = rows
        self._tell()

    def stop(self) -> None:
        """The step that runs has failed: how long it took is told."""
        if self.told and self.told[-1]["state"] == RUNNING:
            self.end(state="failed")

    def _tell(self) -> None:
        self._said = monotonic()
        if self.told and self.told[-1]["state"] == RUNNING:
            self.told[-1]["seconds"] = round(self._said - self._begun, 3)
        self._watch(self.told)


def height(frame: pl.DataFrame) -> int:
    return frame.height
