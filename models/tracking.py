"""MLflow: every training is a run, every model a registered version, the one in use has an alias.

The only file that imports MLflow; its errors become the kernel's here.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no outside address is ever called

import pandas as pd
import polars as pl

from kernel.clock import aware
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Interval, ModelVersion
from models.backtest import BackTest
from models.plots import importance_plot, lift_plot, reliability_plot
from models.policy_evidence import POLICY, PolicyEvidence, estimates_plot, weights_plot
from models.training import Predictor, Trained

with warnings.catch_warnings():  # MLflow's own modules warn of each other when imported
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature
    from mlflow.pyfunc import PythonModel

EXPERIMENT = "growth"
CHAMPION, CHALLENGER = "champion", "challenger"
_PACKAGES = ["lightgbm", "mlflow", "numpy", "polars", "scikit-learn", "scipy"]


class _Served(PythonModel):  # type: ignore[misc] # MLflow's classes are untyped here
    """A predictor as MLflow serves it: a pandas frame of features in, numbers out."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.predictor.predict(pl.from_pandas(model_input))


class Registry:
    """The models and policies of one workspace. Raises Unavailable when MLflow's store does not answer."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri, self._artifacts = uri, artifacts
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with _translated():
            mlflow.set_tracking_uri(uri)
            self._client = MlflowClient(uri)

    def record(self, trained: Trained, *, data_fingerprint: str, key: str) -> ModelVersion:
        """A run with parameters, figures, plots and the model; a new version; `champion` if it earned it.

        `key` names everything that the training depends on: the same key finds the same version.
        """
        predictor, evidence = trained.predictor, trained.evidence
        recipe, as_of = predictor.recipe, trained.dataset.as_of
        sample = trained.dataset.frame.select(predictor.features).head(5).cast(pl.Float64).to_pandas()
        with self._run(f"{recipe.name} as of {as_of:%Y-%m-%d}") as run:
            mlflow.log_params(_parameters(trained))
            mlflow.log_metrics(_metrics(evidence.figures) | {"margin_over_baseline_se": evidence.margin})
            mlflow.log_metrics(_metrics(evidence.baseline_figures, prefix="baseline_"))
            mlflow.set_tags({"data_fingerprint": data_fingerprint, "key": key, "as_of": as_of.isoformat()})
            mlflow.log_figure(reliability_plot(evidence, _unit(recipe.predicts)), "reliability.png")
            mlflow.log_figure(importance_plot(evidence), "importance.png")
            mlflow.log_dict(evidence.importance, "importance.json")
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=_Served(predictor),
                signature=infer_signature(sample, predictor.predict(pl.from_pandas(sample))),
                input_example=sample,
                pip_requirements=_PACKAGES,
            )
            if recipe.name not in self.names():
                self._client.create_registered_model(recipe.name)
            # with its tags from birth: a kill in between leaves no half-described version
            version = self._client.create_model_version(
                recipe.name,
                info.model_uri,
                run_id=run,
                model_id=info.model_id,
                tags={
                    "key": key,
                    "as_of": as_of.isoformat(),
                    "data_fingerprint": data_fingerprint,
                    "trusted": str(predictor.trusted).lower(),
                },
            )
        # a model that did not beat the trivial baseline may be looked at, but is no champion
        if predictor.trusted:
            self.promote(recipe.name, int(version.version))
        else:
            self._client.set_registered_model_alias(recipe.name, CHALLENGER, version.version)
        return self.version(recipe.name, int(version.version), run_id=run)

    def record_backtest(self, test: BackTest, key: str) -> None:
        """The back-test as a run of its own: pooled and by plan date. The same key is recorded once."""
        with _translated():
            experiment = self._experiment()
            if self._client.search_runs([experiment], f"tags.key = '{key}'", max_results=1):
                return
        with self._run("back-test") as _:
            mlflow.set_tag("key", key)
            mlflow.log_params({"share": test.share, "plan_dates": test.dates.height})
            for kind, figures in (("lift", test.lift), ("auc", test.auc)):
                mlflow.log_metrics(_metrics(figures, prefix=f"{kind}_"))
            mlflow.log_figure(lift_plot(test), "lift.png")
            mlflow.log_text(test.dates.write_csv(), "dates.csv")

    def record_policy(self, evidence: PolicyEvidence) -> ModelVersion:
        """A run with the estimates, their plots and the policy's state; a new version of `policy`, the
        challenger. Nothing goes live by this."""
        with self._run(f"policy {evidence.policy}") as run:
            mlflow.log_params({**evidence.made_by, "policy": evidence.policy})
            mlflow.set_tags({"reason": evidence.reason, "data_fingerprint": evidence.data_fingerprint})
            for prefix, figures in (("", evidence.challenger), ("champion_", evidence.champion)):
                mlflow.log_metrics(_metrics(dict(figures), prefix=prefix))
            mlflow.log_metrics(_metrics({"difference": evidence.difference}) | dict(evidence.facts))
            mlflow.log_figure(estimates_plot(evidence), "estimates.png")
            mlflow.log_figure(weights_plot(evidence), "weights.png")
            mlflow.log_dict(dict(evidence.made_by), "policy/made_by.json")
            with TemporaryDirectory() as folder:
                path = Path(folder) / "state"
                path.write_bytes(evidence.state)
                mlflow.log_artifact(str(path), "policy")
            uri = mlflow.get_artifact_uri("policy")
            if not self._is_registered(POLICY):
                self._client.create_registered_model(POLICY)
            version = self._client.create_model_version(
                POLICY,
                uri,
                run_id=run,
                tags={
                    "as_of": evidence.as_of.isoformat(),
                    "data_fingerprint": evidence.data_fingerprint,
                    "refusal": evidence.refusal,
                },
            )
            self._client.set_registered_model_alias(POLICY, CHALLENGER, version.version)
        return self.version(POLICY, int(version.version), run_id=run)

    def policy(self, version: int | None = None) -> tuple[Mapping[str, Any], bytes, ModelVersion] | None:
        """How a policy is made, its state and its version: by default the champion, None when there is
        none. Raises NotFound for a version that does not exist."""
        number = self._aliases(POLICY).get(CHAMPION) if version is None else version
        if number is None:
            return None
        found = self.version(POLICY, number)
        with _translated(POLICY, number), TemporaryDirectory() as folder:
            path = Path(self._client.download_artifacts(found.run_id, "policy", folder))
            return json.loads((path / "made_by.json").read_text()), (path / "state").read_bytes(), found

    def deciding(self) -> int | None:
        """Version of the policy that is the champion; None when none was ever promoted. One question."""
        return self._aliases(POLICY).get(CHAMPION)

    def challenger(self) -> int | None:
        """Version of the policy that was judged last; None when there is none, or it is the champion."""
        aliases = self._aliases(POLICY)
        number = aliases.get(CHALLENGER)
        return None if number == aliases.get(CHAMPION) else number

    def find(self, name: str, key: str) -> ModelVersion | None:
        """The version that was trained under `key`, if there is one."""
        for version in self._versions(name):
            if version.tags.get("key") == key:
                return self.version(name, int(version.version))
        return None

    def version(self, name: str, version: int, run_id: str | None = None) -> ModelVersion:
        with _translated(name, version):
            found = self._client.get_model_version(name, str(version))
            run = self._client.get_run(run_id or found.run_id)
        aliases = self._aliases(name)
        return ModelVersion(
            name=name,
            version=version,
            alias=next((alias for alias, number in aliases.items() if number == version), None),
            run_id=run.info.run_id,
            as_of=aware(datetime.fromisoformat(found.tags["as_of"]), "as_of"),
            data_fingerprint=found.tags["data_fingerprint"],
            metrics=dict(run.data.metrics),
            params=dict(run.data.params),
        )

    def usable_version(self, name: str, as_of: datetime) -> ModelVersion:
        """The champion if it knows nothing after `as_of`, else the newest version that does not.

        Raises BadInput when there is none.
        """
        champion = self._aliases(name).get(CHAMPION)
        known = [self.version(name, int(each.version)) for each in self._versions(name)]
        fit = [each for each in known if each.as_of <= as_of]
        best = max(fit, key=lambda each: (each.version == champion, each.as_of, each.version), default=None)
        if best is None:
            raise BadInput(
                f"no model {name!r} is from before it; run: growth train --as-of {as_of:%Y-%m-%d}",
                field="as_of",
                value=as_of.isoformat(),
            )
        return best

    def usable(self, name: str, as_of: datetime) -> tuple[Predictor, ModelVersion]:
        """`usable_version`, loaded."""
        best = self.usable_version(name, as_of)
        with _translated(name, best.version):
            loaded = mlflow.pyfunc.load_model(f"models:/{name}/{best.version}")
        return loaded.unwrap_python_model().predictor, best

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, newest first."""
        found = [self.version(name, int(each.version)) for each in self._versions(name)]
        return sorted(found, key=lambda each: -each.version)

    def names(self) -> list[str]:
        """Of the models that predict; policies are versions of one other, `policy`."""
        with _translated():
            found = (each.name for each in self._client.search_registered_models())
            return sorted(name for name in found if name != POLICY)

    def promote(self, name: str, version: int, *, force: bool = False) -> ModelVersion:
        """Makes `version` the champion; the one before is remembered for `rollback`. Raises BadInput for
        a policy that the gate refused, unless by `force`."""
        known = {int(each.version): each for each in self._versions(name)}
        if version not in known:
            raise NotFound("version", version, known, where=f"model {name}", field="version")
        if (refusal := known[version].tags.get("refusal")) and not force:
            raise BadInput(
                f"was refused by the gate: {refusal}", where=f"model {name}", field="version", value=version
            )
        before = self._aliases(name).get(CHAMPION)
        if before is not None and before != version:
            self._client.set_model_version_tag(name, str(version), "before", str(before))
        self._client.set_registered_model_alias(name, CHAMPION, str(version))
        return self.version(name, version)

    def rollback(self, name: str) -> ModelVersion:
        """Makes the champion's predecessor the champion again. Raises BadInput when it has none."""
        champion = self._aliases(name).get(CHAMPION)
        known = {int(each.version): each for each in self._versions(name)}
        if champion is None:
            raise BadInput("has no champion to roll back", where="models", field="model", value=name)
        before = known[champion].tags.get("before")
        if before is None:
            raise BadInput("has no earlier version", where="models", field="model", value=name)
        self._client.set_registered_model_alias(name, CHAMPION, before)
        return self.version(name, int(before))

    def _versions(self, name: str) -> list[Any]:
        with _translated():
            return list(self._client.search_model_versions(f"name = '{name}'"))

    def _aliases(self, name: str) -> dict[str, int]:
        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise Unavailable(f"MLflow does not answer: {error.message}") from error
        return {alias: int(number) for alias, number in found.items()}

    def _is_registered(self, name: str) -> bool:
        with _translated():
            return any(each.name == name for each in self._client.search_registered_models())

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        self._artifacts.mkdir(parents=True, exist_ok=True)
        return str(self._client.create_experiment(EXPERIMENT, self._artifacts.resolve().as_uri()))

    @contextmanager
    def _run(self, name: str) -> Iterator[str]:
        with _translated(), mlflow.start_run(experiment_id=self._experiment(), run_name=name) as run:
            yield run.info.run_id


@contextmanager
def _translated(name: str = "", version: int | None = None) -> Iterator[None]:
    """MLflow's errors as the kernel's, and its chatter unsaid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and name:
            raise NotFound("model version", f"{name} {version}", ()) from error
        raise Unavailable(f"MLflow does not answer: {error.message}") from error


def _parameters(trained: Trained) -> dict[str, Any]:
    recipe, evidence = trained.predictor.recipe, trained.evidence
    return {
        "predicts": recipe.predicts,
        "within": recipe.within,
        "history": " ".join(recipe.history),
        "features": len(trained.predictor.features),
        "rows": trained.dataset.frame.height,
        "rows_learned": evidence.rows_learned,
        "rows_held_out": evidence.rows_held_out,
        "held_out_from": evidence.held_out_from.isoformat(),
        "baseline": evidence.baseline,
        "calibrator": trained.predictor.calibrator.method,
        "trusted": trained.predictor.trusted,
    }


def _metrics(figures: dict[str, Interval], prefix: str = "") -> dict[str, float]:
    found = {}
    for name, value in figures.items():
        found[f"{prefix}{name}"] = value.mean
        found[f"{prefix}{name}_low"], found[f"{prefix}{name}_high"] = value.low, value.high
    return {name: value for name, value in found.items() if value == value}


def _unit(predicts: str) -> str:
    return "money" if predicts == "spend" else "probability"
