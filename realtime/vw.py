"""The contextual bandit: SquareCB over a regression by Vowpal Wabbit. The only file that knows that vendor.

SquareCB: Foster and Rakhlin, Beyond UCB: Optimal and Efficient Contextual Bandits with Regression
Oracles, 2020. MTR, its regression on importance weights: Bietti, Agarwal, Langford, A Contextual
Bandit Bake-off, 2021.

The vendor predicts what an action will bring; the inverse gap weighting is done here, so that what an
action costs, and the price of what it uses at this second, are exact and need not be learned.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import vowpalwabbit
from vowpalwabbit.pyvw import pylibvw

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.policy import Context, check_lesson, inverse_gaps, with_floor
from realtime.tokens import SMALLEST, bounded, terms

_MAGIC = b"growth-squarecb-2\n"
_DIGEST = 16
#: gains are taken to be no larger, and below this to be none; in major units
_MOST, _LEAST = 1e12, 1e-12
#: one lesson teaches no more than so many usual gains: an outlier would blunt all later lessons
_UNITS = 100.0
#: texts of actions that are remembered
_REMEMBERED = 1 << 12


class SquareCB:
    """Learns the expected gain of user × action features; explores by inverse gap weighting.

    The best action's gap to another, in units of the typical gain, times `gamma_scale` · √lessons: the
    larger, the rarer the other. Every action keeps at least `epsilon` / number of actions.

    `memory` is for a world that changes: steps stay as large as `rate`, so that lessons fade as others of
    their kind follow, and exploring does not sink below what it is after `memory` lessons. None: the steps
    grow smaller and all lessons count alike, which is best while the world stays as it is.

    One lock: the vendor holds the interpreter's lock anyway, so scale by processes, each restoring what
    one learner saved.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.05,
        gamma_scale: float = 100.0,
        rate: float = 0.05,
        memory: int | None = None,
        bits: int = 18,
    ) -> None:
        for field, value, most in (
            ("epsilon", epsilon, 1.0),
            ("gamma_scale", gamma_scale, math.inf),
            ("rate", rate, 10.0),
        ):
            if not (0 < value <= most and math.isfinite(value)):
                raise BadInput(
                    f"is not above 0 and at most {most:g}", where="policy", field=field, value=value
                )
        if memory is not None and memory < 1:
            raise BadInput("is not above 0", where="policy", field="memory", value=memory)
        if not 10 <= bits <= 28:
            raise BadInput("is not within 10 and 28", where="policy", field="bits", value=bits)
        self.epsilon, self.gamma_scale, self.memory = epsilon, gamma_scale, memory
        fading = "" if memory is None else " --power_t 0"
        self._arguments = f"--cb_adf --cb_type mtr --interactions ua -b {bits} -l {rate:g}{fading} --quiet"
        self._lock = Lock()
        self._learned, self._gains = 0, 0
        #: of the gains that are not zero: mean logarithm of their size; its power is the learner's unit,
        #: which no single one moves far
        self._size = 0.0
        #: mean square of all that was taught, in that unit
        self._square = 0.0
        self._workspace = _open(self._arguments)
        self._texts: dict[tuple[str, int], tuple[object, str]] = {}

    @property
    def name(self) -> str:
        return f"squarecb@{self._learned}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        if not actions:
            return ()
        lines = [_shared(context), *map(self._text, actions)]
        with self._lock:
            costs = self._run(lines, learn=False)
            learned, square, unit = self._learned, self._square, math.exp(self._size)
        if len(costs) != len(actions) or not all(map(math.isfinite, costs)):
            raise Unavailable(f"policy {self.name} gave no costs of {len(actions)} actions")
        due = [cost + bounded(action.cost / unit) for cost, action in zip(costs, actions, strict=True)]
        typical = math.sqrt(square)
        gamma = self.gamma_scale * math.sqrt(self._within(learned)) / max(typical, SMALLEST)
        return with_floor(inverse_gaps(due, gamma), self.epsilon)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        """`reward` is net of the action's cost, which is known and not learned."""
        check_lesson(actions, chosen, propensity, reward)
        net = max(-_MOST, min(_MOST, reward + actions[chosen].cost))
        text = self._text(actions[chosen])
        with self._lock:
            if abs(net) > _LEAST:
                self._gains += 1
                self._size += (math.log(abs(net)) - self._size) / self._within(self._gains)
            gain = max(-_UNITS, min(_UNITS, bounded(net / math.exp(self._size))))
            likely = max(SMALLEST, propensity)
            # the regression looks at the chosen action alone: the others need not be parsed
            self._run([_shared(context), f"0:{-gain:.9g}:{likely:.9g} {text}"], learn=True)
            self._learned += 1
            self._square += (gain * gain - self._square) / self._within(self._learned)

    def _within(self, lessons: int) -> int:
        return min(lessons, self.memory or lessons)

    def save(self) -> bytes:
        """The whole learner state, with a digest: the vendor reads damaged files without complaint."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            try:
                self._workspace.save(str(path))
            except RuntimeError as error:
                raise Unavailable(f"the policy cannot be saved: {error}") from error
            numbers = {"size": self._size.hex(), "square": self._square.hex()}
            head = {**self._parameters, "learned": self._learned, "gains": self._gains, **numbers}
            body = json.dumps(head).encode() + b"\n" + path.read_bytes()
        return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body

    def restore(self, state: bytes) -> None:
        """Opened beside the one that answers, then swapped: deciding waits for neither."""
        head, body = state[: len(_MAGIC) + _DIGEST], state[len(_MAGIC) + _DIGEST :]
        if head != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest():
            raise Unavailable("the policy's saved state is damaged, or not one of this policy")
        first, model = body.split(b"\n", 1)
        saved = json.loads(first)
        learned, gains = saved.pop("learned"), saved.pop("gains")
        size, square = float.fromhex(saved.pop("size")), float.fromhex(saved.pop("square"))
        if saved != self._parameters:
            told = ", ".join(f"{name} {value}" for name, value in saved.items())
            raise Unavailable(f"the policy was saved with other parameters: {told}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            path.write_bytes(model)
            fresh = _open(f"{self._arguments} -i {path}")
        with self._lock:
            old, self._workspace = self._workspace, fresh
            self._learned, self._gains, self._size, self._square = learned, gains, size, square
            old.finish()

    @property
    def _parameters(self) -> dict[str, object]:
        return {
            "arguments": self._arguments,
            "epsilon": self.epsilon,
            "gamma_scale": self.gamma_scale,
            "memory": self.memory,
        }

    def _run(self, lines: list[str], *, learn: bool) -> list[float]:
        """Parses once, predicts or learns, and always gives the examples back, else memory leaks.

        The vendor's own calls beneath its Python: wrapping each line in an object costs three times as much
        as all the rest.
        """
        try:
            examples = self._workspace._parse("\n".join(lines))
            try:
                if learn:
                    pylibvw.vw.learn_multi(self._workspace, examples)
                    return []
                pylibvw.vw.predict_multi(self._workspace, examples)
                costs: list[float] = examples[0].get_action_scores()
                return costs
            finally:
                pylibvw.vw._finish_example_multi_ex(self._workspace, examples)
        except RuntimeError as error:
            raise Unavailable(f"the policy does not answer: {error}") from error

    def _text(self, action: Action) -> str:
        """Remembered by the very features it was made from, which copies at other prices share."""
        key = (action.id, id(action.features))
        known = self._texts.get(key)
        if known is not None and known[0] is action.features:
            return known[1]
        text = f"|a {_tokens(terms([('id', action.id), *action.features.items()]))}"
        if len(text) < 1000:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            self._texts[key] = (action.features, text)
        return text


def _open(arguments: str) -> Any:
    try:
        return vowpalwabbit.Workspace(arguments)
    except RuntimeError as error:
        raise Unavailable(f"the policy does not start: {error}") from error


def _shared(context: Context) -> str:
    return f"shared |u {_tokens(terms(context.items()))}"


def _tokens(found: Sequence[tuple[str, float | None]]) -> str:
    """Categories as `name=value`, numbers as `name=:number`."""
    return " ".join([each if number is None else f"{each}=:{number:.7g}" for each, number in found])
