"""The registry: every training is a run, every model a registered version, the one in use has an alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kernel.clock import aware
from kernel.errors import BadInput, NotFound
from kernel.ids import fingerprint
from kernel.learning import ModelVersion
from models.backtest import BackTest
from models.plots import lift_plot
from models.policy_evidence import POLICY, PolicyEvidence, estimates_plot, weights_plot
from models.predictor import Predictor
from models.tracking_record import Record, flat
from models.tracking_store import Data, Served, Told, TrackingStore, Version

__all__ = ["CHALLENGER", "CHAMPION", "Record", "Registry", "flat"]

CHAMPION, CHALLENGER = "champion", "challenger"
#: tag of a version for each plan that used it: `plan.2026-01-15` → version of the plan
PLAN = "plan."
#: models from before the store had a file of its own ask for it by this name
_Served = Served


class Registry:
    """The models and policies of one workspace. Raises Unavailable when MLflow's store does not answer."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri = uri
        self._store = TrackingStore(uri, artifacts)

    def record(self, record: Record, *, data_fingerprint: str, key: str) -> ModelVersion:
        """A run with parameters, figures, plots, card, data and the model; a new version; its alias.

        `key` names everything that the training depends on: the same key finds the same version.
        """
        name, as_of = record.name, record.as_of
        told = {"key": key, "as_of": as_of.isoformat(), "data_fingerprint": data_fingerprint}
        with self._store.run(f"{name} · {as_of:%Y-%m-%d}") as run:
            self._store.tell(
                Told(
                    params=record.params,
                    metrics=record.metrics,
                    tags={**record.tags, **told, "reason": record.reason},
                    figures=record.figures,
                    texts=record.texts,
                )
            )
            columns = {column: str(kind) for column, kind in record.dataset.schema.items()}
            self._store.data(Data(name=name, fingerprint=data_fingerprint, as_of=as_of, columns=columns))
            self._store.nested(run, record.trials)
            uri, model_id = self._store.model(record.model, record.judged, record.sample)
            told |= {"trusted": str(record.trusted).lower(), "reason": record.reason}
            if not record.trusted:
                told["refusal"] = record.reason
            version = self._store.add_version(name, uri, run, told, model_id)
            self._store.rename(run, f"{name} · {as_of:%Y-%m-%d} · v{version}")
        if record.promote:
            self.promote(name, version)
        else:
            self._store.point(name, CHALLENGER, version)
        return self.version(name, version)

    def record_backtest(self, test: BackTest, key: str) -> None:
        """The back-test as a run of its own: pooled and by plan date. The same key is recorded once."""
        if self._store.has_run(key):
            return
        metrics = {**flat(test.lift, "lift_"), **flat(test.auc, "auc_")}
        with self._store.run("back-test"):
            self._store.tell(
                Told(
                    params={"share": test.share, "plan_dates": test.dates.height},
                    metrics=metrics,
                    tags={"key": key},
                    figures={"lift.png": lift_plot(test)},
                    texts={"dates.csv": test.dates.write_csv()},
                )
            )

    def record_monitoring(self, day: str, told: Mapping[str, Any], sizes: Mapping[str, float]) -> None:
        """What was watched on one day, as a run of its own; the same again is recorded once."""
        key = fingerprint(["monitoring", told])
        if self._store.has_run(key):
            return
        with self._store.run(f"monitoring · {day}"):
            self._store.tell(
                Told(
                    params={"day": day},
                    metrics=sizes,
                    tags={"key": key, "alarm": str(bool(told["alarms"])).lower()},
                    figures={},
                    texts={"monitoring.json": json.dumps(told, indent=2)},
                )
            )

    def record_policy(self, evidence: PolicyEvidence) -> ModelVersion:
        """A run with the estimates, their plots and the policy's state; a new version of `policy`, the
        challenger. Nothing goes live by this."""
        told = {"data_fingerprint": evidence.data_fingerprint, "reason": evidence.reason}
        with self._store.run(f"policy {evidence.policy}") as run:
            self._store.tell(
                Told(
                    params={**evidence.made_by, "policy": evidence.policy},
                    metrics={
                        **flat(evidence.challenger),
                        **flat(evidence.champion, "champion_"),
                        **flat({"difference": evidence.difference}),
                        **evidence.facts,
                    },
                    tags=told,
                    figures={
                        "estimates.png": estimates_plot(evidence),
                        "weights.png": weights_plot(evidence),
                    },
                    texts={},
                )
            )
            made_by = json.dumps(dict(evidence.made_by)).encode()
            uri = self._store.files("policy", {"made_by.json": made_by, "state": evidence.state})
            tags = {**told, "as_of": evidence.as_of.isoformat(), "refusal": evidence.refusal}
            version = self._store.add_version(POLICY, uri, run, tags)
            self._store.point(POLICY, CHALLENGER, version)
        return self.version(POLICY, version)

    def policy(self, version: int | None = None) -> tuple[Mapping[str, Any], bytes, ModelVersion] | None:
        """How a policy is made, its state and its version: by default the champion, None when there is
        none. Raises NotFound for a version that does not exist."""
        number = self._store.aliases(POLICY).get(CHAMPION) if version is None else version
        if number is None:
            return None
        found = self._store.version(POLICY, number)
        with self._store.folder(POLICY, found, "policy") as path:
            made_by, state = json.loads((path / "made_by.json").read_text()), (path / "state").read_bytes()
        return made_by, state, self.version(POLICY, number)

    def deciding(self) -> int | None:
        """Version of the policy that is the champion; None when none was ever promoted. One question."""
        return self._store.aliases(POLICY).get(CHAMPION)

    def challenger(self) -> int | None:
        """Version of the policy that was judged last; None when there is none, or it is the champion."""
        aliases = self._store.aliases(POLICY)
        number = aliases.get(CHALLENGER)
        return None if number == aliases.get(CHAMPION) else number

    def champion(self, name: str) -> ModelVersion | None:
        """The version in use, if any is."""
        number = self._store.aliases(name).get(CHAMPION)
        return None if number is None else self.version(name, number)

    def find(self, name: str, key: str) -> ModelVersion | None:
        """The version that was trained under `key`, if there is one."""
        known = (each for each in self._store.versions(name) if each.tags.get("key") == key)
        found = next(known, None)
        return None if found is None else self._told(found)

    def version(self, name: str, version: int) -> ModelVersion:
        """Raises NotFound for one that does not exist."""
        return self._told(self._store.version(name, version))

    def _told(self, found: Version) -> ModelVersion:
        metrics, params = self._store.facts(found.run_id)
        aliases = self._store.aliases(found.name)
        tags = found.tags
        return ModelVersion(
            name=found.name,
            version=found.version,
            # the champion may be the challenger of yore, too
            alias=next((a for a in (CHAMPION, *sorted(aliases)) if aliases.get(a) == found.version), None),
            run_id=found.run_id,
            as_of=_as_of(found),
            data_fingerprint=tags["data_fingerprint"],
            metrics=metrics,
            params=params,
            trusted=tags.get("trusted", "true") == "true",
            reason=tags.get("reason", ""),
            plans={key.removeprefix(PLAN): tags[key] for key in sorted(tags) if key.startswith(PLAN)},
        )

    def usable_version(self, name: str, as_of: datetime) -> ModelVersion:
        """The champion if it knows nothing after `as_of`, else the newest version that does not.

        Raises BadInput when there is none.
        """
        champion = self._store.aliases(name).get(CHAMPION)
        fit = [each for each in self._store.versions(name) if _as_of(each) <= as_of]
        best = max(fit, key=lambda each: (each.version == champion, _as_of(each), each.version), default=None)
        if best is None:
            raise BadInput(
                f"no model {name!r} is from before it; run: growth train --as-of {as_of:%Y-%m-%d}",
                field="as_of",
                value=as_of.isoformat(),
            )
        return self._told(best)

    def usable(self, name: str, as_of: datetime) -> tuple[Predictor, ModelVersion]:
        """`usable_version`, loaded."""
        best = self.usable_version(name, as_of)
        return self._store.load(name, best.version)[0], best

    def load(self, name: str, version: int) -> tuple[Any, Any]:
        """A version's model, and the same learned before its held-out time only (None where not kept).
        Raises NotFound for one that does not exist."""
        return self._store.load(name, version)

    def used(self, versions: tuple[ModelVersion, ...], *, plan: str, version: int) -> None:
        """Says on each version which plan used it; again changes nothing."""
        for each in versions:
            self._store.tag(each.name, each.version, f"{PLAN}{plan}", str(version))

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, newest first."""
        return [self._told(each) for each in self._store.versions(name)]

    def names(self) -> list[str]:
        """Of the models that predict; policies are versions of one other, `policy`."""
        return [name for name in self._store.names() if name != POLICY]

    def promote(self, name: str, version: int, *, force: bool = False) -> ModelVersion:
        """Makes `version` the champion; the one before is remembered for `rollback`. Raises BadInput for
        one that the gate refused, unless by `force`."""
        known = {each.version: each for each in self._store.versions(name)}
        if version not in known:
            raise NotFound("version", version, known, where=f"model {name}", field="version")
        if (refusal := known[version].tags.get("refusal")) and not force:
            raise BadInput(
                f"was refused by the gate: {refusal}", where=f"model {name}", field="version", value=version
            )
        before = self._store.aliases(name).get(CHAMPION)
        if before is not None and before != version:
            self._store.tag(name, version, "before", str(before))
        self._store.point(name, CHAMPION, version)
        return self._told(known[version])

    def rollback(self, name: str) -> ModelVersion:
        """Makes the champion's predecessor the champion again. Raises BadInput when it has none."""
        champion = self._store.aliases(name).get(CHAMPION)
        if champion is None:
            raise BadInput("has no champion to roll back", where="models", field="model", value=name)
        before = self._store.version(name, champion).tags.get("before")
        if before is None:
            raise BadInput("has no earlier version", where="models", field="model", value=name)
        self._store.point(name, CHAMPION, int(before))
        return self.version(name, int(before))


def _as_of(found: Version) -> datetime:
    return aware(datetime.fromisoformat(found.tags["as_of"]), "as_of")
