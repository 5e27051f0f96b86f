"""Runs of the selection: order, leases, needs, retries, partial failure, and what people are told of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pyroaring import BitMap

from engine.population import population
from engine.selection_jobs import days_between, fire_due
from engine.selection_pool import Pool
from engine.selection_reports import check_tags, lineage, run_report, tag_states
from engine.selection_work import MOST_TRIES, submit, work
from engine.usecases import apply, init_workspace
from engine.wiring import Workspace, open_workspace
from insight.api import Population, parse_condition
from kernel.errors import BadInput, NotFound, Stale, Unavailable
from storage.group_files import mark_of

AT = datetime(2017, 10, 16, tzinfo=UTC)
POOL = Pool(2, 10**9)
COUNTED = {"event": "order", "agg": "count", "within": "30d", "op": "ge", "value": 3}


class Hand:
    """A clock that the test moves."""

    at = AT + timedelta(hours=3)

    def now(self) -> datetime:
        return self.at


def orders(root: Path, until: datetime, users: int = 20) -> None:
    """User n bought n % 5 times, the last time just before `until`."""
    rows = [
        (n, f"{n}-{k}", until - timedelta(hours=1 + 24 * k), 10.0 * k)
        for n in range(users)
        for k in range(n % 5 + 1)
    ]
    schema = {
        "user_id": pl.Int64,
        "order_id": pl.String,
        "ordered_at": pl.Datetime("us", "UTC"),
        "total": pl.Float64,
    }
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / "data" / "orders.parquet")


def define(space: Workspace, *documents: dict[str, Any]) -> None:
    path = space.root / "definitions" / "these.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    apply(space, path, by="test")


def group(name: str, where: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "group", "name": name, "where": where or COUNTED, **more}


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def space(tmp_path: Path, clock: Hand) -> Workspace:
    init_workspace(tmp_path / "w")
    orders(tmp_path / "w", AT)
    return open_workspace(tmp_path / "w", clock)


def run(space: Workspace, *keys: str, at: datetime = AT, patience: timedelta = timedelta(0)) -> str:
    return submit(space, at, keys or None, reason="command", patience=patience)


def finish(space: Workspace, name: str) -> dict[str, Any]:
    assert work(space, name, POOL) is None
    return {row.key: row for row in space.runs.jobs(name)}


def users(space: Workspace, name: str) -> list[int]:
    version = space.groups.current(name)
    assert version is not None
    members = BitMap.deserialize(space.groups.members(version))
    assert len(members) == version.count
    return (
        Population(space.catalog, AT, cache=space.leaves, dictionary=space.dictionary)
        .users(members)
        .to_list()
    )


def test_groups_and_tags_are_published_in_order_and_again_nothing_changes(space: Workspace) -> None:
    define(
        space,
        group("loyal", {"all": [{"tag": "often"}, {"not": {"group": "big"}}]}),
        group("big", {**COUNTED, "agg": "sum", "of": "amount", "value": 100}),
        {"kind": "tag", "name": "often", "where": {"group": "base"}, "owner": "crm"},
        group("base"),
        {"kind": "tag", "name": "band",
         "from": {"event": "order", "agg": "count", "within": "30d"},
         "labels": [{"label": "many", "op": "ge", "value": 4}, {"label": "few"}]},
    )  # fmt: skip
    name = run(space)
    rows = finish(space, name)
    assert Counter(row.state for row in rows.values()) == {"done": 5}
    order = list(rows)
    assert order.index("base") < order.index("tag:often") < order.index("loyal")
    assert users(space, "base") == [n for n in range(20) if n % 5 + 1 >= 3]
    assert users(space, "tag:often") == users(space, "base")
    assert users(space, "loyal") == [n for n in range(20) if n % 5 in (2, 3)]
    assert users(space, "tag:band=many") == [n for n in range(20) if n % 5 + 1 >= 4]
    version = space.groups.current("loyal")
    assert version is not None
    assert sorted(version.sources) == ["groups", "shop.orders"]
    again = run(space)
    assert again != name
    assert Counter(row.state for row in finish(space, again).values()) == {"unchanged": 5}
    assert len(space.groups.versions("loyal")) == 1
    orders(space.root, AT, users=25)  # a new load: every table has a new version
    third = finish(space, run(space))
    assert Counter(row.state for row in third.values()) == {"done": 5}
    assert len(space.groups.versions("loyal")) == 2


def test_only_what_is_asked_and_what_it_needs_is_worked_out(space: Workspace) -> None:
    define(space, group("a"), group("b", {"not": {"group": "a"}}), group("c"))
    assert list(finish(space, run(space, "b"))) == ["a", "b"]
    with pytest.raises(NotFound, match="unknown group; did you mean 'a'"):
        run(space, "aa")
    assert space.groups.names() == ["a", "b"]


def test_a_static_group_is_pinned_once_and_children_see_what_was_pinned(space: Workspace) -> None:
    define(space, group("seed", mode="static"), group("child", {"group": "seed"}))
    finish(space, run(space))
    before = users(space, "seed")
    later = AT + timedelta(days=60)
    rows = finish(space, run(space, at=later))
    assert (rows["seed"].state, rows["child"].state) == ("unchanged", "done")
    assert users(space, "child") == before != []


def test_one_fault_does_not_stop_the_rest_and_blocks_what_depends_on_it(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(space, group("good"), group("ill", {**COUNTED, "value": 2}), group("child", {"group": "ill"}),
           group("grandchild", {"not": {"group": "child"}}),
           group("other", {"not": {"group": "good"}}))  # fmt: skip
    members = Population.members

    def sometimes(self: Population, wanted: Any) -> BitMap:
        if wanted == "ill":
            raise BadInput("holds a value that does not fit", field="orders.total")
        return members(self, wanted)

    monkeypatch.setattr(Population, "members", sometimes)
    name = run(space)
    rows = finish(space, name)
    states = {key: row.state for key, row in rows.items()}
    assert states == {
        "good": "done",
        "ill": "failed",
        "child": "blocked",
        "grandchild": "blocked",
        "other": "done",
    }
    assert rows["ill"].why == "orders.total: holds a value that does not fit"
    assert rows["ill"].attempts == 1  # nothing that trying again could mend
    assert rows["grandchild"].why == f"group ill failed: {rows['ill'].why}"
    assert run_report(space, name)["states"] == {"done": 2, "failed": 1, "blocked": 2}
    assert space.runs.leases() == {}


def test_what_may_pass_is_tried_again_with_longer_pauses_and_then_given_up(
    space: Workspace, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(space, group("a"), group("b", {"not": {"group": "a"}}))
    down, members = [True], Population.members

    def flaky(self: Population, wanted: Any) -> BitMap:
        if down[0]:
            raise Unavailable("source 'shop' did not answer")
        return members(self, wanted)

    monkeypatch.setattr(Population, "members", flaky)
    name, pauses = run(space), []
    for _ in range(MOST_TRIES - 1):
        pause = work(space, name, POOL)
        assert pause is not None
        pauses.append(pause)
        clock.at += timedelta(seconds=pause)
    assert pauses == [2.0, 4.0, 8.0]
    row = space.runs.jobs(name)[0]
    assert (row.state, row.attempts, row.why) == ("waiting", 3, "source 'shop' did not answer")
    down[0] = False
    assert {row.state for row in finish(space, name).values()} == {"done"}
    down[0] = True
    orders(space.root, AT, users=30)
    name = run(space)
    while (pause := work(space, name, POOL)) is not None:
        clock.at += timedelta(seconds=pause)
    rows = {row.key: row for row in space.runs.jobs(name)}
    assert (rows["a"].state, rows["a"].attempts, rows["b"].state) == ("failed", MOST_TRIES, "blocked")


def test_a_table_that_is_not_complete_is_waited_for_and_named(space: Workspace, clock: Hand) -> None:
    orders(space.root, AT - timedelta(days=3))
    needs = [{"table": "shop.orders", "complete_through": "1d"}, {"table": "shop.orders", "rows": 10}]
    define(space, group("late", needs=needs), group("child", {"group": "late"}), group("free"))
    name = run(space, patience=timedelta(hours=2))
    pause = work(space, name, POOL)
    assert pause == 5.0
    rows = {row.key: row for row in space.runs.jobs(name)}
    assert {key: row.state for key, row in rows.items()} == {
        "late": "waiting",
        "child": "waiting",
        "free": "done",
    }
    assert rows["late"].why == (
        "table shop.orders reaches 2017-10-12 23:00 UTC, and is needed through 2017-10-15 00:00 UTC"
    )
    orders(space.root, AT)
    clock.at += timedelta(seconds=pause)
    assert {row.state for row in finish(space, name).values()} == {"done"}
    orders(space.root, AT - timedelta(days=3))
    name = run(space)  # without patience: said at once
    rows = finish(space, name)
    assert (rows["late"].state, rows["child"].state) == ("blocked", "blocked")
    assert rows["child"].why.startswith("group late blocked: table shop.orders reaches")


def test_a_capped_rebuild_is_not_taken_for_a_complete_one(space: Workspace) -> None:
    define(space, group("a", needs=[{"table": "shop.orders", "rows": 41, "within": "2d"}]))
    orders(space.root, AT, users=3)  # fresh, yet cut short: a timestamp alone would let it pass
    rows = finish(space, run(space))
    assert rows["a"].why == "table shop.orders has 5 rows within 2d, and 41 are needed"


def test_a_parent_of_another_instant_or_definition_does_not_count(space: Workspace) -> None:
    stale = [{"group": "base", "younger": "2d"}]
    define(
        space,
        group("base"),
        group("a", {**COUNTED, "value": 1}, needs=stale),
    )
    assert finish(space, run(space, "a"))["a"].why == "group base was never published"
    finish(space, run(space, "base", at=AT - timedelta(days=5)))
    assert "group base is as of 2017-10-11 00:00 UTC" in finish(space, run(space, "a"))["a"].why
    finish(space, run(space, "base", at=AT - timedelta(days=1)))
    assert finish(space, run(space, "a"))["a"].state == "done"


def test_another_definition_of_a_parent_is_another_group(space: Workspace) -> None:
    define(space, group("a"), group("b", {"group": "a"}), group("c", {"not": {"group": "b"}}))
    finish(space, run(space))
    define(space, group("a", {**COUNTED, "value": 5}), group("b", {"group": "a"}))
    assert {key: row.state for key, row in finish(space, run(space)).items()} == dict.fromkeys("abc", "done")
    assert users(space, "b") == users(space, "a") == [n for n in range(20) if n % 5 == 4]
    assert users(space, "c") == [n for n in range(20) if n % 5 != 4]


def test_what_is_published_of_the_same_is_read_and_of_anything_else_worked_out(space: Workspace) -> None:
    """A version is told from what would be worked out by members that nobody would work out."""
    define(space, group("a"), group("b", {"group": "a"}), group("c", {"all": [{"group": "b"}, COUNTED]}))
    finish(space, run(space))
    version, odd = space.groups.current("b"), BitMap([0, 19])
    assert version is not None
    space.groups.amend(version, members=odd.serialize(), count=2, universe=version.universe)

    def found(name: str, at: datetime = AT) -> tuple[list[int], list[int]]:
        people = population(space, at)
        mine = people.members(name)
        assert people.estimate(name).count == len(mine)
        return list(mine), list(population(space, at).members(parse_condition({"group": name})))

    rightly = [n for n in range(20) if n % 5 + 1 >= 3]
    assert found("b") == ([0, 19], [0, 19])
    assert list(population(space, AT).members(parse_condition({"all": [{"group": "b"}, COUNTED]}))) == [19]
    assert population(space, AT).explain("b", 2)[0].holds  # explained as it would be worked out
    assert found("b", AT + timedelta(hours=1)) == (rightly, rightly)  # another instant
    define(space, group("a", {"all": [COUNTED, COUNTED]}))
    assert found("b") == (rightly, rightly)  # another definition below
    define(space, group("a"))
    assert found("b") == ([0, 19], [0, 19])
    next((space.root / "var" / "insight" / "groups").glob(f"*/{mark_of(odd.serialize())}.roaring")).unlink()
    assert found("b") == (rightly, rightly)
    orders(space.root, AT, users=25)
    assert found("b")[0] == [n for n in range(25) if n % 5 + 1 >= 3]  # another load


def test_files_are_waited_for_by_age_size_and_sum(space: Workspace, tmp_path: Path, clock: Hand) -> None:
    marker = f"file://{tmp_path}/done-{{date}}"
    other = {"file": f"file://{tmp_path}/other"}
    define(
        space,
        group("a", needs=[{"file": marker, "at_least": 3}]),
        group(
            "b", needs=[{"any": [other, {"all": [{"file": marker}, {"table": "shop.orders", "rows": 1}]}]}]
        ),
        group("c", needs=[{"any": [other, {"table": "shop.orders", "rows": 10**6}]}]),
        group("d", needs=[{"file": marker, "sha256": "0" * 64}]),
        group("e", needs=[{"file": marker, "younger": "1h"}]),
    )
    assert finish(space, run(space))["a"].why == f"file {marker} is not there"
    (tmp_path / "done-2017-10-16").write_text("ok")
    rows = finish(space, run(space))
    assert rows["a"].why == f"file {marker} has 2 bytes, and 3 are needed"
    assert rows["b"].state == "done"
    assert rows["c"].why.startswith(
        f"none of these holds: file file://{tmp_path}/other is not there; or table"
    )
    assert rows["d"].why == f"file {marker} has another checksum"
    clock.at = datetime.now(UTC) + timedelta(hours=2)
    assert "more than 1h ago" in finish(space, run(space))["e"].why


def test_no_two_runs_work_on_one_group(space: Workspace, clock: Hand) -> None:
    define(space, group("a"), group("b", {"not": {"group": "a"}}))
    first, second = run(space), run(space, at=AT - timedelta(days=1))
    assert space.runs.lease(first, ["a"], clock.now()) == {}
    assert work(space, second, POOL) == 1.0
    assert space.runs.jobs(second)[0].why == f"run {first} is working on it"
    finish(space, first)
    clock.at += timedelta(seconds=1)
    assert {row.state for row in finish(space, second).values()} == {"done"}


def test_a_run_keeps_the_definitions_that_it_began_with(space: Workspace) -> None:
    define(space, group("a"))
    name = run(space)
    define(space, group("a", {**COUNTED, "value": 5}))
    assert run(space) != name
    finish(space, name)
    assert users(space, "a") == [n for n in range(20) if n % 5 + 1 >= 3]
    assert run(space) == run(space)  # unfinished and alike: one run


def test_sources_that_change_in_the_middle_are_read_again(
    space: Workspace, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(space, group("a"))
    members, loads = Population.members, [1]

    def reloaded(self: Population, wanted: Any) -> BitMap:
        if loads:
            loads.pop()
            orders(space.root, AT, users=40)
            raise Stale("the sources have changed")
        return members(self, wanted)

    monkeypatch.setattr(Population, "prepare", lambda *_: None)
    monkeypatch.setattr(Population, "members", reloaded)
    name = run(space)
    pause = work(space, name, POOL)
    assert pause is not None
    clock.at += timedelta(seconds=pause)
    finish(space, name)
    assert users(space, "a") == [n for n in range(40) if n % 5 + 1 >= 3]


def test_a_schedule_fires_once_catches_up_and_makes_one_run_an_instant(space: Workspace, clock: Hand) -> None:
    daily = {"cron": "0 2 * * *", "zone": "Asia/Shanghai"}
    define(space, group("a", schedule=daily), group("b", schedule=daily), group("c"),
           group("d", schedule={"cron": "30 * * * *", "as_of": "moment", "catch_up": "none"}))  # fmt: skip
    assert fire_due(space) == []  # first seen: from now on
    clock.at = datetime(2017, 10, 20, 18, 31, tzinfo=UTC)  # 02:31 in Shanghai; three nights were missed
    made = fire_due(space)
    assert [space.runs.find(name).as_of for name in made] == [
        datetime(2017, 10, 20, 16, tzinfo=UTC), datetime(2017, 10, 20, 18, 30, tzinfo=UTC),
    ]  # fmt: skip
    assert [row.key for row in space.runs.jobs(made[0])] == ["a", "b"]
    assert [row.key for row in space.runs.jobs(made[1])] == ["d"]
    assert fire_due(space) == []
    clock.at += timedelta(days=1)
    assert len(fire_due(space)) == 2


def test_a_failing_or_expired_tag_is_seen_and_blocks_who_selects(
    space: Workspace, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {**COUNTED, "value": 1}
    define(space, {"kind": "tag", "name": "buyer", "where": where, "expires": "2d", "owner": "crm"},
           group("a", {"tag": "buyer"}), group("b", {"group": "a"}), group("c"))  # fmt: skip
    assert tag_states(space)[0]["state"] == "never produced"
    with pytest.raises(
        Stale, match="group b uses tag buyer, which is never produced; run: growth run selections"
    ):
        check_tags(space, "b", AT)
    check_tags(space, "c", AT)
    finish(space, run(space))
    assert tag_states(space)[0] | {"state": "good", "count": 20, "owner": "crm"} == tag_states(space)[0]
    check_tags(space, "b", AT)
    clock.at = AT + timedelta(days=2)
    assert tag_states(space)[0]["state"] == "expired: produced as of 2017-10-16 00:00 UTC, good for 2d"
    with pytest.raises(Stale, match="expired"):
        check_tags(space, "b", clock.at)

    def never(self: Population, wanted: Any) -> BitMap:
        raise BadInput("does not fit", field="total")

    monkeypatch.setattr(Population, "members", never)
    rows = finish(space, run(space, at=AT + timedelta(days=1)))
    assert rows["a"].why == "tag buyer failed: total: does not fit"
    assert tag_states(space)[0]["state"] == "failed: total: does not fit"


def test_lineage_goes_up_and_down_through_tags_and_groups(space: Workspace) -> None:
    where = {**COUNTED, "value": 1}
    define(space, {"kind": "tag", "name": "buyer", "where": where},
           group("a", {"tag": "buyer"}), group("b", {"all": [{"group": "a"}, where]}))  # fmt: skip
    found = lineage(space, "a")
    assert [each["node"] for each in found["up"]] == [
        "tag:buyer",
        "event:order",
        "table:shop.orders",
        "source:shop",
    ]
    assert [each["node"] for each in found["down"]] == ["group:b"]
    down = {each["node"]: each["steps"] for each in lineage(space, "shop.orders")["down"]}
    assert down == {"event:order": 1, "tag:buyer": 2, "group:b": 2, "group:a": 3}
    with pytest.raises(NotFound, match="did you mean 'buyer'"):
        lineage(space, "buyr")


def test_the_pool_never_holds_more_than_it_may(space: Workspace) -> None:
    pool, lock = Pool(4, 100), threading.Lock()
    now, peak = [0], [0]

    def act(size: int) -> int:
        with lock:
            now[0] += size
            peak[0] = max(peak[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= size
        return size

    sizes = [30, 60, 500, 10, 40, 40, 70, 5, 5, 5]
    assert pool.each([(size, lambda size=size: act(size)) for size in sizes]) == sizes
    assert peak[0] == 500  # alone; all others within the limit
    assert Pool(4, 100).each([]) == []
    with pytest.raises(ZeroDivisionError):
        pool.each([(1, lambda: 1), (1, lambda: 1 // 0)])


def test_days_between_are_checked() -> None:
    assert [str(day) for day in days_between("2017-10-30..2017-11-01")] == [
        "2017-10-30",
        "2017-10-31",
        "2017-11-01",
    ]
    for wrong in ("2017-10-30", "2017-11-01..2017-10-30", "a..b", "1900-01-01..2017-01-01"):
        with pytest.raises(BadInput, match="--backfill"):
            days_between(wrong)
