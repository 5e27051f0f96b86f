"""The one process that learns, and those that follow it.

The learner takes joined decisions in the order in which they become final, and publishes the policy's state
and its place in every journal in one piece. So after a crash it goes on from what it last published, learns
the same lessons again, and ends bit for bit where it would have ended: each decision is learned from once.
A record that reaches its journal later than a second after the time that it names may count as late.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kernel.clock import Clock
from kernel.errors import Unavailable
from realtime.join import SETTLED, START, Join, Joined
from realtime.outcomes import SKEW, family
from realtime.policy import Learner
from realtime.ports import JournalReader, Position, Snapshots
from realtime.records import micros
from realtime.rewards import RewardRule

_MAGIC = b"growth-learner-1\n"
_DIGEST = 16
_SKEW = SKEW // timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What has been learned, from the first decision on."""

    #: decisions whose reward was final, whoever chose
    decisions: int = 0
    #: of those, learned from: a policy had chosen
    lessons: int = 0
    #: outcomes that are in their rewards
    outcomes: int = 0
    #: outcomes that had come by then and are in none: too late, repeated, or of a name not counted
    passed_over: int = 0
    #: Σ reward of the lessons, in major units
    reward: float = 0.0
    #: all that was final at this instant is learned; microseconds since 1970, UTC
    until: int = 0


class JournalLearner:
    """`step` until nothing is left, then `publish`; one process a policy's name.

    Raises Unavailable when a store does not answer, and at its start for a snapshot that is damaged or
    of other parameters. What was learned and not published is learned again after the next start. After
    an error in `step` make another: this one may have half a round in it.
    """

    def __init__(
        self,
        policy: Learner,
        *,
        journal: JournalReader,
        snapshots: Snapshots,
        clock: Clock,
        rules: Mapping[str, RewardRule] | None = None,
        watch: Callable[[Joined], None] | None = None,
    ) -> None:
        """`watch` is told of each decision when its reward is final, in that order, and must not raise; after
        a restart those that were not published come again."""
        self._watch = watch
        self._policy, self._snapshots, self._clock = policy, snapshots, clock
        self.learned = Learned()
        kept = snapshots.newest(family(policy.name))
        told: dict[str, Any] = {}
        if kept is not None:
            told, state = _opened(kept[1])
            policy.restore(state)
            self.learned = Learned(**told["learned"])
        listen = {writer: _position(each) for writer, each in told.get("listen", {}).items()}
        #: writer → behind what whoever starts from the last publication will never read
        self.passed: Mapping[str, Position] = listen
        places = {
            moment: {writer: _position(each) for writer, each in writers.items()}
            for moment, writers in told.get("places", {}).items()
        }
        self._join = Join(journal, rules=rules, places=places, listen=listen)
        #: places of earlier publications, oldest first: an outcome is looked for from the newest of them
        #: that is older than clocks differ
        self._earlier: deque[tuple[int, dict[str, Position]]] = deque([(told.get("listened", 0), listen)])
        if kept is not None:
            self._earlier.append((self.learned.until, _first(places)))

    def step(self, limit: int = 10_000) -> int:
        """Learns from the decisions that are final now, at most so many; how many there were."""
        now = micros(self._clock.now(), "now") - SETTLED
        done = lessons = used = over = 0
        reward, until = 0.0, self.learned.until
        for joined in self._join.final(now, limit):
            choice, actions, net, outcomes, passed_over, final = joined
            if self._watch is not None:
                self._watch(joined)
            if choice.by_policy:
                self._policy.learn(choice.context, actions, choice.chosen, choice.propensity, net)
                lessons, reward = lessons + 1, reward + net
            done, used, over, until = done + 1, used + outcomes, over + passed_over, final
        until = max(until, self.learned.until, now if done < limit else 0)
        self._join.settle(until)
        old = self.learned
        self.learned = Learned(
            decisions=old.decisions + done,
            lessons=old.lessons + lessons,
            outcomes=old.outcomes + used,
            passed_over=old.passed_over + over,
            reward=old.reward + reward,
            until=until,
        )
        return done

    def publish(self) -> int:
        """The policy and its place in the journals, in one piece, for good; its number."""
        until, places = self.learned.until, self._join.places
        self._earlier.append((until, _first(places)))
        while len(self._earlier) > 1 and self._earlier[1][0] < until - _SKEW:
            self._earlier.popleft()
        listened, listen = self._earlier[0]
        self.passed = listen
        told = {"learned": vars(self.learned), "places": places, "listened": listened, "listen": listen}
        body = json.dumps(told).encode() + b"\n" + self._policy.save()
        state = _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body
        return self._snapshots.put(family(self._policy.name), state)


class Follower:
    """Keeps a deciding process's policy at what the learner last published."""

    def __init__(self, policy: Learner, snapshots: Snapshots) -> None:
        self._policy, self._snapshots = policy, snapshots
        #: number of the publication that the policy is at; 0 before the first
        self.number = 0
        #: what the policy has learned; None before the first
        self.learned: Learned | None = None

    def refresh(self) -> bool:
        """True when there was a newer one. The policy answers meanwhile: the new state is opened beside
        it, then swapped. Raises Unavailable, and it stays as it is, when that cannot be read."""
        newer = self._snapshots.newest(family(self._policy.name), self.number)
        if newer is None:
            return False
        told, state = _opened(newer[1])
        self._policy.restore(state)
        self.number, self.learned = newer[0], Learned(**told["learned"])
        return True


def _opened(raw: bytes) -> tuple[dict[str, Any], bytes]:
    first, body = raw[: len(_MAGIC) + _DIGEST], raw[len(_MAGIC) + _DIGEST :]
    if first != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest():
        raise Unavailable("the learner's snapshot is damaged")
    told, state = body.split(b"\n", 1)
    return json.loads(told), state


def _first(places: Mapping[str, Mapping[str, Position]]) -> dict[str, Position]:
    """Of each writer, the place of the moment that is furthest behind."""
    writers = {writer for each in places.values() for writer in each}
    return {writer: min(each.get(writer, START) for each in places.values() if each) for writer in writers}


def _position(raw: Any) -> Position:
    segment, offset = raw
    return int(segment), int(offset)
