from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from engine.consent import Consent
from engine.wiring import open_workspace
from kernel.errors import Unavailable
from kernel.learning import Action

TOUCH, SIGHT = Action(id="sms", channel="sms"), Action(id="page")
CATALOG = """
sources: {shop: {url: "parquet://data"}}
entities: {user: {source: shop, table: users, key: uid}}
fields: {%s}
"""
ROLE = "user.reachable: {table: users, column: newsletter, type: boolean, role: consent}"


def consent_of(root: Path, fields: str = ROLE) -> Consent:
    (root / "growth.toml").write_text("name = 'test'")
    (root / "catalog.yaml").write_text(CATALOG % fields)
    return Consent(open_workspace(root))


def fill(root: Path) -> None:
    (root / "data").mkdir()
    users = pl.DataFrame({"uid": [1, 2, 3], "newsletter": [True, False, None]})
    users.write_parquet(root / "data" / "users.parquet")


def test_who_said_yes_is_touched_and_nobody_else(tmp_path: Path) -> None:
    fill(tmp_path)
    consent = consent_of(tmp_path)
    consent.refresh()
    assert consent.allowed("1", TOUCH) is None
    for user in ("2", "3", "stranger"):
        assert consent.allowed(user, TOUCH) == "the user has not consented"
        assert consent.allowed(user, SIGHT) is None


def test_while_it_cannot_be_read_nobody_is_touched(tmp_path: Path) -> None:
    consent = consent_of(tmp_path)
    for _ in range(2):
        with pytest.raises(Unavailable, match="not read yet"):
            consent.allowed("1", TOUCH)
        assert consent.allowed("1", SIGHT) is None
        consent.refresh()


def test_without_such_a_field_everybody_may_be_touched(tmp_path: Path) -> None:
    fill(tmp_path)
    consent = consent_of(tmp_path, "")
    consent.refresh()
    assert consent.allowed("stranger", TOUCH) is None
