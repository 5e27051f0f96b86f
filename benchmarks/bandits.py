"""Policies that learn from a log of offers, ours and peers', behind one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import vowpalwabbit
from contextualbandits.online import LinTS, LinUCB
from mabwiser.mab import MAB, LearningPolicy
from numpy.typing import NDArray

from benchmarks.offers import Floats, Offers
from realtime.policy import Learner, Uniform
from realtime.ridge import Ridge
from realtime.thompson import Thompson
from realtime.tokens import terms
from realtime.vw import SquareCB

Rows = NDArray[np.int64]


class Contestant(Protocol):
    def chances(self, rows: Rows) -> Floats:
        """P(what was offered) in each of these rows, before they are learned."""
        ...

    def learn(self, rows: Rows) -> None: ...


class Ours:
    """Any policy of `realtime`."""

    def __init__(self, policy: Learner, log: Offers) -> None:
        self._policy, self._log = policy, log

    def chances(self, rows: Rows) -> Floats:
        log = self._log
        return np.array(
            [
                self._policy.distribution(log.contexts[row], log.actions)[int(log.chosen[row])]
                for row in rows.tolist()
            ]
        )

    def learn(self, rows: Rows) -> None:
        log, uniform = self._log, 1 / len(self._log.actions)
        for row in rows.tolist():
            chosen, reward = int(log.chosen[row]), float(log.rewards[row])
            self._policy.learn(log.contexts[row], log.actions, chosen, uniform, reward)


class PlainVowpal:
    """Vowpal Wabbit as its manual has it, on the same features."""

    def __init__(self, explore: str, log: Offers, seed: int) -> None:
        self._log = log
        self._workspace = vowpalwabbit.Workspace(
            f"--cb_explore_adf {explore} --cb_type mtr --interactions ua -b 18 --random_seed {seed} --quiet"
        )
        self._actions = [f"|a {_tokens([('id', each.id), *each.features.items()])}" for each in log.actions]

    def chances(self, rows: Rows) -> Floats:
        found = []
        for row in rows.tolist():
            examples = self._workspace.parse("\n".join([self._shared(row), *self._actions]))
            found.append(self._workspace.predict(examples)[int(self._log.chosen[row])])
            self._workspace.finish_example(examples)
        return np.array(found)

    def learn(self, rows: Rows) -> None:
        for row in rows.tolist():
            lines, chosen = list(self._actions), int(self._log.chosen[row])
            cost, uniform = -self._log.rewards[row], 1 / len(lines)
            lines[chosen] = f"0:{cost:.9g}:{uniform:.9g} {lines[chosen]}"
            examples = self._workspace.parse("\n".join([self._shared(row), *lines]))
            self._workspace.learn(examples)
            self._workspace.finish_example(examples)

    def _shared(self, row: int) -> str:
        return f"shared |u {_tokens(self._log.contexts[row].items())}"


class Chooser:
    """A peer that names one action: P is 1 for that and 0 for the rest."""

    def __init__(
        self,
        learn: Callable[[Rows, Floats, Floats], object],
        predict: Callable[[Floats], Sequence[int]],
        log: Offers,
    ) -> None:
        self._learn, self._predict, self._log, self._any = learn, predict, log, False

    def chances(self, rows: Rows) -> Floats:
        if not self._any:
            return np.full(len(rows), 1 / len(self._log.actions))
        named = np.asarray(self._predict(self._log.matrix[rows]))
        return np.asarray(named == self._log.chosen[rows], dtype=np.float64)

    def learn(self, rows: Rows) -> None:
        self._learn(self._log.chosen[rows], self._log.rewards[rows], self._log.matrix[rows])
        self._any = True


class Floored:
    """A peer that keeps a share of its decisions for exploring, as ours do."""

    def __init__(self, peer: Chooser, log: Offers, epsilon: float) -> None:
        self._peer, self._epsilon, self._even = peer, epsilon, 1 / len(log.actions)
        self.learn = peer.learn

    def chances(self, rows: Rows) -> Floats:
        return (1 - self._epsilon) * self._peer.chances(rows) + self._epsilon * self._even


def _mabwiser(policy: Any, log: Offers, seed: int) -> Chooser:
    peer = MAB(list(range(len(log.actions))), policy, seed=seed)
    started: list[bool] = []

    def learn(chosen: Rows, rewards: Floats, contexts: Floats) -> None:
        fit = peer.partial_fit if started else peer.fit
        fit(chosen, rewards, contexts)
        started.append(True)

    def predict(contexts: Floats) -> Sequence[int]:
        found = peer.predict(contexts)
        return found if isinstance(found, list) else [found]

    return Chooser(learn, predict, log)


def _contextualbandits(peer: Any, log: Offers) -> Chooser:
    return Chooser(
        lambda chosen, rewards, contexts: peer.partial_fit(contexts, chosen, rewards), peer.predict, log
    )


#: name → what makes one for a log, with a seed; ours first
CONTESTANTS: Mapping[str, Callable[[Offers, int], Contestant]] = {
    "ours": lambda log, seed: Ours(Ridge(), log),
    "ours, floor of 5 %": lambda log, seed: Ours(Ridge(epsilon=0.05), log),
    "ours: SquareCB": lambda log, seed: Ours(SquareCB(), log),
    "ours: SquareCB, floor of 1 %": lambda log, seed: Ours(SquareCB(epsilon=0.01), log),
    "ours: Thompson": lambda log, seed: Ours(Thompson(seed=seed), log),
    "ours: Thompson, floor of 1 %": lambda log, seed: Ours(Thompson(seed=seed, epsilon=0.01), log),
    "ours: uniform": lambda log, seed: Ours(Uniform(), log),
    "VW ε-greedy": lambda log, seed: PlainVowpal("--epsilon 0.05", log, seed),
    "VW SquareCB": lambda log, seed: PlainVowpal("--squarecb --gamma_scale 10 --epsilon 0.05", log, seed),
    "MABWiser LinUCB": lambda log, seed: _mabwiser(LearningPolicy.LinUCB(alpha=1.0), log, seed),
    "MABWiser LinUCB 0.1": lambda log, seed: _mabwiser(LearningPolicy.LinUCB(alpha=0.1), log, seed),
    "MABWiser LinUCB 0.1, floor of 1 %": lambda log, seed: Floored(
        _mabwiser(LearningPolicy.LinUCB(alpha=0.1), log, seed), log, 0.01
    ),
    "MABWiser LinUCB 0.1, floor of 5 %": lambda log, seed: Floored(
        _mabwiser(LearningPolicy.LinUCB(alpha=0.1), log, seed), log, 0.05
    ),
    "MABWiser LinTS": lambda log, seed: _mabwiser(LearningPolicy.LinTS(alpha=1.0), log, seed),
    "MABWiser LinTS 0.1": lambda log, seed: _mabwiser(LearningPolicy.LinTS(alpha=0.1), log, seed),
    "contextualbandits LinUCB": lambda log, seed: _contextualbandits(
        LinUCB(len(log.actions), random_state=seed), log
    ),
    "contextualbandits LinTS": lambda log, seed: _contextualbandits(
        LinTS(len(log.actions), random_state=seed), log
    ),
}


def _tokens(pairs: Any) -> str:
    return " ".join(each if number is None else f"{each}=:{number:.7g}" for each, number in terms(pairs))
