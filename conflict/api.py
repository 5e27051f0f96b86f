"""The door of this room: the global allocation on its own."""

from conflict.allocate import allocate
from conflict.candidates import read_candidates
from conflict.explain import Reason, explain
from conflict.limits import load_limits
from conflict.solve import Progress, Stop
from conflict.stops import Gap, Rounds, Seconds, Stalled, any_of
from conflict.sweep import Sweep, parse_sweep, sweep
from conflict.verify import verify
from conflict.whatif import WhatIf, asked_again, what_if
from conflict.write import write_allocation

__all__ = [
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
    "any_of",
    "asked_again",
    "explain",
    "load_limits",
    "parse_sweep",
    "read_candidates",
    "sweep",
    "verify",
    "what_if",
    "write_allocation",
]
