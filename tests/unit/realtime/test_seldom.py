from __future__ import annotations

import logging

import pytest

from realtime.seldom import Seldom


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.WARNING)
    return logging.Logger("of.its.own")


def lines(log: logging.Logger, every: float, told: list[tuple[str, str]]) -> list[str]:
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    log.addHandler(Kept())
    log.addFilter(Seldom(every))
    for words, of in told:
        log.warning(words, of)
    return found


def test_an_outage_is_told_once_whatever_each_decision_says(log: logging.Logger) -> None:
    told = [("down: %s", f"{number}") for number in range(1000)] + [("other: %s", "x")]
    assert lines(log, 1e9, told) == ["down: 0", "other: x"]


def test_after_a_while_it_is_told_again_with_how_many_there_were(log: logging.Logger) -> None:
    quiet = Seldom(1e9)
    first = log.makeRecord("x", logging.WARNING, "", 0, "down: %s", ("a",), None)
    assert quiet.filter(first)
    assert not any(
        quiet.filter(log.makeRecord("x", logging.WARNING, "", 0, "down: %s", ("b",), None)) for _ in range(7)
    )
    quiet._every = 0.0
    last = log.makeRecord("x", logging.WARNING, "", 0, "down: %s", ("c",), None)
    assert quiet.filter(last)
    assert last.getMessage() == "down: c (and 7 more like it)"


def test_without_patience_everything_is_told(log: logging.Logger) -> None:
    assert lines(log, 0.0, [("down: %s", "a")] * 3) == ["down: a"] * 3
