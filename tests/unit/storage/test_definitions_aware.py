"""Times that come back from storage have a zone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, event

from storage.database import _durable_sqlite
from storage.definitions import DefinitionStore
from storage.tables import metadata


def test_when_comes_back_aware(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'growth.db'}")
    event.listen(engine, "connect", _durable_sqlite)
    metadata.create_all(engine)
    at = datetime(2017, 10, 16, 12, tzinfo=UTC)
    DefinitionStore(engine).apply([("goal", "a", {})], at=at, by="test")
    found = DefinitionStore(engine).current()[0].applied_at
    engine.dispose()
    assert found == at
