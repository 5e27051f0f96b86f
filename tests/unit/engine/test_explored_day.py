"""A day's plan that explores: who is drawn, and that nothing else is for them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from engine.cycle import plan, train
from engine.replan import Again
from engine.simulate.company import Company, apply_definitions, definitions_of, found_company
from engine.simulate.households import made_up
from engine.simulate.nature import Means, Nature
from engine.simulate.run import BEGIN, Setting, begin

MEANS = Means(budget=80.0, capacity=(40, 80), trials=0.02, promising=0.5, least=0.0)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    setting = Setting(users=600, days=2, homes=made_up(400, 2), means=MEANS, nature=Nature())
    start = begin(setting, 3)
    # values come from assumptions: nothing is learned of effects, which takes long
    text = definitions_of(Nature(), MEANS).replace("lift: 0.3", "lift: 0.9")
    kept = [each for each in text.split("---\n") if "kind: uplift" not in each]
    root = tmp_path_factory.mktemp("explored")
    company = found_company(root, "---\n".join(kept), start.pilot, start.seed)
    company.note(start.past)
    day = company.morning(start.world)
    apply_definitions(company)
    train(company.space, day, lambda _: None)
    return company


@pytest.fixture(scope="module")
def folder(company: Company) -> Path:
    return Path(plan(company.space, BEGIN, None, lambda _: None).folder)


def test_those_drawn_get_what_chance_says_and_nothing_else(folder: Path) -> None:
    drawn, touches = (pl.read_parquet(folder / f"{name}.parquet") for name in ("explored", "touches"))
    assert drawn.columns == ["user", "benefit", "touchpoint", "exploration"]
    theirs = touches.join(drawn, on="user", how="semi")
    assert theirs["task"].str.starts_with("explore.trials.").all()
    given = drawn.drop_nulls("benefit")
    assert set(theirs["user"]) == set(given["user"])
    assert theirs.join(given, on=["user", "benefit", "touchpoint"], how="semi").height == given.height
    assert touches.filter(~pl.col("task").str.starts_with("explore.")).height > 0


def test_half_of_the_best_tenth_is_drawn_and_two_in_a_hundred_of_everyone(folder: Path) -> None:
    drawn = pl.read_parquet(folder / "explored.parquet")
    users = pl.read_parquet(folder / "cells.parquet").height
    assert drawn.height / users == pytest.approx(0.02 + 0.1 * (0.5 - 0.02), abs=0.025)
    assert drawn["benefit"].null_count() / drawn.height == pytest.approx(0.4, abs=0.2)


def test_made_again_while_it_goes_out_it_draws_the_same_ones(company: Company, folder: Path) -> None:
    touches, drawn = (pl.read_parquet(folder / f"{name}.parquet") for name in ("touches", "explored"))
    company.space.ledger.confirm(touches["touch_id"].to_list())
    defined = company.space.root / "definitions" / "all.yaml"
    # now others are those who promise most
    told = defined.read_text(encoding="utf-8").replace("base: spend", "base: spend_at_risk")
    defined.write_text(told, encoding="utf-8")
    apply_definitions(company)
    before = company.space.plans.find(BEGIN)
    again = Path(plan(company.space, BEGIN, None, lambda _: None, again=Again()).folder)
    now = company.space.plans.find(BEGIN)
    assert before is not None
    assert now is not None
    assert now.version == before.version + 1
    assert pl.read_parquet(again / "explored.parquet").equals(drawn)
