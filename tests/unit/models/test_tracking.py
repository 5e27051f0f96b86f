"""The registry on a real MLflow: what was learned once is found, and nothing knows what came later."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from kernel.errors import BadInput, NotFound
from kernel.learning import ModelRecipe, ModelVersion
from models.api import (
    CHALLENGER,
    CHAMPION,
    History,
    Registry,
    Trained,
    Verdict,
    record_of,
    train,
    train_once,
    training_key,
)
from models.tracking_moved import follow_artifacts

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
    trained = replace(trained, predictor=replace(trained.predictor, trusted=True))
    record = record_of(trained, passed(trained), data_fingerprint="d1")
    yield Known(
        registry=registry, trained=trained, first=registry.record(record, data_fingerprint="d1", key="k1")
    )
    mlflow.set_tracking_uri(before)


def passed(trained: Trained, *, trusted: bool = True, promote: bool = True) -> Verdict:
    return Verdict(trusted=trusted, promote=promote, reason="is as it is", margins=trained.evidence.margins)


def again(
    known: Known,
    key: str,
    *,
    name: str = "response",
    days: int = 0,
    trusted: bool = True,
    promote: bool = True,
) -> ModelVersion:
    """The same model recorded under another name, key or instant, or as one that earned no trust."""
    trained, recipe = known.trained, RECIPE.model_copy(update={"name": name})
    predictor = replace(trained.predictor, trusted=trusted, recipe=recipe)
    data = replace(trained.dataset, as_of=AS_OF + timedelta(days=days))
    same = replace(trained, predictor=predictor, dataset=data)
    verdict = passed(trained, trusted=trusted, promote=trusted and promote)
    record = record_of(same, verdict, data_fingerprint="d")
    return known.registry.record(record, data_fingerprint="d", key=key)


def test_a_trusted_model_is_the_champion_with_its_evidence(known: Known) -> None:
    first = known.first
    assert (first.name, first.version, first.as_of, first.data_fingerprint) == ("response", 1, AS_OF, "d1")
    assert known.registry.version("response", 1).alias == CHAMPION
    figures = known.trained.evidence.figures
    assert first.metrics["auc"] == pytest.approx(figures["auc"].mean)
    assert first.metrics["auc_low"] == pytest.approx(figures["auc"].low)
    assert "baseline_log_loss" in first.metrics


def test_the_run_has_parameters_and_pictures(known: Known) -> None:
    client = mlflow.MlflowClient(known.registry.uri)
    run = client.get_run(known.first.run_id)
    assert run.data.params["predicts"] == "response"
    assert int(run.data.params["rows"]) == known.trained.dataset.frame.height
    files = {each.path for each in client.list_artifacts(known.first.run_id)}
    pictures = {"reliability", "importance", "shap", "segments", "gain"}
    assert {f"{name}.png" for name in pictures} <= files
    assert {"importance.json", "card.md", "card.html", "segments.csv", "recipe.json"} <= files
    assert run.info.run_name == "response · 2017-05-31 · v1"


def test_the_same_key_finds_the_same_version_and_learns_nothing(known: Known) -> None:
    assert known.registry.find("response", "other") is None
    assert known.registry.find("nobody", "k1") is None
    found = known.registry.find("response", "k1")
    assert found is not None
    assert (found.version, found.run_id) == (1, known.first.run_id)
    key = training_key("data", AS_OF, RECIPE, 7)
    named = again(known, key, name="once")
    recipe = RECIPE.model_copy(update={"name": "once"})
    assert training_key("data", AS_OF, recipe, 7) != key  # the name of the recipe belongs to the key
    stored = again(known, training_key("data", AS_OF, recipe, 7), name="once")
    version, fresh = train_once(world(), AS_OF, recipe, known.registry, data="data", seed=7)
    assert (version.version, fresh) == (stored.version, False)
    assert stored.version == named.version + 1


@pytest.mark.parametrize(
    "changed",
    [
        {"data_fingerprint": "e"},
        {"as_of": AS_OF + timedelta(microseconds=1)},
        {"recipe": RECIPE.model_copy(update={"within": "21d"})},
        {"seed": 2},
    ],
    ids=lambda changed: str(next(iter(changed))),
)
def test_a_key_follows_everything_that_a_training_depends_on(changed: dict[str, object]) -> None:
    whole: dict[str, object] = {"data_fingerprint": "d", "as_of": AS_OF, "recipe": RECIPE, "seed": 1}
    assert training_key(**whole) != training_key(**whole | changed)  # type: ignore[arg-type]
    assert training_key(**whole) == training_key(**whole)  # type: ignore[arg-type]


def test_the_loaded_model_predicts_what_the_learned_one_does(known: Known) -> None:
    loaded, version = known.registry.usable("response", AS_OF)
    frame = known.trained.dataset.frame
    np.testing.assert_allclose(loaded.predict(frame), known.trained.predictor.predict(frame))
    assert version.version == 1
    served = mlflow.pyfunc.load_model("models:/response/1")
    features = frame.select(known.trained.predictor.features).cast(pl.Float64).head(5).to_pandas()
    np.testing.assert_allclose(served.predict(features), loaded.predict(frame.head(5)))


def test_the_run_names_its_data_and_how_it_was_judged(known: Known) -> None:
    client = mlflow.MlflowClient(known.registry.uri)
    run = client.get_run(known.first.run_id)
    (told,) = run.inputs.dataset_inputs
    assert (told.dataset.name, told.dataset.digest) == ("response", "d1")
    assert "recency_days" in told.dataset.schema
    model = mlflow.models.get_model_info("models:/response/1")
    assert set(model.signature.inputs.input_names()) == set(known.trained.predictor.features)
    assert model.saved_input_example_info is not None
    card = Path(client.download_artifacts(known.first.run_id, "card.md")).read_text(encoding="utf-8")
    asked = ("What data", "What features", "How good", "How calibrated", "Why it is, or is not, the champion",
             "Who is helped, who is hurt")  # fmt: skip
    assert all(f"## {each}\n" in card for each in asked)
    assert "is as it is" in card
    assert "d1" in card


def test_a_model_and_the_plans_that_used_it_name_each_other(known: Known) -> None:
    version = again(known, "planned", name="planned")
    for number in (1, 2, 2):
        known.registry.used((version,), plan="2017-06-01", version=number)
    known.registry.used((version,), plan="2017-06-02", version=1)
    found = known.registry.version("planned", 1)
    assert found.plans == {"2017-06-01": "2", "2017-06-02": "1"}
    assert (found.reason, found.trusted) == ("is as it is", True)


def test_one_that_the_gate_refused_is_promoted_only_by_force(known: Known) -> None:
    again(known, "refused", name="refused", trusted=False)
    with pytest.raises(BadInput, match="version = 1: was refused by the gate: is as it is"):
        known.registry.promote("refused", 1)
    assert known.registry.promote("refused", 1, force=True).alias == CHAMPION
    # one that is only not better than the champion may be
    again(known, "equal", name="refused", promote=False)
    assert known.registry.promote("refused", 2).alias == CHAMPION


def test_usable_refuses_what_knows_later_things(known: Known) -> None:
    with pytest.raises(
        BadInput, match=r"no model 'response' is from before it; run: growth train --as-of 2017-05"
    ):
        known.registry.usable("response", AS_OF - timedelta(microseconds=1))
    with pytest.raises(BadInput, match="no model 'nobody'"):
        known.registry.usable("nobody", AS_OF)
    again(known, "early", name="timed", days=-20)
    again(known, "late", name="timed", days=20)
    chosen = {
        days: known.registry.usable("timed", AS_OF + timedelta(days=days))[1].version for days in (-20, 0, 20)
    }
    assert chosen == {-20: 1, 0: 1, 20: 2}
    # a champion of the past is preferred to a newer version that is none
    known.registry.promote("timed", 1)
    assert known.registry.usable("timed", AS_OF + timedelta(days=30))[1].version == 1


def test_promote_and_roll_back_there_and_back(known: Known) -> None:
    for key in ("a", "b", "c"):
        again(known, key, name="rolled")
    registry = known.registry
    assert [each.alias for each in registry.versions("rolled")] == [CHAMPION, None, None]
    assert registry.promote("rolled", 1).alias == CHAMPION
    assert registry.rollback("rolled").version == 3  # the one before, not the one below
    assert [each.alias for each in registry.versions("rolled")] == [CHAMPION, None, None]
    assert registry.promote("rolled", 3).version == 3  # again changes nothing
    with pytest.raises(NotFound, match=r"model rolled: version = '9': unknown version; known: 1, 2, 3"):
        registry.promote("rolled", 9)
    with pytest.raises(BadInput, match="has no champion to roll back"):
        registry.rollback("nobody")


def test_the_first_version_has_nothing_to_roll_back_to(known: Known) -> None:
    again(known, "only", name="single")
    with pytest.raises(BadInput, match="has no earlier version"):
        known.registry.rollback("single")


def test_a_model_that_earned_no_trust_is_no_champion(known: Known) -> None:
    version = again(known, "weak", name="weak", trusted=False)
    assert version.alias == CHALLENGER
    loaded, _ = known.registry.usable("weak", AS_OF)
    assert set(loaded.predict(known.trained.dataset.frame).tolist()) == {known.trained.predictor.average}


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


def test_a_copy_reads_and_writes_its_own_artifacts(known: Known, tmp_path: Path) -> None:
    home = Path(known.registry.uri.removeprefix("sqlite:///")).parent
    copy, before = tmp_path / "copy", sorted(home.rglob("*"))
    shutil.copytree(home, copy)
    uri = mlflow.get_tracking_uri()
    try:
        other = Registry(f"sqlite:///{copy / 'mlflow.db'}", copy / "artifacts")
        assert other.load("response", known.first.version)[0].features == known.trained.predictor.features
        run = mlflow.MlflowClient(other.uri).get_run(known.first.run_id)
        assert run.info.artifact_uri.startswith(copy.resolve().as_uri())
        made = record_of(known.trained, passed(known.trained), data_fingerprint="d2")
        other.record(made, data_fingerprint="d2", key="of the copy")
        assert sorted(home.rglob("*")) == before
        # where nothing of it lies, nothing has moved
        elsewhere = tmp_path / "empty"
        elsewhere.mkdir()
        assert follow_artifacts(other.uri, elsewhere, "growth") == 0
        assert follow_artifacts(other.uri, copy / "artifacts", "growth") == 0
    finally:
        mlflow.set_tracking_uri(uri)


def test_registries_of_one_process_take_turns(known: Known, tmp_path: Path) -> None:
    uri = mlflow.get_tracking_uri()
    try:
        other = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
        made = record_of(known.trained, passed(known.trained), data_fingerprint="d3")
        theirs = other.record(made, data_fingerprint="d3", key="other")
        mine = again(known, "turns", name="turns")
        assert known.registry.load("turns", mine.version)[0].recipe.name == "turns"
        assert other.load("response", theirs.version)[0].recipe.name == "response"
        assert (mine.version, theirs.version) == (1, 1)
        assert [other.find("turns", "turns"), known.registry.find("response", "other")] == [None, None]
    finally:
        mlflow.set_tracking_uri(uri)
