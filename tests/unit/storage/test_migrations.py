"""The migrations make exactly the tables that the code declares."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

import storage
from kernel.errors import Unavailable
from storage.database import MIGRATIONS, migrate, newest, open_database
from storage.tables import metadata

for _each in pkgutil.iter_modules(storage.__path__, "storage."):
    importlib.import_module(_each.name)  # they declare the tables


def test_a_new_database_has_every_table_and_migrating_again_changes_nothing(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/growth.db")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_an_older_schema_is_known_for_one(tmp_path: Path) -> None:
    engine, config = open_database(f"sqlite:///{tmp_path}/growth.db"), Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert newest() == ScriptDirectory.from_config(config).get_current_head()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_database(f"sqlite:///{tmp_path}/no/such/folder/growth.db")


def test_every_migration_can_be_taken_back_and_made_again(tmp_path: Path) -> None:
    engine, config = open_database(f"sqlite:///{tmp_path}/growth.db"), Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    for change, to in ((command.downgrade, "0005"), (command.downgrade, "base"), (command.upgrade, "head")):
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            change(config, to)
        logged = {"decisions", "outcomes", "learned_decisions", "policy_states"}
        assert logged & set(inspect(engine).get_table_names()) == (logged if to == "0005" else set())
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
