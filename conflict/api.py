"""The door of this room: the global allocation on its own."""

from conflict.allocate import allocate
from conflict.candidates import read_candidates
from conflict.explain import Reason, explain
from conflict.limits import load_limits
from conflict.verify import verify
from conflict.write import write_allocation

__all__ = ["Reason", "allocate", "explain", "load_limits", "read_candidates", "verify", "write_allocation"]
