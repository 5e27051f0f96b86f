"""Whether activities name only what there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kernel.errors import NotFound
from planner.activities import Activity


def check_activities(
    activities: Collection[Activity],
    *,
    goals: Collection[str],
    groups: Collection[str],
    benefits: Collection[str],
    touchpoints: Collection[str],
    contents: Collection[str],
    pools: Collection[str],
    events: Mapping[str, Collection[str]] | None,
    fields: Collection[str] | None,
) -> None:
    """Raises NotFound for the first name that does not exist. `events`: name → fields; None: not known."""
    for each in activities:
        where = f"activity {each.name}"
        _known("goal", [each.goal], goals, where)
        _known("audience", each.audience, groups, where)
        _known("admits", [each.admits] if each.admits else [], groups, where)
        for reward in each.rewards:
            named = [reward.benefit] if reward.benefit else []
            _known(f"rewards.{reward.name}.benefit", named, benefits, where)
            _known(f"rewards.{reward.name}.pool", [reward.pool] if reward.pool else [], pools, where)
        for step in each.promotion:
            _known("promotion.touchpoint", [step.touchpoint], touchpoints, where)
            _known("promotion.content", [step.content], contents, where)
            _known("promotion.benefit", [step.benefit] if step.benefit else [], benefits, where)
        if fields is not None and each.when.around is not None:
            _known("when.around", [each.when.around], fields, where)
        if events is None:
            continue
        for metric in each.metrics:
            if metric.event is None:
                continue
            place = f"metrics.{metric.name}"
            _known(f"{place}.event", [metric.event], events, where)
            has = events[metric.event]
            _known(f"{place}.of", [metric.of] if metric.of else [], has, where)
            _known(f"{place}.where", metric.where, has, where)


def _known(field: str, names: Collection[str], among: Collection[str], where: str) -> None:
    for name in names:
        if name not in among:
            raise NotFound(field.rpartition(".")[2], name, among, where=where, field=field)
