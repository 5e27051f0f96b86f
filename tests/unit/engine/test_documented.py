"""Every command and every setting is in docs/reference.md, and nothing there is made up."""

from __future__ import annotations

import re
from pathlib import Path

from engine.cli.main import app
from engine.settings import Settings

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference.md").read_text(encoding="utf-8")


def test_commands_are_those_that_are_documented() -> None:
    documented = set(re.findall(r"^\| `growth (\w+)", REFERENCE, re.MULTILINE))
    known = [*app.registered_commands, *app.registered_groups]
    assert documented == {command.name for command in known}


def test_settings_are_those_that_are_documented() -> None:
    section = REFERENCE.split("## Settings")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert documented == set(Settings.model_fields)
