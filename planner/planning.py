"""When a day's plan is made by itself, who lets it go out, and what it does without."""

from __future__ import annotations

from typing import Literal

from kernel.definitions import Definition
from kernel.work import Window
from planner.keep import Keep


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
    #: event → how long before the plan's day its newest line may lie; absent: purchases, a day
    fresh: dict[str, Window] = {}
    #: so long a plan on schedule waits for events that are late; absent: not at all
    wait: Window | None = None
    #: events are late and are waited for no more: the plan is made all the same, and says so; `hold`: its
    #: touches then wait until somebody approves it
    late_data: Literal["plan_anyway", "hold"] = "plan_anyway"
    #: a model that cannot be loaded or does not score: the newest earlier version that does, and without one
    #: what everyone gets; `average`: that at once; `fail`: no plan
    model_failure: Literal["previous", "average", "fail"] = "previous"
    #: candidates that are kept of very many: `{most: 12, above: 2000000}`
    candidates: Keep = Keep()
