"""What models, policies and experiments report: scores, readouts, decisions, outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen
from kernel.work import Window


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval at the stated level."""

    mean: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Search(Frozen):
    """How long better parameters of a learner are looked for, on earlier and later parts of its data."""

    #: sets of parameters that are tried at most
    trials: int = Field(default=30, ge=1, le=1000)
    #: no trial begins after so long, seconds
    seconds: float = Field(default=120.0, gt=0, le=86_400)


class Stakes(Frozen):
    """What is at stake when users are chosen by a model: its policy curve in money is drawn from this."""

    #: money that one unit of the outcome brings (a response; a unit of money spent: the margin)
    outcome: float
    #: money that choosing one user costs
    contact: float = Field(default=0.0, ge=0)


class ModelRecipe(Definition):
    """What a model predicts, and from which windows of history."""

    kind: Literal["model"] = "model"
    #: `response`: P(responds to an offer | reached); `spend`: money in the window; `churn`: P(no
    #: purchase in the window); `lapse`: P(silent for longer than the user's own rhythm allows);
    #: `next_purchase`: days until the next purchase, at most the window
    predicts: Literal["response", "spend", "churn", "lapse", "next_purchase"]
    #: how far ahead the outcome counts
    within: Window = "56d"
    #: windows of history that features sum over
    history: tuple[Window, ...] = ("28d", "84d", "364d")
    #: a feature set (`kind: features`) to learn from besides; in a model the set itself, as it was
    features: str | dict[str, Any] | None = None
    #: offers younger than this teach nothing yet (response)
    matured: Window = "21d"
    #: distance of the instants at which users are looked at for training (spend, churn)
    every: Window = "28d"
    #: so many times the user's usual gap without a purchase is a lapse (`lapse`), at most the window
    silence: float = Field(default=3.0, gt=0, le=100)
    #: pattern of feature names → how the prediction may move with them where the business knows it; the
    #: first pattern that fits a feature counts
    monotone: dict[str, Literal["rises", "falls"]] = {}
    #: looks for parameters; without it those that suit some thousand users are taken
    search: Search | None = None
    #: for the policy curve in money; without it the curve counts outcomes
    stakes: Stakes | None = None
    #: of money and days: by `levels` of the prediction, or by `quantiles` of each user's own, which takes two
    #: more learners
    interval: Literal["levels", "quantiles"] = "levels"
    #: fields of the user (catalog) by whose labels the evidence is split
    segments: tuple[str, ...] = ()

    @property
    def horizon(self) -> timedelta:
        return parse_window(self.within)


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A model in the registry, with the evidence on which it was judged."""

    name: str
    #: registry version, counted from 1
    version: int
    #: `champion`, `challenger` or none
    alias: str | None
    run_id: str
    #: nothing after this instant was known to it
    as_of: datetime
    #: of the training data
    data_fingerprint: str
    #: held-out figures by name
    metrics: dict[str, float]
    #: what the run was told, as text
    params: dict[str, str] = field(default_factory=dict)
    #: it beat every trivial baseline; else everyone gets the average
    trusted: bool = True
    #: the gate's sentence: why it became champion, or why not
    reason: str = ""
    #: plans that used it: date → version of the plan
    plans: dict[str, str] = field(default_factory=dict)


class Action(Frozen):
    """Something that could be shown now."""

    id: str = Field(min_length=1, max_length=200)
    #: features of the action; text, number or truth
    features: dict[str, str | int | float | bool] = {}
    #: expected gain if the outcome happens, in major units
    value: float = 0.0
    #: cost of showing it, in major units
    cost: float = Field(default=0.0, ge=0)
    #: resource that it uses, whose price it pays
    resource: str | None = None
    #: channel, for caps
    channel: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One choice with everything that is needed to judge or replay it."""

    decision_id: str
    user_id: str
    moment: str
    decided_at: datetime
    context: dict[str, Any]
    #: ids of the actions that were allowed, in order
    actions: tuple[str, ...]
    #: P(each action) under the logging policy; sums to one
    propensities: tuple[float, ...]
    #: id of what was chosen
    action: str
    #: the probability that the logging policy gave to its choice
    propensity: float
    #: name and version of the policy
    policy: str
    #: resource → price paid
    prices: dict[str, float]
    #: one sentence
    reason: str
    #: true when the safe default was answered because something was down
    degraded: bool = False
