"""Bad conditions by command and over HTTP: one clear sentence, or the right answer; never a wrong set."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.http.app import create_app
from engine.serve import services
from engine.wiring import open_workspace

with warnings.catch_warnings():  # it would rather have a newer client than the one we pin
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from fastapi.testclient import TestClient

COUNT = {"event": "visit", "agg": "count", "op": "ge", "value": 1}
TOWN = {"field": "user.town", "op": "eq", "value": "Kiel"}


#: what is asked → words that the sentence must have
WRONG: dict[str, tuple[Any, tuple[str, ...]]] = {
    "unknown field": ({**TOWN, "field": "user.twon"}, ("field", "'user.twon'", "did you mean 'user.town'")),
    "unknown event": ({**COUNT, "event": "visti"}, ("event", "'visti'", "visit")),
    "unknown group": ({"group": "frequnet"}, ("group", "'frequnet'", "frequent")),
    "unknown tag": ({"tag": "vip"}, ("tag", "'vip'")),
    "unknown mapping": ({"via": "house", "any": TOWN}, ("via", "'house'")),
    "wrong type": ({**TOWN, "value": 7}, ("value", "7", "text")),
    "type of a list": ({**TOWN, "op": "in", "value": ["Kiel", 7]}, ("value", "7")),
    "number of a sum": ({**COUNT, "agg": "sum", "of": "shelf"}, ("of", "'shelf'")),
    "itself": ({"group": "asked"}, ("asked", "refers to itself")),
    "empty sequence": ({"sequence": [], "within": "7d"}, ("sequence", "not a list of events")),
    "empty all": ({"all": []}, ("all", "not a list of conditions")),
    "empty list": ({**TOWN, "op": "in", "value": []}, ("value", "not a list of values")),
    "negative window": ({**COUNT, "within": "-7d"}, ("within", "'-7d'")),
    "no window": ({**COUNT, "within": "0d"}, ("within", "'0d'")),
    "endless window": ({**COUNT, "within": "999999w"}, ("within", "200 years")),
    "too many values": ({**TOWN, "op": "in", "value": [f"v{i}" for i in range(10_001)]}, ("10000",)),
    "not a condition": ("everyone", ("where", "everyone")),
    "not a number": ({**COUNT, "value": float("nan")}, ("value", "finite")),
    "nul": ({**TOWN, "value": "a\0b"}, ("value", "characters that text cannot")),
}
HOSTILE = ["'; DROP TABLE members; --", '" OR ""="', "Kiel' OR '1'='1", "{{7*7}}", "${GROWTH_TOKEN}",
           "a\nb: c", "*", "%", "\\", "../../etc/passwd", "上海\u202e"]  # fmt: skip


@pytest.fixture(scope="module")
def root(applied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(applied, tmp_path_factory.mktemp("asked") / "club"))


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    app = create_app(services(open_workspace(root)))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def group(where: Any) -> dict[str, Any]:
    return {"kind": "group", "name": "asked", "entity": "user", "where": where}


def asked(growth: Any, root: Path, folder: Path, where: Any) -> Any:
    file = folder / "group.yaml"
    file.write_text(yaml.safe_dump(group(where), allow_unicode=False), encoding="utf-8")
    return growth("estimate", "-f", file, "--dir", root, "--as-of", "2023-10-16", "--json")


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_condition_is_one_sentence_by_command(
    growth: Any, root: Path, tmp_path: Path, case: str
) -> None:
    where, words = WRONG[case]
    ran = asked(growth, root, tmp_path, where)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran.err
    assert len(ran.err) < 500
    for word in words:
        assert word in ran.err, ran.err


@pytest.mark.parametrize("case", [each for each in WRONG if each != "not a number"])
def test_a_wrong_condition_is_one_sentence_over_http(client: TestClient, case: str) -> None:
    where, words = WRONG[case]
    answer = client.post("/v1/groups/estimate", json=group(where))
    assert answer.status_code in (404, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert "\n" not in detail
    assert len(detail) < 500
    for word in words:
        assert word in detail, detail


@pytest.mark.parametrize(
    "place",
    ["value", "values", "contains", "filter", "field", "op", "event", "agg", "of", "within", "group", "tag",
     "via", "filter field", "key"],
)  # fmt: skip
def test_an_injection_is_only_text(client: TestClient, place: str) -> None:
    """As a value it is looked for, and not found; as a name it is unknown. Nothing is changed by it."""
    members = client.post("/v1/groups/estimate", json=group(TOWN)).json()["count"]
    assert members > 0
    for text in HOSTILE:
        kept = {"field": "shelf", "op": "eq", "value": text}
        where: Any = {
            "value": {**TOWN, "value": text},
            "values": {**TOWN, "op": "in", "value": [text, "Kiel"]},
            "contains": {**TOWN, "op": "contains", "value": text},
            "filter": {**COUNT, "where": kept},
            "field": {**TOWN, "field": text},
            "op": {**TOWN, "op": text},
            "event": {**COUNT, "event": text},
            "agg": {**COUNT, "agg": text},
            "of": {**COUNT, "agg": "distinct", "of": text},
            "within": {**COUNT, "within": text},
            "group": {"group": text},
            "tag": {"tag": text},
            "via": {"via": text, "any": TOWN},
            "filter field": {**COUNT, "where": {**kept, "field": text}},
            "key": {**TOWN, text: 1},
        }[place]
        answer = client.post("/v1/groups/estimate", json=group(where))
        if place in ("value", "contains", "filter"):
            assert (answer.status_code, answer.json().get("count")) == (200, 0), (text, answer.text)
        elif place == "values":
            assert (answer.status_code, answer.json().get("count")) == (200, members), (text, answer.text)
        else:
            assert answer.status_code in (404, 422), (text, answer.text)
            assert "\n" not in answer.json()["detail"]
    assert client.post("/v1/groups/estimate", json=group(TOWN)).json()["count"] == members


def test_a_long_list_is_answered(growth: Any, root: Path, tmp_path: Path) -> None:
    some = [f"v{i}" for i in range(9_999)]
    one = asked(growth, root, tmp_path, TOWN).json["count"]
    many = asked(growth, root, tmp_path, {**TOWN, "op": "in", "value": [*some, "Kiel"]}).json["count"]
    assert many == one > 0


@pytest.mark.parametrize("levels", [99, 101, 500, 5_000, 100_000])
def test_depth_is_answered_or_refused(
    growth: Any, client: TestClient, root: Path, tmp_path: Path, levels: int
) -> None:
    deep = '{"not": ' * levels + '{"field": "user.town", "op": "eq", "value": "Kiel"}' + "}" * levels
    text = f'{{"kind": "group", "name": "asked", "entity": "user", "where": {deep}}}'
    (tmp_path / "deep.yaml").write_text(text, encoding="utf-8")  # JSON is YAML too
    ran = growth("estimate", "-f", tmp_path / "deep.yaml", "--dir", root, "--json")
    answer = client.post("/v1/groups/estimate", content=text, headers={"Content-Type": "application/json"})
    if levels < 100:
        assert ran.json["count"] == answer.json()["count"] > 0
        return
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err[-500:]
    assert answer.status_code in (400, 422), answer.text[:500]
    assert max(len(ran.err), len(answer.text)) < 600


def test_groups_in_a_circle_are_not_applied(growth: Any, root: Path, tmp_path: Path) -> None:
    first, second = ({**group({"group": other}), "name": name} for name, other in (("a", "b"), ("b", "a")))
    file = tmp_path / "circle.yaml"
    file.write_text(yaml.safe_dump_all([first, second]), encoding="utf-8")
    ran = growth("apply", "-f", file, "--dir", root)
    assert ran.code == 2
    assert "refers to itself" in ran.err
    assert growth("estimate", "a", "--dir", root).code == 2


def test_the_panel_and_the_schema_over_http(client: TestClient) -> None:
    panel = client.get("/v1/catalog").json()
    assert panel["schema"] == "growth.catalog/1"
    assert {each["name"] for each in panel["events"]} == {"visit", "mailed", "used"}
    schema = client.get("/v1/catalog/schema").json()
    assert schema["$schema"].startswith("https://json-schema.org/")
