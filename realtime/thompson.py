"""Thompson sampling on a Bayesian linear model: what is believed of each action, drawn from and compared.

Agrawal and Goyal, Thompson Sampling for Contextual Bandits with Linear Payoffs, 2013. Features by signed
hashing: Weinberger and others, Feature Hashing for Large Scale Multitask Learning, 2009. Fading: the
weights follow an Ornstein–Uhlenbeck process (a dynamic linear model: West and Harrison, Bayesian
Forecasting and Dynamic Models, 1997), so that what is not seen again returns to what was believed at first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.columns import arrays, crossed, hashed
from realtime.policy import Context, check_lesson, with_floor
from realtime.tokens import bounded

Floats = NDArray[np.float64]
_MAGIC = b"growth-thompson-1\n"
_DIGEST = 16
#: added to a covariance, relative to its size, so that it has a root
_STEADY = 1e-9


class Thompson:
    """P(action) = how often, of `draws` draws of the weights, it is the best after its cost.

    The draws are named by `seed` and the same at every call: equal beliefs give equal distributions.
    Every action keeps at least `epsilon` / number of actions. `memory`, in lessons: after so many the
    weight of one has fallen to 1/e; None: all count alike. `dimensions` × `dimensions` numbers are kept,
    and a lesson costs as many operations.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        epsilon: float = 0.05,
        width: float = 0.3,
        dimensions: int = 256,
        draws: int = 512,
        memory: int | None = None,
    ) -> None:
        for field, value, least, most in (
            ("epsilon", epsilon, 1e-6, 1.0),
            ("width", width, 1e-6, 1e3),
            ("dimensions", dimensions, 8, 4096),
            ("draws", draws, 16, 65536),
            ("memory", 1 if memory is None else memory, 1, math.inf),
        ):
            if not least <= value <= most:
                raise BadInput(f"is not within {least} and {most}", where="policy", field=field, value=value)
        self._parameters = {
            "seed": seed,
            "epsilon": epsilon,
            "width": width,
            "dimensions": dimensions,
            "draws": draws,
            "memory": memory,
        }
        self.epsilon, self._width, self._draws, self._seed = epsilon, width, draws, seed
        self._fade = 1.0 if memory is None else math.exp(-1 / memory)
        self._memory = memory
        self._size = dimensions
        self._lock = Lock()
        self._learned, self._square = 0, 0.0
        #: of the weights, in units of the typical gain squared
        self._covariance: Floats = np.eye(dimensions)
        self._mean: Floats = np.zeros(dimensions)

    @property
    def name(self) -> str:
        return f"thompson@{self._learned}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        if not actions:
            return ()
        # in the order of their ids, so that the draws belong to the actions and not to their places
        order = sorted(range(len(actions)), key=lambda each: actions[each].id)
        features = self._design(context, [actions[each] for each in order])
        with self._lock:
            means = features @ self._mean
            spread = features @ self._covariance @ features.T
            typical = math.sqrt(self._square)
        means -= [bounded(actions[each].cost) for each in order]
        best = means
        if len(actions) > 1:
            steady = _STEADY * (1 + float(np.trace(spread)))
            root = np.linalg.cholesky((spread + spread.T) / 2 + steady * np.eye(len(actions)))
            drawn = _normals(self._seed, self._draws, len(actions)) @ root.T
            best = means + self._width * (typical or 1.0) * drawn
        wins = np.bincount(np.atleast_2d(best).argmax(axis=1), minlength=len(actions))
        shares = [0.0] * len(actions)
        for place, count in zip(order, wins.tolist(), strict=True):
            shares[place] = count / int(wins.sum())
        return with_floor(shares, self.epsilon)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        """`reward` is net of the action's cost, which is known and not learned. A posterior knows what it
        has seen: the propensity does not matter to it."""
        check_lesson(actions, chosen, propensity, reward)
        gain = bounded(reward + actions[chosen].cost)
        row = self._design(context, [actions[chosen]])[0]
        with self._lock:
            self._learned += 1
            lessons = min(self._learned, self._memory or self._learned)
            self._square += (gain * gain - self._square) / lessons
            if self._fade < 1:
                self._mean *= self._fade
                self._covariance *= self._fade**2
                self._covariance.flat[:: self._size + 1] += 1 - self._fade**2
            moved = self._covariance @ row
            slack = 1.0 + float(row @ moved)
            self._mean += moved * ((gain - float(row @ self._mean)) / slack)
            moved /= math.sqrt(slack)
            self._covariance -= np.outer(moved, moved)

    def save(self) -> bytes:
        with self._lock:
            head = {**self._parameters, "learned": self._learned, "square": self._square.hex()}
            body = json.dumps(head).encode() + b"\n" + self._mean.tobytes() + self._covariance.tobytes()
        return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body

    def restore(self, state: bytes) -> None:
        head, body = state[: len(_MAGIC) + _DIGEST], state[len(_MAGIC) + _DIGEST :]
        if head != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest():
            raise Unavailable("the policy's saved state is damaged, or not one of this policy")
        first, numbers = body.split(b"\n", 1)
        saved = json.loads(first)
        learned, square = saved.pop("learned"), float.fromhex(saved.pop("square"))
        if saved != self._parameters:
            told = ", ".join(f"{name} {value}" for name, value in saved.items())
            raise Unavailable(f"the policy was saved with other parameters: {told}")
        both = np.frombuffer(numbers, dtype=np.float64).copy()
        with self._lock:
            self._learned, self._square = learned, square
            self._mean = both[: self._size].copy()
            self._covariance = both[self._size :].reshape(self._size, self._size)

    def _design(self, context: Context, actions: Sequence[Action]) -> Floats:
        """One row an action: its own features, and each with each of the user's; of length one at most,
        so that no lesson outweighs what is believed by more than its due."""
        theirs, weights = arrays([("", 1.0), *hashed(context.items())])
        theirs[0] = 0  # an action's feature with nothing of the user's: itself
        own = [hashed([("id", action.id), *action.features.items()]) for action in actions]
        rows = np.repeat(np.arange(len(actions)), [len(each) for each in own])
        keys, sizes = arrays([pair for each in own for pair in each])
        mixed = crossed(keys, theirs)
        signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
        places = ((mixed >> np.uint64(20)) % np.uint64(self._size)).astype(np.intp)
        places += (rows * self._size)[:, None]
        values = signs * sizes[:, None] * weights[None, :]
        flat = np.zeros(len(actions) * self._size)
        np.add.at(flat, places.ravel(), values.ravel())
        design = flat.reshape(len(actions), self._size)
        lengths = np.sqrt((design * design).sum(axis=1, keepdims=True))
        return np.asarray(design / np.maximum(1.0, lengths), dtype=np.float64)


@lru_cache(maxsize=64)
def _normals(seed: int, draws: int, count: int) -> Floats:
    half = np.random.default_rng([seed, count]).standard_normal((draws // 2, count))
    return np.concatenate([half, -half])
