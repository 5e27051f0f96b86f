"""When a day's plan is made by itself, and who lets it go out."""

from __future__ import annotations

from typing import Literal

from kernel.definitions import Definition


class Planning(Definition):
    """The daily cycle's own rhythm. Without this definition plans are made when somebody asks."""

    kind: Literal["planning"] = "planning"
    #: `minute hour day-of-month month day-of-week` on the workspace's clock: plans that day
    cron: str = "0 2 * * *"
    #: models are learned anew before the plans of these days; absent: only when somebody asks
    learn: str | None = None
    #: after a time in which nothing ran: the newest missed day, each of them, or none
    catch_up: Literal["last", "all", "none"] = "last"
    #: `person`: touches wait until somebody approves the plan
    approval: Literal["automatic", "person"] = "automatic"
