"""When one more touch fits: windows are half-open and look both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest

from kernel.caps import LETTERS, Caps, Held, fits
from kernel.clock import instant, micros
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput
from kernel.exposure import Refusal, Reservation, refusal

NOON = datetime(2017, 10, 16, 12, tzinfo=UTC)


class Exposures:
    """What a user was shown, and the caps' answer to one more."""

    def __init__(self, caps: list[Cap]) -> None:
        self._caps, self._held = Caps(caps), list[Held]()

    def hold(self, channel: str, message_class: MessageClass, at: int) -> None:
        self._held.append(Held(at, channel, LETTERS[message_class]))

    def admit(self, wish: Reservation) -> Refusal | None:
        refused = refusal(wish, self._caps, lambda _: self._held)
        if refused is None:
            self.hold(wish.channel, wish.message_class, micros(wish.at))
        return refused


def cap(at_most: int, within: str = "1d", channel: str | None = None, name: str = "daily") -> Cap:
    return Cap(name=name, at_most=at_most, within=within, channel=channel)


def wish(at: datetime, touch_id: str = "t", channel: str = "sms") -> Reservation:
    return Reservation(touch_id=touch_id, user="u", channel=channel, at=at)


def crowded(times: tuple[int, ...], at_most: int, window: int) -> bool:
    return any(sum(end - window < t <= end for t in times) > at_most for end in times)


def test_fits_agrees_with_counting_every_window() -> None:
    tried = 0
    for size in range(4):
        for held in combinations(range(8), size):
            for at_most in range(3):
                if crowded(held, at_most, 3):
                    continue
                for at in range(8):
                    assert fits(at, held, at_most, 3) == (not crowded((*held, at), at_most, 3))
                    tried += 1
    assert tried > 300


def test_exactly_one_window_apart_fits_and_a_microsecond_less_does_not() -> None:
    exposures = Exposures([cap(1)])
    assert exposures.admit(wish(NOON)) is None
    early = exposures.admit(wish(NOON + timedelta(days=1, microseconds=-1), "b"))
    assert early == Refusal(touch_id="b", rule="daily", until=NOON + timedelta(days=1))
    assert exposures.admit(wish(NOON + timedelta(days=1), "b")) is None


def test_a_touch_before_a_planned_one_counts_against_it() -> None:
    exposures = Exposures([cap(1)])
    exposures.hold("sms", MessageClass.MARKETING, micros(NOON))
    refused = exposures.admit(wish(NOON - timedelta(hours=23)))
    assert refused is not None
    assert refused.until == NOON + timedelta(days=1)


def test_zero_is_none_at_all_and_no_cap_is_no_cap() -> None:
    assert Exposures([cap(0)]).admit(wish(NOON)) == Refusal(touch_id="t", rule="daily", until=None)
    free = Exposures([])
    assert all(free.admit(wish(NOON, str(i))) is None for i in range(50))


def test_the_cap_that_binds_longest_is_named() -> None:
    exposures = Exposures([cap(1, "1h", name="hourly"), cap(1, "7d", name="weekly"), cap(1, "1d")])
    exposures.hold("sms", MessageClass.MARKETING, micros(NOON))
    refused = exposures.admit(wish(NOON + timedelta(minutes=5)))
    assert refused is not None
    assert (refused.rule, refused.until) == ("weekly", NOON + timedelta(days=7))


def test_a_cap_counts_its_channel_and_classes_only() -> None:
    exposures = Exposures([cap(1, channel="sms")])
    exposures.hold("push", MessageClass.MARKETING, micros(NOON))
    exposures.hold("sms", MessageClass.SERVICE, micros(NOON))
    exposures.hold("sms", MessageClass.TRANSACTIONAL, micros(NOON))
    assert exposures.admit(wish(NOON)) is None
    assert exposures.admit(wish(NOON, "b", "push")) is None
    assert exposures.admit(wish(NOON, "c")) is not None


def test_a_reservation_is_checked_at_birth() -> None:
    with pytest.raises(BadInput, match="needs a time zone"):
        wish(NOON.replace(tzinfo=None))
    with pytest.raises(BadInput, match="user: is empty"):
        Reservation(touch_id="t", user="", channel="sms", at=NOON)


def test_instants_survive_as_microseconds() -> None:
    odd = NOON + timedelta(microseconds=1)
    assert instant(micros(odd)) == odd


def test_a_transactional_touch_is_not_counted_even_by_a_cap_that_names_it() -> None:
    every = Cap(name="every", at_most=1, within="1d", classes=tuple(MessageClass))
    exposures = Exposures([every])
    exposures.hold("sms", MessageClass.TRANSACTIONAL, micros(NOON))
    assert exposures.admit(wish(NOON)) is None
    receipt = Reservation(
        touch_id="r", user="u", channel="sms", at=NOON, message_class=MessageClass.TRANSACTIONAL
    )
    assert exposures.admit(receipt) is None
