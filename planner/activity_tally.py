"""Events of many participants added up, so that a store writes each score once a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from planner.activities import Activity, Period
from planner.activity_calendar import period_key
from planner.activity_metrics import Gain, Line, gains

#: metric, period, user
Score = tuple[str, str, str]


class Tally:
    """What a batch of events adds to an activity."""

    def __init__(self, activity: Activity, zone: ZoneInfo) -> None:
        self._activity, self._zone = activity, zone
        ranking = activity.ranking
        self._ranked = {} if ranking is None else {ranking.by: ranking.periods}
        #: what is added to each score
        self.added: dict[Score, float] = defaultdict(float)
        #: what each score of a distinct metric has seen
        self.seen: dict[Score, set[str]] = defaultdict(set)
        #: number of the last event that touched the score
        self.number: dict[Score, int] = {}

    def of(self, event: str, lines: Sequence[Line]) -> list[Gain]:
        return gains(self._activity, event, lines)

    def take(self, user: str, at: datetime, gained: Sequence[Gain], number: int) -> None:
        """An event of a participant; `number`: its place among all events, rising."""
        for gain in gained:
            for period in {Period.ALL, *self._ranked.get(gain.metric, ())}:
                score = (gain.metric, period_key(period, at, self._zone), user)
                if gain.seen:
                    self.seen[score] |= gain.seen
                else:
                    self.added[score] += gain.by
                self.number[score] = number

    @property
    def users(self) -> list[str]:
        return sorted({user for _, _, user in self.number})
