"""The contextual bandit: SquareCB in Vowpal Wabbit. The only file that knows that vendor.

SquareCB: Foster and Rakhlin, Beyond UCB: Optimal and Efficient Contextual Bandits with Regression
Oracles, 2020. MTR, its regression on importance weights: Bietti, Agarwal, Langford, A Contextual
Bandit Bake-off, 2021.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import vowpalwabbit

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.policy import Context, check_lesson

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
#: numbers beyond these sizes are taken for the largest, or for zero: squared products of two of them
#: must fit in a 32-bit float, else one lesson (or one tiny number) turns the learner's weights to NaN
_LARGEST, _SMALLEST = 1e6, 1e-6
_MAGIC = b"growth-squarecb-1\n"
_DIGEST = 16


class SquareCB:
    """Learns the expected cost (−reward) of user × action features; explores by inverse gap weighting.

    Every action keeps at least `epsilon` / number of actions. One lock: the vendor holds the
    interpreter's lock anyway, so scale by processes, each restoring what one learner saved.
    """

    def __init__(self, *, epsilon: float = 0.05, gamma_scale: float = 10.0, bits: int = 18) -> None:
        if not 0 < epsilon <= 1:
            raise BadInput("is not within 0 (excluded) and 1", where="policy", field="epsilon", value=epsilon)
        if not (math.isfinite(gamma_scale) and gamma_scale > 0):
            raise BadInput("is not above 0", where="policy", field="gamma_scale", value=gamma_scale)
        if not 10 <= bits <= 28:
            raise BadInput("is not within 10 and 28", where="policy", field="bits", value=bits)
        self.epsilon = epsilon
        self._arguments = (
            f"--cb_explore_adf --squarecb --gamma_scale {gamma_scale:g} --epsilon {epsilon:g} "
            f"--cb_type mtr --interactions ua -b {bits} --quiet"
        )
        self._lock = Lock()
        self._learned = 0
        self._workspace = _open(self._arguments)

    @property
    def name(self) -> str:
        return f"squarecb@{self._learned}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        if not actions:
            return ()
        lines = _lines(context, actions)
        with self._lock:
            raw = self._run(lines, learn=False)
        # 32-bit floats: the sum is one to about 1e-7, and must be one to the last digit in the log
        total = math.fsum(raw)
        if len(raw) != len(actions) or not abs(total - 1) < 1e-4 or min(raw) < 0:
            raise Unavailable(f"policy {self.name} gave no distribution over {len(actions)} actions")
        return tuple(each / total for each in raw)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        check_lesson(actions, chosen, propensity, reward)
        lines = _lines(context, actions)
        cost, likely = _bounded(-reward), max(_SMALLEST, propensity)
        lines[1 + chosen] = f"0:{cost:.9g}:{likely:.9g} {lines[1 + chosen]}"
        with self._lock:
            self._run(lines, learn=True)
            self._learned += 1

    def save(self) -> bytes:
        """The whole learner state, with a digest: the vendor reads damaged files without complaint."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            try:
                self._workspace.save(str(path))
            except RuntimeError as error:
                raise Unavailable(f"the policy cannot be saved: {error}") from error
            body = b"%d\n%s\n%s" % (self._learned, self._arguments.encode(), path.read_bytes())
        return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body

    def restore(self, state: bytes) -> None:
        head, body = state[: len(_MAGIC) + _DIGEST], state[len(_MAGIC) + _DIGEST :]
        if head != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest():
            raise Unavailable("the policy's saved state is damaged, or not one of this policy")
        learned, arguments, model = body.split(b"\n", 2)
        if arguments.decode() != self._arguments:
            raise Unavailable(f"the policy was saved with other parameters: {arguments.decode()}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            path.write_bytes(model)
            fresh = _open(f"{self._arguments} -i {path}")
        with self._lock:
            old, self._workspace, self._learned = self._workspace, fresh, int(learned)
            old.finish()

    def _run(self, lines: list[str], *, learn: bool) -> list[float]:
        """Parses once, predicts or learns, and always gives the examples back, else memory leaks."""
        try:
            examples = self._workspace.parse("\n".join(lines))
            try:
                if learn:
                    self._workspace.learn(examples)
                    return []
                return list(self._workspace.predict(examples))
            finally:
                self._workspace.finish_example(examples)
        except RuntimeError as error:
            raise Unavailable(f"the policy does not answer: {error}") from error


def _open(arguments: str) -> Any:
    try:
        return vowpalwabbit.Workspace(arguments)
    except RuntimeError as error:
        raise Unavailable(f"the policy does not start: {error}") from error


def _lines(context: Context, actions: Sequence[Action]) -> list[str]:
    shared = " ".join(_features(context.items()))
    return [
        f"shared |u {shared}",
        *(f"|a {' '.join(_features([('id', each.id), *each.features.items()]))}" for each in actions),
    ]


def _features(pairs: Iterable[tuple[object, object]]) -> Iterable[str]:
    """Each name and value as one token of the vendor's text, in which space, newline, `:` and `|` rule.

    A finite number is `name=:number`; anything else is a category, `name=value`. What is not plain
    is replaced by its hash. None, which says nothing, is left out.
    """
    for name, value in pairs:
        if value is None:
            continue
        number = _number(value)
        if number is None:
            yield f"{_token(name)}={_token(value)}"
        else:
            yield f"{_token(name)}=:{number:.7g}"


def _number(value: object) -> float | None:
    """`value` as a number that a 32-bit float can square; None when it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _bounded(value)


def _bounded(number: float) -> float:
    return 0.0 if abs(number) < _SMALLEST else float(max(-_LARGEST, min(_LARGEST, number)))


def _token(text: object) -> str:
    text = str(text)
    if _PLAIN.fullmatch(text):
        return text
    return "#" + hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
