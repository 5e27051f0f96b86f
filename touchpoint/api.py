"""How do we reach them without wearing them out? The door of this room."""

from touchpoint.export import export_touches
from touchpoint.planning import TouchPlan, plan_touches
from touchpoint.ports import Ledger
from touchpoint.verification import verify_touches

__all__ = ["Ledger", "TouchPlan", "export_touches", "plan_touches", "verify_touches"]
