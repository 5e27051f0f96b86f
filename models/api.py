"""The door of `models`."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from kernel.errors import BadInput
from kernel.ids import fingerprint, frame_fingerprint
from kernel.learning import ModelRecipe, ModelVersion
from models.backtest import BackTest, back_test
from models.bucketing import bucket_user, bucket_users, held_out
from models.calibration_drift import CalibrationDrift, calibration_drift, effect_drift
from models.compare import Comparison, Kept, Verdict, compare, weigh
from models.datasets import horizon_dataset, response_dataset
from models.drift import FeatureDrift, feature_drift
from models.experiment_power import (
    Baseline,
    Design,
    SampleSize,
    days_needed,
    sample_size,
    smallest_effect,
)
from models.experiment_readout import Readout, read_out
from models.experiments import Experiment, Holdout, check_experiments
from models.feature_batch import derive, derive_at
from models.feature_check import Leak, find_leaks, tell_tale
from models.feature_definitions import FeatureSet
from models.feature_facts import Facts
from models.feature_scale import sink_features
from models.feature_settle import settle
from models.features import declared_in, recipe_features, settled_recipe, user_features
from models.history import History
from models.online_features import OnlineFeatures
from models.policy_evidence import POLICY, PolicyEvidence
from models.profit import ProfitCurve, profit_curve
from models.qini import auuc, qini, qini_curve
from models.sample_ratio import SampleRatio, sample_ratio
from models.scoring import Scorer, score_blocks, score_one
from models.scoring_offers import score_offers
from models.tracking import CHALLENGER, CHAMPION, Record, Registry
from models.tracking_trained import record_of
from models.training import Predictor, Trained, train
from models.uplift import FittedUplift, Uplift
from models.uplift_dose import DoseUplift, FittedDose
from models.uplift_evidence import UpliftEvidence, Worth, evaluate_uplift
from models.uplift_gate import UpliftVerdict, judge_uplift
from models.uplift_recipe import UpliftRecipe, check_uplift, treated_by
from models.uplift_record import uplift_record
from models.uplift_sample import CONTROL, UpliftSample, uplift_sample
from models.uplift_training import TrainedUplift, UpliftModel, train_uplift
from models.value_to_go import ValueToGo, fit_value_to_go

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CONTROL",
    "POLICY",
    "BackTest",
    "Baseline",
    "CalibrationDrift",
    "Comparison",
    "Design",
    "DoseUplift",
    "Experiment",
    "Facts",
    "FeatureDrift",
    "FeatureSet",
    "FittedDose",
    "FittedUplift",
    "History",
    "Holdout",
    "Kept",
    "Leak",
    "OnlineFeatures",
    "PolicyEvidence",
    "Predictor",
    "ProfitCurve",
    "Readout",
    "Record",
    "Registry",
    "SampleRatio",
    "SampleSize",
    "Scorer",
    "Trained",
    "TrainedUplift",
    "Uplift",
    "UpliftEvidence",
    "UpliftModel",
    "UpliftRecipe",
    "UpliftSample",
    "UpliftVerdict",
    "ValueToGo",
    "Verdict",
    "Worth",
    "auuc",
    "back_test",
    "bucket_user",
    "bucket_users",
    "calibration_drift",
    "check_experiments",
    "check_uplift",
    "compare",
    "days_needed",
    "declared_in",
    "derive",
    "derive_at",
    "effect_drift",
    "evaluate_uplift",
    "feature_drift",
    "find_leaks",
    "fit_value_to_go",
    "held_out",
    "horizon_dataset",
    "judge_uplift",
    "kept",
    "profit_curve",
    "qini",
    "qini_curve",
    "read_out",
    "recipe_features",
    "record_of",
    "response_dataset",
    "sample_ratio",
    "sample_size",
    "score_blocks",
    "score_offers",
    "score_one",
    "score_users",
    "settle",
    "settled_recipe",
    "sink_features",
    "smallest_effect",
    "tell_tale",
    "train",
    "train_once",
    "train_uplift",
    "training_key",
    "treated_by",
    "uplift_record",
    "uplift_sample",
    "user_features",
    "weigh",
]

#: raised when what a recipe means changes, so that models learned before are not taken for it
DEFINITION = "2"


def training_key(data_fingerprint: str, as_of: datetime, recipe: ModelRecipe, seed: int) -> str:
    """Everything that a training depends on, in sixteen digits."""
    return fingerprint(
        [DEFINITION, data_fingerprint, as_of.isoformat(), recipe.model_dump(mode="json"), seed]
    )


def train_once(
    history: History,
    as_of: datetime,
    recipe: ModelRecipe,
    registry: Registry,
    *,
    data: str,
    seed: int,
    segments: pl.DataFrame | None = None,
) -> tuple[ModelVersion, bool]:
    """The version learned from this data as of this instant, and whether it was learned only now.

    It becomes the champion when it passes the gate (`weigh`). `segments`: user and the recipe's segments.
    """
    split = "" if segments is None else frame_fingerprint(segments.sort("user"))
    key = training_key(f"{data}{split}", as_of, recipe, seed)
    known = registry.find(recipe.name, key)
    if known is not None:
        return known, False
    trained = train(history, as_of, recipe, seed, segments=segments)
    champion = registry.champion(recipe.name)
    verdict = weigh(trained, None if champion is None else kept(registry, champion), history)
    record = record_of(trained, verdict, data_fingerprint=data)
    return registry.record(record, data_fingerprint=data, key=key), True


def kept(registry: Registry, version: ModelVersion) -> Kept:
    """A version as it is compared. Raises BadInput for one of a kind that is not."""
    final, judged = registry.load(version.name, version.version)
    if not isinstance(final, Predictor):
        raise BadInput(
            "is of a kind that is judged when it is learned, not compared", field="model", value=version.name
        )
    return Kept(version=version.version, as_of=version.as_of, final=final, judged=judged)


def score_users(
    predictor: Predictor, history: History, users: pl.DataFrame, as_of: datetime, name: str
) -> pl.DataFrame:
    """user, `name`: P(outcome) or money in the window, one row for every user of `users`.

    A user without a purchase has no features: money is then 0, churn certain, and the next purchase as far
    away as the window is long.
    """
    rows = recipe_features(history, as_of, predictor.recipe)
    scored = rows.select("user", pl.Series(name, predictor.predict(rows)))
    days = predictor.recipe.horizon / timedelta(days=1)
    without = {"spend": 0.0, "next_purchase": days}.get(predictor.recipe.predicts, 1.0)
    return (
        users.select("user")
        .join(scored, on="user", how="left", maintain_order="left")
        .with_columns(pl.col(name).fill_null(without))
    )
