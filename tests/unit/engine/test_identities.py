"""Merged ids as one person in groups that are published; audiences in ids of another entity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from pyroaring import BitMap

from engine.identities import (
    identity_history,
    mappings_now,
    merge_users,
    rekey_memberships,
    unmerge_users,
)
from engine.population import population
from engine.usecases import apply, select_group
from engine.wiring import Workspace, open_workspace
from kernel.audiences import GroupVersion
from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound

AT = datetime(2017, 10, 16, tzinfo=UTC)
CATALOG = {
    "sources": {"shop": {"url": "parquet://shop"}},
    "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
    "fields": {"user.city": {"table": "users", "column": "city", "type": "string"}},
    "events": {
        "order": {
            "source": "shop", "table": "orders", "user": "uid", "time": "t", "role": "purchase",
            "fields": {"amount": {"column": "total", "type": "decimal", "role": "amount"}},
        }
    },
    "mappings": {
        "household": {
            "source": "shop", "table": "homes", "from": "user", "from_column": "uid",
            "to": "household", "to_column": "hid", "most": 3,
        },
        "device": {
            "source": "shop", "table": "devices", "from": "device", "from_column": "did",
            "to": "user", "to_column": "uid", "most": 2,
        },
    },
}  # fmt: skip
GROUPS = [
    {"kind": "group", "name": "x", "where": {"field": "user.city", "op": "eq", "value": "x"}},
    {"kind": "group", "name": "keen", "where": {"event": "order", "agg": "count", "op": "ge", "value": 2}},
    {"kind": "group", "name": "pinned", "mode": "static",
     "where": {"field": "user.city", "op": "eq", "value": "y"}},
]  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    shop = tmp_path / "shop"
    shop.mkdir()
    (tmp_path / "growth.toml").write_text("name = 'test'\n")
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    users = ["ann", "bo", "cy", "di", "ed"]
    pl.DataFrame({"uid": users, "city": ["x", "y", "y", None, "z"]}).write_parquet(shop / "users.parquet")
    orders = pl.DataFrame(
        {"uid": ["ann", "bo", "cy"], "t": [datetime(2017, 10, 10, tzinfo=UTC)] * 3, "total": [1.0] * 3}
    )
    orders.write_parquet(shop / "orders.parquet")
    homes = [("ann", "h1"), ("bo", "h1"), ("cy", "h2"), *((user, "hotel") for user in users)]
    pl.DataFrame(homes, schema=["uid", "hid"], orient="row").write_parquet(shop / "homes.parquet")
    devices = [(1, "ann"), (2, "ann"), (2, "bo"), (3, "cy"), (3, "di"), (3, "ed")]
    pl.DataFrame(devices, schema=["did", "uid"], orient="row").write_parquet(shop / "devices.parquet")
    space = open_workspace(tmp_path, FixedClock(at=AT))
    (tmp_path / "groups.yaml").write_text(yaml.safe_dump_all(GROUPS))
    apply(space, tmp_path / "groups.yaml", by="me")
    yield space
    space.database.dispose()


def publish(space: Workspace, name: str, users: list[str], *, pinned: bool = False) -> GroupVersion:
    space.dictionary.extend(pl.Series(["ann", "bo", "cy", "di", "ed"]))
    members = space.dictionary.positions(pl.Series(users, dtype=pl.String))
    return space.groups.publish(
        name=name, fingerprint="f", as_of=AT, members=members.serialize(), count=len(members), universe=5,
        sources={}, calculated_at=AT, pinned=pinned,
    )  # fmt: skip


def published(space: Workspace, name: str) -> set[str]:
    version = space.groups.current(name)
    assert version is not None
    members = BitMap.deserialize(space.groups.members(version))
    assert version.count == len(members)
    return set(space.dictionary.users(members))


def members(space: Workspace, name: str) -> set[str]:
    people = population(space, AT)
    return set(people.users(people.members(name)))


def test_events_of_a_merged_user_count_for_the_survivor(workspace: Workspace) -> None:
    assert members(workspace, "keen") == set()
    merge_users(workspace, "ann", "bo", because="same phone", by="me")
    assert members(workspace, "keen") == {"bo"}
    assert members(workspace, "x") == set()
    assert len(population(workspace, AT).universe) == 4
    unmerge_users(workspace, "ann", because="two phones", by="me")
    assert members(workspace, "keen") == set()
    assert members(workspace, "x") == {"ann"}


def test_published_memberships_are_the_union_and_come_back(workspace: Workspace) -> None:
    for name, users in {"x": ["ann"], "keen": ["ann", "bo"], "other": ["cy"]}.items():
        publish(workspace, name, users)
    publish(workspace, "pinned", ["bo", "cy"], pinned=True)
    untouched = workspace.groups.current("other")
    merge_users(workspace, "ann", "bo", because="same phone", by="me")
    assert published(workspace, "x") == {"bo"}
    assert published(workspace, "keen") == {"bo"}
    merge_users(workspace, "bo", "cy", because="same card", by="me")
    assert published(workspace, "x") == {"cy"}
    assert published(workspace, "pinned") == {"cy"}
    assert workspace.groups.current("other") == untouched
    assert rekey_memberships(workspace)["changed"] == 0
    unmerge_users(workspace, "ann", because="a mistake", by="me")
    assert published(workspace, "x") == {"ann"}
    assert published(workspace, "keen") == {"ann", "cy"}
    unmerge_users(workspace, "bo", because="a mistake", by="me")
    assert published(workspace, "x") == {"ann"}
    assert published(workspace, "keen") == {"ann", "bo"}
    assert published(workspace, "pinned") == {"bo", "cy"}
    assert workspace.identities.before() == {}


def test_a_version_published_meanwhile_is_left_as_it_is(workspace: Workspace) -> None:
    publish(workspace, "x", ["ann"])
    merge_users(workspace, "ann", "bo", because="same phone", by="me")
    publish(workspace, "x", ["bo", "cy"])
    unmerge_users(workspace, "ann", because="a mistake", by="me")
    assert published(workspace, "x") == {"bo", "cy"}


def test_everything_done_is_in_the_log(workspace: Workspace) -> None:
    merge_users(workspace, "ann", "bo", because="same phone", by="me")
    unmerge_users(workspace, "ann", because="two phones", by="you")
    told = identity_history(workspace)
    assert told["version"] == 2
    assert told["merged"] == []
    whats = [
        (each["action"], each["user"], each["into"], each["because"], each["by"]) for each in told["log"]
    ]
    assert whats == [
        ("merge", "ann", "bo", "same phone", "me"),
        ("unmerge", "ann", "bo", "two phones", "you"),
    ]


@pytest.mark.parametrize(
    ("user", "into", "because", "sentence"),
    [
        ("zoe", "bo", "x", "'zoe': unknown user"),
        ("bo", "zoe", "x", "'zoe': unknown user"),
        ("bo", "bo", "x", "would be merged into itself"),
        ("ann", "cy", "x", "is merged into 'bo' already"),
        ("bo", "ann", "x", "would be merged into itself by 'ann'"),
        ("cy", "bo", " ", "say why"),
    ],
)
def test_a_merge_that_cannot_be_is_one_sentence(
    workspace: Workspace, user: str, into: str, because: str, sentence: str
) -> None:
    merge_users(workspace, "ann", "bo", because="same phone", by="me")
    with pytest.raises(BadInput, match=sentence):
        merge_users(workspace, user, into, because=because, by="me")
    assert workspace.identities.version() == 1
    with pytest.raises(NotFound, match="unknown merged user"):
        unmerge_users(workspace, "cy", because="x", by="me")


def test_an_audience_as_households_tells_what_has_none(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "homes.parquet"
    told = select_group(workspace, "pinned", out, AT.isoformat(), "household")
    assert pl.read_parquet(out).to_dict(as_series=False) == {"household": ["h1", "h2"]}
    assert json.loads((tmp_path / "homes.manifest.json").read_text()) == json.loads(json.dumps(told))
    assert (told["count"], told["users"], told["linked"]) == (2, 2, 2)
    ignored = told["ignored"][0]
    assert (ignored["entity"], ignored["ids"], ignored["links"]) == ("household", 1, 5)
    assert ignored["examples"] == [{"household": "hotel", "links": 5}]
    assert set(told["mapping_versions"]) == {"household"}


def test_a_shared_device_is_nobodys(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "d.csv"
    told = select_group(workspace, "pinned", out, AT.isoformat(), "device")
    assert out.read_text() == "device\n2\n"
    assert told["unlinked"] == {"count": 1, "users": ["cy"]}
    assert told["ignored"][0]["examples"] == [{"device": 3, "links": 3}]
    merge_users(workspace, "ed", "di", because="same person", by="me")
    told = select_group(workspace, "pinned", out, AT.isoformat(), "device")
    assert out.read_text() == "device\n2\n3\n"
    assert told["ignored"] == []
    assert [each["counted"] for each in mappings_now(workspace, AT)] == [5, 3]


def test_an_entity_that_nothing_leads_to_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"did you mean .household"):
        select_group(workspace, "x", tmp_path / "a.csv", AT.isoformat(), "hosehold")
    with pytest.raises(BadInput, match="leads to device, not to household"):
        select_group(workspace, "x", tmp_path / "a.csv", AT.isoformat(), "household", ("device",))
