"""Touches and the promises about them: caps, quiet hours, consent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Literal

import dataframely as dy
from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Name
from kernel.work import Window


class MessageClass(StrEnum):
    MARKETING = "marketing"
    SERVICE = "service"
    TRANSACTIONAL = "transactional"  # exempt from caps and quiet hours


class Cap(Definition):
    """Most touches per user, scope and window; reservations count. Zero means none at all.

    What it counts is what all of `channel`, `activity` and `classes` allow; whoever names none counts all.
    """

    kind: Literal["cap"] = "cap"
    #: channel that it counts; absent: all channels together
    channel: str | None = None
    #: activity that it counts, a label that touches carry; absent: all together
    activity: str | None = None
    #: it holds for each channel, activity or task by itself: the touch's own
    each: Literal["channel", "activity", "task"] | None = None
    #: whose touches it counts together: `user`, or an entity of the ID map such as `household`
    by: Name = "user"
    #: classes that it counts; transactional messages are in none
    classes: tuple[MessageClass, ...] = (MessageClass.MARKETING,)
    #: most touches in the window
    at_most: int = Field(ge=0)
    #: rolling: the half-open (t − window, t]
    within: Window | None = None
    #: instead: the calendar day, week (from Monday) or month on the user's own wall
    per: Literal["day", "week", "month"] | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Cap:
        if (self.within is None) == (self.per is None):
            raise ValueError("needs either within, such as 7d, or per: day, week or month")
        if self.each is not None and getattr(self, self.each, None) is not None:
            raise ValueError(f"names one {self.each} and holds for each; leave one of them out")
        return self

    @property
    def span(self) -> str:
        """Its window, for people."""
        return f"in {self.within}" if self.within else f"a {self.per}"


#: touches are held for so long at least, longer where a cap looks back further; no month is longer
HOLD = timedelta(days=32)


def hold_for(caps: Iterable[Cap]) -> timedelta:
    """How long the ledger holds touches."""
    return max([HOLD, *(parse_window(cap.within) for cap in caps if cap.within)])


class QuietHours(Definition):
    """Hours of the user's own day in which nothing is sent; may wrap around midnight."""

    kind: Literal["quiet_hours"] = "quiet_hours"
    #: channels that keep them; absent: all
    channels: tuple[str, ...] | None = None
    #: first quiet hour and first hour that is not, 0 … 23
    start: int = Field(ge=0, le=23)
    end: int = Field(ge=0, le=23)

    @model_validator(mode="after")
    def _some_of_the_day(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError("start and end are the same hour; nothing could ever be sent")
        return self


class Touches(dy.Schema):
    """One row an intended contact."""

    #: hash of (plan date, user, task): at most one touch each, ever
    touch_id = dy.String(nullable=False, primary_key=True)
    user = dy.Any()
    task = dy.String(nullable=False)
    goal = dy.String(nullable=False)
    benefit = dy.String(nullable=False)
    touchpoint = dy.String(nullable=False)
    channel = dy.String(nullable=False)
    content = dy.String(nullable=False)
    message_class = dy.String(nullable=False)
    #: label that caps may count by: the activity that it is part of, else its goal
    activity = dy.String(nullable=False)
    #: of the coupon that it brings; null where its benefit names no pool
    code = dy.String(nullable=True)
    #: when to hand it over
    send_at = dy.Datetime(time_unit="us", time_zone="UTC", nullable=False)
    #: the same instant on the user's wall, ISO, for people
    local_time = dy.String(nullable=False)


class Refusals(dy.Schema):
    """One row an assignment that must not become a touch, with the rule that forbids it."""

    user = dy.Any()
    task = dy.String(nullable=False)
    channel = dy.String(nullable=False)
    #: name of the cap, quiet hours or consent that refuses
    rule = dy.String(nullable=False)
    #: a sentence for the operator, saying until when
    reason = dy.String(nullable=False)
