"""MLflow's store: runs, versions, aliases, artifacts.

The only file that imports MLflow; its errors become the kernel's here.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no outside address is ever called

import pandas as pd
import polars as pl
from matplotlib.figure import Figure

from kernel.errors import NotFound, Unavailable
from models.tracking_moved import follow_artifacts

with warnings.catch_warnings():  # MLflow's own modules warn of each other when imported
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature
    from mlflow.pyfunc import PythonModel
    from mlflow.types import Schema
    from mlflow.types.schema import ColSpec

EXPERIMENT = "growth"
_PACKAGES = ["lightgbm", "mlflow", "numpy", "polars", "scikit-learn", "scipy"]
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


class Served(PythonModel):  # type: ignore[misc] # MLflow's classes are untyped here
    """A model as MLflow serves it: a pandas frame of features in, numbers out."""

    #: of models from before it was kept
    judged: Any = None

    def __init__(self, predictor: Any, judged: Any = None) -> None:
        self.predictor, self.judged = predictor, judged

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.predictor.predict(pl.from_pandas(model_input))


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run says of itself."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    #: file → picture
    figures: Mapping[str, Figure]
    #: file → text
    texts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version, without its run."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learned from, as MLflow shows it."""

    name: str
    fingerprint: str
    as_of: datetime
    #: column → its type, as Polars calls it
    columns: Mapping[str, str]


class TrackingStore:
    """Raises Unavailable when MLflow's store does not answer, NotFound for what is not there."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri, self._artifacts = uri, artifacts
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        if uri.startswith(("http://", "https://")):
            # a server that is down is told in seconds, not minutes
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        follow_artifacts(uri, artifacts, EXPERIMENT)
        with translated():
            self._here()
            self._client = MlflowClient(uri)

    @contextmanager
    def run(self, name: str) -> Iterator[str]:
        """Whatever is logged inside goes to this run, whose id is given."""
        self._here()
        with translated(), mlflow.start_run(experiment_id=self._experiment(), run_name=name) as run:
            yield run.info.run_id

    def _here(self) -> None:
        """MLflow has one address for the whole process; workspaces that take turns each say theirs."""
        if mlflow.get_tracking_uri() != self.uri:
            mlflow.set_tracking_uri(self.uri)

    def tell(self, told: Told) -> None:
        """Into the run at hand."""
        mlflow.log_params(dict(told.params))
        mlflow.log_metrics(dict(told.metrics))
        mlflow.set_tags(dict(told.tags))
        for file, figure in told.figures.items():
            mlflow.log_figure(figure, file, save_kwargs={"dpi": 80})
        for file, text in told.texts.items():
            mlflow.log_text(text, file)

    def nested(self, parent: str, told: Mapping[str, tuple[Mapping[str, Any], Mapping[str, float]]]) -> None:
        """One child run for each name: its parameters and metrics."""
        for name, (params, metrics) in told.items():
            run = self._client.create_run(self._experiment(), tags={_PARENT: parent}, run_name=name)
            self._client.log_batch(
                run.info.run_id,
                metrics=[Metric(key, value, run.info.start_time, 0) for key, value in metrics.items()],
                params=[Param(key, str(value)) for key, value in params.items()],
                tags=[RunTag(_NAME, name)],
            )
            self._client.set_terminated(run.info.run_id)

    def data(self, data: Data) -> None:
        """The run at hand learned from this."""
        kinds = {"Float64": "double", "Int64": "long", "Boolean": "boolean"}
        schema = Schema([ColSpec(kinds.get(kind, "string"), name) for name, kind in data.columns.items()])
        source = CodeDatasetSource(tags={"as_of": data.as_of.isoformat(), "fingerprint": data.fingerprint})
        mlflow.log_input(
            MetaDataset(source, name=data.name, digest=data.fingerprint, schema=schema), context="training"
        )

    def model(self, predictor: Any, judged: Any, sample: pl.DataFrame) -> tuple[str, str]:
        """Logs it with signature and input example into the run at hand; its address and id."""
        example = sample.to_pandas()
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=Served(predictor, judged),
            signature=infer_signature(example, predictor.predict(sample)),
            input_example=example,
            pip_requirements=_PACKAGES,
        )
        return str(info.model_uri), str(info.model_id)

    def files(self, folder: str, files: Mapping[str, bytes]) -> str:
        """Into a folder of the run at hand; its address."""
        with TemporaryDirectory() as temporary:
            for name, content in files.items():
                path = Path(temporary) / name
                path.write_bytes(content)
                mlflow.log_artifact(str(path), folder)
        return str(mlflow.get_artifact_uri(folder))

    def rename(self, run_id: str, name: str) -> None:
        self._client.update_run(run_id, name=name)

    def has_run(self, key: str) -> bool:
        """Whether there is a run with this key."""
        with translated():
            return bool(self._client.search_runs([self._experiment()], f"tags.key = '{key}'", max_results=1))

    def add_version(
        self, name: str, uri: str, run_id: str, tags: Mapping[str, str], model_id: str | None = None
    ) -> int:
        """With its tags from birth: a kill in between leaves no half-described version."""
        if not any(each.name == name for each in self._client.search_registered_models()):
            self._client.create_registered_model(name)
        made = self._client.create_model_version(name, uri, run_id=run_id, model_id=model_id, tags=dict(tags))
        return int(made.version)

    def versions(self, name: str) -> list[Version]:
        """Newest first; none for a name that is not registered."""
        with translated():
            found = self._client.search_model_versions(f"name = '{name}'")
            return sorted((_version(each) for each in found), key=lambda each: -each.version)

    def version(self, name: str, version: int) -> Version:
        with translated(name, version):
            return _version(self._client.get_model_version(name, str(version)))

    def facts(self, run_id: str) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics and parameters of a run."""
        with translated():
            data = self._client.get_run(run_id).data
            return dict(data.metrics), dict(data.params)

    def tag(self, name: str, version: int, key: str, value: str) -> None:
        with translated(name, version):
            self._client.set_model_version_tag(name, str(version), key, value)

    def point(self, name: str, alias: str, version: int) -> None:
        """Makes `alias` mean this version."""
        with translated(name, version):
            self._client.set_registered_model_alias(name, alias, str(version))

    def aliases(self, name: str) -> dict[str, int]:
        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise Unavailable(f"MLflow does not answer: {error.message}") from error
        return {alias: int(number) for alias, number in found.items()}

    def names(self) -> list[str]:
        with translated():
            return sorted(each.name for each in self._client.search_registered_models())

    def load(self, name: str, version: int) -> tuple[Any, Any]:
        """The model, and what its evidence is about (None where that was not kept)."""
        with translated(name, version):
            self._here()
            served = mlflow.pyfunc.load_model(f"models:/{name}/{version}").unwrap_python_model()
        return served.predictor, served.judged

    @contextmanager
    def folder(self, name: str, version: Version, path: str) -> Iterator[Path]:
        """A run's folder of artifacts, here for as long as needed."""
        with translated(name, version.version), TemporaryDirectory() as temporary:
            yield Path(self._client.download_artifacts(version.run_id, path, temporary))

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        if self.uri.startswith(("http://", "https://")):
            return str(self._client.create_experiment(EXPERIMENT))  # the server says where artifacts go
        self._artifacts.mkdir(parents=True, exist_ok=True)
        return str(self._client.create_experiment(EXPERIMENT, self._artifacts.resolve().as_uri()))


def _version(found: Any) -> Version:
    return Version(name=found.name, version=int(found.version), run_id=found.run_id, tags=dict(found.tags))


@contextmanager
def translated(name: str = "", version: int | None = None) -> Iterator[None]:
    """MLflow's errors as the kernel's, and its chatter unsaid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and name:
            raise NotFound("model version", f"{name} {version}", ()) from error
        raise Unavailable(f"MLflow does not answer: {error.message}") from error
