"""An audience in the ids of another entity: households to write to, devices to push to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from insight.catalog import Catalog
from insight.mapping import EXAMPLES, Crowded, chain_to, read_links
from insight.population import Population
from insight.reading import answering
from insight.sources.opening import table_version
from kernel.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Rekeyed:
    """What became of an audience, and of those who have no such id."""

    entity: str
    #: mappings that led there, from the user outwards
    via: tuple[str, ...]
    #: one column named as the entity: each id once, in order
    targets: pl.DataFrame
    #: users that were asked for, and of these those with a target
    users: int
    linked: int
    #: some users without a target
    unlinked: tuple[int | str, ...]
    #: links that do not count, because an id has too many
    crowded: tuple[Crowded, ...]
    #: mapping → version of its table
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """For a manifest: everything but the targets themselves."""
        return {
            "entity": self.entity,
            "via": list(self.via),
            "count": self.targets.height,
            "users": self.users,
            "linked": self.linked,
            "unlinked": {"count": self.users - self.linked, "users": list(self.unlinked)},
            "ignored": [each.as_json() for each in self.crowded],
            "mapping_versions": self.versions,
        }


def rekey(population: Population, users: pl.Series, entity: str, via: Sequence[str] | None = None) -> Rekeyed:
    """`users` (ids) as ids of `entity`, by `via` or the one shortest way. Raises BadInput, NotFound.

    A user may have several targets and a target several users: each target is there once, and so is each
    user in the counts.
    """
    catalog = population.catalog
    chain = tuple(via) if via else chain_to(catalog, entity)
    with answering(catalog) as run:
        links = read_links(catalog, chain, population.as_of, run, population.merges.frame)
    if links.entity != entity:
        raise BadInput(f"leads to {links.entity}, not to {entity}", field="via", value=", ".join(chain))
    asked = pl.DataFrame({"user": users}).unique()
    kept = links.pairs.join(asked, on="user", how="semi")
    lost = asked.join(links.pairs, on="user", how="anti").sort("user")
    return Rekeyed(
        entity=links.entity,
        via=chain,
        targets=kept.select(pl.col("target").alias(links.entity)).unique().sort(links.entity),
        users=asked.height,
        linked=asked.height - lost.height,
        unlinked=tuple(lost["user"].head(EXAMPLES)),
        crowded=links.crowded,
        versions=mapping_versions(catalog, chain),
    )


def mapping_versions(catalog: Catalog, names: Sequence[str]) -> dict[str, str]:
    """Mapping → version of the table that it is read from."""
    routes = {name: catalog.mappings[name] for name in names}
    return {name: table_version(catalog, route.source, route.table) for name, route in routes.items()}
