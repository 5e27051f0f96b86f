"""Killed in the middle, the ledger lost no reservation that it had granted, and halved nobody's; after the
machine went down its log tells all of it again."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kernel.contact import Cap
from kernel.exposure import Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import LmdbOnlineStore

NOON = datetime(2017, 10, 16, 12, tzinfo=UTC)
BATCH, HOLD = 50, 10**14

CHILD = f"""
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from kernel.contact import Cap
from kernel.exposure import Reservation
from storage.exposures_lmdb import LmdbLedger
from storage.online_lmdb import LmdbOnlineStore

folder = Path(sys.argv[1])
store = LmdbOnlineStore(folder / "online", keep={HOLD}, hold={HOLD}, idle={HOLD})
store.ready()
ledger, at = LmdbLedger(store, folder / "ledger"), datetime(2017, 10, 16, 12, tzinfo=UTC)
caps = [Cap(name="two", at_most=2, within="1d"), Cap(name="house", at_most=150, within="1d", by="household")]
for batch in itertools.count(int(sys.argv[2])):
    wishes = [
        Reservation(touch_id=f"{{batch}}-{{user}}-{{turn}}", user=f"{{batch}}-{{user}}", channel="sms", at=at,
                    entities={{"household": str(batch)}})
        for user in range({BATCH}) for turn in range(3)
    ]
    refused = ledger.reserve_many(wishes, caps=caps)
    assert len(refused) == {BATCH}, len(refused)
    ledger.confirm([wish.touch_id for wish in wishes if wish.touch_id not in refused][::2])
    print(batch, flush=True)
"""


def opened(folder: Path, boot: str | None = None) -> tuple[LmdbOnlineStore, LmdbLedger]:
    store = LmdbOnlineStore(folder / "online", keep=HOLD, hold=HOLD, idle=HOLD, boot=boot)
    return store, LmdbLedger(store, folder / "ledger")


def counted(ledger: LmdbLedger, batches: set[int]) -> dict[int, list[int]]:
    """Batch → touches that count of each of its users."""
    users = [f"{batch}-{user}" for batch in sorted(batches) for user in range(BATCH)]
    held = ledger.held(users=users, since=NOON - timedelta(days=1), until=NOON)
    sizes = dict(held.group_by("user").len().iter_rows())
    return {batch: [sizes.get(f"{batch}-{user}", 0) for user in range(BATCH)] for batch in batches}


def test_no_granted_reservation_is_lost_and_no_users_part_is_halved(tmp_path: Path) -> None:
    granted = set[int]()
    for life in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(1000 * life)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(10 + life):
            granted.add(int(child.stdout.readline()))
        child.kill()
        granted |= {int(line) for line in child.communicate(timeout=30)[0].splitlines()}
    store, ledger = opened(tmp_path)
    assert not store.anew
    begun = {max(batch for batch in granted if batch // 1000 == life) + 1 for life in range(3)}
    found = counted(ledger, granted | begun)
    assert all(found[batch] == [2] * BATCH for batch in granted)
    assert all(size in (0, 2) for batch in begun for size in found[batch])
    before = ledger.held(
        users=[f"{batch}-7" for batch in granted], since=NOON - timedelta(days=1), until=NOON
    )
    assert set(before["state"]) == {"reserved", "confirmed"}
    ledger.close()
    store.close()
    # the machine went down: the files of the store may be anything, and are thrown away
    store, ledger = opened(tmp_path, boot="another")
    assert store.anew
    ledger.tell_again()
    store.ready()
    assert counted(ledger, granted | begun) == found
    after = ledger.held(users=[f"{batch}-7" for batch in granted], since=NOON - timedelta(days=1), until=NOON)
    assert after.equals(before)
    full = Cap(name="house", at_most=100, within="1d", by="household")
    for batch in granted:
        wish = Reservation(
            touch_id=f"new {batch}", user="new", channel="sms", at=NOON, entities={"household": str(batch)}
        )
        assert ledger.reserve(wish, caps=[full]) is not None
    ledger.close()
    store.close()


def test_what_was_reserved_one_by_one_is_told_again(tmp_path: Path) -> None:
    store, ledger = opened(tmp_path)
    ledger.tell_again()
    store.ready()
    caps = [Cap(name="two", at_most=2, within="1d")]
    for number in range(5):
        for user in ("u", "v"):
            wish = Reservation(touch_id=f"{user}{number}", user=user, channel="sms", at=NOON, run="api")
            assert (ledger.reserve(wish, caps=caps) is None) == (number < 2)
    ledger.confirm(["u0"])
    ledger.release(["v1"])
    ids = [f"{user}{number}" for user in "uv" for number in range(5)]
    before = ledger.states(ids)
    assert (before["u0"], before["v1"], before["v0"]) == ("confirmed", "released", "reserved")
    ledger.close()
    store.close()
    store, ledger = opened(tmp_path, boot="another")
    ledger.tell_again()
    store.ready()
    assert ledger.states(ids) == before
    ledger.close()
    store.close()
