"""What became of a plan's touches, beside the plan and in its report."""

from __future__ import annotations

from typing import Any

from engine.outbox import folder_of
from engine.report.delivery import with_delivery
from engine.wiring import Workspace
from storage.lake import write_json, write_text


def delivery_of(space: Workspace, run: str) -> dict[str, Any]:
    """`{run, channels: [{channel, touches, accepted, …}], reasons: [...]}` of one plan."""
    states: dict[str, dict[str, int]] = {}
    for task in space.outbox.tasks(run):
        here = states.setdefault(task["channel"], {})
        for state, count in task["touches"].items():
            here[state] = here.get(state, 0) + count
    told = space.receipts.counts(run)
    return {
        "run": run,
        "channels": [
            {
                "channel": channel,
                "touches": sum(here.values()),
                "states": dict(sorted(here.items())),
                "receipts": told.get(channel, {}),
            }
            for channel, here in sorted(states.items())
        ],
        "reasons": [
            {name: each[name] for name in ("task", "state", "rule", "reason", "count")}
            for each in space.outbox.reasons(run)
        ],
    }


def publish_delivery(space: Workspace, run: str) -> dict[str, Any] | None:
    """`delivery.json` in the plan's folder, and a section of its report. None when the plan is gone, or the
    run was no plan's. Again: changes nothing."""
    folder = folder_of(space, run)
    if folder is None:
        return None
    found = delivery_of(space, run)
    write_json(folder / "delivery.json", found)
    page = folder / "report.html"
    if page.exists():
        before = page.read_text(encoding="utf-8")
        after = with_delivery(before, found)
        if after != before:
            write_text(page, after)
    return found
