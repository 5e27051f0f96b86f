"""To which household, or other entity, each user belongs: one each."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from insight.catalog import Catalog
from insight.identities import Merges
from insight.mapping import chain_to, read_links
from insight.reading import answering


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
    texts = pairs.select("user", entity=pl.col("target").cast(pl.String))
    return texts.group_by("user").agg(pl.col("entity").min()).sort("user")
