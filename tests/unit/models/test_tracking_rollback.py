"""The registry on a real MLflow: what was learned once is found, and nothing knows what came later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from kernel.learning import ModelRecipe, ModelVersion
from models.api import History, Registry, Trained, train
from models.training import Predictor

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=150)
RECIPE = ModelRecipe(name="response", predicts="response", within="20d", matured="20d", history=("28d",))
# MLflow's own code and its dependencies warn at import, migration and logging; ours must not
pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")


def world(users: int = 150) -> History:
    """Who buys more often answers more often."""
    rng = np.random.default_rng(11)
    taste = rng.normal(size=users)
    buyer = np.repeat(np.arange(users), rng.poisson(8 * np.exp(taste)) + 1)
    who, offer = np.tile(np.arange(users), 4), np.repeat(np.arange(4), users)
    yes = rng.random(len(who)) < expit(-0.5 + 2 * taste[who])

    def events(user: np.ndarray, days: np.ndarray) -> pl.DataFrame:
        at = pl.Series([BEGIN + timedelta(days=float(each)) for each in days], dtype=pl.Datetime("us", "UTC"))
        return pl.DataFrame({"user": user, "at": at, "event_id": np.arange(len(user))})

    return History(
        purchases=events(buyer, rng.uniform(0, 150, len(buyer))).with_columns(amount=pl.lit(10.0)),
        treatments=events(who, 40.0 + 30 * offer).with_columns(offer=offer),
        responses=events(who[yes], 45.0 + 30 * offer[yes]).with_columns(offer=offer[yes]),
    )


@dataclass(frozen=True, kw_only=True)
class Known:
    registry: Registry
    trained: Trained
    first: ModelVersion


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    registry = Registry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    trained = train(world(), AS_OF, RECIPE, 1)
    assert trained.predictor.trusted
    yield Known(
        registry=registry, trained=trained, first=registry.record(trained, data_fingerprint="d1", key="k1")
    )
    mlflow.set_tracking_uri(before)


def again(
    known: Known, key: str, *, name: str = "response", days: int = 0, trusted: bool = True
) -> ModelVersion:
    """The same model recorded under another name, key or instant, or as one that earned no trust."""
    trained, recipe = known.trained, RECIPE.model_copy(update={"name": name})
    predictor = Predictor(**{**vars(trained.predictor), "trusted": trusted, "recipe": recipe})
    as_of = AS_OF + timedelta(days=days)
    data = type(trained.dataset)(frame=trained.dataset.frame, as_of=as_of)
    return known.registry.record(
        Trained(predictor=predictor, evidence=trained.evidence, dataset=data), data_fingerprint="d", key=key
    )


def test_rollback_goes_to_the_champion_before_also_when_training_made_the_new_one(known: Known) -> None:
    for key in ("a", "b"):
        again(known, key, name="undone")
    known.registry.promote("undone", 1)
    again(known, "c", name="undone")  # becomes champion over version 1
    assert known.registry.rollback("undone").version == 1


def test_rollback_never_lands_on_what_earned_no_trust(known: Known) -> None:
    again(known, "a", name="kept")
    again(known, "b", name="kept", trusted=False)
    again(known, "c", name="kept")
    assert known.registry.rollback("kept").version == 1
