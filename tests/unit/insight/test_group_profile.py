"""Profiles against plain counting, statistics against SciPy and simulation; overlap, history, migration."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pyroaring import BitMap
from scipy.stats import chi2_contingency, false_discovery_control

from insight.api import Catalog, Group, LeafCache, Population, parse_catalog
from insight.group_profile import ProfileRow, adjusted, compare, derive_group_profile
from insight.migration import GONE, NEW, derive_migration
from insight.overlap import derive_history, derive_overlap
from insight.profile_slices import Slice
from kernel.audiences import GroupVersion
from kernel.errors import BadInput, NotFound

AT = datetime(2024, 6, 1, tzinfo=UTC)
PEOPLE = 3_000


def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(5)
    users = pl.DataFrame(
        {
            "uid": range(PEOPLE),
            "city": rng.choice(["Paris", "Rome", "Oslo", None], PEOPLE, p=[0.5, 0.3, 0.1, 0.1]),
            "age": [None if i % 11 == 0 else int(x) for i, x in enumerate(rng.integers(18, 80, PEOPLE))],
            "vip": rng.uniform(size=PEOPLE) < 0.2,
            "kids": rng.integers(0, 3, PEOPLE),
            "born": [date(1950, 1, 1) + timedelta(days=int(x)) for x in rng.integers(0, 15_000, PEOPLE)],
            "nick": [f"nick {i}" for i in range(PEOPLE)],
            "code": [f"c{i % 40}" for i in range(PEOPLE)],
        }
    )
    lines = 9_000
    orders = pl.DataFrame(
        {
            "uid": rng.integers(0, 1_500, lines),
            "at": [AT - timedelta(hours=float(x)) for x in rng.uniform(0, 200 * 24, lines)],
            "total": rng.gamma(2, 20, lines).round(2),
        }
    )
    return users, orders


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, pl.DataFrame, pl.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("profile")
    users, orders = frames()
    users.write_parquet(folder / "users.parquet")
    orders.write_parquet(folder / "orders.parquet")
    kinds = {"city": "string", "age": "integer", "vip": "boolean", "kids": "integer", "born": "date",
             "nick": "string", "code": "string"}  # fmt: skip
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://."}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "fields": {
            f"user.{name}": {"table": "users", "column": name, "type": kind} for name, kind in kinds.items()
        },
        "events": {
            "order": {"source": "shop", "table": "orders", "user": "uid", "time": "at",
                      "fields": {"amount": {"column": "total", "type": "decimal"}}},
        },
    }  # fmt: skip
    return parse_catalog(raw, folder=folder), users, orders, folder


GROUPS = {
    "romans": Group(name="romans", where={"field": "user.city", "op": "eq", "value": "Rome"}),
    "old": Group(name="old", where={"field": "user.age", "op": "ge", "value": 50}),
    "nobody": Group(name="nobody", where={"field": "user.age", "op": "ge", "value": 500}),
}


def test_every_count_is_that_of_plain_counting(world: Any) -> None:
    catalog, users, orders, _ = world
    for against in (None, "old"):
        found = derive_group_profile(Population(catalog, AT, GROUPS), "romans", against, least=1)
        group = users.filter(pl.col("city") == "Rome")
        base = users if against is None else users.filter(pl.col("age") >= 50)
        both = group.join(base, on="uid", how="semi")
        assert (found.count, found.base, found.both) == (group.height, base.height, both.height)
        assert found.left_out == {"user.nick": "almost every user has a value of their own"}
        for row in found.rows:
            those = matching(row, users, orders)
            assert row.count == group.join(those, on="uid", how="semi").height, row
            assert row.base_count == base.join(those, on="uid", how="semi").height, row
            assert row.index == pytest.approx(
                100 * (row.count / group.height) / (row.base_count / base.height)
            )
        for feature in catalog.user_fields:  # slices of a field share everybody out
            if feature != "user.nick":
                counts = [row.base_count for row in found.rows if row.feature == feature]
                assert sum(counts) == base.height, feature
        labels = {row.label for row in found.rows if row.feature == "order"}
        assert "none in 90 d" in labels
        assert any(label.startswith("sum of amount in 90 d: ") for label in labels)
        sums = [row.base_count for row in found.rows if row.label.startswith("sum of amount")]
        some = orders.filter(pl.col("at") > AT - timedelta(days=90)).join(base, on="uid", how="semi")
        assert sum(sums) == some["uid"].n_unique()


def matching(row: ProfileRow, users: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """The users of a row, from its feature and label alone."""
    if row.feature == "order":
        if row.label.startswith("any in"):
            days = int(row.label.split()[2])
            return orders.filter(pl.col("at") > AT - timedelta(days=days)).select("uid").unique()
        recent = orders.filter(pl.col("at") > AT - timedelta(days=90))
        number = recent.group_by("uid").agg(n=pl.len(), total=pl.col("total").sum())
        if row.label == "none in 90 d":
            return users.join(number, on="uid", how="anti").select("uid")
        number = number.with_columns(x=pl.col("n" if row.label.startswith("number") else "total"))
        return between(number, row)
    column = row.feature.removeprefix("user.")
    if row.label == "unknown":
        return users.filter(pl.col(column).is_null())
    if row.label == "other":
        counted = users[column].drop_nulls().value_counts().sort(["count", column], descending=[True, False])
        return users.filter(
            pl.col(column).is_not_null() & ~pl.col(column).is_in(counted[column].head(20).to_list())
        )
    if column in ("age", "born"):
        return between(users.with_columns(x=pl.col(column)).drop_nulls("x"), row)
    told = {"true": "yes", "false": "no"} if column == "vip" else {}
    values = users[column].cast(pl.String).to_list()
    return users.filter(pl.Series([told.get(x, x) == row.label for x in values]))


def between(frame: pl.DataFrame, row: ProfileRow) -> pl.DataFrame:
    if row.low is not None:
        frame = frame.filter(pl.col("x") >= row.low)
    return frame if row.high is None else frame.filter(pl.col("x") < row.high)


def test_the_answer_from_what_is_kept_is_the_same(world: Any, tmp_path: Path) -> None:
    catalog = world[0]
    first = derive_group_profile(Population(catalog, AT, GROUPS, cache=LeafCache(tmp_path)), "romans")
    people = Population(catalog, AT, GROUPS, cache=LeafCache(tmp_path))
    assert derive_group_profile(people, "romans") == first
    some = derive_group_profile(people, "romans", fields=("order", "user.city"))
    assert {row.feature for row in some.rows} == {"order", "user.city"}
    assert next(row.label for row in some.rows if row.index > 100) == "Rome"


def test_few_users_are_hidden_and_what_cannot_be_is_refused(world: Any) -> None:
    people = Population(world[0], AT, GROUPS)
    found = derive_group_profile(people, "romans", least=200)
    whole = derive_group_profile(people, "romans", least=1)
    assert found.hidden + len(found.rows) == whole.hidden + len(whole.rows)
    assert found.rows
    assert all(row.base_count >= 200 for row in found.rows)
    for words, error, change in [
        ("unknown field or event", NotFound, {"fields": ("user.town",)}),
        ("must be at least 1", BadInput, {"least": 0}),
        ("must be more than nothing", BadInput, {"within": timedelta(0)}),
        ("has no members to compare", BadInput, {"against": "nobody"}),
    ]:
        with pytest.raises(error, match=words):
            derive_group_profile(people, "romans", **change)
    with pytest.raises(NotFound):
        derive_group_profile(people, "nope")


def rows_of(counted: list[list[int]], sizes: tuple[int, int, int]) -> dict[str, ProfileRow]:
    slices = [Slice(feature="f", label=str(i), inside=None) for i in range(len(counted))]
    rows, hidden = compare(slices, np.array(counted, np.float64), sizes, 1)
    assert hidden == len(counted) - len(rows)
    return {row.label: row for row in rows}


def test_against_a_base_that_holds_it_z_is_that_of_the_group_against_the_rest() -> None:
    rows = rows_of([[60, 200, 60], [10, 900, 10], [0, 50, 0]], (100, 1000, 100))
    for label, (x1, x2) in {"0": (60, 200), "1": (10, 900), "2": (0, 50)}.items():
        table = [[x1, 100 - x1], [x2 - x1, 900 - (x2 - x1)]]
        chi2, p, *_ = chi2_contingency(table, correction=False)
        assert rows[label].z ** 2 == pytest.approx(chi2)
        assert rows[label].p == pytest.approx(p, rel=1e-6, abs=1e-300)
    assert rows["0"].index == pytest.approx(300)
    assert rows["0"].lift == pytest.approx(2)
    assert rows["2"].index_low == 0.0
    same = rows_of([[20, 20, 20]], (100, 100, 100))["0"]
    assert (same.z, same.p, same.strength, same.index_low, same.index_high) == (0, 1, 0, 100, 100)


def test_q_is_benjamini_and_hochbergs() -> None:
    p = np.random.default_rng(2).uniform(size=40) ** 3
    assert adjusted(p) == pytest.approx(false_discovery_control(p))
    assert adjusted(np.zeros(0)).size == 0


def test_overlapping_groups_that_do_not_differ_are_told_apart_as_often_as_stated() -> None:
    rng = np.random.default_rng(11)
    one, other = np.arange(4_000) < 2_400, np.arange(4_000) >= 1_000
    z, covered = [], 0
    for _ in range(1_500):
        has = rng.uniform(size=4_000) < 0.3
        x = [[int((has & part).sum()) for part in (one, other, one & other)]]
        row = rows_of(x, (2_400, 3_000, 1_400))["0"]
        z.append(row.z)
        covered += row.index_low <= 100 <= row.index_high
    assert 0.93 < np.std(z) < 1.07
    assert 0.93 < covered / 1_500 < 0.97


def test_overlap_is_that_of_sets() -> None:
    rng = np.random.default_rng(1)
    sets = {
        f"g{i}": set(rng.choice(500, int(rng.integers(0, 300)), replace=False).tolist()) for i in range(6)
    }
    sets["none"] = set()
    found = derive_overlap({name: BitMap(each) for name, each in sets.items()})
    for i, one in enumerate(sets.values()):
        for j, other in enumerate(sets.values()):
            assert found.both[i, j] == len(one & other)
            assert found.jaccard[i, j] == pytest.approx(len(one & other) / max(len(one | other), 1))
            assert found.share[i, j] == pytest.approx(len(one & other) / max(len(one), 1))


def test_history_tells_who_came_and_went() -> None:
    def version(number: int, members: set[int], definition: str) -> tuple[GroupVersion, BitMap]:
        told = GroupVersion(
            name="g", version=number, fingerprint=definition, as_of=AT + timedelta(days=number),
            count=len(members), universe=10, sources={}, members="", calculated_at=AT,
        )  # fmt: skip
        return told, BitMap(members)

    found = derive_history([version(1, {1, 2, 3}, "a"), version(2, {2, 3, 4, 5}, "a"), version(3, {2}, "b")])
    assert [(each.count, each.added, each.removed, each.kept, each.redefined) for each in found] == [
        (3, None, None, None, False), (4, 2, 1, 2, False), (1, 0, 3, 1, True),
    ]  # fmt: skip
    assert derive_history([]) == []


def test_migration_adds_up() -> None:
    before = pl.DataFrame({"user": [1, 2, 3, 4, 5], "stage": ["new", "new", "loyal", "loyal", "lapsed"]})
    after = pl.DataFrame({"user": [2, 3, 4, 5, 6, 7], "stage": ["new", "new", "loyal", "loyal", "new", "x"]})
    found = derive_migration(before, after.lazy(), "stage")
    assert (found.users, found.stayed, found.new, found.gone) == (4, 0.5, 2, 1)
    flows = {(row[0], row[1]): row[2:] for row in found.flows.rows()}
    assert flows == {
        ("new", "new"): (1, 0.5), ("new", GONE): (1, 0.5), ("loyal", "new"): (1, 0.5),
        ("loyal", "loyal"): (1, 0.5), ("lapsed", "loyal"): (1, 1.0), (NEW, "new"): (1, None),
        (NEW, "x"): (1, None),
    }  # fmt: skip
    assert sorted(found.places.rows()) == [
        ("lapsed", 1, 0, 0, 0.0), ("loyal", 2, 2, 1, 0.5), ("new", 2, 3, 1, 0.5), ("x", 0, 1, 0, None),
    ]  # fmt: skip
    nobody = derive_migration(before.clear(), after.clear(), "stage")
    assert (nobody.users, nobody.stayed) == (0, 0.0)
    with pytest.raises(NotFound, match="colour"):
        derive_migration(before, after, "colour")
    with pytest.raises(BadInput, match="not the same people"):
        derive_migration(before, after.with_columns(pl.col("user").cast(pl.String)), "stage")
