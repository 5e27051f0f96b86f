"""Definitions over time: what was, who changed it and why, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.definition_history import difference, history, retire, revert, shown
from engine.definitions import parse_definition
from engine.usecases import apply_all, init_workspace
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.errors import BadInput, NotFound

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GOAL: dict[str, Any] = {
    "kind": "goal",
    "name": "more",
    "outcome": "order",
    "audiences": ["stage:lapsed"],
    "base": "spend",
    "margin": 0.1,
    "lift": 0.1,
}
BENEFIT: dict[str, Any] = {
    "kind": "benefit",
    "name": "coupon",
    "cost_per_response": 1.0,
    "goals": ["more"],
    "touchpoints": ["mail"],
}
MAIL: dict[str, Any] = {"kind": "touchpoint", "name": "mail", "channel": "mail", "cost_per_touch": 0.1}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    init_workspace(tmp_path / "shop")
    opened = open_workspace(tmp_path / "shop", FixedClock(at=NOON))
    (opened.root / "catalog.yaml").unlink()
    put(opened, GOAL, BENEFIT, MAIL)
    yield opened
    opened.database.dispose()


def put(space: Workspace, *raws: dict[str, Any], why: str = "") -> list[str]:
    read = [parse_definition(raw, "test") for raw in raws]
    return [what for _, _, what in apply_all(space, read, by="ann", why=why)]


def test_back_to_what_was(space: Workspace) -> None:
    assert put(space, {**GOAL, "lift": 0.2}, why="measured") == ["changed"]
    assert put(space, {**GOAL, "lift": 0.2}) == ["unchanged"]
    found = history(space, "goal", "more")
    assert [(each["version"], each["by"], each["why"]) for each in found] == [
        (2, "ann", "measured"),
        (1, "ann", ""),
    ]
    assert "-lift: 0.1\n+lift: 0.2" in difference(space, "goal", "more", 1)
    assert revert(space, "goal", "more", 1, by="bo", why="") == "changed"
    newest = shown(space, "goal", "more")
    assert (newest["version"], newest["by"], newest["why"]) == (3, "bo", "back to version 1")
    assert newest["body"]["lift"] == 0.1
    assert revert(space, "goal", "more", 1, by="bo", why="") == "unchanged"


def test_what_others_need_does_not_go(space: Workspace) -> None:
    with pytest.raises(BadInput, match="more"):
        retire(space, "goal", "more", by="ann", why="")
    assert retire(space, "benefit", "coupon", by="ann", why="too dear") == "retired"
    assert retire(space, "goal", "more", by="ann", why="") == "retired"
    assert [each.kind for each in space.store.current()] == ["touchpoint"]
    assert shown(space, "benefit", "coupon")["body"] is None
    with pytest.raises(NotFound):
        retire(space, "benefit", "coupon", by="ann", why="")
    # a benefit without its goal fits no more
    with pytest.raises(BadInput, match="more"):
        revert(space, "benefit", "coupon", 1, by="ann", why="")
    assert put(space, GOAL) == ["created"]
    assert revert(space, "benefit", "coupon", 1, by="ann", why="") == "created"


@pytest.mark.parametrize(
    ("kind", "name", "version"), [("goals", "more", 1), ("goal", "less", 1), ("goal", "more", 9)]
)
def test_what_never_was(space: Workspace, kind: str, name: str, version: int) -> None:
    with pytest.raises(NotFound):
        shown(space, kind, name, version)
    with pytest.raises(NotFound):
        revert(space, kind, name, version, by="ann", why="")
    assert len(history(space)) == 3
