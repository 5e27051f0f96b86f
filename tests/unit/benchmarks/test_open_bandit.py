"""The reader of the Open Bandit sample, on a sample of the sample's form written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from benchmarks.offpolicy import judged, run, simulated
from benchmarks.open_bandit import CAMPAIGNS, POLICIES, impressions, target

ITEMS, ROWS = 5, 500


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("obp")
    rng = np.random.default_rng(1)
    prior = {"alpha": [50.0, 8.0, 8.0, 8.0, 8.0], "beta": [1000.0] * ITEMS}
    for campaign in CAMPAIGNS:
        for policy in POLICIES:
            folder = root / "dataset" / "obd" / policy / campaign
            folder.mkdir(parents=True)
            features = {
                f"user_feature_{n}": [f"v{each}" for each in rng.integers(0, 3, ROWS)] for n in range(4)
            }
            pl.DataFrame(
                {
                    "item_id": rng.integers(0, ITEMS, ROWS),
                    "position": rng.integers(1, 4, ROWS),
                    "click": (rng.random(ROWS) < 0.3).astype(int),
                    "propensity_score": np.full(ROWS, 1 / ITEMS),
                    **features,
                }
            ).write_csv(folder / f"{campaign}.csv")
    (root / "policy" / "conf").mkdir(parents=True)
    (root / "policy" / "conf" / "prior_bts.yaml").write_text(yaml.safe_dump(dict.fromkeys(CAMPAIGNS, prior)))
    return root


def test_the_thompson_sampler_prefers_what_its_prior_does(root: Path) -> None:
    best = target(root, "bts", "all", 1)
    np.testing.assert_allclose(best.sum(axis=1), 1)
    assert best[0, 0] > 0.9
    assert best[1, 0] < 0.1  # the second place is another's
    np.testing.assert_allclose(target(root, "random", "all", 1), np.full((3, ITEMS), 1 / ITEMS))


def test_a_row_is_judged_by_its_position(root: Path) -> None:
    log = impressions(root, "random", "men")
    chances = np.diag([1.0] * ITEMS)[:3]
    choices = log.under(chances)
    assert [int(row.argmax()) for row in choices.target[:50]] == log.positions[:50].tolist()
    assert log.contexts.shape == (ROWS, 4 * 3 + 3)
    assert set(log.positions.tolist()) == {0, 1, 2}


def test_every_direction_has_every_estimator_and_agrees(root: Path) -> None:
    lines = run(ROWS, 1, 1.0, where=lambda: root)
    assert lines[0].who == "ours"
    assert len(lines) == 5 + 6 * 5
    uniform = [line for line in lines if "→ random" in line.who]
    assert all(line.notes["agree"] == "yes" for line in uniform)


def test_without_the_data_only_the_simulated_log_is_judged() -> None:
    assert len(run(400, 1, 1.0, where=lambda: None)) == 5


def test_a_wrong_truth_is_not_agreed_with() -> None:
    log, truth = simulated(3000, 1)
    for claimed, word in ((truth, "yes"), (10 * truth, "no")):
        assert judged("x", log, claimed, 0.0, runs=2, seed=1, published={})[0].notes["agree"] == word
