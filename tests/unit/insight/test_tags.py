"""Tags: what they come to in a condition, and what is wrong about one said in a sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from insight.api import Catalog, Group, Population, Tag, check_tags_and_needs, parse_catalog, resolve
from insight.tags import parts, tag_groups, write_out
from kernel.definitions import parse
from kernel.errors import BadInput, NotFound

AT = datetime(2017, 10, 16, tzinfo=UTC)
#: user → (city, [(days ago, amount)]); the value of each tag is worked out by hand below
WORLD: dict[int, tuple[str | None, list[tuple[int, float | None]]]] = {
    1: ("Shanghai", [(1, 60.0), (5, 50.0), (200, 999.0)]),
    2: ("Paris", [(10, 5.0)]),
    3: (None, [(3, None)]),
    4: ("Pa", []),
    5: ("Shanghai", [(95, 70.0)]),
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("tags")
    (folder / "shop").mkdir()
    users = pl.DataFrame({"id": list(WORLD), "town": [city for city, _ in WORLD.values()]})
    users.write_parquet(folder / "shop" / "users.parquet")
    lines = [
        (user, AT - timedelta(days=ago), amount) for user, (_, all_) in WORLD.items() for ago, amount in all_
    ]
    schema = {"who": pl.Int64, "t": pl.Datetime("us", "UTC"), "total": pl.Float64}
    pl.DataFrame(lines, schema=schema, orient="row").write_parquet(folder / "shop" / "orders.parquet")
    raw: dict[str, Any] = {
        "sources": {"shop": {"url": "parquet://shop"}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "id"}},
        "fields": {"user.city": {"table": "users", "column": "town", "type": "string"}},
        "events": {
            "order": {
                "source": "shop", "table": "orders", "user": "who", "time": "t",
                "fields": {"amount": {"column": "total", "type": "decimal"}},
            }
        },
    }  # fmt: skip
    return parse_catalog(raw, folder=folder)


def tag(**said: Any) -> Tag:
    return parse(Tag, {"kind": "tag", "name": "t", **said}, "tag t")


SPEND = {"event": "order", "of": "amount", "within": "90d"}
BANDS = [
    {"label": "big", "op": "ge", "value": 100},
    {"label": "some", "op": "gt", "value": 0},
    {"label": "none"},
]
COUNTED = {"event": "a", "agg": "count", "op": "ge", "value": 1}
THREE = {"label": "x", "op": "in", "value": 3}
CITY = tag(**{"from": {"field": "user.city"}})
TOTAL = tag(**{"from": {**SPEND, "agg": "sum"}})
LEAST = tag(**{"from": {**SPEND, "agg": "min"}})
BAND = tag(**{"from": {**SPEND, "agg": "sum"}, "labels": BANDS})
PLACE = tag(
    **{
        "from": {"field": "user.city"},
        "labels": [
            {"label": "east", "op": "eq", "value": "Shanghai"},
            {"label": "P", "op": "contains", "value": "Pa"},
            {"label": "capital", "op": "in", "value": ["Paris", "Shanghai"]},
        ],
    }
)
BUYER = tag(where={"event": "order", "agg": "count", "within": "90d", "op": "ge", "value": 1})
#: tag → user → value, None for no value
VALUES: list[tuple[Tag, dict[int, Any]]] = [
    (CITY, {1: "Shanghai", 2: "Paris", 3: None, 4: "Pa", 5: "Shanghai"}),
    (TOTAL, {1: 110.0, 2: 5.0, 3: 0.0, 4: 0.0, 5: 0.0}),
    (LEAST, {1: 50.0, 2: 5.0, 3: None, 4: None, 5: None}),
    (BAND, {1: "big", 2: "some", 3: "none", 4: "none", 5: "none"}),
    (PLACE, {1: "east", 2: "P", 3: None, 4: "P", 5: "east"}),
    (BUYER, {1: True, 2: True, 3: True, 4: False, 5: False}),
]


def holds(op: str, value: Any, wanted: Any) -> bool:
    """What `insight.conditions` says of a field."""
    if op in ("is_null", "not_null"):
        return (value is None) == (op == "is_null")
    if op in ("ne", "not_in"):
        return not holds("eq" if op == "ne" else "in", value, wanted)
    if value is None:
        return False
    return {
        "eq": lambda: value == wanted, "in": lambda: value in wanted, "lt": lambda: value < wanted,
        "le": lambda: value <= wanted, "gt": lambda: value > wanted, "ge": lambda: value >= wanted,
        "between": lambda: wanted[0] <= value <= wanted[1], "contains": lambda: wanted in value,
    }[op]()  # fmt: skip


def checks_of(each: Tag, values: dict[int, Any]) -> list[tuple[str, Any]]:
    known = [value for value in values.values() if value is not None]
    found: list[tuple[str, Any]] = [("is_null", None), ("not_null", None)]
    found += [(op, value) for op in ("eq", "ne") for value in known]
    if each.type == "yes_no":
        return found
    found += [("in", known[:1]), ("not_in", known[:1]), ("in", known), ("not_in", known)]
    if isinstance(known[0], str):
        return [*found, ("contains", "P"), ("contains", "e"), ("contains", "zz")]
    return [*found, *((op, known[0]) for op in ("lt", "le", "gt", "ge")), ("between", [0, 10])]


def test_a_test_of_a_tag_is_what_it_would_be_of_a_field_with_its_values(catalog: Catalog) -> None:
    tried = 0
    population = Population(catalog, AT)
    for each, values in VALUES:
        for op, wanted in checks_of(each, values):
            mention = {"tag": "t", "op": op} | ({} if wanted is None else {"value": wanted})
            group = resolve(Group(name="g", where={"all": [mention]}), {"t": each})
            found = population.users(population.members(group)).to_list()
            expected = [user for user, value in values.items() if holds(op, value, wanted)]
            assert found == expected, (each.model_dump(), op, wanted)
            tried += 1
    assert tried > 60


def test_what_is_published_of_a_tag(catalog: Catalog) -> None:
    population = Population(catalog, AT)

    def found(each: Tag) -> dict[str, list[int]]:
        return {
            name: population.users(population.members(group)).to_list()
            for name, group in tag_groups(each, {}).items()
        }

    assert found(BAND) == {
        "tag:t": [1, 2, 3, 4, 5], "tag:t=big": [1], "tag:t=some": [2], "tag:t=none": [3, 4, 5],
    }  # fmt: skip
    assert found(PLACE) == {
        "tag:t": [1, 2, 4, 5],
        "tag:t=east": [1, 5],
        "tag:t=P": [2, 4],
        "tag:t=capital": [],
    }
    assert found(BUYER) == {"tag:t": [1, 2, 3]}
    assert found(LEAST) == {"tag:t": [1, 2]}


def test_tags_of_tags_and_a_new_fingerprint_for_who_uses_them(catalog: Catalog) -> None:
    loyal = tag(
        name="loyal", where={"all": [{"tag": "t"}, {"not": {"tag": "city", "op": "eq", "value": "Paris"}}]}
    )
    group = Group(name="g", where={"any": [{"tag": "loyal"}, {"tag": "loyal", "op": "eq", "value": True}]})
    tags = {"t": BUYER, "loyal": loyal, "city": CITY}
    population = Population(catalog, AT)
    assert population.users(population.members(resolve(group, tags))).to_list() == [1, 3]
    other = {**tags, "t": tag(where={"field": "user.city", "op": "not_null"})}
    assert resolve(group, tags).fingerprint != resolve(group, other).fingerprint
    assert resolve(group, tags).fingerprint == resolve(group, tags).fingerprint
    plain = Group(name="g", where={"field": "user.city", "op": "is_null"})
    assert resolve(plain, tags) is plain


def test_tags_that_refer_to_themselves_are_named() -> None:
    circle = {
        "a": tag(name="a", where={"not": {"tag": "b"}}),
        "b": tag(name="b", where={"all": [{"tag": "a"}]}),
    }
    with pytest.raises(BadInput, match="tag a: tag = 'a': refers to itself: a → b → a"):
        write_out({"tag": "a"}, circle)
    through = {"a": tag(name="a", where={"group": "g"})}
    with pytest.raises(BadInput, match="itself"):
        check_tags_and_needs({"g": Group(name="g", where={"tag": "a"})}, through, None)


def test_tags_that_grow_without_end_are_refused() -> None:
    tags = {"t0": tag(name="t0", where={"field": "user.city", "op": "is_null"})}
    for n in range(1, 40):
        below = {"tag": f"t{n - 1}"}
        tags[f"t{n}"] = tag(name=f"t{n}", where={"all": [below, below]})
    with pytest.raises(BadInput, match="more than 20000 parts"):
        write_out({"tag": "t39"}, tags)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "needs either from .* or where"),
        ({"from": {"field": "user.city"}, "where": {"tag": "x"}}, "needs either from"),
        ({"from": {"group": "x"}}, "from.group: is not a known field here"),
        ({"from": {}}, "from: names neither a field nor an event"),
        ({"from": {"event": "order", "agg": "middle", "of": "x"}}, "unknown agg"),
        ({"where": {"tag": 7}}, "tag = '7': is not text"),
        ({"where": {"tag": "x", "op": "like"}}, "unknown op"),
        ({"where": {"tag": "x", "op": "eq"}}, "value: is required"),
        ({"where": {"tag": "x", "value": 1}}, "needs an op"),
        ({"where": {"tag": "x", "field": "y"}}, "tag.field: is not a known field"),
        ({"where": COUNTED | {"where": {"tag": "x"}}}, "names a tag"),
        ({"where": {"tag": "x"}, "labels": BANDS}, "labels are for values"),
        ({"from": {"field": "a.b"}, "labels": [{"label": "x"}]}, "can only be the last"),
        ({"from": {"field": "a.b"}, "labels": [BANDS[0], BANDS[0]]}, "named twice"),
        ({"from": {"field": "a.b"}, "labels": [THREE]}, "not a list of values"),
        ({"where": {"tag": "x"}, "expires": "soon"}, "is not a window"),
        ({"where": {"tag": "x"}, "schedule": "61 * * * *"}, "has no minute '61'"),
        ({"where": {"tag": "x"}, "needs": [{"table": "a.b", "sha256": "0" * 64}]}, "sha256 is not for"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_tag_is_said(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        tag(**said)


@pytest.mark.parametrize(
    ("mention", "sentence"),
    [
        ({"tag": "nope"}, "unknown tag"),
        ({"tag": "city"}, "is a value, so it needs op and value"),
        ({"tag": "buyer", "op": "gt", "value": 1}, "is true or false"),
        ({"tag": "buyer", "op": "eq", "value": "yes"}, "is true or false"),
        ({"tag": "band", "op": "eq", "value": "bigg"}, "unknown label of tag t; did you mean 'big'"),
        ({"tag": "band", "op": "lt", "value": "big"}, "have no order"),
    ],
)
def test_a_test_that_does_not_suit_the_tag_is_refused(mention: dict[str, Any], sentence: str) -> None:
    tags = {"city": CITY, "buyer": BUYER, "band": BAND}
    with pytest.raises(BadInput, match=sentence):
        write_out(mention, tags, "group g")


def test_names_types_and_freshness_are_checked_against_the_catalog(catalog: Catalog) -> None:
    def check(each: Tag, **groups: Group) -> None:
        check_tags_and_needs(groups, {each.name: each}, catalog)

    check(BAND)
    with pytest.raises(NotFound, match=r"tag t: .*did you mean 'user.city'"):
        check(tag(**{"from": {"field": "user.citi"}}))
    with pytest.raises(BadInput, match="not a number"):
        check(tag(**{"from": {**SPEND, "agg": "sum"}, "labels": [{"label": "x", "op": "eq", "value": "a"}]}))
    with pytest.raises(BadInput, match="tag t: freshness = 'real_time': but it looks at something"):
        check(tag(freshness="real_time", where={"field": "user.city", "op": "is_null"}))
    with pytest.raises(NotFound, match="unknown group"):
        check(tag(where={"group": "nobody"}))
    with pytest.raises(NotFound, match=r"needs\.table.*did you mean 'shop.orders'"):
        check(tag(where={"field": "user.city", "op": "is_null"}, needs=[{"table": "shop.order"}]))
    with pytest.raises(BadInput, match="has no time column"):
        check(tag(where={"field": "user.city", "op": "is_null"},
                  needs=[{"table": "shop.users", "complete_through": "1d"}]))  # fmt: skip
    with pytest.raises(NotFound, match="unknown tag"):
        check(BAND, g=Group(name="g", where={"tag": "x"}))
    with pytest.raises(BadInput, match="refers to itself: g → h → g"):
        check(
            BAND,
            g=Group(name="g", where={"field": "user.city", "op": "is_null"}, needs=[{"group": "h"}]),  # type: ignore[arg-type]  # a list, as in YAML
            h=Group(name="h", where={"group": "g"}),
        )


def test_parts_are_named_for_their_labels() -> None:
    assert list(parts(BAND)) == ["tag:t", "tag:t=big", "tag:t=some", "tag:t=none"]
