"""The registry on a real MLflow server, a process of its own on loopback: the same promises as on a file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput, Unavailable
from kernel.learning import ModelRecipe
from models.api import CHALLENGER, CHAMPION, History, Registry, Verdict, record_of, train

pytestmark = pytest.mark.filterwarnings("default::Warning:mlflow", "default::ResourceWarning")
BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
AS_OF = BEGIN + timedelta(days=200)
RECIPE = ModelRecipe(name="spend", predicts="spend", within="28d", history=("28d", "84d"))


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    told = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=told, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail((folder / "log").read_text()[-2000:])
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 # loopback
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("the server did not answer in two minutes")
        before = mlflow.get_tracking_uri()
        yield url
        mlflow.set_tracking_uri(before)
    finally:
        # nothing of it is kept: no need to wait for a graceful end
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def shop() -> History:
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(120), 1 + rng.poisson(np.arange(120) / 6, 120))
    at = pl.Series(
        [BEGIN + timedelta(days=float(each)) for each in rng.uniform(0, 200, len(user))],
        dtype=pl.Datetime("us", "UTC"),
    )
    money = rng.gamma(2, 10, len(user))
    return History(
        purchases=pl.DataFrame({"user": user, "at": at, "event_id": np.arange(len(user)), "amount": money})
    )


def test_a_model_lives_on_a_server_as_it_does_in_a_file(server: str, tmp_path: Path) -> None:
    registry = Registry(server, tmp_path / "unused")
    trained = train(shop(), AS_OF, RECIPE, 1)
    trained = replace(trained, predictor=replace(trained.predictor, trusted=True))
    verdict = Verdict(trusted=True, promote=True, reason="said so", margins=trained.evidence.margins)
    record = record_of(trained, verdict, data_fingerprint="d")
    trials = {"spend · trial 0": ({"leaves": 7}, {"loss": 1.5})}
    first = registry.record(replace(record, trials=trials), data_fingerprint="d", key="k1")
    second = registry.record(
        record_of(trained, replace(verdict, promote=False), data_fingerprint="d"),
        data_fingerprint="d",
        key="k2",
    )
    assert (first.version, registry.version("spend", 1).alias) == (1, CHAMPION)
    assert (second.version, second.alias) == (2, CHALLENGER)
    assert registry.find("spend", "k1") == registry.version("spend", 1)

    # what was learned comes back whole, through the server, and so does what it was judged by
    frame = trained.dataset.frame
    loaded, version = registry.usable("spend", AS_OF)
    assert version.version == 1
    np.testing.assert_array_equal(loaded.predict(frame), trained.predictor.predict(frame))
    final, judged = registry.load("spend", 2)
    np.testing.assert_array_equal(judged.predict(frame), trained.judged.predict(frame))
    assert final.knows_until == AS_OF > judged.knows_until
    assert not (tmp_path / "unused").exists(), "artifacts belong to the server"

    assert registry.promote("spend", 2).alias == CHAMPION
    assert registry.rollback("spend").version == 1
    registry.used((first,), plan="2017-08-01", version=3)
    assert registry.version("spend", 1).plans == {"2017-08-01": "3"}

    client = mlflow.MlflowClient(server)
    assert client.get_run(first.run_id).info.run_name == "spend · 2017-07-20 · v1"
    assert {"card.html", "shap.png", "residuals.png"} <= {
        each.path for each in client.list_artifacts(first.run_id)
    }
    (nested,) = client.search_runs(
        [client.get_experiment_by_name("growth").experiment_id], f"tags.mlflow.parentRunId = '{first.run_id}'"
    )
    assert (nested.info.run_name, nested.data.metrics["loss"]) == ("spend · trial 0", 1.5)
    with pytest.raises(BadInput, match="no model 'nobody'"):
        registry.usable("nobody", AS_OF)


def test_a_server_that_is_down_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry(f"http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(Unavailable, match="MLflow does not answer"):
        registry.names()
    with pytest.raises(Unavailable, match="MLflow does not answer"):
        registry.champion("spend")
