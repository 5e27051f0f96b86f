"""Forgetting killed at any step, with readers at work: the next try completes it, and nobody else is hurt."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import polars as pl
import yaml
from pyroaring import BitMap

from engine.forgetting import forget_user
from engine.population import population
from engine.usecases import apply, select_group
from engine.wiring import Workspace, open_workspace
from kernel.clock import FixedClock
from kernel.contact import MessageClass
from kernel.errors import Stale
from kernel.exposure import Reservation

AT = datetime(2017, 10, 16, tzinfo=UTC)
HER, OTHERS = "ann-77@x.example", [f"user-{number}@x.example" for number in range(200)]
CATALOG = {
    "sources": {"shop": {"url": "parquet://../company"}},
    "entities": {"user": {"source": "shop", "table": "users", "key": "uid"}},
    "fields": {"user.city": {"table": "users", "column": "city", "type": "string"}},
}
GROUP = {"kind": "group", "name": "x", "where": {"field": "user.city", "op": "eq", "value": "x"}}
#: forgets, and dies without a word when the step of this number begins
SCRIPT = """
import os, signal, sys
from pathlib import Path
from engine.forgetting import forget_user
from engine.wiring import open_workspace

steps = []

def progress(name):
    steps.append(name)
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

forget_user(open_workspace(Path(sys.argv[1])), sys.argv[2], progress=progress)
"""


def make(folder: Path) -> Workspace:
    root, company = folder / "workspace", folder / "company"
    root.mkdir()
    company.mkdir()
    users = [HER, *OTHERS]
    pl.DataFrame({"uid": users, "city": "x"}).write_parquet(company / "users.parquet")
    (root / "growth.toml").write_text("name = 'test'\n")
    (root / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    (root / "groups.yaml").write_text(yaml.safe_dump(GROUP))
    space = open_workspace(root, FixedClock(at=AT))
    apply(space, root / "groups.yaml", by="me")
    people = population(space, AT)
    members = people.members("x")
    space.groups.publish(
        name="x", fingerprint="f", as_of=AT, members=members.serialize(), count=201, universe=201, sources={},
        calculated_at=AT,
    )  # fmt: skip
    select_group(space, "x", root / "x.parquet", AT.isoformat())
    wishes = [
        Reservation(
            touch_id=f"t{number}", user=user, channel="mail", message_class=MessageClass.MARKETING, at=AT,
            run="r", plan="p",
        )
        for number, user in enumerate(users)
    ]  # fmt: skip
    space.ledger.reserve_many(wishes, caps=[])
    return space


def naming(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and "company" not in path.parts and HER.encode() in path.read_bytes()
    ]


def test_what_was_killed_is_completed_by_the_next_try(tmp_path: Path) -> None:
    space = make(tmp_path)
    stop, wrong = Event(), list[str]()

    def read() -> None:
        """As a server does meanwhile: members and their count belong together, at every moment."""
        while not stop.wait(0.05):
            version = space.groups.current("x")
            try:
                if version is None or version.count != len(BitMap.deserialize(space.groups.members(version))):
                    wrong.append(str(version))
            except Stale:  # replaced between the two: a reader asks again
                continue
            held = space.ledger.held(users=[HER, *OTHERS], since=AT.replace(day=1), until=AT)
            if len(held) not in (200, 201):
                wrong.append("touches")

    reader = Thread(target=read)
    reader.start()
    try:
        for step in (4, 5):  # after the files and before the databases; after these and before the dictionary
            words = [sys.executable, "-c", SCRIPT, str(space.root), HER, str(step)]
            killed = subprocess.run(words, capture_output=True, text=True, check=False)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            assert len(space.tombstones.unfinished()) == 1
    finally:
        stop.set()
        reader.join()
    assert not wrong
    again = open_workspace(space.root, FixedClock(at=AT))
    found = forget_user(again, HER)
    assert found.complete
    assert naming(tmp_path) == []
    assert again.tombstones.unfinished() == []
    people = population(again, AT)
    assert sorted(people.users(people.members("x"))) == sorted(OTHERS)
    assert sorted(pl.read_parquet(space.root / "x.parquet")["uid"]) == sorted(OTHERS)
    assert len(again.ledger.held(users=[HER, *OTHERS], since=AT.replace(day=1), until=AT)) == 200
    for each in (space, again):
        each.database.dispose()
