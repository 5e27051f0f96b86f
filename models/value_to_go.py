"""Value-to-go: what the rest of a session is worth after an action, by fitted Q iteration.

Ernst, Geurts, Wehenkel, Tree-Based Batch Mode Reinforcement Learning, 2005 (fitted Q iteration), with
LightGBM for the trees. van Hasselt, Double Q-learning, 2010: one half of the sessions picks the best
next action and the other half prices it, else the luckiest error is taken for worth. The expectation
of the next step allows for exploration: van Seijen and others, Expected Sarsa, 2009.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from kernel.errors import BadInput, Unavailable
from kernel.learning import Action
from kernel.randomness import derive_seed

Floats = NDArray[np.float64]

_TREES = {
    "num_leaves": 15,
    "learning_rate": 0.1,
    "min_data_in_leaf": 40,
    "min_data_per_group": 40,
    "cat_smooth": 5.0,
    "cat_l2": 1.0,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_ROUNDS = 60
#: fewer sessions than these tell nothing
_LEAST = 100
#: the iteration looks no further ahead than this
_FURTHEST = 20


class Step(Protocol):
    """One decision of a logged session; `realtime` has the noun."""

    @property
    def context(self) -> Mapping[str, Any]: ...
    @property
    def actions(self) -> tuple[Action, ...]: ...
    @property
    def chosen(self) -> int: ...
    @property
    def reward(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a state and an action become a row: numbers as they are, all else as the code of its text."""

    #: name → None for a number, or each known text's code; the action's id comes first
    names: tuple[tuple[str, Mapping[str, int] | None], ...]

    def rows(self, context: Mapping[str, Any], actions: Sequence[Action]) -> Floats:
        """actions × columns; NaN for what is absent or was never seen."""
        found = np.empty((len(actions), len(self.names)))
        for row, action in enumerate(actions):
            seen = _described(context, action)
            found[row] = [_coded(seen.get(name), codes) for name, codes in self.names]
        return found

    @property
    def categories(self) -> list[int]:
        return [place for place, (_name, codes) in enumerate(self.names) if codes is not None]


@dataclass(frozen=True, kw_only=True)
class ValueToGo:
    """Two forests, one from each half of the sessions; satisfies `realtime.sequence.FutureWorth`."""

    columns: Columns
    forests: tuple[lgb.Booster, lgb.Booster]
    #: sessions that it was learned from
    sessions: int

    def __call__(self, context: Mapping[str, Any], actions: Sequence[Action], /) -> tuple[float, ...]:
        """For each action the expected reward of the session's later decisions, in major units."""
        if not actions:
            return ()
        rows = self.columns.rows(context, actions)
        found = sum(forest.predict(rows, num_threads=1) for forest in self.forests) / 2
        return tuple(float(each) for each in np.asarray(found))

    def save(self) -> bytes:
        """JSON: the columns, and the forests in LightGBM's own text."""
        return json.dumps(
            {
                "columns": self.columns.names,
                "forests": [forest.model_to_string() for forest in self.forests],
                "sessions": self.sessions,
            }
        ).encode()

    @classmethod
    def load(cls, saved: bytes) -> ValueToGo:
        """What `save` gave. Raises Unavailable for anything else."""
        try:
            read = json.loads(saved)
            first, second = (lgb.Booster(model_str=text) for text in read["forests"])
            columns = Columns(names=tuple((name, codes) for name, codes in read["columns"]))
            return cls(columns=columns, forests=(first, second), sessions=int(read["sessions"]))
        except (ValueError, KeyError, TypeError, lgb.basic.LightGBMError) as error:
            raise Unavailable(f"the saved value-to-go cannot be read: {error}") from error


def fit_value_to_go(
    sessions: Sequence[Sequence[Step]], *, seed: int, explore: float = 0.05, discount: float = 1.0
) -> ValueToGo:
    """Learned from sessions that any exploring policy left, best one that tries every action.

    `explore`: the share of later decisions that will be taken at random, 0 … 1; `discount`: what a
    reward one decision later is worth. Raises BadInput for settings outside 0 … 1 and for fewer than
    100 sessions.
    """
    for name, value in (("explore", explore), ("discount", discount)):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise BadInput("is not within 0 and 1", where="value-to-go", field=name, value=value)
    kept = [session for session in sessions if session]
    if len(kept) < _LEAST:
        raise BadInput(
            f"is too few to learn from; needs {_LEAST}", where="log", field="sessions", value=len(kept)
        )
    table = _laid_out(kept)
    halves = tuple(table.owner % 2 == half for half in (0, 1))
    at_once = [_forest(table, table.rewards, half, seed, "reward") for half in halves]
    now = [forest.predict(table.options) for forest in at_once]
    later = [np.zeros(len(table.options)), np.zeros(len(table.options))]
    depth = min(max(map(len, kept)) - 1, _FURTHEST)
    forests = [_forest(table, np.zeros(len(table.rewards)), half, seed, "later") for half in halves]
    for turn in range(depth):
        worth = [now[half] + later[half] for half in (0, 1)]
        forests = []
        for half in (0, 1):
            target = _next(table, picks=worth[half], prices=worth[1 - half], explore=explore)
            forests.append(_forest(table, discount * target, halves[half], seed, f"later {turn}"))
        later = [forest.predict(table.options) for forest in forests]
    return ValueToGo(columns=table.columns, forests=(forests[0], forests[1]), sessions=len(kept))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """n steps, each with its options: the rows of every action that it allowed."""

    columns: Columns
    #: n × columns: what was done
    done: Floats
    rewards: Floats
    #: n numbers of the sessions
    owner: NDArray[np.int64]
    #: every option of every step, one step after the other
    options: Floats
    #: n first rows among the options
    first: NDArray[np.int64]
    #: n numbers of options
    count: NDArray[np.int64]
    #: n: true where the session goes on
    goes_on: NDArray[np.bool_]


def _laid_out(sessions: Sequence[Sequence[Step]]) -> _Table:
    steps = [step for session in sessions for step in session]
    columns = _columns(steps)
    blocks = [columns.rows(step.context, step.actions) for step in steps]
    count = np.array([len(block) for block in blocks], dtype=np.int64)
    first = count.cumsum() - count
    options = np.concatenate(blocks)
    return _Table(
        columns=columns,
        done=options[first + np.array([step.chosen for step in steps])],
        rewards=np.array([step.reward for step in steps], dtype=np.float64),
        owner=np.repeat(np.arange(len(sessions)), [len(session) for session in sessions]),
        options=options,
        first=first,
        count=count,
        goes_on=np.array([place < len(session) - 1 for session in sessions for place in range(len(session))]),
    )


def _columns(steps: Sequence[Step]) -> Columns:
    """A name is a number where every value of it is one."""
    seen: dict[str, set[str]] = {}
    numbers: dict[str, bool] = {}
    for step in steps:
        for action in step.actions:
            for name, value in _described(step.context, action).items():
                if value is None:
                    continue
                numbers[name] = numbers.get(name, True) and _is_number(value)
                if not _is_number(value):
                    seen.setdefault(name, set()).add(str(value))
    # where numbers and words share a name, the words have codes, and the numbers are absent
    return Columns(
        names=tuple(
            (name, None if numbers[name] else {text: code for code, text in enumerate(sorted(seen[name]))})
            for name in sorted(numbers)
        )
    )


def _described(context: Mapping[str, Any], action: Action) -> dict[str, Any]:
    return {
        **{f"state {name}": value for name, value in context.items()},
        "action": action.id,
        **{f"action {name}": value for name, value in action.features.items()},
    }


def _coded(value: Any, codes: Mapping[str, int] | None) -> float:
    if codes is None:
        return float(value) if _is_number(value) else math.nan
    return math.nan if value is None else float(codes.get(str(value), math.nan))


def _is_number(value: Any) -> bool:
    """Truth is a number too: as a category, trees would have to be asked twice."""
    return isinstance(value, int | float) and abs(value) < 1e300


def _forest(table: _Table, target: Floats, rows: NDArray[np.bool_], seed: int, label: str) -> lgb.Booster:
    data = lgb.Dataset(
        table.done[rows],
        target[rows],
        categorical_feature=table.columns.categories,
        params={"min_data_in_bin": 1, "verbose": -1},
    )
    return lgb.train({**_TREES, "seed": derive_seed(seed, label) % 2**31}, data, _ROUNDS)


def _next(table: _Table, *, picks: Floats, prices: Floats, explore: float) -> Floats:
    """n: the worth of the step that follows, 0 where none does: the best option as `picks` sees it, at
    the price of `prices`, and now and then any option."""
    places = table.first[:, None] + np.minimum(np.arange(table.count.max()), table.count[:, None] - 1)
    best = table.first + picks[places].argmax(axis=1)
    evenly = np.add.reduceat(prices, table.first) / table.count
    worth = (1 - explore) * prices[best] + explore * evenly
    follows = np.zeros(len(worth))
    follows[:-1] = np.where(table.goes_on[:-1], worth[1:], 0.0)
    return follows
