"""PySpark: tables as folders of Parquet wherever the cluster reads them, or as its catalog names them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import polars as pl
import pyarrow as pa
from ibis.formats.pyarrow import PyArrowType

from insight.sources.dialects import compiled, written
from insight.sources.files import files_version, parts
from insight.sources.given import with_ids
from insight.sources.source import Place, as_asked, whole
from insight.sources.spark_session import spark_session
from kernel.errors import GrowthError
from kernel.ids import fingerprint

#: what Spark says of a value that does not fit
_ABOUT_VALUES = ("CAST_INVALID_INPUT", "CAST_OVERFLOW", "ARITHMETIC_OVERFLOW", "NUMERIC_VALUE_OUT_OF_RANGE")


#: (path, version) → columns as Spark inferred them, which takes it a job
_SCHEMAS: dict[tuple[str, str], Any] = {}
_MOST_SCHEMAS = 1000


class SparkSource:
    """`spark://HOST:PORT/FOLDER`, `spark-local[CORES]://FOLDER`, `spark-local-cluster[N,CORES,MB]://FOLDER`.

    FOLDER holds a table as NAME.parquet (a file, or a folder as Spark writes it) or as the folder NAME, on a
    file system that all workers see; it may be an address such as `s3a://bucket/tables`. Without a folder
    tables are those of Spark's own catalog.
    """

    def __init__(self, place: Place) -> None:
        """Raises BadInput for an address that is none, and when pyspark, Java or the master is missing."""
        self.place = place
        master, self.folder = place.kind.removeprefix("spark-"), place.rest
        if place.kind == "spark":
            host, _, self.folder = place.address().removeprefix("spark://").partition("/")
            master = f"spark://{host}"
            self.folder = f"/{self.folder}" if self.folder and "://" not in self.folder else self.folder
        elif self.folder and "://" not in self.folder:
            self.folder = str(place.path.resolve())
        self._session = spark_session(place, master, self.folder)
        self._viewed: set[str] = set()

    def tables(self) -> list[str]:
        with self._translated("", self.place.at):
            if not self.folder:
                return sorted(each.name for each in self._session.catalog.listTables())
            folder = self._hadoop.Path(self.folder)
            states = folder.getFileSystem(self._conf).listStatus(folder)
            names = [str(each.getPath().getName()) for each in states]
            return sorted(name.removesuffix(".parquet") for name in names if name[0] not in "_.")

    def schema(self, table: str, field: str) -> Any:
        arrow: Any = import_module("pyspark.sql.pandas.types").to_arrow_type
        strange: Any = import_module("pyspark.errors").PySparkTypeError
        types = {}
        with self._translated(table, field):
            for column in self._table(table, field).schema:
                with suppress(TypeError, ValueError, KeyError, NotImplementedError, strange):
                    # a type that nothing here could use: the column counts as unknown
                    types[column.name] = PyArrowType.to_ibis(arrow(column.dataType))
        return ibis.schema(types)

    def frame(self, expression: Any) -> pl.DataFrame:
        with self._translated():
            found = self._asked(expression).toArrow().to_batches()
        return whole((as_asked(each, expression) for each in found), expression)

    def frame_beside(self, expression: Any, given: dict[str, pa.Table]) -> pl.DataFrame:
        """The same where some of the expression's tables, of one column of ids, are given here."""
        with self._translated():
            found = self._asked(expression, given).toArrow().to_batches()
        return whole((as_asked(each, expression) for each in found), expression)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        """As they come from the workers: in any order, also where the expression has one."""
        with self._translated():
            asked = self._asked(expression)
            # what `toArrow` does, without keeping every piece
            serial: Any = import_module("pyspark.sql.pandas.serializers").ArrowCollectSerializer()
            port, secret, server = asked._jdf.collectAsArrowToPython()
            pieces = import_module("pyspark.util")._load_from_socket((port, secret), serial)
            for piece in pieces:
                if isinstance(piece, pa.RecordBatch):
                    yield as_asked(piece, expression)
            server.getResult()

    def version(self, table: str, field: str) -> str:
        """Of the names, sizes and times of the table's files, wherever they are."""
        with self._translated(table, field):
            if self.folder:
                return self._listed(self._path(table, field))
            folders = sorted(
                {each.rpartition("/")[0] for each in self._session.table(_quoted(table)).inputFiles()}
            )
            return fingerprint([table, *(self._listed(each) for each in folders)])

    def close(self) -> None:
        """The session stays: it takes seconds to start, and others of this process share it."""
        self._viewed.clear()

    def _asked(self, expression: Any, given: Mapping[str, pa.Table] | None = None) -> Any:
        named = {each.name for each in expression.op().find(ops.UnboundTable)} - set(given or {})
        for table in named - self._viewed:
            if self.folder:
                self._table(table, f"sources.{self.place.name}").createOrReplaceTempView(_quoted(table))
                self._viewed.add(table)
        query = with_ids(compiled(expression, "spark"), given or {}, "spark")
        return self._session.sql(written(query, "spark"))

    def _table(self, table: str, field: str) -> Any:
        """The table as Spark's frame; its columns are inferred once a version. Raises NotFound."""
        with self._translated(table, field):
            if not self.folder:
                return self._session.table(_quoted(table))
            path = self._path(table, field)
            key = (path, self._listed(path))
            known = _SCHEMAS.get(key)
            reader = self._session.read if known is None else self._session.read.schema(known)
            frame = reader.parquet(_literal(path))
            if known is None:
                while len(_SCHEMAS) >= _MOST_SCHEMAS:
                    _SCHEMAS.pop(next(iter(_SCHEMAS)), None)
                _SCHEMAS[key] = frame.schema
            return frame

    def _path(self, table: str, field: str) -> str:
        """Where a table's files are, or its only one. Raises NotFound."""
        path = f"{self.folder.rstrip('/')}/{table}"
        for each in (f"{path}.parquet", path):
            if table.strip(".") and "/" not in table and self._exists(each):
                return each
        raise self.place.unknown(table, self.tables(), field)

    def _exists(self, path: str) -> bool:
        if "://" not in path:
            return Path(path).exists()
        there = self._hadoop.Path(path)
        return bool(there.getFileSystem(self._conf).exists(there))

    def _listed(self, path: str) -> str:
        """Of the files there, and below."""
        if "://" not in path and not path.startswith("file:"):
            here = Path(path)
            return files_version([here] if here.is_file() else parts(here, "parquet"), here.parent)
        found, there = [], self._hadoop.Path(path)
        each = there.getFileSystem(self._conf).listFiles(there, True)
        while each.hasNext():
            state = each.next()
            found.append([str(state.getPath()), state.getLen(), state.getModificationTime()])
        return fingerprint(sorted(found))

    @property
    def _hadoop(self) -> Any:
        return self._session.sparkContext._jvm.org.apache.hadoop.fs

    @property
    def _conf(self) -> Any:
        return self._session.sparkContext._jsc.hadoopConfiguration()

    @contextmanager
    def _translated(self, table: str = "", field: str = "") -> Iterator[None]:
        errors: Any = import_module("pyspark.errors")
        py4j: Any = import_module("py4j.protocol")
        try:
            with warnings.catch_warnings():
                # pyspark leaves the sockets on which results come to the garbage collector
                warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
                yield
        except GrowthError:
            raise
        except (errors.PySparkException, py4j.Py4JError, EOFError, OSError) as error:
            text = str(error)
            if field and "TABLE_OR_VIEW_NOT_FOUND" in text:
                raise self.place.unknown(table, self.tables(), field) from None
            if field and ("PATH_NOT_FOUND" in text or "FileNotFoundException" in text):
                raise self.place.wrong("leads to no folder") from None
            if any(name in text for name in _ABOUT_VALUES):
                raise self.place.misfit(error) from None
            raise self.place.silent(error) from None


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _literal(path: str) -> str:
    """A path in which nothing is a pattern to Hadoop."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)
