"""Which policy decides: published by the one that learns, followed by all that decide.

So deciders need neither the registry nor a restart: who is live is a snapshot like what it has learned.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from time import monotonic
from typing import Any

from engine.policy_kinds import beginning, made_from
from engine.wiring import Workspace
from kernel.errors import GrowthError, Unavailable
from realtime.api import Follower, Learner, Policy, Snapshots

#: name of the snapshots that tell who is live
LIVE = "live"
#: decides until something was promoted
FIRST: Mapping[str, Any] = {"kind": "squarecb"}

#: touched in the folder of snapshots when a version was promoted or rolled back
_PROMOTED = "promoted"

_log = logging.getLogger(__name__)


def told(made_by: Mapping[str, Any], version: int | None, state: bytes) -> bytes:
    """Who is live, as a snapshot: kind and parameters, version in the registry, and its state then."""
    return json.dumps({"made_by": dict(made_by), "version": version}).encode() + b"\n" + state


def opened(raw: bytes) -> Learner:
    """The policy as it was published. Raises Unavailable."""
    policy, state = unlearned(raw), raw.partition(b"\n")[2]
    if state:
        policy.restore(state)
    return policy


def said(raw: bytes) -> dict[str, Any]:
    """`made_by` and `version` of what was published, without opening it. Raises Unavailable."""
    try:
        found: dict[str, Any] = json.loads(raw.partition(b"\n")[0])
        return {"made_by": found["made_by"], "version": found["version"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"who is live cannot be read: {error}") from error


def unlearned(raw: bytes) -> Learner:
    """The policy that was published, before its first lesson. Raises Unavailable."""
    found = said(raw)
    try:
        return beginning(found["made_by"], found["version"], raw.partition(b"\n")[2])
    except (KeyError, GrowthError) as error:
        raise Unavailable(f"who is live cannot be made: {error}") from error


class Promotions:
    """Says when to ask the registry, which is slow: at once when somebody promoted or rolled back in this
    workspace, and now and then for what was done elsewhere, such as in MLflow's own pages."""

    def __init__(self, space: Workspace, *, every: float = 60.0) -> None:
        """`every`: seconds."""
        self._stamp, self._every = space.root / "var" / "snapshots" / _PROMOTED, every
        self._seen: int | None = None
        self._asked_at = -math.inf

    def due(self) -> bool:
        """True once for each change; `missed` when it could not be asked."""
        stamp = self._stamp.stat().st_mtime_ns if self._stamp.exists() else 0
        if stamp == self._seen and monotonic() - self._asked_at < self._every:
            return False
        self._seen, self._asked_at = stamp, monotonic()
        return True

    def missed(self) -> None:
        self._asked_at = -math.inf


def tell_of_promotion(space: Workspace) -> None:
    """That a version was judged, promoted or rolled back: who learns looks at the registry within seconds."""
    folder = space.root / "var" / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PROMOTED).touch()


class LivePolicy:
    """The policy of a deciding process, kept at what was last published; it answers meanwhile."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots, self._number = snapshots, 0
        self._policy: Learner = made_from(FIRST)
        self._follower = Follower(self._policy, snapshots)

    def current(self) -> Policy:
        return self._policy

    def refresh(self) -> None:
        """Takes over what is newer. Raises Unavailable, and all stays as it is, when it cannot be read."""
        newer = self._snapshots.newest(LIVE, self._number)
        if newer is None:
            self._follower.refresh()
            return
        policy = opened(newer[1])
        follower = Follower(policy, self._snapshots)
        follower.refresh()
        self._policy, self._follower, self._number = policy, follower, newer[0]
        _log.info("policy %s decides (%s)", policy.name, said(newer[1])["made_by"])
