"""`growth frequency`, `growth sync`, `growth attribution` and their route, on a workspace of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from benchmarks.frequency import Propensity
from benchmarks.frequency_world import People, Truths, live, market
from engine.frequency import frequency_inputs, steering
from engine.http.app import create_app
from engine.offsite import status, sync_one, take_out
from engine.offsite_loop import Syncing
from engine.serve import services
from engine.wiring import open_workspace
from kernel.clock import FixedClock
from kernel.delivery import Suppressed
from storage.events import EventLog, NewEvent
from storage.offsite import SyncBook
from touchpoint.api import AudienceSync

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, USERS = 20, 3_000
DAY = (BEGUN + timedelta(days=DAYS)).date()
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields:
  user.kind: {table: users, column: kind, type: string}
  user.email: {table: users, column: email, type: string}
  user.phone: {table: users, column: phone, type: string}
  user.may: {table: users, column: may, type: boolean, role: consent}
events:
  seen: {source: shop, table: seen, user: uid, time: at,
         fields: {channel: {column: channel, type: string}, audience: {column: audience, type: string}}}
  order: {source: shop, table: orders, user: uid, time: at, id: oid, role: purchase,
          fields: {amount: {column: total, type: decimal, role: amount}}}
  leave: {source: shop, table: leaves, user: uid, time: at}
"""
DEFINITIONS = """
kind: frequency
name: ads
channels: [display]
exposure: seen
outcome: order
opt_out: leave
segments: user.kind
budget: 150
floor: 10
value: 10
kept: 10
at_most: 8
---
kind: group
name: everybody
where: {field: user.kind, op: not_null}
---
kind: audience_sync
name: lookalikes
url: platform
group: everybody
email: user.email
phone: user.phone
calling_code: "49"
converted: order
converted_within: 10d
exposure: seen
audience_field: audience
at_most: 6
within: 30d
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, growth: Any) -> Path:
    """What happened in a made-up market, told as events; user 0 has not consented, 1 has no address."""
    root: Path = tmp_path_factory.mktemp("frequency")
    (root / "data").mkdir()
    (root / "growth.toml").write_text('name = "frequency"\n')
    (root / "catalog.yaml").write_text(CATALOG)
    (root / "definitions.yaml").write_text(DEFINITIONS)
    kinds = [f"{kind} {place}" for place, kind in enumerate(market(1).kinds)]
    logs: dict[str, list[tuple[Any, ...]]] = {"seen": [], "orders": [], "leaves": []}
    users: dict[str, list[Any]] = {}
    watching = Propensity()

    def watch(day: int, people: People, touched: Truths, won: Truths, left: Truths) -> None:
        watching.watch(day, people, touched, won, left)
        users["kind"] = [kinds[place] for place in people.segment]
        at = BEGUN + timedelta(days=day, hours=9)
        logs["seen"] += [(user, at, "display", "lookalikes") for user in touched.nonzero()[0].tolist()]
        later = at + timedelta(hours=3)
        logs["orders"] += [(user, later, f"{user}-{day}", 25.0) for user in won.nonzero()[0].tolist()]
        logs["leaves"] += [(user, later) for user in left.nonzero()[0].tolist()]

    live(USERS, 1, watching, watch, days=DAYS)
    users["uid"] = list(range(USERS))
    users["email"] = [None if user == 1 else f" User{user}@Example.com " for user in range(USERS)]
    users["phone"] = [f"0171 {1000000 + user}" if user % 3 == 0 and user else None for user in range(USERS)]
    users["may"] = [user != 0 for user in range(USERS)]
    pl.DataFrame(users).write_parquet(root / "data" / "users.parquet")
    instant = pl.Datetime("us", "UTC")
    schemas = {
        "seen": {"uid": pl.Int64, "at": instant, "channel": pl.String, "audience": pl.String},
        "orders": {"uid": pl.Int64, "at": instant, "oid": pl.String, "total": pl.Float64},
        "leaves": {"uid": pl.Int64, "at": instant},
    }
    for name, schema in schemas.items():
        pl.DataFrame(logs[name], schema=schema, orient="row").write_parquet(root / "data" / f"{name}.parquet")
    growth.well("apply", "-f", root / "definitions.yaml", "--dir", root)
    return root


@pytest.fixture(scope="module")
def fitted(root: Path, growth: Any) -> dict[str, Any]:
    before = growth.well("frequency", "show", "--dir", root, "--json").json
    assert before[0]["as_of"] is None
    (found,) = growth.well("frequency", "fit", "--as-of", DAY, "--dir", root, "--json").json
    return dict(found)


def test_a_fit_tells_prices_targets_and_touches_a_converter(
    root: Path, fitted: dict[str, Any], growth: Any
) -> None:
    seen = pl.read_parquet(root / "data" / "seen.parquet")
    assert fitted["exposures"] == seen.height
    assert fitted["outcomes"] == pl.read_parquet(root / "data" / "orders.parquet").height
    assert fitted["opt_outs"] == pl.read_parquet(root / "data" / "leaves.parquet").height
    assert 0 < fitted["touched"] <= fitted["budget"] == 150
    assert fitted["price"] >= 0
    assert fitted["touches_per_converter"] > 1
    decided = pl.read_parquet(root / "var" / "frequency" / "ads" / str(DAY) / "decisions.parquet")
    assert decided.height == USERS
    assert decided["touched"].sum() == fitted["touched"]
    left = pl.read_parquet(root / "data" / "leaves.parquet")["uid"]
    assert not decided.filter(pl.col("user").is_in(left.to_list()))["touched"].any()
    assert (decided.filter("touched")["factor"] > 0).all()
    assert (decided.filter(~pl.col("touched"))["reason"] != "").all()
    drawn = decided.filter("drawn")
    assert 20 < drawn.height < 120
    assert (drawn["propensity"] == 1 / 9).all()
    assert (decided.filter("touched")["k"] < 8).all()
    shown = growth.well("frequency", "show", "ads", "--dir", root).out
    assert "touches a converter" in shown
    assert "opt_out" in shown


def test_fitting_again_is_the_same_and_the_plan_is_told(
    root: Path, fitted: dict[str, Any], growth: Any
) -> None:
    (again,) = growth.well("frequency", "fit", "ads", "--as-of", DAY, "--dir", root, "--json").json
    assert again == fitted
    space = open_workspace(root)
    cells = pl.DataFrame(schema={"user": pl.Int64})
    (steered,) = steering(space, DAY, cells)
    assert steered.channels == ("display",)
    assert (steered.users["factor"] > 0).sum() == fitted["touched"]
    assert frequency_inputs(space, DAY) == frequency_inputs(space, DAY)
    assert frequency_inputs(space, DAY) != frequency_inputs(space, DAY - timedelta(days=1))


def test_the_route_tells_the_same(root: Path, fitted: dict[str, Any]) -> None:
    async def ask(path: str) -> httpx.Response:
        app = create_app(services(open_workspace(root)))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            return await client.get(path)

    answer = asyncio.run(ask("/v1/frequency"))
    assert answer.status_code == 200
    (found,) = answer.json()
    assert (found["name"], found["touched"], found["price"]) == ("ads", fitted["touched"], fitted["price"])
    curves = [each for each in found["curves"] if each["curve"] == "outcome"]
    assert len(curves) == 9 * len({each["segment"] for each in curves})
    assert all(each["low"] <= each["hazard"] <= each["high"] for each in found["curves"])
    assert asyncio.run(ask("/v1/frequency?name=none")).status_code == 404


def test_wrong_definitions_and_days_are_one_sentence(root: Path, growth: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    for said, text in (
        ("needs either budget or share", "budget: 5, share: 0.5"),
        ("unknown event", "budget: 5, opt_out: nothing"),
        ("is not whole days", "budget: 5, window: 36h"),
        ("is above budget", "budget: 5, floor: 6"),
    ):
        base = "kind: frequency, name: other, channels: [display], exposure: seen, outcome: order, value: 1"
        wrong.write_text(f"{{{base}, {text}}}")
        ran = growth("apply", "-f", wrong, "--dir", root)
        assert (ran.code, said in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
    for words in (("fit", "none", "--as-of", DAY), ("fit", "--as-of", "soon"), ("show", "none")):
        ran = growth("frequency", *words, "--dir", root)
        assert (ran.code, ran.err.count("Traceback")) == (2, 0)


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def held(root: Path) -> set[str]:
    return set(json.loads((root / "platform" / "lookalikes.json").read_text())["members"])


NOW = FixedClock(at=BEGUN + timedelta(days=DAYS))
SYNC = AudienceSync(
    name="lookalikes", url="platform", group="everybody", email="user.email", converted="order",
    converted_within="10d", exposure="seen", audience_field="audience", at_most=6,
    calling_code="49", phone="user.phone",
)  # fmt: skip


def test_an_audience_is_synced_and_whoever_must_not_be_there_is_not(root: Path) -> None:
    space = open_workspace(root, NOW)
    dry = sync_one(space, SYNC, dry_run=True)
    assert not (root / "platform").exists()
    ran = sync_one(space, SYNC)
    assert {**ran, "run": None} == dry
    there = held(root)
    assert len(there) == ran["wanted"] == ran["add"]
    assert key("user0@example.com") not in there, "no consent"
    orders = pl.read_parquet(root / "data" / "orders.parquet")
    new = orders.filter(pl.col("at") > NOW.at - timedelta(days=10))["uid"].to_list()
    assert new
    assert not {key(f"user{user}@example.com") for user in new} & there, "converted"
    often = pl.read_parquet(root / "data" / "seen.parquet").group_by("uid").len().filter(pl.col("len") >= 6)
    assert not {key(f"user{user}@example.com") for user in often["uid"]} & there, "target reached"
    free = next(u for u in range(3, USERS, 3) if key(f"user{u}@example.com") in there)
    assert key(f"+49171{1000000 + free}") in there
    assert sync_one(space, SYNC)["add"] == 0, "again changes nothing"

    with space.suppressions.writing() as connection:
        mark = space.suppressions.mark_of_user(str(free))
        space.suppressions.add(connection, mark, "", Suppressed.COMPLAINED, 0, "operator")
    assert sync_one(space, SYNC)["remove"] == 2
    assert key(f"user{free}@example.com") not in held(root)

    (told,) = status(open_workspace(root, NOW), "lookalikes")
    assert told["held"] == len(held(root))
    assert told["in_doubt"] == 0
    seen = pl.read_parquet(root / "data" / "seen.parquet")
    everyone = told["reach"][0]
    assert everyone["exposures"] == seen.height
    assert everyone["reach"]["1"] == seen["uid"].n_unique()
    counts = seen.group_by("uid").len()["len"]
    assert everyone["reach"]["3"] == (counts >= 3).sum()
    assert everyone["average"] == pytest.approx(counts.mean())


def test_whoever_converts_goes_at_once(root: Path) -> None:
    space = open_workspace(root, NOW)
    sync_one(space, SYNC)
    user = next(u for u in range(USERS) if key(f"user{u}@example.com") in held(root))
    order = NewEvent(
        event_id="fresh", user_id=str(user), name="order", occurred_at=NOW.at - timedelta(minutes=1),
        lines=[{"amount": 3.0}],
    )  # fmt: skip
    EventLog(space.database).append([[order]], NOW.at)  # as POST /v1/events does
    assert take_out(space, SYNC, NOW.at - timedelta(minutes=10)) >= 1
    assert key(f"user{user}@example.com") not in held(root)
    assert take_out(space, SYNC, NOW.at - timedelta(minutes=10)) == 0
    assert Syncing(space).round() == 1
    assert key(f"user{user}@example.com") not in held(root), "nor is she added again"


def test_a_sync_that_was_killed_is_made_good(root: Path) -> None:
    space = open_workspace(root, NOW)
    sync_one(space, SYNC)
    book, before = SyncBook(space.database), held(root)
    some = sorted(before)[:3]
    stray = key("nobody@example.com")
    book.about_to(
        "lookalikes", [some[0], some[1], stray]
    )  # asked to add or remove; nobody knows what came of it
    (root / "platform" / "lookalikes.json").write_text(
        json.dumps({"members": sorted({*before, stray} - {some[0]}), "keys": []})
    )
    told = sync_one(space, SYNC)
    assert (told["add"], told["remove"]) == (2, 1)
    assert held(root) == before
    assert book.held("lookalikes") == (frozenset(before), frozenset())


def test_attribution_from_events_and_from_a_file(root: Path, growth: Any, tmp_path: Path) -> None:
    before = DAY - timedelta(days=1)  # what came by /v1/events is later
    words = (
        "attribution",
        "--conversion",
        "order",
        "--exposure",
        "seen",
        "--within",
        "30d",
        "--as-of",
        before,
    )
    found = growth.well(*words, "--dir", root, "--json").json
    orders = pl.read_parquet(root / "data" / "orders.parquet")
    orders = orders.filter(pl.col("at") < NOW.at - timedelta(days=1))
    led = orders.join(pl.read_parquet(root / "data" / "seen.parquet").select("uid").unique(), on="uid")
    assert {row["channel"] for row in found["credits"]} == {"display"}
    assert all(row["conversions"] == led.height for row in found["credits"])
    assert found["value"] == pytest.approx(25.0 * led.height)
    file = tmp_path / "paths.csv"
    file.write_text("path,conversions,nulls\na > b,3,2\nb,1,5\n")
    out = tmp_path / "credits.csv"
    ran = growth.well("attribution", "--paths", file, "--rules", "last,markov", "--out", out, "--json")
    last = {row["channel"]: row["conversions"] for row in ran.json["credits"] if row["rule"] == "last"}
    assert last == {"b": 4.0, "a": 0.0}
    assert pl.read_csv(out).height == 4
    for bad in (("--rules", "lasst"), ("--out", "x.txt"), ("--half-life", "0")):
        ran = growth("attribution", "--paths", file, *bad)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert growth("attribution", "--dir", root).code == 2
    assert growth("attribution", "--dir", root, "--conversion", "none", "--exposure", "seen").code == 2


def test_sync_commands(root: Path, growth: Any) -> None:
    dry = growth.well("sync", "run", "--dry-run", "--dir", root)
    assert "would be added" in dry.out
    told = growth.well("sync", "status", "--dir", root, "--json").json
    assert told[0]["sync"] == "lookalikes"
    assert "keys in lookalikes on sandbox" in growth.well("sync", "status", "--dir", root).out
    assert growth("sync", "run", "none", "--dir", root).code == 2
