"""The door of this room: the global allocation on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from conflict.allocate import allocate
    from conflict.candidates import read_candidates
    from conflict.explain import Reason, explain
    from conflict.large import STREAMED, allocate_file, allocate_on_spark, rows_of
    from conflict.limits import load_limits
    from conflict.solve import Progress, Stop
    from conflict.stops import Gap, Rounds, Seconds, Stalled, any_of
    from conflict.sweep import Sweep, parse_sweep, sweep
    from conflict.verify import verify
    from conflict.whatif import WhatIf, asked_again, what_if
    from conflict.write import write_allocation
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "STREAMED",
    "Gap",
    "Progress",
    "Reason",
    "Rounds",
    "Seconds",
    "Stalled",
    "Stop",
    "Sweep",
    "WhatIf",
    "allocate",
    "allocate_file",
    "allocate_on_spark",
    "any_of",
    "asked_again",
    "explain",
    "load_limits",
    "parse_sweep",
    "read_candidates",
    "rows_of",
    "sweep",
    "verify",
    "what_if",
    "write_allocation",
]
