from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event

from storage import database
from storage.decisions import SqlDecisionLog
from storage.tables import metadata


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}")
    event.listen(engine, "connect", database._durable_sqlite)
    metadata.create_all(engine)
    return engine


@pytest.fixture
def log(engine: Engine) -> SqlDecisionLog:
    return SqlDecisionLog(engine)
