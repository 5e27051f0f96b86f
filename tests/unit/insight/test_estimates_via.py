"""What goes through a mapping is counted, never sampled: a circle reaches outside any sample."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.api import Population, parse_catalog, parse_condition

IOS = {"field": "device.os", "op": "eq", "value": "ios"}


@pytest.mark.parametrize("part", [IOS, {"any": [IOS]}, {"field": "user.age", "op": "ge", "value": 1}])
def test_via_is_exact(part: dict[str, Any], tmp_path: Path) -> None:
    pl.DataFrame({"uid": range(50), "age": range(50)}).write_parquet(tmp_path / "users.parquet")
    pl.DataFrame({"id": range(50), "os": ["ios"] * 50}).write_parquet(tmp_path / "devices.parquet")
    pl.DataFrame({"device": range(50), "user": range(50)}).write_parquet(tmp_path / "logins.parquet")
    source = {"source": "it"}
    raw = {
        "sources": {"it": {"url": "parquet://."}},
        "entities": {
            "user": {**source, "table": "users", "key": "uid"},
            "device": {**source, "table": "devices", "key": "id"},
        },
        "fields": {
            "user.age": {"table": "users", "column": "age", "type": "integer"},
            "device.os": {"table": "devices", "column": "os", "type": "string"},
        },
        "mappings": {
            "device": {
                **source, "table": "logins", "from": "device", "from_column": "device", "to": "user",
                "to_column": "user", "most": 3,
            }
        },
    }  # fmt: skip
    people = Population(parse_catalog(raw, folder=tmp_path), datetime(2024, 3, 1, tzinfo=UTC))
    said = people.estimate(parse_condition({"via": "device", "any": part}), sample_above=10, sample_size=10)
    assert (said.method, said.low, said.high) == ("exact", said.count, said.count)
