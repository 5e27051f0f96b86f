"""A policy as the registry keeps it: how it is made, its state, and the evidence on which it was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kernel.learning import Interval

#: the registered model whose versions are policies: one seat, one champion
POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class PolicyEvidence:
    """A challenger after its off-policy evaluation."""

    #: kind and parameters: enough to make it anew
    made_by: Mapping[str, Any]
    #: what it had learned when it was judged
    state: bytes
    #: name and version that its decisions would be logged under
    policy: str
    #: estimator → mean reward of a decision, in major units
    challenger: Mapping[str, Interval]
    #: the same of what was live
    champion: Mapping[str, Interval]
    #: challenger − champion, decision by decision
    difference: Interval
    #: n weights of the decisions that it was judged on
    weights: Sequence[float]
    #: decisions learned from, judged on, and as many as they are worth
    facts: Mapping[str, float]
    #: why the gate refuses it; empty when it may be promoted
    refusal: str
    #: the gate's sentence
    reason: str
    #: of the log
    data_fingerprint: str
    #: the newest decision that it knew or was judged on
    as_of: datetime


def estimates_plot(evidence: PolicyEvidence) -> Figure:
    """Every estimator's interval for the challenger, and the champion's estimate."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    names = list(evidence.challenger)
    for place, name in enumerate(names):
        for offset, colour, label, found in (
            (-0.12, "#0b6e4f", "challenger", evidence.challenger[name]),
            (0.12, "#c9a227", "champion", evidence.champion[name]),
        ):
            axes.plot([found.low, found.high], [place + offset] * 2, color=colour, linewidth=2)
            axes.plot(found.mean, place + offset, "o", color=colour, label=label if place == 0 else None)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="reward of a decision", title=f"{evidence.policy} off policy")
    axes.legend(frameon=False)
    return figure


def weights_plot(evidence: PolicyEvidence) -> Figure:
    """How the log's decisions weigh for the challenger: a long tail is thin evidence."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(np.asarray(evidence.weights), bins=50, color="#0b6e4f", log=True)
    axes.set(xlabel="target probability / propensity", ylabel="decisions", title="Overlap")
    return figure
