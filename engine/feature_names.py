"""Whether declared features speak of what the catalog has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from insight.api import Catalog, check_belonging
from kernel.errors import BadInput, NotFound
from kernel.events import OFFER, PURCHASE_ROLES
from kernel.learning import ModelRecipe
from models.api import USER, FeatureSet

#: events that are called by what they play for us
ROLES = ("purchase", "treatment", "response")
#: events that no source has: what the ledger confirmed, and where plans put people
TOUCH, CELL = "touch", "cell"
TOUCH_FIELDS = ("channel", "task", "plan")
CELL_FIELDS = ("stage", "cluster", "tier")


def check_features(
    sets: Mapping[str, FeatureSet], recipes: Iterable[ModelRecipe], catalog: Catalog | None
) -> None:
    """Raises BadInput, naming who and what, for a recipe whose set is not there, and for what the catalog has
    not."""
    for recipe in recipes:
        if isinstance(recipe.features, str) and recipe.features not in sets:
            where = f"model {recipe.name}"
            raise NotFound("features", recipe.features, sets, where=where, field="features")
    if catalog is not None:
        check_sets(sets.values(), catalog)


def check_sets(sets: Iterable[FeatureSet], catalog: Catalog) -> None:
    """Raises BadInput, naming set, field and value, for what the catalog does not have."""
    for each in sets:
        where = f"features {each.name}"
        if each.entity not in catalog.entities:
            raise NotFound("entity", each.entity, catalog.entities, where=where, field="entity")
        if each.entity != USER:
            _check_other(each, catalog, where)
        for event, fields in each.events.items():
            known = _fields_of(catalog, event, where)
            for name in fields:
                if name not in known:
                    raise NotFound(f"field of event {event}", name, known, where=where, field="features")
        for name in each.fields:
            catalog.field(name, where)
            if not name.startswith(f"{each.entity}."):
                raise BadInput(f"is no field of {each.entity}", where=where, field="field", value=name)


def _check_other(each: FeatureSet, catalog: Catalog, where: str) -> None:
    """Of an entity that users belong to: its events are theirs. Raises BadInput for one that no mapping leads
    to from users, such as a product, and for what only users have."""
    try:
        check_belonging(catalog, each.entity, where)
    except NotFound:
        said = "is not linked to users by a mapping of the catalog, so no event is its own"
        raise BadInput(said, where=where, field="entity", value=each.entity) from None
    if CELL in each.events:
        raise BadInput("is of users, who are in cells", where=where, field="cell", value=each.entity)


def _fields_of(catalog: Catalog, event: str, where: str) -> tuple[str, ...]:
    if event in catalog.events:
        return tuple(catalog.events[event].fields)
    if event in (TOUCH, CELL):
        return TOUCH_FIELDS if event == TOUCH else CELL_FIELDS
    if event not in ROLES:
        raise NotFound("event", event, known_events(catalog), where=where, field="event")
    name = catalog.event_of_role(event)
    if name is None:
        raise BadInput(f"is the role of no event in {catalog.file}", where=where, field="event", value=event)
    roles = {field.role for field in catalog.events[name].fields.values()}
    known = PURCHASE_ROLES if event == "purchase" else (OFFER,)
    return tuple(role for role in known if role in roles) + tuple(
        short for short, field in catalog.events[name].fields.items() if field.role is None
    )


def known_events(catalog: Catalog) -> tuple[str, ...]:
    """Every name that a feature may call an event."""
    return (*catalog.events, *ROLES, TOUCH, CELL)
