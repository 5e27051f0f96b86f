"""Every policy by the name that a decision is logged under, without its version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from realtime.policy import Fixed, Greedy, Learner, Uniform
from realtime.ridge import Ridge
from realtime.thompson import Thompson
from realtime.vw import SquareCB

#: name → what makes one from its parameters, each by keyword
POLICIES: Mapping[str, Callable[..., Learner]] = MappingProxyType(
    {
        "squarecb": SquareCB,
        "ridge": Ridge,
        "thompson": Thompson,
        "greedy": Greedy,
        "fixed": Fixed,
        "uniform": Uniform,
    }
)
