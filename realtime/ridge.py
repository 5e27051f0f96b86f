"""SquareCB over a regression that remembers everything it was taught: for few features and dear lessons.

Exploration: Foster and Rakhlin, Beyond UCB: Optimal and Efficient Contextual Bandits with Regression
Oracles, 2020. The regression is exact (`ridge_fit`), where that of `vw` takes one small step a lesson.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from threading import Lock

import numpy as np

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from realtime.columns import Keys, Sizes, arrays, crossed, hashed
from realtime.policy import Context, check_lesson, inverse_gaps, with_floor
from realtime.ridge_fit import Floats, Integers, Sums

_MAGIC = b"growth-ridge-1\n"
_DIGEST = 16
#: gains are taken to be no larger, and below this to be none; in major units
_MOST, _LEAST = 1e12, 1e-12
#: one lesson teaches no more than so many usual gains
_UNITS = 100.0
#: actions whose features are remembered
_REMEMBERED = 1 << 12
#: exponents of the strengths before anything is known: of what users, actions, and pairs show
_BEGIN = (1, 1, 3)
#: weights are worked out anew after so large a share of the lessons that count, strengths more rarely
_AGAIN, _RARELY = 0.02, 0.1


class Ridge:
    """Learns the expected gain as user + action + user × action features; explores by inverse gaps.

    How strongly each of the three is drawn to zero follows from what was seen. There are `dimensions`
    columns: an eighth for what is known of users, an eighth for actions, the rest for pairs of both, each
    given out to what comes first; what comes when they are gone shares one by its hash. Every action keeps
    at least `epsilon` / number of actions. `memory`, in lessons: after so many the weight of one has fallen
    to 1/e; None: all count alike.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.01,
        gamma_scale: float = 100.0,
        dimensions: int = 512,
        memory: int | None = None,
    ) -> None:
        for field, value, least, most in (
            ("epsilon", epsilon, 1e-6, 1.0),
            ("gamma_scale", gamma_scale, 1e-6, 1e9),
            ("dimensions", dimensions, 32, 4096),
            ("memory", 1 if memory is None else memory, 1, math.inf),
        ):
            if not least <= value <= most:
                raise BadInput(f"is not within {least} and {most}", where="policy", field=field, value=value)
        self.epsilon, self.gamma_scale, self.memory = epsilon, gamma_scale, memory
        self._parameters = {
            "epsilon": epsilon,
            "gamma_scale": gamma_scale,
            "dimensions": dimensions,
            "memory": memory,
        }
        self._fade = 1.0 if memory is None else math.exp(-1 / memory)
        eighth = dimensions // 8
        sizes = (eighth, eighth, dimensions - 1 - 2 * eighth)
        #: of users, actions, pairs; the very first column is always 1
        self._columns = (
            Columns(1, sizes[0]),
            Columns(1 + eighth, sizes[1]),
            Columns(1 + 2 * eighth, sizes[2]),
        )
        self._lock = Lock()
        self._sums = Sums(np.repeat(np.arange(4), (1, *sizes)))
        #: weights of all columns and of none, and gamma: swapped as one, so that deciding waits for no lesson
        self._answer: tuple[Floats, float] = (np.zeros(dimensions + 1), 0.0)
        self._exponents: tuple[int, ...] = _BEGIN
        self._learned, self._next, self._next_strengths = 0, 1, 20
        #: of gains that are not zero: how many, and the mean logarithm of their size
        self._gains, self._size = 0, 0.0
        self._known: dict[tuple[str, int], tuple[object, tuple[Keys, Sizes]]] = {}

    @property
    def name(self) -> str:
        return f"ridge@{self._learned}"

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        if not actions:
            return ()
        theirs, sizes = arrays(hashed(context.items()))
        weights, gamma = self._answer
        (_, of_actions, of_pairs), none = self._columns, len(weights) - 1
        each = [self._of(action) for action in actions]
        keys, own = np.concatenate([one[0] for one in each]), np.concatenate([one[1] for one in each])
        pairs = weights[of_pairs.find(crossed(keys, theirs).ravel(), none)].reshape(len(keys), len(theirs))
        gains = own * (weights[of_actions.find(keys, none)] + pairs @ sizes)
        first = np.cumsum([0, *(len(one[0]) for one in each[:-1])])
        due = np.array([min(action.cost, _MOST) for action in actions]) - np.add.reduceat(gains, first)
        return with_floor(inverse_gaps(due.tolist(), gamma), self.epsilon)

    def learn(
        self, context: Context, actions: Sequence[Action], chosen: int, propensity: float, reward: float
    ) -> None:
        """`reward` is net of the action's cost, which is known and not learned. A regression knows what it
        has seen: the propensity does not matter to it."""
        check_lesson(actions, chosen, propensity, reward)
        gain = max(-_MOST, min(_MOST, reward + actions[chosen].cost))
        theirs, sizes = arrays(hashed(context.items()))
        keys, own = self._of(actions[chosen])
        with self._lock:
            if abs(gain) > _LEAST:
                self._gains += 1
                self._size += (math.log(abs(gain)) - self._size) / self._within(self._gains)
            else:
                gain = 0.0
            most = _UNITS * math.exp(self._size)
            if self._fade < 1:
                self._sums.fade(self._fade)
            of_users, of_actions, of_pairs = self._columns
            taken = [np.zeros(1, dtype=np.intp), of_users.take(theirs), of_actions.take(keys)]
            taken.append(of_pairs.take(crossed(keys, theirs).ravel()))
            values = np.concatenate([[1.0], sizes, own, np.outer(own, sizes).ravel()])
            row = np.bincount(np.concatenate(taken), values)
            places = np.flatnonzero(row)
            self._sums.add(places, np.asarray(row[places], dtype=np.float64), max(-most, min(most, gain)))
            self._learned += 1
            weights = self._work_out() if self._learned >= self._next else self._answer[0]
            self._answer = weights, self._gamma()

    def _work_out(self) -> Floats:
        if self._learned >= self._next_strengths:
            self._exponents = self._sums.better(self._exponents)
            self._next_strengths = self._learned + math.ceil(_RARELY * self._within(self._learned))
        self._next = self._learned + math.ceil(_AGAIN * self._within(self._learned))
        return np.append(self._sums.fit(self._exponents)[0], 0.0)

    def _gamma(self) -> float:
        """In units of the typical gain, the root of the mean square of what was taught."""
        typical = math.sqrt(self._sums.squares / self._sums.rows) or 1.0
        return self.gamma_scale * math.sqrt(self._within(self._learned)) / typical

    def _within(self, lessons: int) -> int:
        return min(lessons, self.memory or lessons)

    def _of(self, action: Action) -> tuple[Keys, Sizes]:
        """Remembered by the very features it was made from, which copies at other prices share."""
        key = (action.id, id(action.features))
        known = self._known.get(key)
        if known is not None and known[0] is action.features:
            return known[1]
        made = arrays(hashed([("id", action.id), *action.features.items()]))
        if len(made[0]) < 100:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = (action.features, made)
        return made

    def save(self) -> bytes:
        with self._lock:
            sums, (weights, gamma) = self._sums, self._answer
            used = np.flatnonzero(sums.seen > 0)
            head = {
                **self._parameters,
                "state": {
                    "learned": self._learned,
                    "next": (self._next, self._next_strengths),
                    "exponents": self._exponents,
                    "gains": self._gains,
                    "size": self._size.hex(),
                    "squares": sums.squares.hex(),
                    "rows": sums.rows.hex(),
                    "gamma": gamma.hex(),
                    "used": used.tolist(),
                    "columns": [list(each.known) for each in self._columns],
                },
            }
            kept = [each[used] for each in (weights, sums.cross, sums.seen, sums.total)]
            numbers = np.concatenate([*kept, sums.gram[np.ix_(used, used)].ravel()]).tobytes()
        body = json.dumps(head).encode() + b"\n" + numbers
        return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body

    def restore(self, state: bytes) -> None:
        """Worked out beside what answers, then swapped."""
        first, body = state[: len(_MAGIC) + _DIGEST], state[len(_MAGIC) + _DIGEST :]
        if first != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest():
            raise Unavailable("the policy's saved state is damaged, or not one of this policy")
        head, numbers = body.split(b"\n", 1)
        saved = json.loads(head)
        told = saved.pop("state")
        if saved != self._parameters:
            others = ", ".join(f"{name} {value}" for name, value in saved.items())
            raise Unavailable(f"the policy was saved with other parameters: {others}")
        used = np.array(told["used"], dtype=np.intp)
        kept = np.frombuffer(numbers, dtype=np.float64)
        fresh = Sums(self._sums.groups)
        weights: Floats = np.zeros(len(self._sums.groups) + 1)
        for place, each in enumerate((weights, fresh.cross, fresh.seen, fresh.total)):
            each[used] = kept[place * len(used) : (place + 1) * len(used)]
        fresh.gram[np.ix_(used, used)] = kept[4 * len(used) :].reshape(len(used), len(used))
        fresh.squares, fresh.rows = float.fromhex(told["squares"]), float.fromhex(told["rows"])
        with self._lock:
            self._sums, self._answer = fresh, (weights, float.fromhex(told["gamma"]))
            for columns, keys in zip(self._columns, told["columns"], strict=True):
                columns.restore(keys)
            self._learned, self._gains = told["learned"], told["gains"]
            self._next, self._next_strengths = told["next"]
            self._exponents, self._size = tuple(told["exponents"]), float.fromhex(told["size"])


class Columns:
    """Columns from `first` on, `size` of them, given to keys in the order in which they are taken."""

    def __init__(self, first: int, size: int) -> None:
        self._first, self._size = first, size
        #: key → its column
        self.known: dict[int, int] = {}

    def take(self, keys: Keys) -> Integers:
        """Of each key its column: a new one while there is one, then one by its hash."""
        known = self.known
        for key in keys.tolist():
            if len(known) >= self._size:
                break
            if key not in known:
                known[key] = self._first + len(known)
        return self.find(keys, 0)

    def find(self, keys: Keys, none: int) -> Integers:
        """Of each key its column, and `none` for one that was not taken yet."""
        known, size = self.known, self._size
        if len(known) < size:
            found = [known.get(key, none) for key in keys.tolist()]
        else:
            first = self._first
            found = [known[key] if key in known else first + key % size for key in keys.tolist()]
        return np.array(found, dtype=np.intp)

    def restore(self, keys: Sequence[int]) -> None:
        self.known = {key: self._first + place for place, key in enumerate(keys)}
