"""Cron on the wall clock, firings that were missed, and needs that are refused at birth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insight.cron import fires, last_fire, parse_cron
from insight.readiness import Job, Needs, Schedule, firings, free, held_up, instant_of, line_up, pause
from kernel.definitions import parse
from kernel.errors import BadInput

NEW_YORK, BERLIN, UTC_ZONE = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(cron: str, zone: ZoneInfo, after: str, until: str) -> list[str]:
    return [f"{each:%m-%d %H:%M}" for each in fires(parse_cron(cron), zone, at(after), at(until))]


def test_the_wall_clock_decides_also_when_clocks_change() -> None:
    spring = between("30 2 * * *", NEW_YORK, "2017-03-11T00:00", "2017-03-14T00:00")
    assert spring == ["03-11 07:30", "03-12 07:30", "03-13 06:30"]  # 02:30 is skipped on the 12th: 03:30
    autumn = between("30 1 * * *", NEW_YORK, "2017-11-04T00:00", "2017-11-07T00:00")
    assert autumn == ["11-04 05:30", "11-05 05:30", "11-06 06:30"]  # 01:30 comes twice: the first
    assert between("0 0 29 feb *", UTC_ZONE, "2017-01-01T00:00", "2025-01-01T00:00") == ["02-29 00:00"] * 2


@pytest.mark.parametrize(
    ("cron", "found"),
    [
        ("*/30 9-10 2 1 *", ["01-02 09:00", "01-02 09:30", "01-02 10:00", "01-02 10:30"]),
        ("0 12 * * mon,5", ["01-02 12:00", "01-06 12:00"]),
        ("0 12 3 * 7", ["01-01 12:00", "01-03 12:00"]),
        ("5/25 0 4 * *", ["01-04 00:05", "01-04 00:30", "01-04 00:55"]),
        ("@weekly", ["01-01 00:00"]),
    ],
)  # fmt: skip
def test_each_part_of_an_expression(cron: str, found: list[str]) -> None:
    assert between(cron, UTC_ZONE, "2016-12-31T23:59", "2017-01-07T00:00") == found


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("* * * *", "is not minute hour"), ("60 * * * *", "has no minute '60'; it is 0 … 59"),
        ("* * 0 * *", "has no day of month"), ("* * * foo *", "has no month 'foo'"),
        ("*/0 * * * *", "with the step '0'"),
        ("9-5 * * * *", "runs backwards"), ("0 0 30 2 *", "never comes"),
        ("- * * * *", "has no minute ''"), ("١ * * * *", "has no minute"), ("*/²  * * * *", "with the step"),
    ],
)  # fmt: skip
def test_what_is_no_cron_is_said(cron: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence.replace("(", r"\(")):
        parse_cron(cron)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "15 1 * * 0", "0 0 1 * *", "0 3 1-7 * mon"]),
    st.sampled_from([NEW_YORK, BERLIN, UTC_ZONE]),
    st.integers(0, 400 * 1440),
    st.integers(1, 20 * 1440),
)
def test_fires_are_those_minutes_whose_wall_clock_matches(
    cron: str, zone: ZoneInfo, start: int, span: int
) -> None:
    parsed = parse_cron(cron)
    after = at("2017-01-01T00:00") + timedelta(minutes=start)
    until = after + timedelta(minutes=span)
    found = list(fires(parsed, zone, after, until))
    assert found == sorted(set(found))
    assert last_fire(parsed, zone, after, until) == (found[-1] if found else None)
    minutes = [after + timedelta(minutes=n) for n in range(1, span + 1)]
    wanted = [
        each
        for each in minutes
        if (wall := each.astimezone(zone)).minute in parsed.minutes
        and wall.hour in parsed.hours
        and parsed.on(wall.date())
        and wall.fold == 0
    ]
    skipped = set(found) - set(wanted)
    assert set(wanted) <= set(found)
    assert all((each - timedelta(hours=1)).astimezone(zone).utcoffset() != each.astimezone(zone).utcoffset()
               for each in skipped)  # fmt: skip


def test_missed_firings_are_caught_up_as_the_schedule_says() -> None:
    now, after = at("2017-01-05T12:00"), at("2017-01-01T12:00")

    def days(catch_up: str) -> list[int]:
        schedule = parse(Schedule, {"cron": "0 2 * * *", "catch_up": catch_up}, "s")
        return [each.day for each in firings(schedule, UTC_ZONE, after, now)]

    assert (days("last"), days("all"), days("none")) == ([5], [2, 3, 4, 5], [])
    prompt = parse(Schedule, {"cron": "50 11 * * *", "catch_up": "none"}, "s")
    assert firings(prompt, UTC_ZONE, after, now) == [at("2017-01-05T11:50")]
    assert firings(prompt, UTC_ZONE, now, now) == []
    daily = parse(Schedule, {"cron": "0 2 * * *", "zone": "Asia/Shanghai"}, "s")
    assert instant_of(daily, UTC_ZONE, at("2017-01-04T18:00")) == at("2017-01-04T16:00")
    moment = parse(Schedule, {"cron": "0 2 * * *", "as_of": "moment"}, "s")
    assert instant_of(moment, UTC_ZONE, at("2017-01-04T02:00")) == at("2017-01-04T02:00")
    with pytest.raises(BadInput, match="zone = 'Mars': is not an IANA time zone"):
        parse(Schedule, {"cron": "0 2 * * *", "zone": "Mars"}, "s")


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        ({}, "needs exactly one of"), ({"table": "a.b", "file": "x"}, "needs exactly one of"),
        ({"table": "orders"}, "table is not source.table"), ({"group": "a", "rows": 3}, "rows is not for"),
        ({"table": "a.b", "within": "1d"}, "within is for rows"), ({"any": []}, "any is empty"),
        ({"table": "a.b", "complete_through": "1 day"}, "is not a window"),
        ({"tables": "a.b"}, "not a known field"),
        ({"file": "x", "sha256": "abc"}, "should match pattern"),
        ({"table": "a.b", "rows": -1}, "greater than"),
    ],
)  # fmt: skip
def test_needs_that_make_no_sense_are_refused(need: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        parse(Needs, {"all": [need]}, "needs")


def test_needs_nest_but_not_without_end() -> None:
    deep: dict[str, Any] = {"file": "x"}
    for _ in range(30):
        deep = {"any": [deep]}
    with pytest.raises(BadInput, match="nests deeper than 20"):
        parse(Needs, {"all": [deep]}, "needs")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 14), max_size=4), min_size=1, max_size=15), st.data())
def test_every_job_comes_after_its_own_and_bad_ones_hold_up_all_below(
    below: list[set[int]], data: Any
) -> None:
    jobs = [
        Job(key=str(n), after=tuple(str(each) for each in sorted(some) if each < n))
        for n, some in enumerate(below)
    ]
    ordered = [job.key for job in line_up(reversed(jobs))]
    assert sorted(ordered) == sorted(job.key for job in jobs)
    for job in jobs:
        assert all(ordered.index(each) < ordered.index(job.key) for each in job.after)
    states = {job.key: data.draw(st.sampled_from(["waiting", "done", "failed"])) for job in jobs}
    stuck = held_up(jobs, states, dict.fromkeys(states, "why"))
    known = {job.key: job for job in jobs}

    def reached(key: str) -> bool:
        return any(
            states[each] == "failed" or (states[each] == "waiting" and reached(each))
            for each in known[key].after
        )

    assert set(stuck) == {key for key, state in states.items() if state == "waiting" and reached(key)}
    assert all(reason.endswith("failed: why") for reason in stuck.values())
    ready = {job.key for job in free(jobs, states)}
    assert ready == {
        job.key
        for job in jobs
        if states[job.key] == "waiting" and all(states[e] == "done" for e in job.after)
    }


def test_a_circle_is_named_and_pauses_grow() -> None:
    circle = [Job(key="a", after=("b",)), Job(key="b", after=("c",)), Job(key="c", after=("b",))]
    with pytest.raises(BadInput, match="refers to itself: b → c → b"):
        line_up(circle)
    assert [pause(n) for n in (1, 2, 3, 20)] == [2.0, 4.0, 8.0, 600.0]
