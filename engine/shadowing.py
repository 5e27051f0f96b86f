"""The challenger in the shadow of what is decided, and how policies stand: published by the one that learns.

Nobody who decides or learns waits for it, and nothing that goes wrong here reaches them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from time import monotonic
from typing import Any

from engine.live import LIVE, said
from engine.policy_kinds import made_from
from engine.wiring import Workspace
from kernel.clock import instant, micros
from kernel.errors import GrowthError, Unavailable
from kernel.learning import Interval
from realtime.api import (
    Apprentice,
    Joined,
    JournalShadow,
    Learned,
    Policy,
    Position,
    Promoted,
    Snapshots,
    Tally,
)
from storage.journal import FileJournalReader

#: name of the snapshots that tell how policies stand
STANDING = "policies"
#: decisions that are shadowed in a round, and as many with their final rewards
SAMPLE = 100
#: seconds between rounds; between publications
_PACE, _EVERY = 0.5, 3.0

_log = logging.getLogger(__name__)


class Shadowing:
    """Shadows the policy with the alias `challenger`; none while that is the champion too."""

    def __init__(
        self, space: Workspace, *, sample: int = SAMPLE, pace: float = _PACE, every: float = _EVERY
    ) -> None:
        self._space, self._sample, self._pace, self._every = space, sample, pace, every
        self._shadow: JournalShadow | None = None
        #: version of the challenger, and what is told of it; None when there is none
        self._number: int | None = None
        self._told: dict[str, Any] = {}
        self._trouble = ""
        self._followed = self._published = float("-inf")
        self._last: list[Any] = []
        self._kept = _kept(space.snapshots)

    @property
    def passed(self) -> Mapping[str, Position]:
        """Writer → behind what it will not read again; a writer that is not there holds nobody up."""
        return {} if self._shadow is None else self._shadow.passed

    def look(self) -> None:
        """Takes note of who is the challenger."""
        try:
            number = self._space.registry.challenger()
            if number != self._number:
                self._shadow, self._number, self._trouble = None, number, ""
                if number is not None:
                    self._begin(number)
        except Unavailable as error:  # it is looked for again
            self._number = None
            self._fail(error)
        except Exception as error:  # noqa: BLE001  whatever it is, learning goes on
            self._fail(error)

    def saw(self, joined: Joined) -> None:
        """A decision whose reward is final, from the learner."""
        try:
            if self._shadow is not None:
                self._shadow.judge(joined)
        except Exception as error:  # noqa: BLE001  whatever it is, learning goes on
            self._fail(error)

    def round(self, policy: Policy, learned: Learned) -> None:
        """After each of the learner's; `policy`: the live one."""
        try:
            if self._shadow is not None:
                self._shadow.settle(learned.until)
                if monotonic() - self._followed >= self._pace:
                    self._shadow.follow()
                    self._followed = monotonic()
            if monotonic() - self._published >= self._every:
                self._publish(policy, learned)
        except Exception as error:  # noqa: BLE001  whatever it is, learning goes on
            self._fail(error)

    def _begin(self, number: int) -> None:
        found = self._space.registry.policy(number)
        if found is None:
            return
        made_by, state, version = found
        challenger = made_from(made_by)
        challenger.restore(state)
        again = self._kept.get("version") == number
        self._shadow = JournalShadow(
            challenger,
            FileJournalReader(self._space.journal),
            since=micros(version.as_of),
            most=self._sample,
            tally=Tally(**self._kept["tally"]) if again else None,
            place=self._kept.get("place"),
        )
        self._told = {
            "version": number,
            "policy": challenger.name,
            "made_by": dict(made_by),
            "since": version.as_of.isoformat(),
        }

    def _publish(self, policy: Policy, learned: Learned) -> None:
        self._published = monotonic()
        newest, shadow = self._space.snapshots.newest(LIVE), None
        if self._shadow is not None:
            tally = self._shadow.tally
            shadow = {**self._told, **_tallied(tally)}
            self._kept = {"version": self._number, "tally": asdict(tally), "place": self._shadow.place}
        live = None if newest is None else {**said(newest[1]), **_learned(policy, learned)}
        told = [live, _apprentice(policy), shadow, self._trouble]
        if told == self._last:
            return
        if live is not None and learned.until:
            live = {**live, "until": instant(learned.until).isoformat()}
        body = {
            "at": self._space.clock.now().isoformat(),
            "live": live,
            "apprentice": told[1],
            "shadow": shadow,
            "trouble": self._trouble,
        }
        self._space.snapshots.put(STANDING, json.dumps({"told": body, "kept": self._kept}).encode())
        self._last = told

    def _fail(self, error: Exception) -> None:
        """What does not answer may do so later; anything else ends this shadow."""
        trouble = str(error) if isinstance(error, GrowthError) else type(error).__name__
        if trouble != self._trouble:
            _log.warning("the challenger is not shadowed: %s", trouble, exc_info=error)
        self._trouble = trouble
        if not isinstance(error, Unavailable):
            self._shadow = None


def standing(snapshots: Snapshots) -> dict[str, Any]:
    """How policies stand: `live`, what it learned; `apprentice`, its agreement with its rule; `shadow`, what
    the challenger would do and earn; `at`, when that last changed. All None where nobody learned yet.
    Raises Unavailable."""
    newest = snapshots.newest(STANDING)
    if newest is None:
        return {"at": None, "live": None, "apprentice": None, "shadow": None, "trouble": ""}
    return dict(_parsed(newest[1])["told"])


def _kept(snapshots: Snapshots) -> dict[str, Any]:
    """By which a shadow goes on."""
    try:
        newest = snapshots.newest(STANDING)
        return {} if newest is None else dict(_parsed(newest[1])["kept"])
    except Unavailable as error:
        _log.warning("the shadow begins anew: %s", error)
        return {}


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(raw)
    except ValueError as error:
        raise Unavailable(f"how policies stand cannot be read: {error}") from error
    return found


def _learned(policy: Policy, learned: Learned) -> dict[str, Any]:
    return {
        "policy": policy.name,
        "lessons": learned.lessons,
        "reward": learned.reward / learned.lessons if learned.lessons else None,
        "until": None,
    }


def _apprentice(policy: Policy) -> dict[str, Any] | None:
    inner = policy.policy if isinstance(policy, Promoted) else policy
    if not isinstance(inner, Apprentice):
        return None
    return {
        **vars(inner.agreement),
        "rule": inner.rule.name,
        "live_at": inner.live_at,
        "window": inner.window,
    }


def _tallied(tally: Tally) -> dict[str, Any]:
    value, live = tally.value(), tally.live()
    return {
        "decisions": tally.decisions,
        "failures": tally.failures,
        "failure": tally.failure,
        "agreement": tally.agreement,
        "distance": tally.apart,
        "judged": tally.judged,
        "effective": tally.effective,
        "value": _shown(value),
        "live_value": _shown(live),
        "warning": tally.warning,
    }


def _shown(found: Interval | None) -> Mapping[str, float] | None:
    return None if found is None else vars(found)
