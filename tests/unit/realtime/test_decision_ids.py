from __future__ import annotations

import pytest

from realtime.decision_ids import DecisionIds, mark

IDS = DecisionIds(b"0123456789abcdef")
AT = 1_700_000_000_000_001


def test_an_id_tells_when_and_where_it_was_given() -> None:
    assert IDS.opened(IDS.new(AT, "guidance")) == (AT, mark("guidance"))
    assert len({IDS.new(AT, "guidance") for _ in range(1000)}) == 1000
    assert mark("guidance") != mark("conversion")


@pytest.mark.parametrize("given", ["", "nobody", "00", "é", "0" * 52, "zz" * 26])
def test_what_was_never_given_is_known(given: str) -> None:
    assert IDS.opened(given) is None


def test_whatever_is_changed_in_an_id_shows() -> None:
    given = IDS.new(AT, "guidance")
    for place in range(len(given)):
        other = "0" if given[place] != "0" else "1"
        assert IDS.opened(given[:place] + other + given[place + 1 :]) is None
    for wrong in (given.upper(), given + "00", given[:-2], f" {given}", f"{given[:2]} {given[2:]}"):
        assert IDS.opened(wrong) is None
    assert DecisionIds(b"another secret!!").opened(given) is None
