"""To which household, or other entity, each user belongs: one each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import polars as pl

from insight.catalog import Catalog
from insight.identities import Merges
from insight.mapping import chain_to, chained, read_links
from insight.reading import answering
from insight.tables import dated_links
from kernel.clock import aware
from kernel.ids import fingerprint, frame_fingerprint


def check_belonging(catalog: Catalog, entity: str, where: str) -> None:
    """Raises NotFound for an entity to which no mapping leads from users, BadInput for two ways."""
    chain_to(catalog, entity, where)


def derive_belonging(
    catalog: Catalog, entity: str, as_of: datetime, merges: Merges, where: str = ""
) -> pl.DataFrame:
    """[user, entity (text)] by the one shortest way of the ID map, as it stands at `as_of` (aware).

    Of several, the first in the order of their text, so that everybody names the same. An id that more share
    than its mapping allows links nobody. Raises NotFound, BadInput for two ways, Unavailable.
    """
    chain = chain_to(catalog, entity, where)
    with answering(catalog) as run:
        pairs = read_links(catalog, chain, as_of, run, merges.frame).pairs
    return _one_each(pairs)


@dataclass(frozen=True, kw_only=True)
class Belongings:
    """The ID map of one entity as it has stood over time, read once: to ask at many instants."""

    catalog: Catalog
    chain: tuple[str, ...]
    #: mapping → from, to, maybe since and until
    links: Mapping[str, pl.DataFrame]

    def at(self, as_of: datetime) -> pl.DataFrame:
        """As `derive_belonging` of that instant, nobody merged."""
        when = pl.lit(aware(as_of, "as_of"))

        def standing(name: str) -> pl.DataFrame:
            links = self.links[name]
            if "since" in links.columns:
                links = links.filter(pl.col("since") <= when)
            if "until" in links.columns:
                links = links.filter(pl.col("until").is_null() | (pl.col("until") > when))
            return links.select("from", "to").unique()

        return _one_each(chained(self.catalog, self.chain, standing).pairs)

    @cached_property
    def fingerprint(self) -> str:
        """Of every link of all time."""
        return fingerprint([[name, frame_fingerprint(each)] for name, each in self.links.items()])


def read_belongings(catalog: Catalog, entity: str, where: str = "") -> Belongings:
    """Raises as `derive_belonging`."""
    chain = chain_to(catalog, entity, where)
    with answering(catalog) as run:
        links = {name: run(catalog.mappings[name].source, dated_links(catalog, name)) for name in chain}
    columns = ("from", "to", "since", "until")
    return Belongings(
        catalog=catalog,
        chain=chain,
        links={name: each.sort([column for column in columns if column in each.columns])
               for name, each in links.items()},
    )  # fmt: skip


def _one_each(pairs: pl.DataFrame) -> pl.DataFrame:
    texts = pairs.select("user", entity=pl.col("target").cast(pl.String))
    return texts.group_by("user").agg(pl.col("entity").min()).sort("user")
