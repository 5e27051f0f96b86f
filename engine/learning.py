"""The one process that learns: it follows the journals, the registry and the definitions, and publishes.

`growth serve` keeps one beside its workers; `growth learn` is one by itself.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

from engine.journal_keeping import prune_journals
from engine.live import FIRST, LIVE, Promotions, said, told, unlearned
from engine.policies import reward_rules
from engine.shadowing import Shadowing
from engine.wiring import Workspace
from kernel.errors import GrowthError, Stale, Unavailable
from realtime.api import JournalLearner, Learner, RewardRule
from storage.journal import FileJournalReader

#: seconds between rounds; between looks at registry and definitions
_ROUND, _LOOK = 0.5, 3.0
#: seconds between prunings of the journals
_PRUNE = 3600.0
#: decisions that are learned from between two looks at anything else
_STEP = 2_000

_log = logging.getLogger(__name__)


class Learning:
    """Learns for the policy that is live. Raises Stale when another process does so already.

    Killed at any point, the next one goes on from what was last published, and ends where this one would
    have ended. A policy that is newly live learns anew from the first decision in the journals, and takes
    over from what was promoted when it has caught up.
    """

    def __init__(self, space: Workspace) -> None:
        self._space = space
        folder = space.root / "var" / "snapshots"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "learner.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Stale("another process learns in this workspace") from None
        self._learner: JournalLearner | None = None
        self._policy: Learner | None = None
        self._shadowing, self._promotions = Shadowing(space), Promotions(space)
        self._number, self._looked, self._pruned = 0, float("-inf"), float("-inf")
        self._rules: Mapping[str, RewardRule] = {}
        #: it has never caught up, so what was promoted decides still
        self._behind = True
        self._unpublished, self._published = 0, monotonic()

    def round(self) -> int:
        """Learns from what is final, and publishes it; how many decisions that were. Raises Unavailable: what
        was not published is learned again."""
        if monotonic() - self._looked >= _LOOK:
            self._look()
            self._looked = monotonic()
        self._learner = learner = self._learner or self._open()
        try:
            done = learner.step(_STEP)
        except BaseException:
            self._learner = None  # it may have half a round in it
            raise
        caught_up = done < _STEP
        due = not self._behind and monotonic() - self._published > _LOOK
        self._unpublished += done
        if (caught_up and (self._unpublished or self._behind)) or due:
            learner.publish()
            self._behind, self._unpublished, self._published = False, 0, monotonic()
        if self._policy is not None:
            self._shadowing.round(self._policy, learner.learned)
        if not self._behind and monotonic() - self._pruned >= _PRUNE:
            self._prune(learner)
        return done

    def close(self) -> None:
        self._lock.close()

    def _prune(self, learner: JournalLearner) -> None:
        """What learner and shadow have passed. Published first, for where nothing comes in they go on too."""
        self._pruned = monotonic()
        learner.publish()
        passed = {
            writer: min(place, self._shadowing.passed.get(writer, place))
            for writer, place in learner.passed.items()
        }
        prune_journals(self._space, passed)

    def _look(self) -> None:
        """Takes note of what was promoted, rolled back, judged or applied."""
        if self._promotions.due():
            try:
                publish_live(self._space)
                self._shadowing.look()
            except BaseException:
                self._promotions.missed()
                raise
        newest = self._space.snapshots.newest(LIVE, self._number)
        rules = reward_rules(self._space)
        if newest is not None or rules != self._rules:
            if self._learner is not None and not self._behind:
                self._learner.publish()
            self._learner, self._rules = None, rules
            self._number = newest[0] if newest is not None else self._number

    def _open(self) -> JournalLearner:
        newest = self._space.snapshots.newest(LIVE)
        if newest is None:
            raise Unavailable("nobody told which policy is live")
        self._policy = policy = unlearned(newest[1])
        learner = JournalLearner(
            policy,
            journal=FileJournalReader(self._space.journal),
            snapshots=self._space.snapshots,
            clock=self._space.clock,
            rules=self._rules,
            watch=self._shadowing.saw,
        )
        self._behind, self._unpublished = learner.learned.until == 0, 0
        return learner


def publish_live(space: Workspace) -> bool:
    """Tells deciders which policy is the champion; False when they know. Raises Unavailable."""
    newest, number = space.snapshots.newest(LIVE), space.registry.deciding()
    if newest is not None and said(newest[1])["version"] == number:
        return False
    made_by, state, version = FIRST, b"", None
    if (champion := None if number is None else space.registry.policy(number)) is not None:
        made_by, state, version = champion[0], champion[1], champion[2].version
    space.snapshots.put(LIVE, told(made_by, version, state))
    return True


def learn(space: Workspace, ended: Callable[[], bool] = lambda: False) -> None:
    """Until `ended`. Raises Stale when another process learns already."""
    learning, pause = Learning(space), Event()
    try:
        while not ended():
            try:
                if learning.round() == _STEP:
                    continue
            except GrowthError as error:
                _log.warning("nothing is learned: %s", error)
                pause.wait(_LOOK)
            pause.wait(_ROUND)
    finally:
        learning.close()


def learn_for(space: Workspace, parent: int) -> None:
    """As long as the process `parent` lives."""
    learn(space, lambda: os.getppid() != parent)


_CHILD = """
import sys
from pathlib import Path
from engine.learning import learn_for
from engine.wiring import open_workspace
learn_for(open_workspace(Path(sys.argv[1])), int(sys.argv[2]))
"""


@contextmanager
def learning(space: Workspace) -> Iterator[None]:
    """A process that learns, begun again whenever it ends."""
    ended = Event()

    def keep() -> None:
        words = [sys.executable, "-c", _CHILD, str(space.root), str(os.getpid())]
        while not ended.is_set():
            child = subprocess.Popen(words)  # noqa: S603  our own program
            while child.poll() is None and not ended.wait(0.2):
                pass
            if child.poll() is None:
                child.terminate()
                child.wait(20)
            elif not ended.wait(_LOOK):
                _log.warning("the learner ended with code %s; it is begun again", child.returncode)

    keeper = Thread(target=keep, name="learner", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(30)
