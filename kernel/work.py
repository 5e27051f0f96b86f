"""What an operator defines: goals, resources, and the tasks that they compose."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Frozen, Name


def _check_window(text: str) -> str:
    parse_window(text)
    return text


Window = Annotated[str, AfterValidator(_check_window)]
Money = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Goal(Definition):
    """Outcome + direction + window, and what a response is assumed to add to it.

    A response (redeeming the benefit) is worth `margin × lift × base`, where base is money that the
    user is predicted to spend, to stop spending, or to have stopped spending, in the window.
    """

    kind: Literal["goal"] = "goal"
    #: event whose amount the goal moves
    outcome: str
    direction: Literal["increase", "decrease"] = "increase"
    #: how far ahead the outcome counts
    window: Window = "56d"
    #: groups that the plan acts on for it, or lifecycle stages as `stage:lapsed`; none: only rules do
    audiences: tuple[str, ...] = ()
    #: what the lift acts on: `spend` predicted; `spend_at_risk` = habitual spend × P(churn);
    #: `spend_lost` = habitual spend less predicted spend; `unit`: `unit_value`, the same for everyone
    base: Literal["spend", "spend_at_risk", "spend_lost", "unit"]
    #: with base `unit`: what one response is worth in outcome money, such as a first order's amount
    unit_value: Money | None = None
    #: profit in one unit of outcome money
    margin: Share
    #: part of the base that one response adds; an assumption until an experiment measures it
    lift: Share
    #: what a touch must be worth at least, in money: one that reaches a user today keeps others away from her
    #: for as long as caps say
    least_value: Money = 0.0

    @model_validator(mode="after")
    def _unit_has_a_value(self) -> Goal:
        if (self.base == "unit") != (self.unit_value is not None):
            raise ValueError("unit_value is for base unit, which needs it")
        return self

    @property
    def horizon(self) -> timedelta:
        return parse_window(self.window)


class Benefit(Definition):
    """What is given: a coupon, a discount, points."""

    kind: Literal["benefit"] = "benefit"
    #: cost to us when one user uses it, in major units
    cost_per_response: Money
    #: most of it that can be given in one plan; absent: no limit
    capacity: int | None = Field(default=None, ge=0)
    #: goals that it can serve
    goals: tuple[str, ...] = Field(min_length=1)
    #: touchpoints that can carry it
    touchpoints: tuple[str, ...] = Field(min_length=1)
    #: first and last day on which it can be given
    valid_from: date | None = None
    valid_to: date | None = None
    #: coupon pool from which each touch gets a code; absent: it needs none
    pool: Name | None = None
    #: P(a user whom it reaches uses it), an assumption for as long as no model of responses is learned
    response: Share | None = None
    #: the offer as the response model knows it: values for the treatment event's fields
    offer: dict[str, int | float | str] = {}

    @model_validator(mode="after")
    def _dates_in_order(self) -> Benefit:
        if self.valid_from and self.valid_to and self.valid_from > self.valid_to:
            raise ValueError("valid_from is after valid_to")
        return self


class Touchpoint(Definition):
    """The way to a user: a channel with a price and a capacity."""

    kind: Literal["touchpoint"] = "touchpoint"
    #: label that caps, limits and rules select on, such as `mail`
    channel: Name
    #: cost of one touch, in major units
    cost_per_touch: Money
    #: most touches in one plan; absent: no limit
    capacity: int | None = Field(default=None, ge=0)
    #: P(a touch is seen); an assumption until exposures are measured
    reach: Share = 1.0
    #: hours of the user's day in which it may be sent, [from, to)
    hours: tuple[int, int] = (9, 20)

    @model_validator(mode="after")
    def _hours_in_order(self) -> Touchpoint:
        low, high = self.hours
        if not 0 <= low < high <= 24:
            raise ValueError("hours are not [from, to) within 0 and 24")
        return self


class Content(Definition):
    """The words or the picture."""

    kind: Literal["content"] = "content"
    #: goals that it speaks for
    goals: tuple[str, ...] = Field(min_length=1)
    #: touchpoints that it fits
    touchpoints: tuple[str, ...] = Field(min_length=1)
    #: text; `{label}` of the benefit as `{benefit}`, more as Jinja2: `{{ user.first_name }}`, `{{ code }}`
    text: str = ""
    #: subject line, or title; a template as `text` is
    subject: str = ""
    #: the same in HTML, where the channel can show it; a template whose values are escaped
    html: str = ""


class Task(Frozen):
    """Audience × resource × goal: something that could be done today."""

    #: `goal.benefit.touchpoint.audience`
    name: str
    goal: str
    audience: str
    benefit: str
    touchpoint: str
    channel: str
    content: str
    #: operational rule that it is of; empty: a goal's own
    rule: str = ""
