"""One scan of one table for many tests at once: true or false for each row, then bits by user number.

Where a source keeps the order of its rows, the number of each row's user is worked out once a version of the
table; from then on the key column need not even be read. Elsewhere the key comes with the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import ibis
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.catalog import Catalog
from insight.columns import as_declared, tested
from insight.comparing import positive
from insight.compile import holds
from insight.conditions import FieldTest, Test
from insight.dictionary import UserDictionary
from insight.elastic import is_elastic
from insight.leaves import Key, LeafCache
from insight.numbering import NONE, Numbers
from insight.packed import Bits, bitmap_of, no_bits, renumbered, set_bits
from insight.reading import check_one_row_each, read_users
from insight.sources.opening import open_source, place_of
from insight.tables import field_rows, user_rows
from kernel.ids import fingerprint

#: kinds whose scans give rows in one order, as long as the version is the same
ORDERED = ("parquet", "csv", "duckdb")
#: most bytes of answers that one scan may hold
_ANSWERS = 2**29
#: tests of one column of text that are sought by their rows instead of in one scan
_FEW = 2
_THREADS = 2
#: a name that no column has
_ROW = "row number of the file"


@dataclass(frozen=True, kw_only=True)
class TableScan:
    """A table of users or of their fields, as of one version."""

    catalog: Catalog
    source: str
    table: str
    #: column of user ids
    key: str
    version: str
    dictionary: UserDictionary
    cache: LeafCache

    def everyone(self, as_of: datetime) -> BitMap:
        """Who exists at `as_of`, of the entity's own table."""
        kind, since = place_of(self.catalog, self.source).kind, self.catalog.entity.since
        if kind not in ORDERED:
            users = self._existing(as_of)
            self.dictionary.extend(users)
            found_now = self.dictionary.positions(users)
            if since is None and not is_elastic(self.catalog, self.source):
                repeated = len(found_now) < len(users)
                self.cache.put_arrays(self._key("once"), {"repeated": np.array([repeated])})
            return found_now
        table, rows = user_rows(self.catalog), self._rows()
        if since is None:
            found = no_bits(len(self.dictionary))
            set_bits(_numbers(rows), found)
            return bitmap_of(found)
        test = Test(op="le", value=as_of)
        own = self._own({"since": (since, "datetime", test)})
        return self._by_row(own or {"since": holds(test, table.since)}, rows, None if own else table)["since"]

    def _existing(self, as_of: datetime) -> pl.Series:
        """Their ids, some more than once: a cluster would shuffle every row to name each once, and the
        dictionary does that anyway."""
        if is_elastic(self.catalog, self.source):
            return read_users(self.catalog, as_of)["user"]
        rows = user_rows(self.catalog)
        if self.catalog.entity.since is not None:
            rows = rows.filter(rows.since <= ibis.literal(as_of))
        asked = rows.filter(rows.user.notnull()).select("user")
        with open_source(self.catalog, self.source) as source:
            found = [pl.DataFrame(pl.from_arrow(batch)) for batch in source.batches(asked)]
        kind = pl.String() if asked.schema()["user"].is_string() else pl.Int64()
        return pl.concat(found)["user"] if found else pl.Series([], dtype=kind)

    def fields(self, leaves: Mapping[str, FieldTest]) -> dict[str, BitMap]:
        """Users who fulfil each leaf's positive test. Raises BadInput when a user has two rows."""
        tests = {name: (leaf.field, positive(leaf.test)) for name, leaf in leaves.items()}
        first = next(iter(leaves.values())).field
        if place_of(self.catalog, self.source).kind not in ORDERED:
            known = self.cache.arrays(self._key("once"))  # since who exists was read, of the users' own table
            if known is None or known["repeated"][0]:
                check_one_row_each(self.catalog, first)
            return self._by_key(tests)
        table = field_rows(self.catalog, dict.fromkeys(field for field, _ in tests.values()))
        rows = self._rows()
        if rows["repeated"][0]:
            check_one_row_each(self.catalog, first)
        routes = {field: self.catalog.fields[field] for field, _ in tests.values()}
        own = self._own(
            {name: (routes[field].column, routes[field].type, test) for name, (field, test) in tests.items()}
        )
        if own is not None:
            return self._by_row(own, rows, None, self._sought(tests))
        return self._by_row(
            {name: holds(test, table[field]) for name, (field, test) in tests.items()}, rows, table
        )

    def _own(self, tests: Mapping[str, tuple[str, str, Test]]) -> dict[str, pl.Expr] | None:
        """Tests (column, declared type, test) as expressions on the file's own columns; None where one of
        them cannot be."""
        file, found = self._file(), {}
        if file is None:
            return None
        schema = file.collect_schema()
        for name, (column, declared, test) in tests.items():
            own = tested(column, schema[column], declared, test) if column in schema else None
            if own is None:
                return None
            found[name] = own
        return found

    def _file(self) -> pl.LazyFrame | None:
        """The table as a Parquet file of this machine, where it is one."""
        place = place_of(self.catalog, self.source)
        if place.kind != "parquet":
            return None
        path = place.path / f"{self.table}.parquet"
        return pl.scan_parquet(path, glob=False) if path.is_file() else None

    def _sought(self, tests: Mapping[str, tuple[str, Test]]) -> list[str]:
        """Those that look for words in a column of text that few others look at: Polars finds their rows in
        the file's own dictionary of words, and makes no text."""
        fields = [field for field, _ in tests.values()]
        return [
            name
            for name, (field, test) in tests.items()
            if self.catalog.fields[field].type == "string" and test.op in ("eq", "in")
            if fields.count(field) <= _FEW
        ]

    def _by_row(
        self,
        tests: Mapping[str, Any],
        rows: Mapping[str, NDArray[Any]],
        table: Any,
        sought: Sequence[str] = (),
    ) -> dict[str, BitMap]:
        """`tests`: of `table`'s columns, or (None) of the file's own; of these `sought` by their rows."""
        count, numbers = int(rows["rows"][0]), rows["numbers"]
        names = [name for name in tests if name not in sought]
        found: dict[str, BitMap] = {}
        most = max(_ANSWERS * 8 // max(count, 1), 1)

        def numbered(bits: Bits) -> BitMap:
            if len(numbers):
                by_number = no_bits(len(self.dictionary))
                renumbered(bits, count, numbers, by_number)
                bits = by_number
            return bitmap_of(bits)

        with ThreadPoolExecutor(_THREADS) as pool:
            for begin in range(0, len(names), most):
                answers = self._answers({name: tests[name] for name in names[begin : begin + most]}, table)
                made = pool.map(lambda each: numbered(_bits(each)), answers.values())
                found.update(zip(answers, made, strict=True))
            for name in sought:
                found[name] = numbered(self._seek(tests[name], count))
        return found

    def _seek(self, test: pl.Expr, count: int) -> Bits:
        """The rows of the file that fulfil a test."""
        file, bits = self._file(), no_bits(count)
        assert file is not None  # noqa: S101  the test is of its columns
        at = file.with_row_index(_ROW).filter(test).select(_ROW)
        for batch in at.collect_batches(maintain_order=False):
            set_bits(batch[_ROW].to_numpy(), bits)
        return bits

    def _answers(self, tests: Mapping[str, Any], table: Any) -> dict[str, pa.BooleanArray]:
        """The answer of every row, in order, to each test."""
        short = {f"t{i}": test for i, test in enumerate(tests.values())}
        if table is None:
            file = self._file()
            assert file is not None  # noqa: S101  the tests are of its columns
            frame = file.select(**short).collect(engine="streaming")
            columns = [frame[name].rechunk().to_arrow() for name in short]
        else:
            with open_source(self.catalog, self.source) as source:
                batches = list(source.batches(table.select(**short)))
            none = pa.array([], pa.bool_())
            columns = [pa.concat_arrays([none, *(batch[name] for batch in batches)]) for name in short]
        return dict(zip(tests, columns, strict=True))

    def _by_key(self, tests: Mapping[str, tuple[str, Test]]) -> dict[str, BitMap]:
        """Users with at least one answer that is true, from sources whose rows have no order."""
        rows = field_rows(self.catalog, dict.fromkeys(field for field, _ in tests.values()))
        short = {f"t{i}": holds(test, rows[field]) for i, (field, test) in enumerate(tests.values())}
        told = rows.filter(rows.user.notnull()).select("user", **short)
        some = told.filter(reduce(lambda a, b: a | b, [told[name] for name in short]))
        with open_source(self.catalog, self.source) as source:
            found = [pl.DataFrame(pl.from_arrow(batch)) for batch in source.batches(some)]
        if not found:
            return {name: BitMap() for name in tests}
        frame = pl.concat(found)
        self.dictionary.extend(frame["user"])
        numbers = self.dictionary.find(frame["user"])
        met = {name: numbers[frame[column].to_numpy()] for name, column in zip(tests, short, strict=True)}
        return {name: BitMap(each) for name, each in met.items()}

    def _rows(self) -> Mapping[str, NDArray[Any]]:
        """`numbers`: of each row's user (`NONE` where there is none); empty where row i is number i.
        `rows`: how many. `repeated`: whether a user has several."""
        key = self._key("rows")
        known = self.cache.arrays(key)
        if known is None:
            users = self._users()
            self.dictionary.extend(users)
            numbers = self.dictionary.find(users)
            seen = no_bits(len(self.dictionary))
            set_bits(numbers, seen)
            repeated = len(bitmap_of(seen)) < np.count_nonzero(numbers != NONE)
            straight = bool(np.array_equal(numbers, np.arange(len(numbers), dtype=np.uint32)))
            known = {
                "numbers": np.zeros(0, np.uint32) if straight else numbers,
                "rows": np.array([len(numbers)]),
                "repeated": np.array([repeated]),
            }
            self.cache.put_arrays(key, known)
        return known

    def _key(self, what: str) -> Key:
        """What is known of the table's rows."""
        route = self.catalog.sources[self.source].model_dump(mode="json")
        where = fingerprint([route, str(self.catalog.folder), self.table, self.key])
        return (what, where, self.version, self.dictionary.identity)

    def _users(self) -> pl.Series:
        """The key of every row, in order."""
        file = self._file()
        own = None
        if file is not None:
            kind = file.collect_schema().get(self.key)
            wanted = "string" if kind == pl.String else "integer"
            own = as_declared(self.key, kind, wanted) if kind is not None else None
        if file is not None and own is not None:
            frame = file.select(user=own.expr).collect(engine="streaming")
            return frame["user"] if frame.schema["user"] == pl.String else frame["user"].cast(pl.Int64)
        with open_source(self.catalog, self.source) as source:
            rows = user_rows(self.catalog) if self._is_entity else self._any_field()
            return source.frame(rows.select("user"))["user"]

    @property
    def _is_entity(self) -> bool:
        entity = self.catalog.entity
        return (self.source, self.table, self.key) == (entity.source, entity.table, entity.key)

    def _any_field(self) -> Any:
        place = (self.source, self.table, self.key)
        return field_rows(
            self.catalog, [next(n for n in self.catalog.user_fields if self.catalog.field_place(n) == place)]
        )


def _numbers(rows: Mapping[str, NDArray[Any]]) -> Numbers:
    if len(rows["numbers"]):
        return rows["numbers"]
    return np.arange(int(rows["rows"][0]), dtype=np.uint32)


def _bits(answers: pa.BooleanArray) -> Bits:
    """Packed, least significant first; bits behind the last row are 0."""
    count = len(answers)
    if answers.offset % 8:
        return np.packbits(answers.to_numpy(zero_copy_only=False), bitorder="little")
    whole = np.frombuffer(answers.buffers()[1], np.uint8) if count else np.zeros(0, np.uint8)
    bits = whole[answers.offset // 8 : answers.offset // 8 + (count + 7) // 8]
    if count % 8:
        bits = bits.copy()
        bits[-1] &= (1 << count % 8) - 1
    return bits
