from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import timedelta as span
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from engine.http.app import create_app
from engine.http.services import Services
from kernel.clock import Clock, FixedClock
from kernel.errors import BadInput, Infeasible, NotFound, Stale, Unavailable
from kernel.learning import Decision
from realtime.api import (
    ELSEWHERE,
    MOMENTS,
    Answer,
    Decider,
    DecisionIds,
    Outcomes,
    RewardRule,
    SquareCB,
    decode_decision,
    default_answer,
)
from storage.group_commit import SharedFlush
from storage.journal import FileJournalReader, FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

with warnings.catch_warnings():  # it would rather have a newer client than the one we pin
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from fastapi.testclient import TestClient

NOW = datetime(2017, 10, 16, 8, tzinfo=UTC)
ACTIONS = [{"id": "coupon", "value": 3, "cost": 0.5, "resource": "coupons"}, {"id": "banner", "value": 0.4}]
PREPARED: list[str] = []
ASK = {"user_id": "42", "moment": "exit-intercept", "context": {"basket": 31.5}, "actions": ACTIONS}


def member(name: str, user_id: str) -> bytes | None:
    if name == "slow" and not PREPARED:
        return None
    if name not in ("lapsed", "slow"):
        raise NotFound("group", name, ["lapsed"])
    return json.dumps({"member": user_id == "42", "as_of": NOW.isoformat(), "version": 3}).encode()


def plan(day: date) -> Mapping[str, Any]:
    errors = {
        1: NotFound("plan", day, ["2017-10-16"], field="date"),
        2: Stale("the plan is being made anew"),
        3: Unavailable("the database does not answer"),
        4: Infeasible(["a", "b"]),
        5: BadInput("is odd", field="limit", value=float("nan")),
        6: ZeroDivisionError("secret inside"),
    }
    if day.day in errors:
        raise errors[day.day]
    return {"date": day, "tasks": 3}


class Desk:
    """Decisions and outcomes over one folder, as `RealTimeService` is over a workspace."""

    apart = False
    flush: SharedFlush | None = None

    def __init__(self, folder: Path, prices: Mapping[str, float], clock: Clock) -> None:
        self.folder, policy = folder, SquareCB(bits=12)
        ids = DecisionIds(b"0123456789abcdef")
        self._store = LmdbOnlineStore(folder / "online", keep=10**12, hold=10**12, idle=10**12)
        self._journal = FileJournalWriter(folder / "journal", "w0")
        self._rules = {ELSEWHERE: RewardRule(name="r", within="30m", grace="5m")}
        self._decider = Decider(
            policy=lambda: policy, store=self._store, journal=self._journal, ids=ids, clock=clock, seed=1,
            prices=lambda: prices, moments=lambda: MOMENTS,
        )  # fmt: skip
        self._outcomes = Outcomes(
            store=self._store, journal=self._journal, ids=ids, clock=clock, rules=lambda: self._rules
        )
        self.decide, self.observe = self._decider.decide, self._outcomes.observe
        self.window = self._outcomes.window

    def find(self, decision_id: str) -> Decision:
        records = FileJournalReader(self.folder / "journal").read("w0", (0, 0))
        choices = [decode_decision(record) for _, record in records if record[:1] == b"D"]
        return next(each.decision for each in choices if each.decision_id == decision_id)

    def start(self) -> None: ...

    def close(self) -> None: ...

    def flushed(self) -> Awaitable[None] | None:
        return self.flush.done() if self.flush is not None else None

    def instead(self, answer: Answer, why: str) -> Answer:
        return default_answer(MOMENTS[answer.moment], answer.moment, answer.decided, "none", why, True)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, {"coupons": 1.9}, FixedClock(at=NOW))


@pytest.fixture
def services(desk: Desk) -> Services:
    return Services(
        realtime=desk,
        estimate=lambda group: {"count": 7, "of": group["name"]},
        member=member,
        prepare=PREPARED.append,
        plan=plan,
        explain=lambda day, user_id: {"date": day, "user": user_id},
    )


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield client


def outcome(of: str, **changes: Any) -> dict[str, Any]:
    body = {"decision_id": of, "name": "order", "value": 9.5, "outcome_id": "o1"}
    return {**body, "occurred_at": NOW.isoformat(), **changes}


def is_problem(answer: Any, status: int, field: str | None, words: str = "") -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "field"}
    assert (body["status"], body["field"]) == (status, field)
    assert words in body["detail"]


def test_a_decision_and_its_outcome(client: TestClient, desk: Desk) -> None:
    answer = client.post("/v1/decisions", json=ASK).json()
    assert set(answer) == {
        "decision_id", "action", "propensity", "policy", "expires_at", "reason", "degraded"
    }  # fmt: skip
    found = desk.find(answer["decision_id"])
    assert (found.action, found.propensity) == (answer["action"], answer["propensity"])
    assert answer["policy"] == "squarecb@0"
    assert datetime.fromisoformat(answer["expires_at"]) == NOW + span(minutes=30)
    body = outcome(answer["decision_id"])
    assert client.post("/v1/outcomes", json=body).json() == {"outcome_id": "o1", "status": "counted"}
    assert client.post("/v1/outcomes", json=body).json() == {"outcome_id": "o1", "status": "repeated"}


@pytest.mark.parametrize("how", ["header", "body"])
def test_the_same_key_gets_the_same_answer(client: TestClient, how: str) -> None:
    headers = {"Idempotency-Key": "k"} if how == "header" else {}
    body = ASK if how == "header" else {**ASK, "idempotency_key": "k"}
    answers = [client.post("/v1/decisions", json=body, headers=headers).json() for _ in range(5)]
    assert answers == [answers[0]] * 5


def test_two_keys_that_differ_are_refused(client: TestClient) -> None:
    body = {**ASK, "idempotency_key": "k"}
    answer = client.post("/v1/decisions", json=body, headers={"Idempotency-Key": "other"})
    is_problem(answer, 422, "Idempotency-Key", "differs")
    is_problem(
        client.post("/v1/decisions", json=ASK, headers={"Idempotency-Key": ""}), 422, "idempotency_key"
    )


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"user_id": None}, "user_id", "user_id"),
        ({"user_id": ""}, "user_id", "at least 1 character"),
        ({"user_id": "a\u0000b"}, "user_id", "control character"),
        ({"moment": "lunch"}, "moment", "unknown moment"),
        ({"surprise": 1}, "surprise", "is not a known field here"),
        ({"actions": []}, "actions", "names no action"),
        ({"actions": [{"value": 1}]}, "actions.0.id", "is required and missing"),
        ({"actions": [{"id": "x", "cost": -1}]}, "actions.0.cost", "greater than or equal to 0"),
        ({"actions": [{"id": "x"}, {"id": "x"}]}, "body", "action 'x' is given twice"),
    ],
)
def test_a_bad_request_names_the_field(
    client: TestClient, change: dict[str, Any], field: str, words: str
) -> None:
    is_problem(
        client.post("/v1/decisions", json={**ASK, **change}), 404 if "moment" in change else 422, field, words
    )


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"{", "body"),
        (b"", "body"),
        (b"[]", "body"),
        (b"\xff\xfe", "body"),
        (b'{"user_id": "\\ud800", "moment": "guidance"}', "user_id"),
        (b'{"user_id": "1", "moment": "guidance", "actions": [{"id": "\\ud800"}]}', "actions.0.id"),
        (b'{"user_id": "1", "moment": "guidance", "context": {"x": NaN}}', "context.x"),
    ],
)
def test_a_body_that_is_none_is_a_problem_too(client: TestClient, raw: bytes, field: str) -> None:
    answer = client.post("/v1/decisions", content=raw, headers={"content-type": "application/json"})
    is_problem(answer, 422, field)


def test_odd_text_is_decided_on_and_logged(client: TestClient, desk: Desk) -> None:
    raw = b'{"user_id": "1", "moment": "guidance", "context": {"a|b\\n": "\\ud800:", "": ""},'
    raw += b'"actions": [{"id": "x|:y", "features": {"\\ud800": "\\n"}}, {"id": "z"}]}'
    answer = client.post("/v1/decisions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert not answer.json()["degraded"]
    found = desk.find(answer.json()["decision_id"])
    assert found.context == {"a|b\n": "\ud800:", "": ""}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"decision_id": "nobody"}, 404, "decision_id"),
        ({"occurred_at": "2017-10-16T08:00:00"}, 422, "occurred_at"),
        ({"occurred_at": "2017-10-15T08:00:00Z"}, 422, "occurred_at"),
        ({"value": "much"}, 422, "value"),
        ({"outcome_id": ""}, 422, "outcome_id"),
    ],
)
def test_a_bad_outcome_names_the_field(
    client: TestClient, change: dict[str, Any], status: int, field: str
) -> None:
    made = client.post("/v1/decisions", json=ASK).json()["decision_id"]
    is_problem(client.post("/v1/outcomes", json=outcome(made, **change)), status, field)


def test_groups_and_plans(client: TestClient) -> None:
    assert client.post("/v1/groups/estimate", json={"name": "g"}).json() == {"count": 7, "of": "g"}
    assert client.get("/v1/groups/lapsed/members/42").json()["member"] is True
    assert client.get("/v1/groups/lapsed/members/4%2F2").status_code == 404  # no such path
    assert client.get("/v1/groups/slow/members/43").json()["member"] is False
    assert PREPARED == ["slow"]
    is_problem(client.post("/v1/groups/lapsed/members/42"), 405, None)
    is_problem(client.get("/v1/groups/lapsd/members/42"), 404, "group", "did you mean 'lapsed'")
    assert client.get("/v1/plans/2017-10-16").json() == {"date": "2017-10-16", "tasks": 3}
    explained = client.get("/v1/plans/2017-10-16/explain/42").json()
    assert explained == {"date": "2017-10-16", "user": "42"}
    is_problem(client.get("/v1/plans/today"), 422, "date", "date")


@pytest.mark.parametrize(
    ("day", "status", "field"),
    [(1, 404, "date"), (2, 409, None), (3, 503, None), (4, 422, "limits"), (5, 422, "limit"), (6, 500, None)],
)
def test_every_error_is_a_problem(client: TestClient, day: int, status: int, field: str | None) -> None:
    answer = client.get(f"/v1/plans/2017-01-0{day}")
    is_problem(answer, status, field)
    assert "secret" not in answer.text


def test_an_unknown_path_or_method_is_a_problem_too(client: TestClient) -> None:
    is_problem(client.get("/v1/nothing"), 404, None)
    is_problem(client.get("/v1/decisions"), 405, None)


def test_with_a_token_every_call_of_v1_needs_it(services: Services) -> None:
    client = TestClient(create_app(replace(services, token="sécret")))  # noqa: S106 - a test's own
    schema = client.get("/openapi.json").json()
    calls = [(method, path) for path, item in schema["paths"].items() for method in item]
    guarded = [(method, path) for method, path in calls if path.startswith("/v1/")]
    assert len(guarded) >= 9
    for method, path in guarded:
        url = path.replace("{date}", "2017-10-16")
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s"}):
            answer = client.request(method, url, headers=header, json={})
            is_problem(answer, 401, None, "bearer token")
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
    right = TestClient(create_app(replace(services, token="secret")))  # noqa: S106 - a test's own
    for scheme in ("Bearer", "bearer"):
        header = {"Authorization": f"{scheme} secret"}
        assert right.post("/v1/decisions", json=ASK, headers=header).status_code == 200


def test_readiness_names_what_is_not(services: Services) -> None:
    client = TestClient(create_app(services))
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "unready": {}}
    client = TestClient(create_app(replace(services, unready=lambda: {"plan": "none for today"})))
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["unready"] == {"plan": "none for today"}


def test_metrics_count_by_route(client: TestClient) -> None:
    for _ in range(3):
        client.post("/v1/decisions", json=ASK)
    client.get("/v1/plans/2017-10-16")
    client.get("/wp-admin.php")
    text = client.get("/metrics").text
    assert 'growth_http_requests_total{method="POST",route="/v1/decisions",status="200"} 3.0' in text
    assert 'route="/v1/plans/{date}",status="200"} 1.0' in text
    assert 'growth_decisions_total{degraded="false",moment="exit-intercept",policy="squarecb"} 3.0' in text
    assert "wp-admin" not in text


def test_the_schema_describes_bodies_and_problems_and_names_no_outside_page(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    decide = schema["paths"]["/v1/decisions"]["post"]
    assert "application/problem+json" in decide["responses"]["422"]["content"]
    assert decide["security"] == [{"HTTPBearer": []}]
    assert "DecisionRequest" in json.dumps(decide["requestBody"])
    for page in ("/docs", "/redoc"):
        assert client.get(page).status_code == 404


SERVER = """
import sys
from pathlib import Path
import uvicorn
from engine.http.app import create_app
from engine.serve import services
from engine.wiring import open_workspace

app = create_app(services(open_workspace(Path(sys.argv[1]))))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


def call(url: str, body: dict[str, Any] | None = None, token: str = "secret") -> dict[str, Any]:  # noqa: S107
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        return dict(json.load(answer))


def test_a_real_server_on_loopback(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    (tmp_path / "growth.toml").write_text("name = 'test'\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "catalog.yaml").write_text(
        'sources: {shop: {url: "parquet://data"}}\n'
        "entities: {user: {source: shop, table: users, key: uid}}\nfields: {}\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER, str(tmp_path), str(port)],
        env={**os.environ, "GROWTH_TOKEN": "secret"},
    )
    try:
        wait_for(f"{base}/healthz", server)
        made = call(f"{base}/v1/decisions", ASK)
        now = datetime.now(UTC).isoformat()
        told = call(f"{base}/v1/outcomes", outcome(made["decision_id"], occurred_at=now))
        assert told["status"] == "counted"
        with pytest.raises(urllib.error.HTTPError) as refused:
            call(f"{base}/v1/decisions", ASK, token="wrong")  # noqa: S106 - a test's own
        assert refused.value.code == 401
        refused.value.close()
    finally:
        server.terminate()
        server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        assert server.poll() is None, "the server ended"
        try:
            call(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not answer within two minutes")


def test_what_nobody_expected_is_a_problem_in_the_fast_lane_too(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # looked up for each call: the service that it is asked of breaks
    monkeypatch.setattr(desk, "decide", lambda _request: 1 / 0)
    is_problem(client.post("/v1/decisions", json=ASK), 500, None, "it is in the log")
    counted = 'growth_http_requests_total{method="POST",route="/v1/decisions",status="500"} 1.0'
    assert counted in client.get("/metrics").text


def test_a_disk_that_takes_nothing_makes_decisions_defaults_and_outcomes_wait(
    client: TestClient, desk: Desk
) -> None:
    made = client.post("/v1/decisions", json=ASK).json()["decision_id"]
    desk._journal.close()
    desk.flush = SharedFlush(desk._journal.flush)
    answer = client.post("/v1/decisions", json=ASK)
    assert (answer.status_code, answer.json()["action"], answer.json()["degraded"]) == (200, "let_go", True)
    assert "the decision log is down" in answer.json()["reason"]
    is_problem(client.post("/v1/outcomes", json=outcome(made)), 503, None, "journal")


def test_an_app_that_is_mounted_decides_too(services: Services) -> None:
    outer = FastAPI()
    outer.mount("/engine", create_app(services))
    with TestClient(outer) as client:
        made = client.post("/engine/v1/decisions", json=ASK).json()
        assert client.post("/engine/v1/outcomes", json=outcome(made["decision_id"])).status_code == 200
        is_problem(client.post("/engine/v1/decisions", json={}), 422, "user_id", "required")


def test_only_a_post_goes_by_the_fast_lane(client: TestClient) -> None:
    assert client.get("/v1/decisions").status_code == 405
