"""Moments: when a decision is asked for, what is shown when nothing else may be, and the request."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from kernel.definitions import Frozen
from kernel.learning import Action


class Moment(Frozen):
    """A point in the user's way where something could be shown."""

    #: what is shown when no action is left or something is down; costs nothing, uses nothing
    default: Action
    #: what is chosen among when a request names no actions
    actions: tuple[Action, ...] = ()
    #: members of any of these may be shown an action, others the default; empty: everyone
    groups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _default_is_free(self) -> Moment:
        if self.default.cost or self.default.resource or self.default.channel:
            raise ValueError(f"default {self.default.id!r} must have no cost, resource or channel")
        return self


#: guidance while browsing; conversion in basket and checkout; exit-intercept when about to leave
MOMENTS: Mapping[str, Moment] = MappingProxyType(
    {
        "guidance": Moment(default=Action(id="usual_page")),
        "conversion": Moment(default=Action(id="usual_checkout")),
        "exit-intercept": Moment(default=Action(id="let_go")),
    }
)


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _printable(text: str) -> str:
    # what can be printed has none of them, and is told at once
    if not text.isprintable() and any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
        raise ValueError(f"has a control character: {ascii(text)[:80]}")
    return text


#: a name that the caller gives; a whole number is taken as its text
Id = Annotated[
    str, Field(min_length=1, max_length=200), BeforeValidator(_as_text), AfterValidator(_printable)
]


class DecisionRequest(Frozen):
    """What to show this user now?"""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "42",
                    "moment": "exit-intercept",
                    "session_id": "s-7",
                    "context": {"basket": 31.5, "country": "NL"},
                    "actions": [
                        {
                            "id": "coupon",
                            "value": 3.0,
                            "cost": 0.5,
                            "resource": "coupons",
                            "channel": "onsite",
                        },
                        {"id": "let_go"},
                    ],
                    "idempotency_key": "s-7/exit",
                }
            ]
        }
    )

    user_id: Id
    #: guidance, conversion or exit-intercept, unless others are configured
    moment: str = Field(examples=["exit-intercept"])
    session_id: Id | None = None
    #: features of the user and the situation; text, number or truth
    context: dict[str, str | int | float | bool | None] = Field(default={}, max_length=1000)
    #: what could be shown; absent: the moment's own actions
    actions: tuple[Action, ...] | None = Field(default=None, max_length=1000)
    #: a repeated call with the same key gets the same answer
    idempotency_key: Id | None = None

    @model_validator(mode="after")
    def _actions_are_told_apart(self) -> DecisionRequest:
        ids = [_printable(action.id) for action in self.actions or ()]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise ValueError(f"action {twice!r} is given twice")
        return self
