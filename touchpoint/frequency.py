"""How often is right, as an operator declares it: whose outcomes, at which price, within which budget."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Name
from kernel.errors import NotFound
from kernel.work import Money, Share, Window
from touchpoint.frequency_value import Worth

#: the segment of everybody, where users are not told apart
EVERYBODY = "everybody"
#: of users whose segment is not known
UNKNOWN = "unknown"
_DAY = timedelta(days=1)


class Frequency(Definition):
    """One budget of exposures, spent where the next one is worth most."""

    kind: Literal["frequency"] = "frequency"
    #: goals whose candidates it steers; absent: all that go through its channels
    goals: tuple[Name, ...] | None = None
    #: channels whose exposures count, and which it steers
    channels: tuple[Name, ...] = Field(min_length=1)
    #: event of the catalog that is an exposure; absent: touches that the ledger knows as confirmed
    exposure: str | None = None
    #: field of that event that names the channel; absent: all of them are of the channels
    channel_field: str | None = None
    #: event that is hoped for
    outcome: str
    #: event by which a user takes leave; absent: nobody does
    opt_out: str | None = None
    #: group of users; absent: everybody
    audience: str | None = None
    #: what tells kinds of users apart: `cell`, `stage` or a field such as `user.city`; absent: nothing does
    segments: str | None = None
    #: without an exposure for so long, counting begins anew
    window: Window = "30d"
    #: exposures within that time tire
    tires_within: Window = "7d"
    #: after an outcome nobody is touched for so long
    rest: Window | None = None
    #: most exposures of one user since counting began
    at_most: int = Field(default=12, ge=1, le=60)
    #: touches a day; or, with `share`, that part of the audience
    budget: int | None = Field(default=None, ge=0)
    share: Share | None = None
    #: touches a day, of the budget, for users whose curve still rises
    floor: int = Field(default=0, ge=0)
    #: of an outcome, in major units
    value: float = Field(gt=0)
    #: what a user who stays is worth, in major units: lost with one who opts out
    kept: Money = 0.0
    #: of the price of the last day, in major units, before anything is learned
    price: Money = 0.0
    #: part of the users whose number of touches is drawn: from them one learns what touches cause
    randomised: float = Field(default=0.02, ge=0, le=1)
    #: what was seen so long ago counts half
    half_life: Window = "180d"
    #: how far back is looked
    history: Window = "365d"

    @model_validator(mode="after")
    def _one_budget(self) -> Frequency:
        if (self.budget is None) == (self.share is None):
            raise ValueError("needs either budget or share")
        if self.budget is not None and self.floor > self.budget:
            raise ValueError(f"floor {self.floor} is above budget {self.budget}")
        if self.channel_field is not None and self.exposure is None:
            raise ValueError("channel_field needs an exposure event to be a field of")
        for name in ("window", "tires_within", "rest", "half_life", "history"):
            text = getattr(self, name)
            if text is not None and parse_window(text) % _DAY:
                raise ValueError(f"{name} {text} is not whole days")
        if self.days("tires_within") > self.days("window"):
            raise ValueError(f"tires_within {self.tires_within} is longer than window {self.window}")
        return self

    def days(self, field: Literal["window", "tires_within", "rest", "half_life", "history"]) -> int:
        """A window in days; 0 where it is absent."""
        text = getattr(self, field)
        return 0 if text is None else parse_window(text) // _DAY

    def touches(self, audience: int) -> int:
        """Most a day for an audience of that size."""
        return self.budget if self.budget is not None else int((self.share or 0.0) * audience)

    @property
    def worth(self) -> Worth:
        window = self.days("window")
        return Worth(
            value=self.value, kept=self.kept, at_most=self.at_most, window=window,
            tires=self.days("tires_within"), rest=self.days("rest"), horizon=max(window, 2),
        )  # fmt: skip


def check_frequencies(
    frequencies: Iterable[Frequency],
    *,
    groups: Collection[str],
    goals: Collection[str],
    channels: Collection[str],
    events: Mapping[str, Collection[str]] | None,
) -> None:
    """Raises NotFound for the first name that nothing answers to. `events`: name → names of its fields; None
    where there is no catalog to look into."""
    for each in frequencies:
        where = f"frequency {each.name}"
        if each.audience is not None and each.audience not in groups:
            raise NotFound("group", each.audience, groups, where=where, field="audience")
        for field, names, known in (("goals", each.goals, goals), ("channels", each.channels, channels)):
            for name in names or ():
                # exposures of an ad platform come through no touchpoint of ours
                if name not in known and (field == "goals" or each.exposure is None):
                    raise NotFound(field[:-1], name, known, where=where, field=field)
        if events is None:
            continue
        for field in ("exposure", "outcome", "opt_out"):
            event = getattr(each, field)
            if event is not None and event not in events:
                raise NotFound("event", event, events, where=where, field=field)
        if each.channel_field is not None and each.channel_field not in events[each.exposure or ""]:
            known = events[each.exposure or ""]
            raise NotFound("field", each.channel_field, known, where=where, field="channel_field")
