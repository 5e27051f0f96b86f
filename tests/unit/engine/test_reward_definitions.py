from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.definitions import body, check_together, parse_definition
from kernel.errors import BadInput
from realtime.api import RewardRule
from storage.database import open_database
from storage.definitions import DefinitionStore


def applied(folder: Path, *said: dict[str, Any]) -> list[Any]:
    found = [parse_definition({"kind": "reward", **each}, "rewards.yaml") for each in said]
    check_together(found, DefinitionStore(open_database(f"sqlite:///{folder / 'db'}")), None)
    return found


def test_a_reward_is_declared_and_written_back(tmp_path: Path) -> None:
    said = {
        "name": "margin",
        "moments": ["conversion"],
        "within": "30m",
        "outcomes": {"order": {"times": 0.3}},
        "default": -0.01,
    }
    (rule,) = applied(tmp_path, said)
    assert isinstance(rule, RewardRule)
    assert parse_definition(body(rule), "export") == rule


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([{"name": "a"}, {"name": "b"}], "reward b: moments: every other moment has its reward from 'a'"),
        ([{"name": "a", "moments": ["nowhere"]}], "reward a: moments = 'nowhere': is none of the moments"),
        ([{"name": "a", "within": "soon"}], "within = 'soon'"),
    ],
)
def test_what_does_not_fit_is_refused_at_apply(
    tmp_path: Path, said: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        applied(tmp_path, *said)
