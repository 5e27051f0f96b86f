"""Attribution by hand, by simulation, from files and from events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput, NotFound
from kernel.events import INSTANT
from touchpoint.attribution import attribute, removal_effects
from touchpoint.paths import PATHS, paths_of_events, read_paths

AT = datetime(2026, 5, 1, tzinfo=UTC)
ROWS = [
    (["a", "b", "c"], 6, 60.0, 10, None),
    (["b"], 2, 10.0, 20, None),
    (["c", "a"], 3, 90.0, 5, None),
    (["d", "b"], 0, 0.0, 9, None),
    (["a", "a", "b", "c", "c"], 4, 4.0, 4, None),
]
TABLE = pl.DataFrame(ROWS, schema=PATHS, orient="row")


def credit(rule: str, paths: pl.DataFrame = TABLE, **said: float) -> dict[str, float]:
    found = attribute(paths, [rule], **said)
    return dict(zip(found["channel"], found["conversions"], strict=True))


def test_rules_by_hand() -> None:
    assert credit("last") == pytest.approx({"a": 3, "b": 2, "c": 10, "d": 0})
    assert credit("first") == pytest.approx({"a": 10, "b": 2, "c": 3, "d": 0})
    assert credit("linear")["a"] == pytest.approx(6 / 3 + 3 / 2 + 4 * 2 / 5)
    assert credit("position")["b"] == pytest.approx(6 * 0.2 + 2 + 4 * 0.2 / 3)
    weights = [2.0**-2, 2.0**-1, 1.0]
    assert credit("decay", TABLE[:1], half_life=1.0)["a"] == pytest.approx(6 * weights[0] / sum(weights))


def test_decay_goes_by_days_where_they_are_known() -> None:
    aged = TABLE[:1].with_columns(ages=pl.Series([[9.0, 2.0, 1.0]]))
    weights = [2.0**-8, 2.0**-1, 1.0]
    assert credit("decay", aged, half_life=1.0)["a"] == pytest.approx(6 * weights[0] / sum(weights))


def test_values_go_their_own_way() -> None:
    found = attribute(TABLE, ["last"])
    assert dict(zip(found["channel"], found["value"], strict=True)) == pytest.approx(
        {"a": 90, "b": 10, "c": 64, "d": 0}
    )


@pytest.mark.parametrize("order", [1, 2])
def test_removal_effects_are_those_of_a_simulated_chain(order: int) -> None:
    """Walks drawn step by step from the counts, with a channel's steps lost; nothing of the method's is
    used."""
    found = removal_effects(TABLE.sort("path"), order)
    rng = np.random.default_rng(order)
    whole = _simulated(order, None, rng)
    for channel, effect in found.select("channel", "conversions").iter_rows():
        assert effect == pytest.approx(1 - _simulated(order, channel, rng) / whole, abs=0.02)


def _simulated(order: int, without: str | None, rng: np.random.Generator, walks: int = 20_000) -> float:
    moves: dict[tuple[str, ...], dict[str, int]] = {}
    for path, won, _, lost, _ in ROWS:
        state: tuple[str, ...] = ()
        for channel in path:
            after = moves.setdefault(state, {})
            after[channel] = after.get(channel, 0) + won + lost
            state = (*state, channel)[-order:]
        for end, many in ((" won", won), (" lost", lost)):
            after = moves.setdefault(state, {})
            after[end] = after.get(end, 0) + many
    ready = {
        state: (list(after), np.cumsum(list(after.values())) / sum(after.values()))
        for state, after in moves.items()
    }
    won_walks = 0
    for _ in range(walks):
        state = ()
        while True:
            names, edges = ready[state]
            name = names[int(np.searchsorted(edges, rng.random(), side="right"))]
            if name == " won":
                won_walks += 1
            if name.startswith(" ") or name == without:
                break
            state = (*state, name)[-order:]
    return won_walks / walks


def test_a_file_of_paths_is_read(tmp_path: Path) -> None:
    file = tmp_path / "paths.csv"
    file.write_text("path;total_conversions;total_conversion_value;total_null\na > b;1;2.5;3\nb;0;0;4\n")
    read = read_paths(file)
    assert read["path"].to_list() == [["a", "b"], ["b"]]
    assert read.select("conversions", "value", "nulls").rows() == [(1, 2.5, 3), (0, 0.0, 4)]
    read.drop("ages").write_parquet(tmp_path / "paths.parquet")
    assert read_paths(tmp_path / "paths.parquet").equals(read)
    bare = tmp_path / "bare.csv"
    bare.write_text("path,conversions\nx|y,2\n")
    assert read_paths(bare, "|")["path"].to_list() == [["x", "y"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,total_null\na,1\n", "conversions"),
        ("path,conversions\na > ,1\n", "row 1: path: has an empty channel"),
        ("path,conversions\na,-1\n", "row 1: conversions = -1: is not a count"),
        ("path,conversions\na,1.5\n", "is not a count"),
        ("path,conversions,value\na,0,5\n", "is there without a conversion"),
        ("path,conversions,value\na,1,much\n", "value = 'String': is not a number"),
    ],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_paths(file)


def test_what_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_paths(tmp_path / "none.csv")
    with pytest.raises(NotFound, match="did you mean 'linear'"):
        attribute(TABLE, ["linaer"])
    with pytest.raises(BadInput, match="order = 0"):
        attribute(TABLE, order=0)
    with pytest.raises(BadInput, match="half_life"):
        attribute(TABLE, half_life=0.0)


def events(rows: list[tuple[str, float, object]], column: str) -> pl.DataFrame:
    kind = pl.String if column == "channel" else pl.Float64
    data = [(user, AT - timedelta(days=ago), value) for user, ago, value in rows]
    return pl.DataFrame(data, schema={"user": pl.String, "at": INSTANT, column: kind}, orient="row")


def test_paths_from_events() -> None:
    exposures = events(
        [("u", 50, "old"), ("u", 22, "a"), ("u", 12, "b"), ("u", 5, "c"),
         ("v", 40, "a"), ("v", 35, "b"), ("v", 2, "c"), ("w", 3, "a")], "channel",
    )  # fmt: skip
    outcomes = events([("u", 11, 7.0), ("u", 4, 3.0), ("x", 9, 1.0)], "value")
    found = paths_of_events(exposures, outcomes, within=timedelta(days=10), as_of=AT)
    rows = {tuple(row["path"]): row for row in found.to_dicts()}
    assert set(rows) == {("a", "b"), ("b",), ("c",), ("old",), ("a",)}
    assert (rows["b",]["conversions"], rows["b",]["value"]) == (1, 7.0)
    assert rows["b",]["ages"] == pytest.approx([1.0])
    assert rows["c",]["value"] == 3.0
    # v's first two led to nothing; her last, and w's, may still; u's "a" was too early for the outcome
    assert (rows["a", "b"]["nulls"], rows["old",]["nulls"], rows["a",]["nulls"]) == (1, 1, 1)
    assert found["conversions"].sum() == 2


def test_an_outcome_uses_up_its_path() -> None:
    exposures = events([("u", 5, "a"), ("u", 3, "b")], "channel")
    outcomes = events([("u", 4, 1.0), ("u", 2, 1.0), ("u", 1, 1.0)], "value")
    found = paths_of_events(exposures, outcomes, within=timedelta(days=30), as_of=AT)
    assert sorted(found["path"].to_list()) == [["a"], ["b"]]
    assert found["conversions"].sum() == 2
