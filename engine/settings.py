"""Settings of a workspace: `growth.toml`, over which environment variables `GROWTH_…` win."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kernel.clock import parse_zone
from kernel.definitions import first_problem
from kernel.errors import BadInput

FILE = "growth.toml"
_SIZE = re.compile(r"[1-9][0-9]{0,8}[KMGT]B", re.IGNORECASE)


class Settings(BaseSettings):
    """What a workspace is told. Relative paths are relative to the workspace."""

    model_config = SettingsConfigDict(env_prefix="GROWTH_", extra="forbid", frozen=True)

    #: name that reports carry
    name: str = "workspace"
    #: zone of the calendar day that a plan is made for, and of users without one of their own
    timezone: str = "UTC"
    #: ISO 4217 code of all money
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    #: master seed: the same inputs and seed give the same plan
    seed: int = Field(default=0, ge=0)
    #: the data routing
    catalog: str = "catalog.yaml"
    #: definitions, plans, ledgers: a SQLAlchemy URL
    database: str = "sqlite:///var/growth.db"
    #: MLflow's tracking URI
    mlflow: str = "sqlite:///var/mlflow.db"
    #: folder of MLflow's artifacts
    artifacts: str = "var/artifacts"
    #: folder of the plans
    plans: str = "plans"
    #: longest time that one allocation may take, seconds
    time_limit: float = Field(default=60.0, gt=0)
    #: durable jobs: DBOS's own database, SQLite or PostgreSQL
    jobs: str = "sqlite:///var/jobs.db"
    #: chunks of groups that are worked out at once
    workers: int = Field(default=2, ge=1, le=64)
    #: bytes that they may hold together, such as 2GB
    memory: str = "2GB"
    #: how long a scheduled run waits for what it needs, seconds
    patience: float = Field(default=43_200.0, ge=0)
    #: how long the log keeps fresh events that every batch knows, days
    keep_events: int = Field(default=30, ge=1)
    #: newest published versions of each group and tag that are kept, however old
    keep_versions: int = Field(default=14, ge=1)
    #: how long every published version is kept, days
    keep_groups: int = Field(default=35, ge=1)
    #: how long finished runs of the selection are kept, days
    keep_runs: int = Field(default=90, ge=1)
    #: how long decisions and outcomes stay in the journals, days; longer where a cap or a reward needs it
    keep_journal: int = Field(default=90, ge=1)
    #: what deciders share: a folder (LMDB), or a Redis as `redis://HOST:PORT/0` or `redis+cluster://…`
    store: str = "var/online"
    #: what an answer survives: `process` (written to the operating system) or `disk` (flushed, in groups)
    durability: Literal["process", "disk"] = "process"
    #: a decision that waits longer for what is shared gets the safe default, seconds
    deadline: float = Field(default=0.05, gt=0, le=10)
    #: where the outside reaches this server, for links that end messages, such as https://growth.shop.example
    public_url: str = ""
    #: bearer token that callers of the HTTP API need; required beyond loopback
    token: SecretStr | None = None

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, name: str) -> str:
        try:
            parse_zone(name)
        except BadInput as error:
            raise ValueError(error.problem) from None
        return name

    @field_validator("memory")
    @classmethod
    def _a_size(cls, text: str) -> str:
        if not _SIZE.fullmatch(text):
            raise ValueError("is not a size such as 512MB or 2GB")
        return text

    @property
    def memory_bytes(self) -> int:
        number, unit = self.memory[:-2], self.memory[-2:].upper()
        return int(number) * {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(root: Path) -> Settings:
    """The settings of the workspace in `root`. Raises BadInput when there is none, or for a wrong value."""
    path = root / FILE
    if not path.is_file():
        raise BadInput("is not a workspace (no growth.toml); make one with: growth init DIR",
                       field="--dir", value=str(root))  # fmt: skip
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"does not parse: {error}", where=str(path), field="document") from None
    try:
        return Settings(**raw)
    except ValidationError as error:
        raise first_problem(error, str(path)) from None
