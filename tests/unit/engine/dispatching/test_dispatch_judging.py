"""When its time has come a touch is judged once more: who gets nothing, who waits, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.outbox import suppress
from kernel.errors import BadInput, Unavailable


def test_consent_is_asked_again_when_the_time_has_come(world: Any, hook: Any) -> None:
    space = world.make(hook.provider(), users={"allowed": [True, False, None]})
    world.run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "refused"}
    assert world.rules()["cleo"] == "consent", "unknown is not yes"
    assert world.held()["bob"] == "released"


def test_without_users_nothing_goes_out(world: Any, hook: Any) -> None:
    space = world.make(hook.provider())
    (world.root / "data" / "users.parquet").unlink()
    with pytest.raises(Unavailable, match="nothing is sent"):
        world.run(space)
    assert (hook.got, set(world.states().values())) == ([], {"queued"})


def test_the_suppressed_get_nothing_and_what_waits_is_called_off(world: Any, hook: Any) -> None:
    space = world.make(hook.provider())
    assert suppress(space, "ann")["cancelled"] == 1
    suppress(space, "Bob@X.example")
    world.run(space)
    assert world.states() == {"ann": "cancelled", "bob": "refused", "cleo": "accepted"}
    assert world.rules()["bob"] == "suppressed"
    assert world.held()["ann"] == "released"


def test_transactional_goes_to_the_suppressed_and_at_night(world: Any, hook: Any) -> None:
    night = world.AT.replace(hour=23)
    space = world.make(hook.provider(), message_class="transactional", at=night, now=night)
    suppress(space, "ann")
    world.run(space)
    assert world.states() == dict.fromkeys(world.NAMES, "accepted")


@pytest.mark.parametrize("late", ["wait", "expire"])
def test_late_for_quiet_hours_waits_for_the_morning_of_her_own_zone_or_expires(
    world: Any, hook: Any, late: str
) -> None:
    evening, night = world.AT.replace(hour=18), world.AT.replace(hour=22, minute=30)
    zones = {"zone": ["Europe/Berlin", "America/New_York", None]}
    space = world.make(hook.provider(), channel={"late": late}, users=zones, at=evening, now=night)
    world.run(space)
    assert world.states()["bob"] == "accepted", "it is half past five in New York"
    if late == "expire":
        assert world.states() == {"ann": "refused", "bob": "accepted", "cleo": "refused"}
        assert world.rules()["ann"] == "night"
        return
    assert world.states() == {"ann": "queued", "bob": "accepted", "cleo": "queued"}
    (row,) = space.outbox.of_user("ann")
    assert row["due"] == "2026-03-03T07:00:00+00:00", "eight o'clock in Berlin, when the touchpoint opens"
    assert "night forbids it until 2026-03-03 08:00+01:00" in row["reason"]
    held = space.ledger.held(users=["ann"], since=night, until=night + timedelta(days=1))
    assert held["at"].to_list() == [datetime(2026, 3, 3, 7, tzinfo=UTC)], "caps count it where it moved to"


def test_what_nobody_wants_any_more_is_not_sent(world: Any, hook: Any) -> None:
    space = world.make(hook.provider(), channel={"expires": "2h"}, now=world.AT + timedelta(hours=3))
    world.run(space)
    assert set(world.rules().values()) == {"expired"}
    assert hook.got == []


def test_without_its_place_under_the_caps_nothing_goes_out(world: Any, hook: Any) -> None:
    space = world.make(hook.provider())
    space.ledger.release([world.id_of("ann")])
    world.run(space)
    assert world.states() == {"ann": "refused", "bob": "accepted", "cleo": "accepted"}
    assert world.rules()["ann"] == "reservation"


def test_forgotten_people_and_people_without_an_address_get_nothing(world: Any, hook: Any) -> None:
    space = world.make(hook.provider(), users={"email": ["ann@x.example", None, " "]})
    space.tombstones.begin(["ann"], world.AT)
    world.run(space)
    assert world.rules() == {"ann": "forgotten", "bob": "address", "cleo": "address"}


def test_a_value_that_one_user_lacks_refuses_only_her(world: Any, hook: Any) -> None:
    space = world.make(hook.provider(), users={"name": ["Ann", None, "Cleo"]})
    world.run(space)
    assert world.states() == {"ann": "accepted", "bob": "refused", "cleo": "accepted"}
    assert "content hello, subject" in space.outbox.of_user("bob")[0]["reason"]


def test_a_variable_that_nobody_knows_is_told_before_anything_is_sent(world: Any, hook: Any) -> None:
    with pytest.raises(BadInput, match=r"content hello, text, line 1: variable = 'user\.nmae'.*user\.name"):
        world.make(hook.provider(), content={"text": "{{ user.nmae }}"})
