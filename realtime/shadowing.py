"""A challenger in the shadow of a journal: what it would have done as decisions come, and what that would
have earned as their rewards become final. A sample of so many a round, each looked at after it was answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from kernel.learning import Interval
from realtime.join import START, Joined
from realtime.policy import Policy
from realtime.ports import JournalReader, Position
from realtime.records import decode_decision, head
from realtime.shadow import Shadowed, shadow

#: reads of some megabyte of one writer's journal in a round
_READS = 4
#: below so many decisions of its own, in effect, an estimate is not to be trusted
_THIN = 100


@dataclass(kw_only=True)
class Tally:
    """Sums, so that it can be kept and gone on with."""

    #: shadowed as they came; of those, how many the challenger failed at, and how many agree
    decisions: int = 0
    failures: int = 0
    agreed: int = 0
    #: Σ total variation
    distance: float = 0.0
    #: what it last failed of
    failure: str = ""
    #: with their final reward r, and weight w = probability under the challenger / propensity
    judged: int = 0
    w: float = 0.0
    ww: float = 0.0
    wr: float = 0.0
    wwr: float = 0.0
    wwrr: float = 0.0
    r: float = 0.0
    rr: float = 0.0

    def saw(self, seen: Shadowed) -> None:
        self.decisions += 1
        if seen.failure:
            self.failures, self.failure = self.failures + 1, seen.failure
            return
        self.agreed += seen.agrees
        self.distance += seen.distance

    def earned(self, weight: float, reward: float) -> None:
        """`reward` in major units."""
        weighted = weight * reward
        self.judged += 1
        self.w += weight
        self.ww += weight * weight
        self.wr += weighted
        self.wwr += weight * weighted
        self.wwrr += weighted * weighted
        self.r += reward
        self.rr += reward * reward

    @property
    def agreement(self) -> float | None:
        """Share of the answers that would most likely have been the same."""
        answered = self.decisions - self.failures
        return self.agreed / answered if answered else None

    @property
    def apart(self) -> float | None:
        """Mean total variation: 0 alike … 1 nothing in common."""
        answered = self.decisions - self.failures
        return self.distance / answered if answered else None

    @property
    def effective(self) -> float:
        """As many decisions of the challenger itself would say as much."""
        return self.w * self.w / self.ww if self.ww else 0.0

    def value(self, level: float = 0.95) -> Interval | None:
        """What the challenger would earn a decision, in major units (SNIPS with its linearised error)."""
        if self.judged < 2 or not self.w:
            return None
        mean = self.wr / self.w
        squares = self.wwrr - 2 * mean * self.wwr + mean * mean * self.ww
        return _interval(mean, math.sqrt(max(squares, 0.0)) / self.w, level)

    def live(self, level: float = 0.95) -> Interval | None:
        """What those same decisions did earn."""
        if self.judged < 2:
            return None
        mean = self.r / self.judged
        spread = max(self.rr - self.judged * mean * mean, 0.0) / (self.judged - 1)
        return _interval(mean, math.sqrt(spread / self.judged), level)

    @property
    def warning(self) -> str:
        """Why its value is not to be trusted; empty when it is, or there is none yet."""
        if not self.judged or self.effective >= _THIN:
            return ""
        return f"{self.judged:,} decisions say only as much as {self.effective:,.0f} of its own"


class JournalShadow:
    """Follows all journals beside whoever decides and learns. `since`: what was decided until then is left
    out, for the challenger knew it; microseconds since 1970, UTC. The challenger never learns here.

    `place` is all that it needs, with its tally, to go on after a restart.
    """

    def __init__(
        self,
        challenger: Policy,
        journal: JournalReader,
        *,
        since: int,
        most: int,
        tally: Tally | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> None:
        self._challenger, self._journal, self._since, self._most = challenger, journal, since, most
        self.tally = tally or Tally()
        place = place or {}
        self._ends: dict[str, Position] = {
            writer: (int(at[0]), int(at[1])) for writer, at in place.get("ends", {}).items()
        }
        #: rewards that became final until then are in the tally
        self._until: int = place.get("until", 0)
        self._left = most

    @property
    def place(self) -> dict[str, Any]:
        return {"ends": self._ends, "until": self._until}

    @property
    def passed(self) -> Mapping[str, Position]:
        """Writer → behind what it has followed."""
        return self._ends

    def follow(self) -> int:
        """A round: the next decisions of all journals, at most so many of them shadowed and the rest passed
        over; how many were. Raises Unavailable, and goes on from where it was."""
        done, self._left = 0, self._most
        for writer in self._journal.writers():
            for _ in range(_READS):
                end = self._ends.get(writer, START)
                records = self._journal.read(writer, end)
                if not records:
                    break
                for _place, record in records:
                    kind, at = head(record)
                    if kind == b"D" and at > self._since and done < self._most:
                        choice = decode_decision(record)
                        seen = shadow(choice.decision, choice.actions, self._challenger)
                        if seen is not None:
                            self.tally.saw(seen)
                            done += 1
                self._ends[writer] = records[-1][0]
        return done

    def judge(self, joined: Joined) -> None:
        """A decision whose reward is final, in the order in which they become so; at most so many a round.
        What was told before is passed over, so telling it again after a restart does no harm."""
        choice = joined.choice
        if joined.final <= self._until or choice.decided <= self._since:
            return
        if not choice.by_policy or not self._left:
            return
        seen = shadow(choice.decision, joined.actions, self._challenger)
        self._left -= 1
        if seen is not None and not seen.failure:
            weight = seen.propensities[choice.chosen] / choice.propensity
            self.tally.earned(weight, joined.reward)

    def settle(self, until: int) -> None:
        """All rewards that became final until then were told; microseconds since 1970, UTC."""
        self._until = max(self._until, until)


def _interval(mean: float, error: float, level: float) -> Interval:
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach, level=level)
