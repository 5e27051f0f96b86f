"""Features and score of one user as she is now: the batch's definitions over her own lines, fresh too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from engine.feature_names import CELL, ROLES, TOUCH
from engine.feature_sources import cells_until, read_belonging, role_names, source_name, touches_until
from engine.wiring import Workspace
from insight.api import EventDoor, User, event_range, read_fields, user_lines
from kernel.errors import BadInput, NotFound
from kernel.events import check_numbers
from kernel.learning import ModelRecipe
from models.api import (
    USER,
    FeatureSet,
    History,
    OnlineFeatures,
    Predictor,
    declared_in,
    of_entity,
    score_frame,
    usual_of,
)
from storage.events import EventLog

Values = dict[str, float | None]
#: beyond the row numbers of any one user's lines
_FAR = 2**40


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of one user at an instant."""

    user: User
    as_of: datetime
    #: set or model that was asked for, and its version
    name: str
    version: int
    #: lines that the features are made of, known by then
    lines: int
    features: Values
    #: what the model predicts; None of a set, and of a model that scores offers
    score: float | None = None
    #: of money and days: where the outcome will be, nine times in ten
    interval: tuple[float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        said = {name: value for name, value in vars(self).items() if name != "user"}
        return {"user_id": str(self.user), **said, "as_of": self.as_of.isoformat()}


def set_now(space: Workspace, name: str, user_id: str, at: datetime) -> Told:
    """A declared set's features, by definition those of the batch at that instant, to 1e-9.

    Raises BadInput for an id that is none and for labels that are still to be found, NotFound for a set that
    is not there and for who was forgotten.
    """
    features, user = space.definitions().feature_set(name), _user(space, user_id)
    lines, found = _declared(space, features, user, at)
    known = _known(lines, at)
    return Told(user=user, as_of=at, name=name, version=features.version, lines=known, features=found)


def model_now(space: Workspace, name: str, user_id: str, at: datetime) -> Told:
    """The features of the model in use, the usual ones too, and its score: what a plan of that instant uses.

    Raises as `set_now`; a model of offers has no score of a user alone, nor features of offers.
    """
    names = space.registry.names()
    if name not in names:
        raise NotFound("model", name, names, field="model")
    predictor, version = space.registry.usable(name, at)
    if not isinstance(predictor, Predictor):
        raise BadInput("tells what benefits add, and scores no user by itself", field="model", value=name)
    user, declared = _user(space, user_id), declared_in(predictor.recipe)
    lines, found = _lines(space, ROLES, [user], user, at), Values()
    bought = lines["purchase"].filter(pl.col("at") <= at).height > 0
    if declared is None or declared.usual:
        found |= _features(space, _usual(lines, predictor.recipe), lines, user, at)
    if declared is not None:
        more, theirs = _declared(space, declared, user, at)
        found |= {of_entity(declared, column): value for column, value in theirs.items()}
        lines |= more
    score, interval = None, None
    if predictor.recipe.predicts != "response":
        frame = pl.DataFrame({"user": [user], **{column: [found[column]] for column in found}})
        score = float(score_frame(predictor, frame if bought else frame.clear(), frame, name)[name][0])
        if bought and predictor.band is not None:
            low, high = predictor.interval(frame)
            interval = float(low[0]), float(high[0])
    known = _known(lines, at)
    return Told(user=user, as_of=at, name=name, version=version.version, lines=known,
                features=found, score=score, interval=interval)  # fmt: skip


def _user(space: Workspace, user_id: str) -> User:
    user = EventDoor(space.catalog).user(user_id)
    if space.tombstones.refused(pl.Series("user", [user])).any():
        raise NotFound("user", user_id, (), field="user_id")
    return user


def _declared(
    space: Workspace, features: FeatureSet, user: User, at: datetime
) -> tuple[dict[str, pl.DataFrame], Values]:
    """A set's lines and values: of the user, or of what she belongs to, made of all who belong to it."""
    if features.entity == USER:
        lines = _lines(space, features.events, [user], user, at)
        return lines, _features(space, features, lines, user, at)
    belonging = read_belonging(space, [features])[features.entity]
    belongs = belonging.at(at)
    theirs = belongs.filter(pl.col("user") == user)["entity"]
    if theirs.is_empty():
        return {}, dict.fromkeys(features.columns)
    members = belongs.filter(pl.col("entity") == theirs[0])["user"].to_list()
    lines = _lines(space, features.events, members, theirs[0], at)
    return lines, _features(space, features, lines, theirs[0], at, belonging.fields)


def _lines(
    space: Workspace, wanted: Iterable[str], users: list[User], name: User, at: datetime
) -> dict[str, pl.DataFrame]:
    """Event, as features call it → lines of these users, as those of `name`: of the sources and of what was
    sent since, nothing twice. A role that no event plays is left out."""
    catalog, door = space.catalog, EventDoor(space.catalog)
    events = [each for each in wanted if each not in ROLES or catalog.event_of_role(each)]
    names = {event: source_name(catalog, event) for event in events if event not in (TOUCH, CELL)}
    parts: dict[str, list[pl.DataFrame]] = {event: [] for event in events}
    for place, user in enumerate(users):
        logged = EventLog(space.database, space.tombstones).of_user(str(user))
        fresh = [typed for each in logged if (typed := door.typed(each)) is not None]
        lines = user_lines(catalog, user, dict.fromkeys(names.values()), fresh)
        for event, own in names.items():
            mine = lines[own].rename(role_names(catalog, event))
            if catalog.events[own].id is None:  # rows are numbered user by user
                mine = mine.with_columns(pl.col("event_id") + place * _FAR)
            parts[event].append(mine)
        for event, read in ((TOUCH, touches_until), (CELL, cells_until)):
            if event in parts:
                parts[event].append(read(space, at, user))
    whose = pl.lit(name).alias("user")
    found = {event: pl.concat(each).with_columns(whose) for event, each in parts.items()}
    for event, frame in found.items():
        check_numbers(frame, event)
    return found


def _usual(lines: dict[str, pl.DataFrame], recipe: ModelRecipe) -> FeatureSet:
    history = History(
        purchases=lines["purchase"], treatments=lines.get("treatment"), responses=lines.get("response")
    )
    return usual_of(history, recipe.history)


def _features(
    space: Workspace,
    features: FeatureSet,
    lines: dict[str, pl.DataFrame],
    user: User,
    at: datetime,
    fields: pl.DataFrame | None = None,
) -> Values:
    own = {event: lines[event] for event in features.events}
    begins = {
        event: event_range(space.catalog, source_name(space.catalog, event))[0]
        for event in own
        if event not in (TOUCH, CELL)
    }
    if features.fields and features.entity == USER:
        fields = read_fields(space.catalog, features.fields)
    return dict(OnlineFeatures(features, own, begins, fields).of(user, at))


def _known(lines: dict[str, pl.DataFrame], at: datetime) -> int:
    return sum(frame.filter(pl.col("at") <= at).height for frame in lines.values())
