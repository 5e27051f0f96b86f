"""`growth train`, `models`, `evaluate --compare`: what stands behind a version is told in both directions."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

from engine.cli.main import app
from engine.model_training import recipes_to_learn, segments_of
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import train_once

CATALOG = """
sources:
  shop: {url: "parquet://data"}
entities:
  user: {source: shop, table: users, key: user_id}
fields:
  user.city: {table: users, column: city, type: string, label: City}
events:
  order:
    source: shop
    table: orders
    user: user_id
    time: ordered_at
    role: purchase
    fields: {amount: {column: total, type: decimal, role: amount}}
"""
WINDOWS = {"within": "28d", "history": ["28d", "84d"]}
MODELS = [
    {"kind": "model", "name": "spend", "predicts": "spend", "segments": ["user.city"], **WINDOWS,
     "stakes": {"outcome": 0.2, "contact": 1.0}, "search": {"trials": 2, "seconds": 600}},
    {"kind": "model", "name": "silence", "predicts": "lapse", "every": "56d", **WINDOWS},
]  # fmt: skip
pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A shop whose users have a rate and a basket of their own; half of them stop some day."""
    root, rng, users = tmp_path_factory.mktemp("versions") / "shop", np.random.default_rng(3), 200
    init_workspace(root)
    (root / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    rate, basket = rng.gamma(2, 0.05, users), rng.gamma(4, 6, users)
    stops = np.where(rng.random(users) < 0.5, rng.uniform(0, 300, users), 300)
    count = rng.poisson(rate * stops) + 1
    user = np.repeat(np.arange(users), count)
    begin = datetime(2025, 1, 1, 12, tzinfo=UTC)
    day = rng.uniform(0, 1, len(user)) * stops[user]
    pl.DataFrame({"user_id": range(users), "city": ["A", "B"] * (users // 2)}).write_parquet(
        root / "data" / "users.parquet"
    )
    orders = {"user_id": user, "ordered_at": [begin + timedelta(days=float(each)) for each in day],
              "total": (basket[user] * rng.gamma(4, 0.25, len(user))).round(2)}  # fmt: skip
    pl.DataFrame(orders).write_parquet(root / "data" / "orders.parquet")
    (root / "definitions" / "models.yaml").write_text(yaml.safe_dump_all(MODELS), encoding="utf-8")
    made = open_workspace(root)
    apply(made, root / "definitions", by="test")
    return made


def growth(space: Workspace, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--dir", str(space.root)], catch_exceptions=False)


@pytest.fixture(scope="module")
def learned(space: Workspace) -> list[dict[str, object]]:
    found = growth(space, "train", "--as-of", "2025-09-01", "--json")
    assert found.exit_code == 0, found.output
    return list(json.loads(found.stdout))


def test_every_definition_is_learned_and_what_a_plan_needs(learned: list[dict[str, object]]) -> None:
    assert [each["name"] for each in learned] == ["spend", "churn", "silence"]
    assert all(each["reason"] for each in learned)


def test_a_search_is_nested_runs_and_segments_are_files(
    space: Workspace, learned: list[dict[str, object]]
) -> None:
    import mlflow

    client = mlflow.MlflowClient(space.registry.uri)
    run = str(learned[0]["run_id"])
    (experiment,) = [each.experiment_id for each in client.search_experiments() if each.name == "growth"]
    trials = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run}'")
    assert sorted(each.info.run_name for each in trials) == [f"spend · trial {n}" for n in range(2)]
    assert {"loss", "loss_fold_1"} <= set(trials[0].data.metrics)
    segments = pl.read_csv(client.download_artifacts(run, "segments.csv"))
    assert {("user.city", "A"), ("user.city", "B")} <= set(segments.select("field", "label").iter_rows())
    assert "profit.png" in {each.path for each in client.list_artifacts(run)}
    assert "## In money" in Path(client.download_artifacts(run, "card.md")).read_text(encoding="utf-8")


def test_versions_say_which_plans_used_them(space: Workspace, learned: list[dict[str, object]]) -> None:
    version = space.registry.version("spend", 1)
    space.registry.used((version,), plan="2025-09-01", version=2)
    told = growth(space, "models", "spend")
    assert "spend v1" in told.output
    assert "used by the plans of 2025-09-01 (version 2)" in told.output
    everything = json.loads(growth(space, "models", "--json").stdout)
    assert {each["name"] for each in everything} == {"spend", "churn", "silence"}
    assert next(each for each in everything if each["name"] == "spend")["plans"] == {"2025-09-01": "2"}


def test_versions_stand_side_by_side(space: Workspace, learned: list[dict[str, object]]) -> None:
    at = plan_instant(space, date(2025, 10, 20))
    history = read_history(space, at)
    recipe = ModelRecipe.model_validate({"name": "spend", "predicts": "spend", **WINDOWS})
    champion = space.registry.champion("spend")
    version, new = train_once(history, at, recipe, space.registry, data="later", seed=1)
    assert (version.version, new) == (2, True)
    spend = space.registry.version("spend", 2)
    assert ("champion v1" in spend.reason) == (champion is not None and spend.trusted)
    found = growth(space, "evaluate", "--compare", "spend", "1", "2", "--as-of", "2025-10-20")
    assert found.exit_code == 0, found.output
    assert "v1" in found.output
    assert "mae" in found.output
    told = json.loads(
        growth(space, "evaluate", "--compare", "spend", "1", "2", "--as-of", "2025-10-20", "--json").stdout
    )
    assert told["versions"] == [1, 2]
    assert set(told["figures"]["mae"]) == {"first", "second"}
    assert told["rows"] >= 50


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["spend", "1", "1"], "is compared with itself"),
        (["spent", "1", "2"], "did you mean 'spend'"),
        (["spend", "1", "9"], "unknown model version"),
    ],
)
def test_what_cannot_be_compared_is_named(
    space: Workspace, learned: list[dict[str, object]], words: list[str], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        growth(space, "evaluate", "--compare", *words, "--as-of", "2025-09-01")


def test_segments_are_fields_of_the_catalog(space: Workspace) -> None:
    as_of = plan_instant(space, date(2025, 9, 1))
    recipe = ModelRecipe(name="spend", predicts="spend", segments=("user.city",))
    found = segments_of(space, recipe, as_of)
    assert found is not None
    assert found.columns == ["user", "user.city"]
    assert segments_of(space, ModelRecipe(name="spend", predicts="spend"), as_of) is None
    with pytest.raises(BadInput, match=r"model spend: segments = 'user.town'"):
        segments_of(space, recipe.model_copy(update={"segments": ("user.town",)}), as_of)


def test_a_response_is_not_learned_where_nothing_was_offered(space: Workspace) -> None:
    history = read_history(space, plan_instant(space, date(2025, 9, 1)))
    assert [each.name for each in recipes_to_learn(space.definitions(), history)] == [
        "spend",
        "churn",
        "silence",
    ]
