"""What is known about users: the frames that every feature and label is derived from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import polars as pl

from kernel.errors import BadInput, NotFound
from kernel.events import EVENT_COLUMNS, OFFER, check_event_frame, check_numbers
from kernel.ids import fingerprint, frame_fingerprint
from models.feature_facts import USER, Belonging, Facts


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything that happened, in role names (see `kernel.events`)."""

    #: user, at, event_id, amount, and maybe discount, category, place, item, other numbers
    purchases: pl.DataFrame
    #: user, at, event_id, offer, and the offer's traits; None when nothing was ever offered
    treatments: pl.DataFrame | None = None
    #: user, at, event_id, offer
    responses: pl.DataFrame | None = None
    #: offer, item: what each offer is for; None when not known
    offer_items: pl.DataFrame | None = None
    #: further events that declared features are made of, by name: user, at, event_id, fields
    events: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    #: user, then the fields that declared features are made of, as they are now
    fields: pl.DataFrame | None = None
    #: entity, such as household → who belongs to which; for declared features that are not of users
    belongs: Mapping[str, Belonging] = field(default_factory=dict)
    _derived: dict[tuple[object, ...], pl.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_event_frame(self.purchases.lazy(), "purchase", ("amount",))
        check_numbers(self.purchases, "purchase")
        for name in ("treatments", "responses"):
            frame = getattr(self, name)
            if frame is not None:
                check_event_frame(frame.lazy(), name, (OFFER,))
        for name, frame in self.events.items():
            check_event_frame(frame.lazy(), name)
            check_numbers(frame, name)
        if self.fields is not None and self.fields["user"].is_duplicated().any():
            twice = self.fields.filter(pl.col("user").is_duplicated())["user"][0]
            raise BadInput("is in more than one row", where="fields", field="user", value=twice)

    def until(self, as_of: datetime) -> History:
        """The same, with nothing that happened after `as_of`: itself if nothing did, for it is large."""
        frames = [self.purchases, self.treatments, self.responses, *self.events.values()]
        if all(frame is None or frame.filter(pl.col("at") > as_of).is_empty() for frame in frames):
            return self
        cut = pl.col("at") <= as_of
        return History(
            purchases=self.purchases.filter(cut),
            treatments=None if self.treatments is None else self.treatments.filter(cut),
            responses=None if self.responses is None else self.responses.filter(cut),
            offer_items=self.offer_items,
            events={name: frame.filter(cut) for name, frame in self.events.items()},
            fields=self.fields,
            belongs=self.belongs,
        )

    def belonging(self, entity: str) -> Belonging:
        """Raises NotFound for an entity that nobody has read."""
        if entity not in self.belongs:
            raise NotFound("entity", entity, (USER, *self.belongs))
        return self.belongs[entity]

    def facts(self, entity: str = USER) -> Facts:
        """What declared features are made of: roles under their own names, further events under theirs."""
        frames = {"purchase": self.purchases, "treatment": self.treatments, "response": self.responses}
        events = {name: frame for name, frame in frames.items() if frame is not None} | dict(self.events)
        belonging = None if entity == USER else self.belonging(entity)
        fields = self.fields if belonging is None else belonging.fields
        return Facts(
            events={name: frame.lazy() for name, frame in events.items()},
            fields=None if fields is None else fields.lazy(),
            belongs=None if belonging is None else belonging.at,
            whole=frozenset(name for name, frame in events.items() if frame["event_id"].is_unique().all()),
        )

    def remember(self, key: tuple[object, ...], derive: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The frame under `key`, derived at the first call: history does not change."""
        if key not in self._derived:
            self._derived[key] = derive()
        return self._derived[key]

    @property
    def begin(self) -> datetime:
        """When the records begin: the first purchase of anyone."""
        first = self.purchases["at"].min()
        if not isinstance(first, datetime):
            raise BadInput("has no purchases", field="history")
        return first

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric purchase fields, `amount` first."""
        numeric = [
            name
            for name, kind in self.purchases.schema.items()
            if kind.is_numeric() and name not in (*EVENT_COLUMNS, "amount", "place", "item", "category")
        ]
        return ["amount", *sorted(numeric)]

    @property
    def traits(self) -> list[str]:
        """Names of the traits of offers, without times."""
        if self.treatments is None:
            return []
        return sorted(
            name
            for name, kind in self.treatments.schema.items()
            if name not in (*EVENT_COLUMNS, OFFER) and not kind.is_temporal()
        )

    def contacts(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Treatments and responses. Raises BadInput when the catalog routes no such events."""
        for role, frame in (("treatment", self.treatments), ("response", self.responses)):
            if frame is None:
                raise BadInput(f"no event has role {role}", where="catalog.yaml", field="events")
        return cast(tuple[pl.DataFrame, pl.DataFrame], (self.treatments, self.responses))

    def offers(self) -> pl.DataFrame:
        """One row an offer: offer, at (when it was first received), its traits."""
        treatments, _ = self.contacts()
        return (
            treatments.sort("at", OFFER)
            .group_by(OFFER, maintain_order=True)
            .agg(pl.col("at").first(), *(pl.col(name).first() for name in self.traits))
        )

    def fingerprint(self) -> str:
        """Of all frames."""
        frames = (self.purchases, self.treatments, self.responses, self.offer_items)
        told: list[object] = [None if frame is None else frame_fingerprint(frame) for frame in frames]
        told += [[name, frame_fingerprint(frame)] for name, frame in sorted(self.events.items())]
        told += [] if self.fields is None else [frame_fingerprint(self.fields)]
        for name, each in sorted(self.belongs.items()):
            told.append(
                [name, each.fingerprint, None if each.fields is None else frame_fingerprint(each.fields)]
            )
        return fingerprint(told)
