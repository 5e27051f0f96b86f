"""The speed layer against the oracle: events that come late, twice and in any order, batches in between.

Touched users are what the oracle says as of now; everybody else, as of the batch. After a batch that knows
all events the answers are the batch's own.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyroaring import BitMap
from sqlalchemy import create_engine, event

from insight.api import Group, Population, parse_catalog
from insight.fresh import SpeedLayer
from insight.fresh_events import EventDoor
from insight.fresh_groups import Cutter, FreshGroup, real_time_events
from kernel.audiences import GroupVersion
from kernel.errors import NotFound
from storage import database
from storage.events import EventLog, NewEvent
from storage.tables import metadata


def _beside(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


oracle = _beside("condition_oracle")
conditions = _beside("condition_worlds")

AT: datetime = conditions.AT
#: `view` comes from a slow system: no real time there
REAL_TIME = {"order", "tap"}
USERS = [1, 2, 3]
#: groups that notice a line counted twice, and a window that ends while nothing else happens
EXACT = {
    "taps": {"event": "tap", "agg": "count", "op": "in", "value": [1, 3]},
    "sums": {"event": "order", "agg": "sum", "of": "amount", "op": "between", "value": [0.1, 1.4]},
    "hour": {"event": "tap", "agg": "count", "within": "1h", "op": "ge", "value": 1},
    "day": {"event": "order", "last": True, "newer_than": "1d"},
}
PAGES = ["home", "O'x", "cart"]
STEPS = [timedelta(0), timedelta(minutes=20), timedelta(minutes=20), timedelta(hours=1), timedelta(days=1)]


class MovingClock:
    """Stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def catalog(folder: Path) -> Any:
    events = {
        name: {
            "source": "shop", "table": name, "user": "who", "time": "t",
            "fields": {"page": {"column": "page", "type": "string"}, "n": {"column": "n", "type": "integer"}},
        }
        for name in ("tap", "view")
    }  # fmt: skip
    amount = {
        "amount": {"column": "total", "type": "decimal"},
        "sku": {"column": "sku", "type": "integer"},
        "kind": {"column": "kind", "type": "string"},
    }
    order = {"source": "shop", "table": "order", "user": "who", "time": "t", "id": "basket", "fields": amount}
    raw = {
        "sources": {"shop": {"url": "parquet://shop"}},
        "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
        "fields": {"user.city": {"table": "users", "column": "town", "type": "string"}},
        "events": {
            "order": {**order, "freshness": "real_time"},
            "tap": {**events["tap"], "freshness": "real_time"},
            "view": events["view"],
        },
    }
    return parse_catalog(raw, folder=folder)


class Story:
    """A shop with its speed layer, and beside it all that ever happened, for the oracle."""

    def __init__(self, folder: Path, seed: int, where: dict[str, Any], settles: timedelta) -> None:
        self.chance = random.Random(seed)  # noqa: S311  a story, not a secret
        self.folder, self.settles = folder, settles
        (folder / "shop").mkdir()
        self.clock = MovingClock(AT)
        self.where = where
        self.groups = {name: Group(name=name, where=each) for name, each in where.items()}
        self.cities = {user: self.chance.choice(["Shanghai", "Paris", None]) for user in USERS}
        self.serial = 0
        #: (event, line, received) of everything sent or loaded
        self.all: list[tuple[str, dict[str, Any], datetime]] = []
        self.source: list[tuple[str, dict[str, Any]]] = []
        for _ in range(self.chance.randint(0, 12)):
            name, lines = self.happen()
            self.all += [(name, line, AT - timedelta(days=90)) for line in lines]
        self.engine = create_engine(f"sqlite:///{folder / 'log.db'}")
        event.listen(self.engine, "connect", database._durable_sqlite)
        metadata.create_all(self.engine)
        self.log = EventLog(self.engine)
        self.load()
        self.catalog = catalog(folder)
        self.start()
        self.batch()

    def start(self) -> None:
        self.layer = SpeedLayer(
            self.catalog,
            self.log,
            real_time=real_time_events(self.catalog),
            numbers=lambda users: [self.number(user) for user in users],
            clock=self.clock,
            settles=self.settles,
            most_lines=self.chance.choice([3, 1000]),
        )

    def number(self, user: Any) -> int | None:
        try:
            return int(self.people.dictionary.position(user))
        except NotFound:
            return None

    def happen(self) -> tuple[str, list[dict[str, Any]]]:
        """An event of some time up to now, at or near the edges of windows."""
        name = self.chance.choice(["order", "order", "tap", "view"])
        self.serial += 1
        edge = self.chance.choice([*conditions.EDGES, timedelta(minutes=30), timedelta(days=3)])
        shift = self.chance.choice([timedelta(0), timedelta(0), conditions.TINY])
        at = min(self.clock.at - edge + shift, self.clock.at)
        # without an id, lines are told apart by their time
        at -= timedelta(microseconds=10 * self.serial) if name != "order" else timedelta(0)
        user = self.chance.choice([*USERS, 99])
        if name != "order":
            values = {"page": self.chance.choice([*PAGES, None]), "n": self.chance.choice([0, 1, 2, None])}
            return name, [{"user": user, "at": at, **values}]
        return name, [
            {
                "user": user,
                "at": at,
                "id": self.serial,
                "amount": self.chance.choice([*conditions.AMOUNTS, None]),
                "sku": self.chance.choice([1, 2, 9]),
                "kind": self.chance.choice(["tea", "milk", None]),
            }
            for _ in range(self.chance.randint(1, 2))
        ]

    def send(self) -> None:
        """New, late or old; sometimes twice, sometimes several in one go."""
        requests = []
        for _ in range(self.chance.randint(1, 3)):
            name, lines = self.happen()
            if name == "view":
                continue
            keys = ("amount", "sku", "kind") if name == "order" else ("page", "n")
            new = NewEvent(
                event_id=f"order:{lines[0]['id']}" if name == "order" else f"t{self.serial}",
                user_id=str(lines[0]["user"]),
                name=name,
                occurred_at=lines[0]["at"],
                lines=[{key: line[key] for key in keys if line[key] is not None} for line in lines],
            )
            requests += [[new]] * self.chance.choice([1, 1, 2])
            self.all += [(name, line, self.clock.at) for line in lines]
        self.chance.shuffle(requests)
        self.log.append(requests, self.clock.at)
        if requests and self.chance.random() < 0.3:
            self.log.append([requests[0]], self.clock.at + timedelta(minutes=5))

    def load(self) -> None:
        """The sources take in everything so far."""
        self.source = [(name, line) for name, line, _ in self.all]
        self.loaded_at = self.clock.at
        instant = pl.Datetime("us", "UTC")
        tables: dict[str, dict[str, Any]] = {
            "order": {"who": pl.Int64, "t": instant, "basket": pl.Int64, "total": pl.Float64,
                      "sku": pl.Int64, "kind": pl.String},
            "tap": {"who": pl.Int64, "t": instant, "page": pl.String, "n": pl.Int64},
            "view": {"who": pl.Int64, "t": instant, "page": pl.String, "n": pl.Int64},
        }  # fmt: skip
        for table, schema in tables.items():
            rows = [tuple(line.values()) for name, line in self.source if name == table]
            frame = pl.DataFrame(rows, schema=schema, orient="row")
            frame.write_parquet(self.folder / "shop" / f"{table}.parquet")
        towns = pl.DataFrame({"uid": USERS, "town": [self.cities[user] for user in USERS]})
        towns.cast({"town": pl.String}).write_parquet(self.folder / "shop" / "users.parquet")

    def batch(self) -> None:
        """Loads the sources and publishes every group, some of them as of a little earlier."""
        self.load()
        self.loaded = list(self.source)
        as_of = self.clock.at - self.chance.choice([timedelta(0), timedelta(hours=1), timedelta(days=1)])
        self.people = Population(self.catalog, as_of, self.groups)
        self.published = {name: self.people.members(name) for name in self.groups}
        self.versions = [
            GroupVersion(
                name=name,
                version=1,
                fingerprint=group.fingerprint,
                as_of=as_of,
                count=len(self.published[name]),
                universe=len(self.people.universe),
                sources={},
                members="",
                calculated_at=self.clock.at,
            )
            for name, group in self.groups.items()
        ]
        self.cuts: dict[str, FreshGroup | None] = {}
        self.rebase()

    def publish_again(self) -> None:
        """One group as of another instant, from the same load; the others stay as they are."""
        at = self.chance.randrange(len(self.versions))
        name = self.versions[at].name
        as_of = self.clock.at - self.chance.choice([timedelta(0), timedelta(hours=1), timedelta(days=1)])
        people = Population(self.catalog, as_of, self.groups)
        self.published[name] = people.members(name)
        self.versions[at] = replace(self.versions[at], as_of=as_of, calculated_at=self.loaded_at)
        del self.cuts[name]
        self.people = people
        self.rebase()

    def rebase(self) -> None:
        def members(as_of: datetime, nodes: Any) -> list[BitMap]:
            people = Population(self.catalog, as_of, self.groups)
            return [people.members(node) for node in nodes]

        cutter = Cutter(self.catalog, self.groups, real_time_events(self.catalog), members)
        for version in self.versions:
            if version.name not in self.cuts:
                self.cuts[version.name] = cutter.cut(version)
        self.overlays = self.layer.rebase([cut for cut in self.cuts.values() if cut is not None])

    def check(self) -> None:
        self.layer.catch_up()
        self.layer.expire()
        for version in self.versions:
            overlay = self.overlays.get(version.name)
            names = real_time_in(self.where[version.name], self.where)
            assert (overlay is None) == (not names)
            for user in USERS:
                number = self.number(user)
                assert number is not None
                touched = overlay is not None and number in overlay.touched
                assert touched == self.is_touched(user, names, version), (version.name, user)
                member = number in (overlay.inside if touched and overlay else self.published[version.name])
                expected = self.fulfils(self.where[version.name], user, version.as_of, touched)
                assert member == expected, (version.name, user, touched, self.where[version.name])

    def is_touched(self, user: int, names: set[str], version: GroupVersion) -> bool:
        return any(
            line["user"] == user
            and name in names
            and received > AT - timedelta(days=90)
            and not (line["at"] <= version.as_of and received + self.settles < version.calculated_at)
            for name, line, received in self.all
        )

    def fulfils(self, where: Any, user: int, as_of: datetime, touched: bool) -> bool:
        if "all" in where:
            return all(self.fulfils(part, user, as_of, touched) for part in where["all"])
        if "any" in where:
            return any(self.fulfils(part, user, as_of, touched) for part in where["any"])
        if "not" in where:
            return not self.fulfils(where["not"], user, as_of, touched)
        if "group" in where:
            return self.fulfils(self.where[where["group"]], user, as_of, touched)
        fresh = touched and bool(real_time_in(where, self.where))
        lines = [(name, line) for name, line, _ in self.all] if fresh else self.loaded
        world: dict[str, Any] = {
            "fields": {each: {"user.city": city} for each, city in self.cities.items()},
            "events": {
                name: [line for one, line in lines if one == name] for name in ("order", "tap", "view")
            },
        }
        if fresh:  # of events that are not real-time, the sources are all that is known
            world["events"]["view"] = [line for one, line in self.loaded if one == "view"]
        return bool(oracle.fulfils(world, self.where, self.clock.at if fresh else as_of, where, user))


def real_time_in(where: Any, groups: dict[str, Any]) -> set[str]:
    """Real-time events that the condition looks at."""
    if "group" in where:
        return real_time_in(groups[where["group"]], groups)
    parts = where.get("all") or where.get("any") or where.get("sequence") or []
    parts = [*parts, *([where["not"]] if "not" in where else [])]
    by = where.get("not_followed_by")
    names = {where.get("event"), by if isinstance(by, str) else (by or {}).get("event")} & REAL_TIME
    return names.union(*(real_time_in(part, groups) for part in parts))


def _tapping(tree: Any, draw: Any) -> Any:
    """Some of the views of a drawn tree as taps, which are real-time."""
    if isinstance(tree, list):
        return [_tapping(each, draw) for each in tree]
    if not isinstance(tree, dict):
        return tree
    tap = any(tree.get(key) == "view" for key in ("event", "not_followed_by")) and draw(st.booleans())
    found = {}
    for key, each in tree.items():
        if tap and key in ("event", "not_followed_by") and each == "view":
            found[key] = "tap"
        elif tap and key in ("where", "of"):
            found[key] = _renamed(each)
        elif key == "where":
            found[key] = each
        else:
            found[key] = _tapping(each, draw)
    return found


def _renamed(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.replace("view.", "tap.")
    if isinstance(tree, list):
        return [_renamed(each) for each in tree]
    return {
        key: _renamed(each) if key in ("field", "all", "any", "not") else each for key, each in tree.items()
    }


@st.composite
def trees(draw: st.DrawFn, extra: Any = None) -> Any:
    city = conditions.on_field("user.city", ["Shanghai", "Paris"], "eq ne in is_null")
    leaves = [conditions.event_leaves(), conditions.event_leaves(), city]
    leaves += [st.just(extra)] if extra is not None else []
    return _tapping(draw(conditions.nested(st.one_of(leaves), 3)), draw)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    one=trees(),
    two=trees({"group": "one"}),
    three=trees(),
    settles=st.sampled_from([timedelta(0), timedelta(minutes=20)]),
)
def test_the_speed_layer_and_the_oracle_agree(
    seed: int, one: Any, two: Any, three: Any, settles: timedelta
) -> None:
    where = {"one": one, "two": two, "three": three, **EXACT}
    with tempfile.TemporaryDirectory() as name:
        story = Story(Path(name), seed, where, settles)
        for _ in range(14):
            step = story.chance.choice(["send", "send", "send", "wait", "wait", "again", "batch", "restart"])
            if step == "send":
                story.send()
            elif step == "wait":
                story.clock.at += story.chance.choice(STEPS)
            elif step == "batch":
                story.batch()
            elif step == "again":
                story.publish_again()
            else:
                story.start()
                story.rebase()
            story.check()
        story.clock.at += timedelta(days=1)  # all that was sent has settled
        story.batch()
        story.check()
        if all(version.as_of == story.clock.at for version in story.versions):
            assert story.layer.open_events == 0
            assert all(not overlay.touched for overlay in story.overlays.values())
        story.engine.dispose()


def tapped(story: Story, event_id: str) -> None:
    """User 1 taps now."""
    at = story.clock.at
    story.log.append(
        [[NewEvent(event_id=event_id, user_id="1", name="tap", occurred_at=at, lines=[{"n": 1}])]], at
    )
    story.all.append(("tap", {"user": 1, "at": at, "page": None, "n": 1}, at))


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Story]:
    """Nothing has happened yet."""
    where = {
        "twice": {"event": "tap", "agg": "count", "op": "eq", "value": 2},
        "hour": {"event": "tap", "agg": "count", "within": "1h", "op": "ge", "value": 1},
        "bought": {"event": "order", "agg": "count", "op": "ge", "value": 1},
    }
    story = Story(tmp_path, 1, where, timedelta(0))
    story.all, story.layer._most_lines = [], 1000
    story.batch()
    yield story
    story.engine.dispose()


def test_lines_of_the_sources_are_read_again_when_they_have_changed(quiet: Story) -> None:
    """The first tap goes out of the log's keeping into the sources', while the second is still open."""
    tapped(quiet, "a")
    quiet.check()
    quiet.clock.at += timedelta(days=2)
    tapped(quiet, "b")
    quiet.check()
    quiet.batch()
    quiet.check()
    assert quiet.layer.open_events == 1
    assert quiet.overlays["twice"].inside == BitMap([quiet.number(1) or 0])


def test_what_is_due_stays_due_when_another_group_is_published(quiet: Story) -> None:
    tapped(quiet, "a")
    quiet.check()
    before, due = quiet.overlays["hour"], quiet.layer.next_due()
    assert due == quiet.clock.at + timedelta(hours=1)
    quiet.chance.randrange = lambda _: 2  # type: ignore[method-assign, assignment]  # the group of orders
    quiet.publish_again()
    assert quiet.overlays["hour"] is before
    assert quiet.layer.next_due() == due
    quiet.clock.at += timedelta(hours=2)
    quiet.check()
    assert not quiet.overlays["hour"].inside


def test_the_door_reads_what_was_logged(tmp_path: Path) -> None:
    """Without it, a story in which nothing is ever typed would agree with the oracle all the same."""
    story = Story(
        tmp_path, 1, {"one": {"event": "tap", "agg": "count", "op": "ge", "value": 1}}, timedelta(0)
    )
    story.log.append(
        [[NewEvent(event_id="t", user_id="1", name="tap", occurred_at=AT, lines=[{"n": 1}])]],
        AT + timedelta(seconds=1),
    )
    (logged,) = story.log.after(0, ["tap"])
    typed = EventDoor(story.catalog).typed(logged)
    assert typed is not None
    assert (typed.user, typed.lines[0].values) == (1, {"n": 1})
    assert story.layer.catch_up() == 1
    assert story.overlays["one"].inside == BitMap([story.number(1) or 0])
    story.engine.dispose()
    with pytest.raises(NotFound):
        story.people.dictionary.position(99)
