"""How long decisions are remembered: in what deciders share, and in the journals."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from engine.policies import reward_rules
from engine.wiring import Workspace
from kernel.contact import Cap, hold_for
from kernel.errors import BadInput
from realtime.api import Position, RewardRule
from storage.journal_pruning import journal_size, prune

#: answers under keys, and ids of outcomes and events, are known for so long at least
KEEP = timedelta(hours=24)
#: journals that are so much older than they should be show that nobody prunes
_LATE = timedelta(days=3)

_log = logging.getLogger(__name__)


def keep_for(rules: Mapping[str, RewardRule]) -> timedelta:
    """How long ids are known: until a day after any outcome of theirs can count."""
    return max(rule.delay for rule in rules.values()) + KEEP


def journal_age(space: Workspace) -> timedelta:
    """How old a journal's segment is when it may go: as the settings say, and not before what deciders share
    could do without being told it again."""
    told = timedelta(days=space.settings.keep_journal)
    return max(told, keep_for(reward_rules(space)), hold_for(space.definitions().of(Cap)))


def prune_journals(space: Workspace, passed: Mapping[str, Position]) -> int:
    """Removes what is old enough and behind what everybody has `passed`; bytes. Raises Unavailable."""
    before = (space.clock.now() - journal_age(space)).timestamp()
    freed = prune(space.journal, before, passed)
    if freed:
        _log.info("journals are %.1f MB shorter", freed / 1e6)
    return freed


def describe_journals(space: Workspace) -> str:
    """For `growth doctor`. Raises BadInput when what should be gone is still there."""
    size, age = journal_size(space.journal), journal_age(space)
    if size.oldest is None:
        return "nothing was decided yet"
    old = timedelta(seconds=space.clock.now().timestamp() - size.oldest)
    told = (
        f"{size.bytes / 1e6:,.1f} MB in {size.segments} segments of {size.writers} writers, "
        f"the oldest of {max(old.days, 0)} days; kept for {age.days}"
    )
    if old > age + _LATE:
        raise BadInput(f"{told}; who learns prunes them, and nobody does; run: growth serve, or growth learn")
    return told
