"""Better parameters, looked for by Optuna on earlier and later parts of the data.

Tree-structured Parzen estimator (Bergstra, Bardenet, Bengio, Kégl 2011). The same seed tries the same sets in
the same order; only `seconds` can end it sooner on a slower machine, and that is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna

from kernel.learning import Search
from models.learners import DEFAULT, Parameters


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of parameters and how it did."""

    number: int
    parameters: Parameters
    #: mean loss of each fold, in order of time
    folds: tuple[float, ...]

    @property
    def loss(self) -> float:
        return float(np.mean(self.folds))


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Every trial, the defaults first, and the best."""

    trials: tuple[Trial, ...]
    #: of the least mean loss; the earlier of equals
    best: Trial
    #: the time ended before the trials did
    cut: bool


def search_parameters(loss: Callable[[Parameters], tuple[float, ...]], search: Search, seed: int) -> Searched:
    """`loss` gives the mean loss of each fold. The defaults are the first trial: nothing gets worse by it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed % 2**31, n_startup_trials=8))
    study.enqueue_trial(
        {
            "leaves": DEFAULT.leaves,
            "rate": DEFAULT.rate,
            "rounds": DEFAULT.rounds,
            "in_leaf": DEFAULT.in_leaf,
            "l2": DEFAULT.l2,
            "rows": DEFAULT.rows,
            "columns": DEFAULT.columns,
            "linear": DEFAULT.linear,
        }
    )
    tried: list[Trial] = []

    def attempt(trial: optuna.Trial) -> float:
        parameters = Parameters(
            leaves=trial.suggest_int("leaves", 3, 31, log=True),
            rate=trial.suggest_float("rate", 0.01, 0.15, log=True),
            rounds=trial.suggest_int("rounds", 40, 300, step=20),
            in_leaf=trial.suggest_int("in_leaf", 10, 200, log=True),
            l2=trial.suggest_float("l2", 0.1, 100.0, log=True),
            rows=trial.suggest_float("rows", 0.4, 1.0),
            columns=trial.suggest_float("columns", 0.2, 1.0),
            linear=trial.suggest_float("linear", 1e-4, 1.0, log=True),
        )
        done = Trial(number=trial.number, parameters=parameters, folds=loss(parameters))
        tried.append(done)
        return done.loss

    study.optimize(attempt, n_trials=1)
    if search.trials > 1:
        study.optimize(attempt, n_trials=search.trials - 1, timeout=search.seconds)
    best = min(tried, key=lambda each: (each.loss, each.number))
    return Searched(trials=tuple(tried), best=best, cut=len(tried) < search.trials)
