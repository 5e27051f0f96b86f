"""Whether what the models see, say and foretold has moved: looked at every day, kept, and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from engine.drift import SCORE, drift_at
from engine.monitoring_foretold import FORETELLS, calibration, uplift
from engine.wiring import Workspace
from engine.world import plan_instant, read_history
from kernel.errors import BadInput
from kernel.learning import ModelVersion
from models.api import CalibrationDrift, History, UpliftRecipe
from storage.lake import write_json

FEATURE, SCORES, CALIBRATION, UPLIFT = "feature", "score", "calibration", "uplift"
#: P(any alarm of features or scores in one run, nothing having moved), over all models
FDR = 0.01
#: P(an alarm of a model's calibration or uplift within a year without drift)
ALPHA = 0.05
#: features that a sentence names
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something has moved."""

    model: str
    #: `feature`, `score`, `calibration` or `uplift`
    what: str
    #: the feature; of uplift goal and benefit
    name: str
    #: population stability index; of calibration and uplift, the sum in standard errors
    size: float
    #: what it would not exceed by chance
    threshold: float
    #: one sentence
    said: str
    #: of scores and calibration: features of the model that have moved, the furthest first
    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One model on one day."""

    model: str
    version: int
    #: features and scores that were looked at
    looks: int
    #: largest index of a feature, and of the scores; None: not looked at
    feature_psi: float | None
    score_psi: float | None
    #: windows, of a response days of offers, whose outcome was compared with what had been predicted
    windows: int
    #: why something was not looked at; empty when all was
    without: str


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Everything on one day."""

    day: date
    models: tuple[Watched, ...]
    alarms: tuple[Alarm, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "fdr": FDR,
            "alpha": ALPHA,
            "alarm": bool(self.alarms),
            "models": [vars(each) for each in self.models],
            "alarms": [vars(each) for each in self.alarms],
        }


def monitor(
    space: Workspace, day: date, progress: Callable[[str], None], history: History | None = None
) -> Monitoring:
    """Looks at every model as of the beginning of `day`, keeps what it saw under `var/monitoring/` and in
    MLflow, and returns it. The same day again, with the same models and data, changes nothing.

    Features and scores against the instant that the model was learned at; what it and its predecessors
    foretold against what came, one window after the other; uplift against the holdout of past plans.
    """
    as_of = plan_instant(space, day, "--as-of")
    history = (read_history(space, as_of) if history is None else history).until(as_of)
    versions = _versions(space, as_of)
    if not versions:
        raise BadInput("no model is learned; run: growth train", field="--as-of", value=day.isoformat())
    watched, alarms = [], []
    for version in versions:
        progress(f"watching {version.name}")
        seen, told = _model(space, version, history, as_of, FDR / len(versions))
        watched.append(seen)
        alarms += told
    for recipe in space.definitions().of(UpliftRecipe):
        for name, drift in uplift(space, recipe, history, as_of, ALPHA):
            alarms += _summed(recipe.name, UPLIFT, name, drift)
    found = Monitoring(day=day, models=tuple(watched), alarms=tuple(alarms))
    write_json(_folder(space) / f"{day.isoformat()}.json", found.as_json())
    space.registry.record_monitoring(day.isoformat(), found.as_json(), _figures(found))
    return found


def watched_days(space: Workspace) -> list[date]:
    """Days that were looked at, earliest first."""
    return sorted(date.fromisoformat(path.stem) for path in _folder(space).glob("????-??-??.json"))


def newest(space: Workspace) -> dict[str, Any] | None:
    """What was seen last; None when nothing was ever looked at."""
    days = watched_days(space)
    if not days:
        return None
    found: dict[str, Any] = json.loads((_folder(space) / f"{days[-1]}.json").read_text(encoding="utf-8"))
    return found


def standing(space: Workspace) -> str:
    """For `growth doctor`. Raises BadInput naming what has moved."""
    found = newest(space)
    if found is None:
        return "nothing was watched yet; growth plan does, or: growth monitor --as-of DAY"
    if found["alarms"]:
        said = "; ".join(each["said"] for each in found["alarms"][:3])
        more = len(found["alarms"]) - 3
        raise BadInput(f"{found['day']}: {said}{f'; and {more} more' if more > 0 else ''}")
    looks = sum(each["looks"] for each in found["models"])
    return f"{found['day']}: nothing has moved, {looks} looks"


def _folder(space: Workspace) -> Path:
    return space.root / "var" / "monitoring"


def _figures(found: Monitoring) -> dict[str, float]:
    told = {"alarms": float(len(found.alarms))}
    for each in found.models:
        for what, size in ((FEATURE, each.feature_psi), (SCORES, each.score_psi)):
            if size is not None:
                told[f"{each.model}_{what}_psi"] = size
    return told


def _versions(space: Workspace, as_of: datetime) -> list[ModelVersion]:
    """The version of each model of users and offers that a plan as of then uses."""
    found = []
    for name in space.registry.names():
        if any(each.as_of <= as_of for each in space.registry.versions(name)):
            version = space.registry.usable_version(name, as_of)
            if version.params.get("predicts") != UPLIFT:
                found.append(version)
    return found


def _model(
    space: Workspace, version: ModelVersion, history: History, as_of: datetime, fdr: float
) -> tuple[Watched, list[Alarm]]:
    alarms: list[Alarm] = []
    psi: dict[str, float | None] = {FEATURE: None, SCORES: None}
    looks, without = 0, []
    if version.as_of >= as_of:
        without.append("it was learned as of this very day")
    else:
        drift = drift_at(space, version, history, [as_of], fdr)
        looks = drift.rows.height
        for row in drift.rows.iter_rows(named=True):
            what = SCORES if row["feature"] == SCORE else FEATURE
            psi[what] = max(psi[what] or 0.0, row["psi"])
        for row in drift.moved.iter_rows(named=True):
            what = SCORES if row["feature"] == SCORE else FEATURE
            shift = "" if row["shift"] is None else f", its mean by {row['shift']:+.2f} spreads"
            said = f"{version.name}: {row['feature']} has moved (index {row['psi']:.3f}{shift})"
            alarms.append(
                Alarm(model=version.name, what=what, name=row["feature"], size=row["psi"],
                      threshold=max(row["threshold"], drift.least), said=said)
            )  # fmt: skip
    windows = 0
    if version.params.get("predicts") in FORETELLS:
        foretold = calibration(space, version, history, as_of, ALPHA)
        if foretold is None:
            without.append("no window of what it foretold is over")
        else:
            windows = foretold.days.height
            alarms += _summed(version.name, CALIBRATION, version.name, foretold)
    seen = Watched(
        model=version.name,
        version=version.version,
        looks=looks,
        feature_psi=psi[FEATURE],
        score_psi=psi[SCORES],
        windows=windows,
        without="; ".join(without),
    )
    features = tuple(each.name for each in alarms if each.what == FEATURE)
    return seen, [each if each.what == FEATURE else _with_features(each, features) for each in alarms]


def _with_features(alarm: Alarm, features: tuple[str, ...]) -> Alarm:
    """Where to look: what has moved in the model's own features."""
    more = len(features) - _NAMED
    named = ", ".join(features[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    said = f"{alarm.said}; moved of its features: {named or 'none'}"
    return replace(alarm, features=features, said=said)


def _summed(model: str, what: str, name: str, drift: CalibrationDrift) -> list[Alarm]:
    """An alarm where the newest window's sum is above its level."""
    last = drift.days.tail(1).to_dicts()[0]
    if not last["alarm"]:
        return []
    above = last["above"] >= last["below"]
    side, size = ("more", last["above"]) if above else ("less", last["below"])
    said = f"{model}: {side} comes than it foretells, since {drift.since} ({what} of {name})"
    return [Alarm(model=model, what=what, name=name, size=size, threshold=drift.level, said=said)]
