"""Apprentice mode: a learner that watches the current rule until it agrees with it often enough.

The rule decides; the apprentice learns what the rule would do, and what came of it, and says how often
its own best action is the rule's. At a stated agreement it goes live by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.policy import Context, Learner, Policy, check_lesson
from realtime.shadow import best

_MAGIC = b"growth-apprentice-1\n"
_DIGEST = 16


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Where an apprentice stands."""

    #: share of the newest decisions, at most a window of them, in which it would have done what the rule did
    share: float
    #: decisions in that share
    decisions: int
    #: does it decide itself by now?
    live: bool


class Apprentice:
    """Satisfies `realtime.policy.Learner`. Deciding never learns: agreement is counted with the lessons.

    While it is an apprentice, the distribution is the rule's, and each lesson has the learner imitate:
    every offered action is a lesson, worth `praise` if it is the rule's choice and nothing if it is not.
    Once live it learns from rewards like any other; `praise` should therefore be near a usual reward.
    """

    def __init__(
        self, rule: Policy, learner: Learner, *, live_at: float = 0.8, window: int = 1000, praise: float = 1.0
    ) -> None:
        if not 0 < live_at <= 1:
            raise BadInput(
                "is not within 0 (excluded) and 1", where="apprentice", field="live_at", value=live_at
            )
        if window < 1:
            raise BadInput("is not at least 1", where="apprentice", field="window", value=window)
        if not praise > 0:
            raise BadInput("is not above 0", where="apprentice", field="praise", value=praise)
        self._rule, self._learner = rule, learner
        self._live_at, self._praise = live_at, praise
        self._seen: deque[bool] = deque(maxlen=window)
        self._window, self._lessons, self._live = window, 0, False

    @property
    def name(self) -> str:
        """The version counts the lessons as an apprentice, and once live it is the learner's own name: what
        is learned is kept under one name throughout."""
        return f"apprentice@live-{self._learner.name}" if self._live else f"apprentice@{self._lessons}"

    @property
    def rule(self) -> Policy:
        """What decides until it is live."""
        return self._rule

    @property
    def live_at(self) -> float:
        """The agreement that it takes."""
        return self._live_at

    @property
    def window(self) -> int:
        """Of how many decisions."""
        return self._window

    @property
    def agreement(self) -> Agreement:
        count = len(self._seen)
        return Agreement(share=sum(self._seen) / count if count else 0.0, decisions=count, live=self._live)

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return (self._learner if self._live else self._rule).distribution(context, actions)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        check_lesson(actions, chosen, propensity, reward)
        if self._live:
            self._learner.learn(context, actions, chosen, propensity, reward)
            return
        ruled = best(self._rule.distribution(context, actions))
        # a choice of one says nothing
        if len(actions) > 1:
            self._seen.append(best(self._learner.distribution(context, actions)) == ruled)
        for place in range(len(actions)):
            self._learner.learn(context, actions, place, 1.0, self._praise * (place == ruled))
        self._lessons += 1
        full = len(self._seen) == self._window
        self._live = full and sum(self._seen) >= self._live_at * self._window

    def save(self) -> bytes:
        head = {
            "seen": [int(each) for each in self._seen],
            "window": self._window,
            "live_at": self._live_at,
            "praise": self._praise,
            "lessons": self._lessons,
            "live": self._live,
            "rule": self._rule.name,
        }
        body = json.dumps(head).encode() + b"\n" + self._learner.save()
        return _MAGIC + _digest(body) + body

    def restore(self, state: bytes) -> None:
        body = state[len(_MAGIC) + _DIGEST :]
        if state[: len(state) - len(body)] != _MAGIC + _digest(body):
            raise Unavailable("the saved state is damaged, or not that of an apprentice")
        text, _, learned = body.partition(b"\n")
        head = json.loads(text)
        mine = [self._window, self._live_at, self._praise, self._rule.name]
        if [head[each] for each in ("window", "live_at", "praise", "rule")] != mine:
            raise Unavailable("the apprentice was saved with other parameters, or under another rule")
        self._learner.restore(learned)
        self._seen = deque(map(bool, head["seen"]), maxlen=self._window)
        self._lessons, self._live = int(head["lessons"]), bool(head["live"])


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()
