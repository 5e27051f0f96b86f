"""The door of `models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from models.backtest import BackTest, back_test
    from models.baskets import Baskets, expected_baskets
    from models.bucketing import bucket_user, bucket_users, held_out
    from models.calibration_drift import CalibrationDrift, calibration_drift, effect_drift
    from models.compare import Comparison, Kept, Verdict, compare, weigh
    from models.datasets import horizon_dataset, response_dataset, response_outcomes
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
    from models.exploration import EXPLORED, PROMISING, Exploration, draw
    from models.feature_batch import derive, derive_at
    from models.feature_check import Leak, find_leaks, tell_tale
    from models.feature_definitions import FeatureSet
    from models.feature_facts import USER, Belonging, Facts
    from models.feature_scale import sink_features
    from models.feature_settle import settle
    from models.features import (
        declared_in,
        of_entity,
        recipe_features,
        settled_recipe,
        user_features,
        usual_of,
    )
    from models.history import History
    from models.online_features import OnlineFeatures
    from models.policy_evidence import POLICY, PolicyEvidence
    from models.profit import ProfitCurve, profit_curve
    from models.qini import auuc, qini, qini_curve
    from models.sample_ratio import SampleRatio, sample_ratio
    from models.scoring import Scorer, score_blocks, score_one
    from models.scoring_offers import score_offers
    from models.scoring_users import score_frame, score_users
    from models.tracking import CHALLENGER, CHAMPION, Record, Registry
    from models.tracking_trained import record_of
    from models.training import Predictor, Trained, train
    from models.training_once import kept, train_once, training_key
    from models.uplift import FittedUplift, Uplift
    from models.uplift_dose import DoseUplift, FittedDose
    from models.uplift_evidence import UpliftEvidence, Worth, evaluate_uplift
    from models.uplift_gate import UpliftVerdict, judge_uplift
    from models.uplift_recipe import UpliftRecipe, check_uplift, treated_by
    from models.uplift_record import uplift_record
    from models.uplift_sample import CONTROL, UpliftSample, uplift_sample
    from models.uplift_training import TrainedUplift, UpliftModel, train_uplift
    from models.value_to_go import ValueToGo, fit_value_to_go
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CONTROL",
    "EXPLORED",
    "POLICY",
    "PROMISING",
    "USER",
    "BackTest",
    "Baseline",
    "Baskets",
    "Belonging",
    "CalibrationDrift",
    "Comparison",
    "Design",
    "DoseUplift",
    "Experiment",
    "Exploration",
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
    "draw",
    "effect_drift",
    "evaluate_uplift",
    "expected_baskets",
    "feature_drift",
    "find_leaks",
    "fit_value_to_go",
    "held_out",
    "horizon_dataset",
    "judge_uplift",
    "kept",
    "of_entity",
    "profit_curve",
    "qini",
    "qini_curve",
    "read_out",
    "recipe_features",
    "record_of",
    "response_dataset",
    "response_outcomes",
    "sample_ratio",
    "sample_size",
    "score_blocks",
    "score_frame",
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
    "usual_of",
    "weigh",
]
