"""What uplift is learned from: users as they were, what each was given, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from kernel.errors import BadInput
from models.datasets import matrix

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
#: P(treatment): one number a treatment, or a frame with a column for each treatment
Propensity = Mapping[str, float] | pl.DataFrame

#: fewest users of an arm that anything is learned or judged from
FEWEST = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """n users, each in one arm: 0 is control, k is `treatments[k - 1]`."""

    #: n × features; missing is NaN
    x: Floats
    names: tuple[str, ...]
    #: n arms
    arm: Integers
    treatments: tuple[str, ...]
    #: n outcomes
    y: Floats
    #: n weights of users, mean 1
    weight: Floats
    #: n × arms, control first; None: not known, to be estimated
    propensity: Floats | None
    #: every outcome is 0 or 1
    binary: bool

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, kept: NDArray[np.bool_] | Integers) -> Trial:
        """The same for some of the users."""
        part = {name: getattr(self, name)[kept] for name in ("x", "arm", "y", "weight")}
        known = None if self.propensity is None else self.propensity[kept]
        return Trial(**{**vars(self), **part, "propensity": known})


def as_trial(
    users: pl.DataFrame,
    treatment: ArrayLike | pl.Series,
    y: ArrayLike | pl.Series,
    *,
    control: str,
    weight: ArrayLike | pl.Series | None = None,
    propensity: Propensity | None = None,
    treatments: tuple[str, ...] | None = None,
) -> Trial:
    """Checked. `users` has one row a user and feature columns only; `treatment` labels, `y` numbers.

    Raises BadInput for what cannot be learned from, naming the field.
    """
    outcome = _numbers(y, "y", users.height)
    weights = np.ones(users.height) if weight is None else _numbers(weight, "weight", users.height)
    if weights.min(initial=1.0) <= 0:
        raise BadInput("is not positive", field="weight", value=float(weights.min()))
    labels = _labels(treatment, users.height)
    found = sorted(set(labels.to_list()) - {control})
    arms = (control, *(treatments or found))
    for label in found:
        if label not in arms:
            raise BadInput("was not among the treatments learned", field="treatment", value=label)
    arm = labels.replace_strict({label: place for place, label in enumerate(arms)}).to_numpy()
    for place, label in enumerate(arms):
        if (users_of := int((arm == place).sum())) < FEWEST:
            raise BadInput(f"has {users_of} users; {FEWEST} are needed", field="treatment", value=label)
    if len(arms) < 2:
        raise BadInput("has no treated users", field="treatment", value=control)
    if outcome.min() == outcome.max():
        raise BadInput("is the same for every user: nothing to learn", field="y", value=float(outcome[0]))
    x = features(users, tuple(users.columns))
    for column, name in enumerate(users.columns):
        if np.isnan(x[:, column]).all():
            raise BadInput("is missing for every user", field=name)
    return Trial(
        x=x,
        names=tuple(users.columns),
        arm=arm.astype(np.int64),
        treatments=arms[1:],
        y=outcome,
        weight=weights / weights.mean(),
        propensity=None if propensity is None else _known(propensity, arms, users.height),
        binary=bool(np.isin(outcome, (0.0, 1.0)).all()),
    )


def features(users: pl.DataFrame, names: tuple[str, ...]) -> Floats:
    """Users × features; those asked about may all miss one, as a single user may. Raises BadInput for text
    and infinite numbers."""
    for name in names:
        if name in users.columns and not (
            users.schema[name].is_numeric() or users.schema[name] == pl.Boolean
        ):
            raise BadInput(f"is {users.schema[name]}, not a number", field=name)
    x = matrix(users, names)
    if not names:
        raise BadInput("has no feature columns", field="X")
    for column, name in enumerate(names):
        if np.isinf(x[:, column]).any():
            raise BadInput("is infinite for some users", field=name)
    return x


def _numbers(values: ArrayLike | pl.Series, field: str, count: int) -> Floats:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput("is not a column of numbers", field=field) from None
    if found.shape != (count,):
        raise BadInput(f"needs one number for each of {count} users", field=field, value=found.shape)
    if not np.isfinite(found).all():
        raise BadInput("is missing or infinite for some users", field=field)
    return found


def _labels(treatment: ArrayLike | pl.Series, count: int) -> pl.Series:
    given = treatment if isinstance(treatment, pl.Series) else pl.Series(np.asarray(treatment).tolist())
    if given.len() != count:
        raise BadInput(f"needs one label for each of {count} users", field="treatment", value=given.len())
    if given.null_count():
        raise BadInput("is missing for some users", field="treatment")
    if given.dtype.is_float():
        raise BadInput(
            "is a number with a fraction, not a label; a dose has its own learner", field="treatment"
        )
    return (given.cast(pl.Int8) if given.dtype == pl.Boolean else given).cast(pl.String)


def _known(propensity: Propensity, arms: tuple[str, ...], count: int) -> Floats:
    """n × arms; control has what the treatments leave."""
    if isinstance(propensity, pl.DataFrame) and propensity.height != count:
        raise BadInput(
            f"needs one row for each of {count} users", field="propensity", value=propensity.height
        )
    known = list(propensity.columns) if isinstance(propensity, pl.DataFrame) else list(propensity)
    if sorted(known) != sorted(arms[1:]):
        raise BadInput(f"needs exactly the treatments {', '.join(arms[1:])}", field="propensity", value=known)
    columns = [np.broadcast_to(np.asarray(propensity[label], np.float64), count) for label in arms[1:]]
    treated = np.column_stack(columns)
    chances = np.column_stack([1 - treated.sum(axis=1), treated])
    if not (np.isfinite(chances).all() and chances.min() > 0):
        raise BadInput("is not within 0 and 1, both excluded, for every arm", field="propensity")
    return chances
