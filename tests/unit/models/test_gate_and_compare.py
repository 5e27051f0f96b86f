"""The gate: no model replaces a champion that it does not beat on rows that neither had learned from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from kernel.errors import BadInput
from kernel.learning import ModelRecipe
from models.api import Kept, compare, weigh
from models.evaluation import mean_by_user
from models.evidence import margin
from models.history import History
from models.predictor import Predictor
from models.training import Trained, train

BEGIN = datetime(2017, 1, 1, tzinfo=UTC)
LATER = BEGIN + timedelta(days=280)
SOONER = BEGIN + timedelta(days=230)
SPEND = ModelRecipe(name="spend", predicts="spend", within="28d", history=("28d", "84d"), every="14d")


@cache
def shop() -> History:
    """Every user has a rate and a basket of their own, and half of them stop at some day."""
    rng = np.random.default_rng(7)
    users = 250
    rate, basket = rng.gamma(2, 0.05, users), rng.gamma(4, 6, users)
    stops = np.where(rng.random(users) < 0.5, rng.uniform(0, 280, users), 280)
    count = rng.poisson(rate * stops) + 1
    user = np.repeat(np.arange(users), count)
    day = rng.uniform(0, 1, len(user)) * stops[user]
    at = pl.Series([BEGIN + timedelta(days=float(each)) for each in day], dtype=pl.Datetime("us", "UTC"))
    money = basket[user] * rng.gamma(4, 0.25, len(user))
    frame = pl.DataFrame({"user": user, "at": at, "event_id": np.arange(len(user)), "amount": money})
    return History(purchases=frame.sort("at"))


@cache
def trained(as_of: datetime = LATER) -> Trained:
    found = train(shop().until(as_of), as_of, SPEND, 1)
    assert all(each.won for each in found.evidence.margins), "the world is easy enough to be told"
    return found


def kept(model: Trained, version: int = 1) -> Kept:
    return Kept(version=version, as_of=model.dataset.as_of, final=model.predictor, judged=model.judged)


def worse(predictor: Predictor) -> Predictor:
    return replace(predictor, factor=predictor.factor * 1.6)


def test_without_a_champion_the_trivial_baselines_decide() -> None:
    verdict = weigh(trained(), None, shop())
    assert (verdict.trusted, verdict.promote) == (True, True)
    assert {each.baseline for each in verdict.margins} == {"average", "last value"}
    low = replace(trained().evidence.margins[0], errors=1.9)
    weak = replace(trained(), evidence=replace(trained().evidence, margins=(low,)))
    refused = weigh(weak, None, shop())
    assert (refused.trusted, refused.promote) == (False, False)
    assert "does not beat average in absolute error" in refused.reason


def test_the_same_model_again_does_not_replace_itself() -> None:
    verdict = weigh(trained(), kept(trained()), shop())
    assert (verdict.trusted, verdict.promote) == (True, False)
    assert "v1 stays champion" in verdict.reason
    assert verdict.margins[-1].difference.mean == 0


def test_a_worse_champion_is_replaced_on_rows_that_it_had_not_seen() -> None:
    bad = replace(kept(trained()), final=worse(trained().predictor), judged=worse(trained().judged))
    verdict = weigh(trained(), bad, shop())
    assert verdict.promote
    assert verdict.margins[-1].baseline == "champion"
    assert verdict.margins[-1].errors > 2
    # of the same day: it has seen all of the rows as it predicts, so it is taken as it was judged
    assert "as it was judged" in verdict.compared


def test_a_champion_of_long_ago_is_taken_as_it_predicts() -> None:
    early = trained(SOONER)
    long_ago = replace(kept(early), as_of=early.judged.knows_until or SOONER)
    assert "as it predicts" in weigh(trained(), long_ago, shop()).compared
    # not so where fewer than half of the rows are from after it
    begin = trained().held_out.frame["at"].max()
    assert isinstance(begin, datetime)
    recent = replace(kept(early), as_of=begin + timedelta(days=1))
    assert "as it was judged" in weigh(trained(), recent, shop()).compared


def test_a_champion_that_kept_nothing_to_compare_stays() -> None:
    verdict = weigh(trained(), replace(kept(trained()), judged=None), shop())
    assert (verdict.trusted, verdict.promote) == (True, False)
    assert "cannot be compared with champion v1" in verdict.reason


def test_two_versions_meet_on_rows_that_neither_has_seen() -> None:
    one, two = kept(trained(SOONER), 1), kept(trained(), 2)
    found = compare(one, two, shop(), LATER, seed=1)
    assert found.form == "as it was judged"
    assert found.since >= trained().evidence.held_out_from
    assert found.rows == trained().held_out.frame.filter(pl.col("at") >= found.since).height
    bad = compare(replace(one, judged=worse(trained(SOONER).judged)), two, shop(), LATER, seed=1)
    assert bad.difference.errors > 2
    assert bad.reason.startswith("version 2 is better than version 1 in absolute error")
    assert bad.figures["mae"][0].mean > bad.figures["mae"][1].mean == found.figures["mae"][1].mean
    turned = compare(two, replace(one, judged=worse(trained(SOONER).judged)), shop(), LATER, seed=1)
    assert turned.difference.errors == pytest.approx(-bad.difference.errors)


def test_versions_that_have_seen_everything_are_not_compared() -> None:
    one, two = (replace(kept(trained(), each), judged=None) for each in (1, 2))
    with pytest.raises(BadInput, match="leaves no rows that neither version 1 nor version 2 has seen"):
        compare(one, two, shop(), LATER, seed=1)


def test_rows_of_one_user_are_one_witness() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0.1, 1.0, 50)
    alone, repeated = (
        mean_by_user(own, np.arange(50)),
        mean_by_user(np.repeat(own, 8), np.repeat(np.arange(50), 8)),
    )
    assert repeated == pytest.approx(alone)
    assert alone[1] == pytest.approx(own.std(ddof=1) / np.sqrt(50))
    assert mean_by_user(own, np.zeros(50))[1] == float("inf")


@pytest.mark.parametrize("seed", [2, 3])
def test_a_challenger_that_ties_does_not_replace_the_champion(seed: int) -> None:
    """The same data learned by other seeds is as good, and no better."""
    other = train(shop().until(LATER), LATER, SPEND, seed)
    verdict = weigh(other, kept(trained()), shop())
    assert (verdict.trusted, verdict.promote) == (True, False)
    assert verdict.margins[-1].baseline == "champion"
    assert verdict.margins[-1].errors <= 2


def test_of_ties_the_gate_passes_few_and_of_what_is_better_most() -> None:
    users, passed = np.repeat(np.arange(120), 4), {0.0: 0, 4.0: 0}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        own = np.repeat(rng.standard_t(4, 120), 4) + rng.normal(0, 0.5, 480)
        for better in passed:
            error = float(np.sqrt((2.0 + 0.0625) / 120))
            passed[better] += margin("champion", own + better * error, users, probability=False).won
    assert passed[0.0] <= 0.05 * 300
    assert passed[4.0] >= 0.9 * 300
