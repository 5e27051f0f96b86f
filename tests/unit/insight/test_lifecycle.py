from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from insight.lifecycle import COOLING, LAPSED, derive_stages, learn_rhythm

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)


def purchases(days_ago: dict[str, list[float]]) -> pl.DataFrame:
    """One basket for each user and number of days before AS_OF."""
    rows = [
        {"user": user, "at": AS_OF - timedelta(days=ago), "event_id": f"{user}-{ago}", "amount": 10.0}
        for user, all_days in days_ago.items()
        for ago in all_days
    ]
    schema = {"user": pl.String, "at": pl.Datetime("us", "UTC"), "event_id": pl.String, "amount": pl.Float64}
    return pl.DataFrame(rows, schema=schema)


def crowd(seed: int = 1) -> dict[str, list[float]]:
    """Eighty users with rhythms between two days and a month, who still buy."""
    rng = np.random.default_rng(seed)
    people = {}
    for i in range(80):
        usual = math.exp(rng.normal(2.0, 0.7))
        gaps = np.maximum(usual * np.exp(rng.normal(0, 0.6, 300)), 1)
        ago = rng.uniform(0, usual / 2) + np.cumsum(gaps)
        people[f"crowd{i:02}"] = [float(ago[0] - gaps[0]), *ago[ago < 250].tolist()]
    return people


def weekly(gap: float, silent: float, count: int) -> list[float]:
    return [silent + gap * i for i in range(count)]


def stages(days_ago: dict[str, list[float]], *extra: str) -> dict[str, dict[str, object]]:
    everyone = {**crowd(), **days_ago}
    users = pl.DataFrame({"user": [*everyone, *extra]})
    found = derive_stages(users=users, purchases=purchases(everyone), as_of=AS_OF, zone=ZoneInfo("UTC"))
    return {row["user"]: row for row in found.iter_rows(named=True)}


def test_the_same_silence_is_later_for_a_weekly_than_for_a_monthly_shopper() -> None:
    found = stages({"weekly": weekly(7, 21.5, 30), "monthly": weekly(30, 21.5, 8)})
    assert found["weekly"]["late"] < COOLING < found["monthly"]["late"]
    assert found["weekly"]["stage"] in ("cooling", "lapsed")
    assert found["monthly"]["stage"] in ("active", "loyal")
    assert found["weekly"]["rhythm_days"] == pytest.approx(7, rel=0.1)
    assert found["monthly"]["rhythm_days"] == pytest.approx(30, rel=0.25)
    assert found["weekly"]["recency_days"] == pytest.approx(21.5)


def test_longer_silence_is_later_and_ends_in_lapsed() -> None:
    found = stages({f"silent{days:03}": weekly(7, days, 25) for days in (2, 12, 18, 60, 120)})
    late = [found[f"silent{days:03}"]["late"] for days in (2, 12, 18, 60, 120)]
    assert late == sorted(late, reverse=True)
    assert late[-1] < LAPSED
    assert found["silent120"]["stage"] == "lapsed"
    assert found["silent002"]["stage"] == "loyal"


def test_an_irregular_shopper_is_less_late_after_the_same_silence() -> None:
    gaps = [2, 18, 3, 15, 2, 20, 4, 16, 3, 14, 2, 19, 3, 15, 2]
    irregular = [20.0 + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    found = stages({"regular": weekly(7, 20, 16), "irregular": irregular})
    assert found["regular"]["late"] < found["irregular"]["late"] / 2


def test_who_buys_by_fits_and_starts_is_active_and_not_loyal() -> None:
    gaps = [1, 30, 2, 25, 1, 28, 2, 30, 1, 25, 2, 28, 1, 4, 2, 2, 1, 2]
    found = stages({"fitful": [1.0 + sum(gaps[::-1][:i]) for i in range(len(gaps) + 1)]})
    assert found["fitful"]["stage"] == "active"
    assert found["fitful"]["purchase_days"] > 12


def test_the_silence_itself_is_no_part_of_the_rhythm_that_judges_it() -> None:
    # after few gaps, one of them the long one, the long one would look half usual
    found = stages({f"gap{gap}": [3.0, *(3.0 + gap + 7 * i for i in range(4))] for gap in (45, 55, 65, 80)})
    assert found["gap80"]["stage"] == "won back"
    assert found["gap65"]["stage"] == "won back"


def test_few_gaps_are_drawn_toward_everybody() -> None:
    found = stages({"two": [60.0, 61.0], "thirty": weekly(1, 60, 30)})
    # one gap of a day does not make a daily shopper; thirty do
    assert found["two"]["rhythm_days"] > 1.8
    assert found["thirty"]["rhythm_days"] < 1.2
    assert found["thirty"]["late"] < found["two"]["late"]


def test_new_prospect_and_a_single_purchase_of_long_ago() -> None:
    found = stages({"new": [5.0, 9.0], "once": [200.0]}, "never")
    assert found["new"]["stage"] == "new"
    assert found["once"]["stage"] == "lapsed"
    assert found["never"]["stage"] == "prospect"
    assert found["never"]["late"] is None
    assert found["never"]["purchase_days"] == 0


def test_won_back_by_the_rhythm_before_the_silence_and_only_for_a_while() -> None:
    before = [120.0 + 7 * i for i in range(12)]
    found = stages(
        {
            "back": [4.0, *before],
            "long_back": [*weekly(7, 3, 9), *before],
            "gone_again": [80.0, *(x + 80 for x in before)],
        }
    )
    assert found["back"]["stage"] == "won back"
    assert found["long_back"]["stage"] in ("active", "loyal")
    assert found["gone_again"]["stage"] in ("cooling", "lapsed")


def test_a_slowing_shopper_is_not_loyal() -> None:
    slowing = [2.0 + 13 * i for i in range(6)] + [67 + 5.0 * i for i in range(1, 30)]
    found = stages({"steady": weekly(7, 2, 30), "slowing": slowing})
    assert found["steady"]["stage"] == "loyal"
    assert found["slowing"]["stage"] == "active"


def test_nothing_after_the_instant_is_looked_at() -> None:
    past = {"weekly": weekly(7, 21.5, 30)}
    future = purchases({"weekly": [-1.0, -5.0], "crowd00": [-0.5]})
    everyone = {**crowd(), **past}
    users = pl.DataFrame({"user": list(everyone)})
    known = purchases(everyone)
    one = derive_stages(users=users, purchases=known, as_of=AS_OF, zone=ZoneInfo("UTC"))
    other = derive_stages(
        users=users, purchases=pl.concat([future, known]), as_of=AS_OF, zone=ZoneInfo("UTC")
    )
    assert one.equals(other)


def test_baskets_of_one_day_are_one_purchase_day_of_the_zone() -> None:
    # 23:00 and 01:00 UTC are two days in UTC and one in New York
    frame = purchases({"u": [1 + 1 / 24, 1 - 1 / 24]})
    users = pl.DataFrame({"user": ["u"]})
    for zone, days in (("UTC", 2), ("America/New_York", 1)):
        found = derive_stages(users=users, purchases=frame, as_of=AS_OF, zone=ZoneInfo(zone))
        assert found["purchase_days"].to_list() == [days]


def test_where_nobody_bought_twice_there_is_no_rhythm() -> None:
    frame = purchases({"a": [3.0], "b": [90.0]})
    users = pl.DataFrame({"user": ["a", "b"]})
    found = derive_stages(users=users, purchases=frame, as_of=AS_OF, zone=ZoneInfo("UTC"))
    assert found["stage"].to_list() == ["new", "new"]
    assert found["late"].to_list() == [None, None]
    assert found["rhythm_days"].to_list() == [None, None]


def test_the_rhythm_of_a_planted_population_is_recovered() -> None:
    rng = np.random.default_rng(5)
    rows = []
    for i in range(600):
        variance = 0.5 * 12 / rng.chisquare(12)
        gaps = rng.normal(rng.normal(2.0, 0.6), math.sqrt(variance), rng.integers(3, 40))
        rows.append(
            {"user": i, "count": len(gaps), "total": float(gaps.sum()), "squares": float((gaps**2).sum())}
        )
    rhythm = learn_rhythm(pl.DataFrame(rows))
    assert rhythm is not None
    assert rhythm.mean == pytest.approx(2.0, abs=0.08)
    assert rhythm.between == pytest.approx(0.36, rel=0.2)
    assert rhythm.within == pytest.approx(0.5, rel=0.1)
    assert rhythm.weight == pytest.approx(12, rel=0.35)
    # the tail of a gap is honest: a tenth of new gaps of users like these are longer than late = 0.1 says
    fresh = 0
    for _ in range(600):
        mean, spread = rng.normal(2.0, 0.6), math.sqrt(0.5 * 12 / rng.chisquare(12))
        seen, new = rng.normal(mean, spread, 6), rng.normal(mean, spread)
        sums = (np.array([x]) for x in (6.0, seen.sum(), (seen**2).sum(), math.exp(new)))
        fresh += bool(rhythm.late(*sums)[0] < 0.1)
    assert 0.07 < fresh / 600 < 0.14
