"""A compiled condition and a tiny oracle in plain Python agree on the set of members."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from insight.api import Group, Population, parse_condition


def _load(name: str) -> Any:
    """A module beside this one, which is no test."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


oracle, worlds = _load("condition_oracle"), _load("condition_worlds")
AT, TINY = worlds.AT, worlds.TINY


# A failure names its seed and its tree, which are small already: shrinking them takes minutes.
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    one=worlds.nested(worlds.LEAVES, 2),
    two=worlds.nested(st.one_of(worlds.LEAVES, st.just({"group": "one"})), 2),
    leaves=st.lists(worlds.event_leaves(), min_size=6, max_size=6),
    trees=st.lists(worlds.TREES, min_size=2, max_size=2),
)
def test_the_compiled_condition_and_the_oracle_agree(
    seed: int, one: Any, two: Any, leaves: list[Any], trees: list[Any]
) -> None:
    world = worlds.make_world(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        worlds.write(world, folder)
        raw = {"one": one, "two": two}
        groups = {group: Group(name=group, where=where) for group, where in raw.items()}
        population = Population(worlds.catalog(folder), AT, groups)
        for tree in (*leaves, *trees, {"group": "two"}):
            found = population.users(population.members(parse_condition(tree))).to_list()
            assert len(found) == len(set(found))
            assert set(found) == oracle.members(world, raw, AT, tree), tree


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # An event at exactly the window's old edge is outside, one at the instant itself is inside.
        ({"event": "view", "agg": "count", "within": "7d", "op": "ge", "value": 1}, {2}),
        ({"event": "view", "agg": "count", "op": "le", "value": 0}, {3}),
        ({"event": "view", "last": True, "older_than": "7d"}, {1}),
        ({"not": {"event": "view", "last": True, "older_than": "7d"}}, {2, 3}),
        ({"sequence": [{"event": "view"}, {"event": "view"}], "within": "30d"}, set()),
    ],
)
def test_the_oracle_itself_means_what_the_contract_says(condition: Any, expected: set[int]) -> None:
    old, ids = AT - timedelta(days=7), (1, 2, 3)
    world = {
        "users": [{"id": user, "since": old} for user in ids],
        "fields": {},
        "events": {
            "view": [
                {"user": 1, "at": old},
                {"user": 2, "at": AT},
                {"user": 2, "at": AT},
                {"user": 3, "at": AT + TINY},
            ]
        },
    }
    assert oracle.members(world, {}, AT, condition) == expected
