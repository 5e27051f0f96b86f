"""A forgotten person is looked for in every file: by her bytes, and value by value."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pyroaring import BitMap

from engine.forgetting import forget_user, readmit_user
from engine.identities import merge_users
from engine.population import population
from engine.usecases import apply, select_group
from engine.wiring import Workspace, open_workspace
from engine.world import known_users, read_history
from insight.selection import check_selection
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.errors import NotFound
from kernel.exposure import Reservation
from kernel.learning import Action, Decision
from realtime.api import Outcome, encode_decision, encode_outcome
from storage.events import EventLog, NewEvent
from storage.journal import FileJournalWriter

AT = datetime(2017, 10, 16, tzinfo=UTC)
TEXT = ["ann-77@x.example", "bo-12@x.example", "cy-31@x.example", "di-98@x.example"]
#: whose bytes are rare enough to look for
NUMBERS = [7_234_567_891_234, 8_765_432_198_765, 9_111_222_333_444, 6_555_444_333_222]
CATALOG: dict[str, Any] = {
    "sources": {"shop": {"url": "parquet://../company"}},
    "entities": {"user": {"source": "shop", "table": "users", "key": "customer_no"}},
    "fields": {"user.city": {"table": "users", "column": "city", "type": "string"}},
    "events": {
        "order": {
            "source": "shop", "table": "orders", "user": "customer_no", "time": "t", "role": "purchase",
            "fields": {"amount": {"column": "total", "type": "decimal", "role": "amount"}},
        }
    },
}  # fmt: skip
GROUP = {"kind": "group", "name": "x", "where": {"field": "user.city", "op": "eq", "value": "x"}}


def make(folder: Path, users: list[Any]) -> Workspace:
    """A workspace that has known its users for a while: her (the first), one merged into her, others."""
    root, company = folder / "workspace", folder / "company"
    for path in (root, company):
        path.mkdir()
    pl.DataFrame({"customer_no": users, "city": ["x"] * 4}).write_parquet(company / "users.parquet")
    orders = pl.DataFrame({"customer_no": users, "t": [datetime(2017, 10, 10, tzinfo=UTC)] * 4, "total": 1.0})
    orders.write_parquet(company / "orders.parquet")
    (root / "growth.toml").write_text("name = 'test'\n")
    (root / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    (root / "groups.yaml").write_text(yaml.safe_dump(GROUP))
    space = open_workspace(root, FixedClock(at=AT))
    apply(space, root / "groups.yaml", by="me")
    _in_sql(space, users)
    _in_files(space, folder, users)
    for day in (15, 16):
        people = population(space, AT.replace(day=day))
        members = people.members("x")
        space.groups.publish(
            name="x", fingerprint="f", as_of=AT.replace(day=day), members=members.serialize(),
            count=len(members), universe=len(people.universe), sources={}, calculated_at=AT,
        )  # fmt: skip
    merge_users(space, str(users[3]), str(users[0]), because=f"{users[3]} is user {users[0]}", by="me")
    return space


def _in_sql(space: Workspace, users: list[Any]) -> None:
    journal = FileJournalWriter(space.journal, "w0")
    for number, user in enumerate(users):
        decision = Decision(
            decision_id=f"j{number}", user_id=str(user), moment="guidance", decided_at=AT,
            context={"user_id": user, "referrer_user_id": str(users[0])}, actions=("a",),
            propensities=(1.0,), action="a", propensity=1.0, policy="p@1", prices={}, reason="r",
        )  # fmt: skip
        journal.append(encode_decision(decision, [Action(id="a")], key=f"key of {user}"))
        journal.append(encode_outcome(Outcome(f"j{number}", f"o{number}", "buy", 1.0, 1, 2)))
    journal.close()
    wishes = [
        Reservation(
            touch_id=f"t{number}", user=str(user), channel="mail", message_class=MessageClass.MARKETING,
            at=AT, run="r", plan="p",
        )
        for number, user in enumerate(users)
    ]  # fmt: skip
    space.ledger.reserve_many(wishes, caps=[])
    fresh = [
        NewEvent(event_id=f"e{i}", user_id=str(user), name="order", occurred_at=AT, lines=[{}])
        for i, user in enumerate(users)
    ]
    EventLog(space.database).append([fresh], AT)
    with sqlite3.connect(space.root / "var" / "tracking.db") as other:
        other.execute("CREATE TABLE tags (user_id TEXT, note TEXT)")
        other.executemany("INSERT INTO tags VALUES (?, 'x')", [(str(user),) for user in users])
    other.close()


def _in_files(space: Workspace, folder: Path, users: list[Any]) -> None:
    frame = pl.DataFrame({"user": users, "task": ["a"] * 4})
    for number, plan in enumerate((space.root / "plans" / "2017-10-16", folder / "elsewhere")):
        plan.mkdir(parents=True)
        frame.write_parquet(plan / "assignments.parquet")
        frame.write_csv(plan / "touches_mail.csv")
        (plan / "plan.json").write_text(json.dumps({"totals": {"users": 4}, "best": [{"user": users[0]}]}))
        (plan / "report.html").write_text(f"<p>user {users[0]}</p>")
        space.plans.add(date(2017, 10, 16 + number), f"inputs{number}", str(plan), {}, AT)
    (space.root / "var" / "growth.log").write_text(f"mailed user {users[0]}\nmailed user {users[1]}\n")
    (space.root / "exports").mkdir()
    select_group(space, "x", space.root / "exports" / "x.parquet", AT.isoformat())
    select_group(space, "x", space.root / "exports" / "x.csv", AT.isoformat())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "company" not in path.parts]


def values(path: Path) -> Iterator[Any]:
    """Every value of a table or database, whatever it is called."""
    if path.suffix == ".parquet":
        yield from (value for row in pl.read_parquet(path).rows() for value in row)
    elif path.suffix == ".db":
        with sqlite3.connect(path) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608  its own table names
                yield from (value for row in rows for value in row)
        database.close()
    else:
        yield path.read_bytes().decode(errors="replace")


def naming(folder: Path, user: Any) -> list[str]:
    """Files in which she is, by bytes or by value."""
    spelled = [str(user).encode()] + ([user.to_bytes(8, "little")] if isinstance(user, int) else [])
    found = []
    for path in files(folder):
        here = any(each in path.read_bytes() for each in spelled)
        if here or any(str(user) in str(value) for value in values(path)):
            found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.parametrize("users", [TEXT, NUMBERS], ids=["text", "numbers"])
def test_no_byte_of_her_is_left(tmp_path: Path, users: list[Any]) -> None:
    space = make(tmp_path, users)
    assert len(naming(tmp_path, users[0])) >= 12
    others = {user: set(naming(tmp_path, user)) for user in users[1:3]}
    dry = forget_user(space, str(users[0]), dry_run=True)
    assert len(naming(tmp_path, users[0])) >= 12
    found = forget_user(space, str(users[0]))
    assert found.left == []
    for user in (users[0], users[3]):
        assert naming(tmp_path, user) == []
    for user, before in others.items():
        lost = before - set(naming(tmp_path, user))
        assert all(path.endswith("-wal") for path in lost)
    assert (dry.groups, dry.files, dry.rows_deleted) == (found.groups, found.files, found.rows_deleted)
    assert found.groups == {"x": 3}  # two published, and the one that the selection published
    states = space.ledger.states([f"t{number}" for number in range(4)])
    assert states == {"t0": "unknown", "t1": "reserved", "t2": "reserved", "t3": "unknown"}
    assert found.rows_deleted["tracking.db.tags"] == 2
    assert any("source shop" in each for each in found.beyond)
    for version in space.groups.versions("x"):
        assert version.count == len(BitMap.deserialize(space.groups.members(version))) == 2
        assert 2 <= version.universe <= 3
    told = json.loads((space.root / "exports" / "x.manifest.json").read_text())
    assert (told["count"], told["redacted"]["rows"]) == (2, 2)
    assert check_selection(str(space.root / "exports" / "x.manifest.json"))["ok"]
    again = forget_user(space, str(users[0]))
    assert (again.groups, again.files, again.rows_deleted, again.rows_redacted, again.left) == (
        {},
        {},
        {},
        {},
        [],
    )
    space.database.dispose()


def test_the_next_batch_does_not_bring_her_back_unless_asked(tmp_path: Path) -> None:
    space = make(tmp_path, TEXT)
    forget_user(space, TEXT[0])
    for again in (space, open_workspace(space.root, FixedClock(at=AT))):
        people = population(again, AT)
        assert set(people.users(people.members("x"))) == {TEXT[1], TEXT[2]}
        assert set(known_users(again, AT)["user"]) == {TEXT[1], TEXT[2]}
        assert set(read_history(again, AT).purchases["user"]) == {TEXT[1], TEXT[2]}
    assert naming(tmp_path, TEXT[0]) == []
    readmit_user(space, TEXT[0])
    people = population(space, AT)
    assert set(people.users(people.members("x"))) == {TEXT[0], TEXT[1], TEXT[2]}
    with pytest.raises(NotFound):
        readmit_user(space, TEXT[0])
    space.database.dispose()


def test_the_tombstone_does_not_tell_who_it_is(tmp_path: Path) -> None:
    one, other = make(tmp_path, TEXT), (tmp_path / "b")
    other.mkdir()
    two = make(other, TEXT)
    assert one.tombstones.mark(TEXT[0]) != two.tombstones.mark(TEXT[0])
    assert (one.root / "var" / "secret").stat().st_mode & 0o77 == 0
    for space in (one, two):
        space.database.dispose()


def test_whom_nobody_knows_is_kept_out_too(tmp_path: Path) -> None:
    space = make(tmp_path, TEXT)
    found = forget_user(space, "zoe-1@x.example")
    assert found.complete
    assert not found.in_dictionary
    assert space.tombstones.refused(pl.Series(["zoe-1@x.example", None, "bo"])).to_list() == [
        True,
        False,
        False,
    ]
    space.database.dispose()


def test_what_the_operator_wrote_is_told_and_not_changed(tmp_path: Path) -> None:
    space = make(tmp_path, TEXT)
    where = {"field": "user.city", "op": "eq", "value": TEXT[0]}
    (space.root / "hers.yaml").write_text(yaml.safe_dump({"kind": "group", "name": "hers", "where": where}))
    apply(space, space.root / "hers.yaml", by="me")
    found = forget_user(space, TEXT[0])
    assert not found.complete
    assert any("group hers (version 1) names her" in each for each in found.left)
    assert any("hers.yaml still names her; it is your own text" in each for each in found.left)
    assert len(space.tombstones.unfinished()) == 2
    space.database.dispose()
