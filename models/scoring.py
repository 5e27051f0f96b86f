"""All users × all tasks by one model: in blocks, on all cores, without ever building their product.

Of the model's features some are the task's (an offer's traits), some belong to user and task together (how
close the offer is to what she buys), the rest are the user's. What concerns the user alone is worked out once
for all tasks. The same code answers for one user, so that batch and online agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from kernel.errors import BadInput
from models.datasets import matrix
from models.learners import Boosted, Learned, TwoPart
from models.predictor import Predictor
from models.scoring_linear import Linear, linear_of
from models.scoring_trees import Tasks, Unsupported, compile_forest, prepare, raw_scores

Floats = NDArray[np.float64]
#: users of a block: with twenty tasks and a hundred features some 30 MB
BLOCK = 16_384


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """A `Boosted` with the tasks filled in."""

    model: Boosted
    trees: Tasks
    linear: Linear
    #: places of the users' and of the pairs' features
    users: tuple[int, ...]
    pairs: tuple[int, ...]
    #: intercept and what the task's own features say, a task
    start: Floats

    def __call__(self, users: Floats, pairs: Floats) -> Floats:
        """Tasks × users. `users`: features × users; `pairs`: tasks × features × users."""
        own = np.zeros(users.shape[1])
        self.linear.add(self.users, users, own)
        raw = self.start[:, None] + own
        for task in range(len(pairs) if self.pairs else 0):
            self.linear.add(self.pairs, pairs[task], raw[task])
        raw_scores(self.trees, users, pairs, raw)
        if self.model.probability:
            expit(raw, out=raw)
        else:
            np.square(np.maximum(raw, 0.0), out=raw)
        return raw


class Scorer:
    """Predictions of `predictor` for users × tasks.

    `tasks`: one row a task, columns that are features of the model; `pairs`: features that user and task have
    together. Raises BadInput for a feature that is not the model's. A learner that is no forest on a line is
    asked row by row of the product, block by block.
    """

    def __init__(self, predictor: Predictor, tasks: pl.DataFrame, pairs: Sequence[str] = ()) -> None:
        mine = [name for name in predictor.features if name in tasks.columns]
        for name in pairs:
            if name in mine:
                raise BadInput("is of the task and of the pair", field=name)
        self.predictor, self.count = predictor, tasks.height
        self.pairs = tuple(name for name in predictor.features if name in pairs)
        self.users = tuple(name for name in predictor.features if name not in (*mine, *self.pairs))
        self._mine, self._tasks = mine, matrix(tasks, mine) if mine else np.empty((tasks.height, 0))
        self._score = self._compiled(predictor.model) or self._plain

    def __call__(self, users: Floats, pairs: Floats | None = None) -> Floats:
        """Tasks × users: calibrated, as `Predictor.predict`. `users`: `self.users` × users, missing NaN;
        `pairs`: tasks × `self.pairs` × users."""
        if not self.predictor.trusted:
            return np.full((self.count, users.shape[1]), self.predictor.average)
        users = np.ascontiguousarray(users, np.float64)
        if pairs is None:
            pairs = np.full((self.count, len(self.pairs), users.shape[1]), np.nan)
        found = self._score(users, np.ascontiguousarray(pairs, np.float64))
        return self.predictor.finish(found.ravel()).reshape(found.shape)

    def _compiled(self, model: Learned) -> Callable[[Floats, Floats], Floats] | None:
        if isinstance(model, TwoPart):
            some, amount = self._compiled(model.some), self._compiled(model.amount)
            if some is None or amount is None:
                return None
            return lambda users, pairs: some(users, pairs) * amount(users, pairs)
        if not isinstance(model, Boosted):
            return None
        names = self.predictor.features
        place = {name: at for at, name in enumerate(names)}
        try:
            forest = compile_forest(model.boosters, names)
        except Unsupported:
            return None
        linear = linear_of(model.linear)
        start = np.full(self.count, linear.intercept)
        linear.add([place[name] for name in self._mine], np.ascontiguousarray(self._tasks.T), start)
        return _Compiled(
            model=model,
            trees=prepare(forest, self._tasks, self._mine, self.pairs),
            linear=linear,
            users=tuple(place[name] for name in self.users),
            pairs=tuple(place[name] for name in self.pairs),
            start=start,
        )

    def _plain(self, users: Floats, pairs: Floats) -> Floats:
        names = self.predictor.features
        x = np.empty((users.shape[1], len(names)))
        out = np.empty((self.count, users.shape[1]))
        for at, name in enumerate(names):
            if name in self.users:
                x[:, at] = users[self.users.index(name)]
        for task in range(self.count):
            for at, name in enumerate(names):
                if name in self._mine:
                    x[:, at] = self._tasks[task, self._mine.index(name)]
                elif name in self.pairs:
                    x[:, at] = pairs[task, self.pairs.index(name)]
            out[task] = self.predictor.model.predict(x)
        return out


def score_blocks(
    scorer: Scorer,
    people: pl.DataFrame,
    pairs: Callable[[int, int], Floats] | None = None,
    *,
    threads: int = 2,
    block: int = BLOCK,
) -> Iterator[tuple[int, Floats]]:
    """(first row of the block, tasks × its users), in order; at most `threads` + 1 blocks are held.

    `people`: one row a user, with the users' features. `pairs`: (first row, one past the last) → theirs.
    """
    names = list(scorer.users)
    for name in names:
        if name not in people.columns:
            raise BadInput("is a feature of the model and missing from the frame", field=name)

    def one(begin: int) -> Floats:
        part = people[begin : begin + block]
        users = np.ascontiguousarray(matrix(part, names).T) if names else np.empty((0, part.height))
        return scorer(users, None if pairs is None else pairs(begin, begin + part.height))

    begins = range(0, people.height, block)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting = [(begin, pool.submit(one, begin)) for begin in begins[: threads + 1]]
        for begin in begins[threads + 1 :]:
            first, found = waiting.pop(0)
            yield first, found.result()
            waiting.append((begin, pool.submit(one, begin)))
        yield from ((first, found.result()) for first, found in waiting)


def score_one(scorer: Scorer, user: Mapping[str, float | None], pairs: Floats | None = None) -> Floats:
    """Scores of one user for every task, from her features as `OnlineFeatures.of` has them.

    Raises BadInput for one that is not there.
    """
    for name in scorer.users:
        if name not in user:
            raise BadInput("is a feature of the model and not known of the user", field=name)
    values = [float("nan") if (value := user[name]) is None else value for name in scorer.users]
    return scorer(np.array(values, np.float64)[:, None], pairs)[:, 0]


__all__ = ["BLOCK", "Scorer", "score_blocks", "score_one"]
