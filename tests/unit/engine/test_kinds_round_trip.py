"""Every kind of definition goes out and comes back as it was; the examples are those of the documentation."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from engine.definitions import KINDS, body, parse_definition
from storage.database import open_database
from storage.definitions import DefinitionStore

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def examples() -> list[tuple[str, dict[str, Any]]]:
    """(file, document) of every definition in the documentation, the demo and a new workspace."""
    texts = []
    for file in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"):
        blocks = re.findall(r"```yaml\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)
        texts += [(file.name, block) for block in blocks]
    for folder in ("demo/workspace", "template"):
        files = sorted((ROOT / "engine" / folder).rglob("*.yaml"))
        texts += [(file.name, file.read_text(encoding="utf-8")) for file in files]
    found = [(name, document) for name, text in texts for document in yaml.safe_load_all(text)]
    # an ellipsis stands for what only the reader knows
    return [
        (name, each)
        for name, each in found
        if isinstance(each, dict) and "kind" in each and "…" not in str(each)
    ]


def test_every_kind_has_an_example_that_comes_back(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/growth.db")
    store, seen = DefinitionStore(engine), set[str]()
    for name, document in examples():
        kept = body(parse_definition(document, name))
        for again in (json.loads(json.dumps(kept)), yaml.safe_load(yaml.safe_dump(kept))):
            assert body(parse_definition(again, name)) == kept, document
        seen.add(document["kind"])
        key = (document["kind"], f"d{len(seen)}_{document['name']}"[:100])
        store.apply([(*key, kept)], at=NOON, by="tests")
        (stored,) = [each for each in store.current(key[0]) if each.name == key[1]]
        assert stored.body == kept
    assert seen == set(KINDS)
    engine.dispose()
