"""Audience sync when something is in the way; and a frequency whose events cannot be read."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from engine import offsite
from engine.definitions import parse_definition
from engine.frequency import steering
from engine.offsite import status, sync_one
from engine.usecases import apply_all
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.errors import BadInput, GrowthError, NotFound, Stale, Unavailable
from storage.offsite import SyncBook
from touchpoint.api import AudienceSync, SandboxAudiences, delta, reach
from touchpoint.offsite import BATCH, batches, check_syncs, email_key, keys_of, open_platform, phone_key

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {user.email: {table: users, column: email, type: string}}
events: {seen: {source: shop, table: seen, user: uid, time: at}}
"""
GROUP = {"kind": "group", "name": "all", "where": {"field": "user.email", "op": "not_null"}}
SYNC = AudienceSync(name="ads", url="platform", group="all", email="user.email")


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    (tmp_path / "growth.toml").write_text('name = "offsite"\n')
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    emails = [f"u{user}@shop.example" for user in range(6)]
    pl.DataFrame({"uid": range(6), "email": emails}).write_parquet(tmp_path / "data" / "users.parquet")
    seen = pl.DataFrame(schema={"uid": pl.Int64, "at": pl.Datetime("us", "UTC")})
    seen.write_parquet(tmp_path / "data" / "seen.parquet")
    space = open_workspace(tmp_path, FixedClock(at=NOW))
    apply_all(space, [parse_definition(GROUP, "test")], by="test")
    return space


def test_a_second_run_is_refused(space: Workspace) -> None:
    folder = space.root / "var" / "offsite"
    folder.mkdir(parents=True)
    with (folder / "ads.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stale, match="another run of audience_sync ads"):
            sync_one(space, SYNC)
    assert SyncBook(space.database).runs("ads") == []
    assert sync_one(space, SYNC)["add"] == 6


class Down(SandboxAudiences):
    """A platform that takes what it is given, and ends the connection before it says so."""

    def add(self, audience: str, hashes: Sequence[str], *, key: str) -> None:
        super().add(audience, hashes, key=key)
        raise Unavailable("the platform did not answer")


def test_a_platform_that_is_down_leaves_keys_in_doubt(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(offsite, "open_platform", lambda sync, **_: Down(space.root / "platform"))
        with pytest.raises(Unavailable):
            sync_one(space, SYNC)
    sure, maybe = SyncBook(space.database).held("ads")
    assert (len(sure), len(maybe)) == (0, 6)
    apply_all(space, [SYNC], by="test")
    (told,) = status(space, "ads")
    assert told["in_doubt"] == 6
    assert told["runs"][0]["ended"] is None
    pl.DataFrame({"uid": [0, 1], "email": ["u0@shop.example", "u1@shop.example"]}).write_parquet(
        space.root / "data" / "users.parquet"
    )
    again = sync_one(space, SYNC)
    assert (again["add"], again["remove"]) == (2, 4)
    there = SandboxAudiences(space.root / "platform").members("ads")
    assert there == {key("u0@shop.example"), key("u1@shop.example")}


def test_whoever_is_forgotten_is_taken_out_with_the_next_run(space: Workspace) -> None:
    sync_one(space, SYNC)
    space.tombstones.begin([3], NOW)
    space.tombstones.finish([3], NOW)
    told = sync_one(space, SYNC)
    assert (told["remove"], told["left_out"]) == (1, {"was forgotten": 1})
    assert key("u3@shop.example") not in SandboxAudiences(space.root / "platform").members("ads")
    assert key("u3@shop.example") not in SyncBook(space.database).held("ads")[0]


def test_no_plan_without_what_a_frequency_needs(space: Workspace) -> None:
    raw = {"kind": "frequency", "name": "f", "channels": ["x"], "exposure": "seen", "outcome": "seen",
           "budget": 1, "value": 1.0}  # fmt: skip
    apply_all(space, [parse_definition(raw, "test")], by="test")
    (space.root / "data" / "seen.parquet").unlink()
    with pytest.raises(GrowthError, match="seen"):
        steering(space, date(2026, 5, 1), pl.DataFrame(schema={"user": pl.Int64}))
    assert not (space.root / "var" / "frequency").exists()


def test_addresses_are_normalised_as_platforms_do() -> None:
    assert email_key("  Ann.Lee@Example.COM ") == key("ann.lee@example.com")
    assert email_key("no address") is None
    assert phone_key("+49 (0) 171-123 45 67") == key("+491711234567")
    assert phone_key("0171 1234567", "49") == phone_key("00491711234567") == key("+491711234567")
    assert phone_key("+49 171 1234567", plus=False) == key("491711234567")
    assert phone_key("0171 1234567") is None, "it could be anybody's"
    assert phone_key("12") is None


def test_keys_belong_to_the_first_who_has_them() -> None:
    people = pl.DataFrame({"user": [1, 2, 3], "user.email": ["a@b.c", "A@b.c", None]})
    assert keys_of(SYNC, people) == {key("a@b.c"): "1"}


def test_the_difference_makes_good_what_is_in_doubt() -> None:
    found = delta({"a", "b", "c"}, {"a", "x"}, {"b", "y"})
    assert (found.add, found.remove) == (("b", "c"), ("x", "y"))
    assert [len(each) for each in batches(["k"] * (BATCH + 1))] == [BATCH, 1]


def test_reach_counts_users_by_how_often() -> None:
    seen = pl.DataFrame({"user": ["a", "a", "a", "b", "c"]})
    labels = pl.DataFrame({"user": ["a", "b"], "label": ["x", "y"]})
    everyone, x, y = reach(seen, labels, most=3)
    assert everyone == {
        "group": "all", "exposures": 5, "users": 3, "average": 5 / 3, "reach": {"1": 3, "2": 1, "3": 1}
    }  # fmt: skip
    assert (x["group"], x["exposures"], y["reach"]) == ("x", 3, {"1": 1, "2": 0, "3": 0})
    assert reach(seen.clear())[0]["average"] is None


def test_what_does_not_fit_is_said(space: Workspace) -> None:
    def check(**said: object) -> None:
        sync = SYNC.model_copy(update=said)
        check_syncs(
            [sync], groups={"all"}, goals=(), frequencies=(), events={"seen": ()}, fields={"user.email"}
        )

    check()
    for said in ({"group": "al"}, {"converted": "order"}, {"email": "user.mail"}, {"frequency": "f"}):
        with pytest.raises(NotFound, match="audience_sync ads"):
            check(**said)
    with pytest.raises(BadInput, match="is ads's already"):
        check_syncs([SYNC, SYNC.model_copy(update={"name": "b", "remote": "ads"})], groups={"all"}, goals=(),
                    frequencies=(), events=None, fields=None)  # fmt: skip
    with pytest.raises(NotFound, match="unknown platform"):
        open_platform(SYNC.model_copy(update={"platform": "none"}), secrets=str, base=space.root)
    for raw in ({"group": None}, {"email": None}, {"at_most": 3}, {"url": ""}):
        with pytest.raises(BadInput):
            parse_definition({"kind": "audience_sync", "name": "ads", "url": "p", "group": "all",
                              "email": "user.email"} | raw, "test")  # fmt: skip
