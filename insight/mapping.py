"""ID mapping: which ids of other entities belong to a user at an instant, bounded and reported.

A mapping is a table of links between two entities (household ↔ user, device ↔ user, product ↔ merchant). It
is read as it stands at T; what was read is told by its table's version. An id with more partners than the
mapping allows is a shared device or a bot: it links nobody, and says so, so that no two people become one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from insight.catalog import USER, Catalog, MappingRoute
from insight.tables import mapping_links
from kernel.clock import aware
from kernel.errors import BadInput, NotFound

_log = logging.getLogger(__name__)
#: examples that a report names
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Crowded:
    """Ids of one side of a mapping whose links do not count, because they have too many."""

    mapping: str
    #: entity that they are of
    entity: str
    #: most partners that one may have
    most: int
    #: how many ids, and links
    ids: int
    links: int
    #: (id, number of its partners), most crowded first
    examples: tuple[tuple[int | str, int], ...]

    def as_json(self) -> dict[str, Any]:
        """For manifests; each example under its entity's name, so that a user in it can be forgotten."""
        examples = [{self.entity: one, "links": many} for one, many in self.examples]
        return {**vars(self), "examples": examples}

    def __str__(self) -> str:
        named = ", ".join(f"{one} ({many})" for one, many in self.examples)
        return (
            f"mapping {self.mapping}: {self.ids} {self.entity} ids with more than {self.most} partners"
            f" link nobody ({self.links} links): {named}"
        )


@dataclass(frozen=True, kw_only=True)
class Links:
    """Who is linked to what, by a chain of mappings."""

    #: entity at the far end
    entity: str
    #: [user, target], distinct pairs without NULL
    pairs: pl.DataFrame
    #: what was ignored, mapping by mapping
    crowded: tuple[Crowded, ...]


def far_end(catalog: Catalog, via: Sequence[str], where: str = "") -> str:
    """The entity to which a chain of mappings leads from the user. Raises BadInput, NotFound."""
    at = USER
    for name in via:
        if name not in catalog.mappings:
            raise NotFound("mapping", name, catalog.mappings, where=where, field="via")
        route = catalog.mappings[name]
        if at not in (route.from_, route.to):
            problem = f"links {route.from_} and {route.to}, and cannot be entered from {at}"
            raise BadInput(problem, where=where, field="via", value=name)
        at = route.to if at == route.from_ else route.from_
    if at == USER:
        raise BadInput("leads back to users", where=where, field="via", value=", ".join(via))
    return at


def chain_to(catalog: Catalog, entity: str, where: str = "") -> tuple[str, ...]:
    """The one shortest chain of mappings from the user to `entity`. Raises NotFound, or BadInput for two."""
    chains: list[tuple[tuple[str, ...], str]] = [((), USER)]
    reached, known = False, {USER}
    while chains and not reached:
        longer: list[tuple[tuple[str, ...], str]] = []
        for done, at in chains:
            for name, route in catalog.mappings.items():
                if at in (route.from_, route.to):
                    end = route.to if at == route.from_ else route.from_
                    if end not in known:
                        longer.append(((*done, name), end))
        known |= {end for _, end in longer}
        chains, reached = longer, entity in known - {USER}
    found = [done for done, end in chains if end == entity]
    if not found:
        raise NotFound("entity", entity, sorted(known - {USER}), where=where or catalog.file, field="as")
    if len(found) > 1:
        several = "; ".join(", ".join(each) for each in found)
        problem = f"is reached in several ways, choose one by --via: {several}"
        raise BadInput(problem, where=where or catalog.file, field="as", value=entity)
    return found[0]


def read_links(
    catalog: Catalog,
    via: Sequence[str],
    as_of: datetime,
    run: Callable[[str, Any], pl.DataFrame],
    survivors: pl.DataFrame | None = None,
) -> Links:
    """Links of users by the chain `via`, as they hold at `as_of` (aware).

    `run`: runs an expression on a source. `survivors`: [user, survivor] of merged users, who are one person
    before anything is counted.
    """
    return chained(catalog, via, lambda name: _links(catalog, name, as_of, run, survivors))


def chained(catalog: Catalog, via: Sequence[str], links_of: Callable[[str], pl.DataFrame]) -> Links:
    """The same from links that are at hand. `links_of`: mapping → [from, to]."""
    entity = far_end(catalog, via)
    at, crowded, whole = USER, list[Crowded](), None
    for name in via:
        route = catalog.mappings[name]
        near, far = ("from", "to") if at == route.from_ else ("to", "from")
        links = links_of(name)
        kept, ignored = bounded(links, name, route)
        crowded += ignored
        for each in ignored:
            _log.warning("%s", each)
        step = kept.rename(
            {near: "user" if whole is None else "target", far: "target" if whole is None else "next"}
        )
        if whole is None:
            whole = step.select("user", "target")
        else:
            if step.schema["target"] != whole.schema["target"]:
                kinds = f"{whole.schema['target']} before and {step.schema['target']} in it"
                problem = f"cannot follow: ids of {at} are {kinds}"
                raise BadInput(problem, where=catalog.file, field=f"mappings.{name}")
            whole = whole.join(step, on="target").select("user", target="next").unique()
        at = route.to if near == "from" else route.from_
    assert whole is not None  # noqa: S101  `far_end` refuses an empty chain
    return Links(entity=entity, pairs=whole, crowded=tuple(crowded))


def bounded(links: pl.DataFrame, name: str, route: MappingRoute) -> tuple[pl.DataFrame, list[Crowded]]:
    """[from, to] without ids that have too many partners on either side, both judged before anything goes."""
    crowded = []
    kept = links
    sides = (("to", route.to, route.most), ("from", route.from_, route.most_to or route.most))
    for side, entity, most in sides:
        many = links.group_by(side).len().filter(pl.col("len") > most)
        if many.is_empty():
            continue
        worst = many.sort("len", side, descending=[True, False]).head(EXAMPLES)
        crowded.append(
            Crowded(
                mapping=name,
                entity=entity,
                most=most,
                ids=many.height,
                links=int(many["len"].sum()),
                examples=tuple((one, many_) for one, many_ in worst.iter_rows()),
            )
        )
        kept = kept.join(many, on=side, how="anti")
    return kept, crowded


def _links(
    catalog: Catalog,
    name: str,
    as_of: datetime,
    run: Callable[[str, Any], pl.DataFrame],
    survivors: pl.DataFrame | None,
) -> pl.DataFrame:
    """[from, to] that hold, merged users as one."""
    route = catalog.mappings[name]
    links = run(route.source, mapping_links(catalog, name, aware(as_of, "as_of")))
    for side, of in (("from", route.from_), ("to", route.to)):
        if of == USER and survivors is not None:
            links = _as_survivors(links, side, survivors)
    return links


def _as_survivors(links: pl.DataFrame, side: str, survivors: pl.DataFrame) -> pl.DataFrame:
    renamed = survivors.select(pl.col("user").alias(side).cast(links.schema[side]), "survivor")
    joined = links.join(renamed, on=side, how="left")
    return joined.with_columns(pl.coalesce("survivor", side).alias(side)).select("from", "to").unique()


@dataclass(frozen=True, kw_only=True)
class MappingState:
    """A mapping as it stands at an instant."""

    name: str
    #: entities that it links
    from_: str
    to: str
    #: links that hold, and of these those that count
    links: int
    counted: int
    crowded: tuple[Crowded, ...]


def mapping_states(
    catalog: Catalog,
    as_of: datetime,
    run: Callable[[str, Any], pl.DataFrame],
    survivors: pl.DataFrame | None = None,
) -> list[MappingState]:
    """Every mapping of the catalog at `as_of` (aware): how many links, and what does not count."""
    states = []
    for name, route in catalog.mappings.items():
        links = _links(catalog, name, as_of, run, survivors)
        kept, crowded = bounded(links, name, route)
        states.append(
            MappingState(
                name=name,
                from_=route.from_,
                to=route.to,
                links=links.height,
                counted=kept.height,
                crowded=tuple(crowded),
            )
        )
    return states
