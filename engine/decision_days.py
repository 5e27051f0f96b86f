"""What was decided on a day in real time, and what came of it: the report of tomorrow."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from scipy.stats import t as student

from engine.policies import reward_rules
from engine.wiring import Workspace
from kernel.clock import micros, start_of_day
from realtime.api import ELSEWHERE, NO_POLICY, Join, Joined, family, head
from storage.journal import FileJournalReader

_LEVEL = 0.95
#: a segment that was last written so long before a day began holds nothing of it
_SLACK = timedelta(hours=1)


@dataclass(kw_only=True)
class _Sum:
    """Of one action in one moment by one policy."""

    decisions: int = 0
    outcomes: int = 0
    uses: int = 0
    #: Σ reward, Σ reward², Σ cost; major units
    reward: float = 0.0
    squares: float = 0.0
    cost: float = 0.0

    def add(self, joined: Joined) -> None:
        action = joined.actions[joined.choice.chosen]
        self.decisions += 1
        self.outcomes += joined.outcomes
        self.uses += action.resource is not None
        self.reward += joined.reward
        self.squares += joined.reward * joined.reward
        self.cost += action.cost

    def as_json(self) -> dict[str, Any]:
        """The interval of the mean is Student's; none for a single decision."""
        mean, low, high = self.reward / self.decisions, None, None
        if self.decisions > 1:
            spread = max(self.squares - self.decisions * mean * mean, 0.0) / (self.decisions - 1)
            quantile = float(student.ppf((1 + _LEVEL) / 2, self.decisions - 1))
            reach = quantile * math.sqrt(spread / self.decisions)
            low, high = mean - reach, mean + reach
        return {
            "decisions": self.decisions,
            "outcomes": self.outcomes,
            "uses": self.uses,
            "cost": self.cost,
            "reward": {"mean": mean, "low": low, "high": high},
        }


def decisions_of(space: Workspace, day: date) -> dict[str, Any]:
    """Of a calendar day in the workspace's zone, off the journals: by moment, action and policy what was
    shown and what it brought, of decisions whose reward is final now; `pending`: those whose is not.

    What was never answered is left out. Raises Unavailable when a journal does not answer.
    """
    zone = space.settings.zone
    opens, closes = start_of_day(day, zone), start_of_day(day + timedelta(days=1), zone)
    first, end, reader = micros(opens), micros(closes), FileJournalReader(space.journal)
    places = {writer: reader.since(writer, (opens - _SLACK).timestamp()) for writer in reader.writers()}
    sums, degraded, final = dict[tuple[str, str, str], _Sum](), 0, 0
    join = Join(reader, rules=reward_rules(space), places={ELSEWHERE: places}, listen=places)
    for joined in join.final(micros(space.clock.now()), sys.maxsize):
        choice = joined.choice
        if first <= choice.decided < end:
            rest = choice.rest
            policy = family(rest["policy"]) if choice.by_policy else NO_POLICY
            key = (choice.moment, joined.actions[choice.chosen].id, policy)
            sums.setdefault(key, _Sum()).add(joined)
            degraded += bool(rest["degraded"])
            final += 1
    made = sum(_made(reader, writer, first, end) for writer in places)
    return {
        "date": day.isoformat(),
        "timezone": space.settings.timezone,
        "decisions": made,
        "pending": made - final,
        "degraded": degraded,
        "shown": [
            {"moment": moment, "action": action, "policy": policy, **found.as_json()}
            for (moment, action, policy), found in sorted(sums.items())
        ],
    }


def _made(reader: FileJournalReader, writer: str, first: int, end: int) -> int:
    """Decisions of a writer in [first, end), microseconds, less those that were never answered."""
    after, made = reader.since(writer, first / 1e6 - _SLACK.total_seconds()), 0
    while records := reader.read(writer, after):
        after = records[-1][0]
        for _, record in records:
            kind, at = head(record)
            if first <= at < end:
                made += (kind == b"D") - (kind == b"V")
    return made
