"""`growth preview`, `deliver`, `outbox`, `suppress` and `doctor`, as an operator gives them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.outbox_world import definitions, make
from engine.outbox import enqueue


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four users with a touch each, delivered to the screen."""
    root = tmp_path_factory.mktemp("dispatch") / "w"
    space = make(root, 4, "http://127.0.0.1:1", tasks=2)
    said = [{"kind": "provider", "name": "crm", "type": "console"}, *definitions("http://127.0.0.1:1")[1:]]
    (root / "d.yaml").write_text("\n---\n".join(yaml.safe_dump(each) for each in said))
    enqueue(space, root / "plan")
    space.ledger.close()
    space.database.dispose()
    return root


def test_from_a_preview_to_what_became_of_it(growth: Any, root: Path) -> None:
    growth.well("apply", "-f", root / "d.yaml", "--dir", root)
    shown = growth.well("preview", "hello", "--user", "u1", "--dir", root).out
    assert "address: token-1" in shown
    assert "subject: Ten off for you, N1" in shown
    assert "1 waiting touches called off" in growth.well("suppress", "u2", "--dir", root).out
    growth.well("outbox", "pause", "buy.coupon.app.1", "--dir", root)
    ran = growth.well("deliver", "--dir", root)
    assert "push to token-0  Ten off for you, N0: C0 Ten off [C0]" in ran.out
    assert "1 touches accepted" in ran.out
    growth.well("outbox", "resume", "buy.coupon.app.1", "--dir", root)
    told = growth.well("deliver", "--until-empty", "--json", "--dir", root)
    assert told.json == {"accepted": 2, "settled": 2, "trouble": {}}
    report = growth.well("outbox", "--json", "--dir", root).json
    assert {task["task"]: task["touches"] for task in report["tasks"]} == {
        "buy.coupon.app.0": {"accepted": 1, "cancelled": 1},
        "buy.coupon.app.1": {"accepted": 2},
    }
    held = growth.well("touches", "u1", "--dir", root).out
    assert "user u1, on her own wall" in held
    assert "confirmed" in held
    assert "1 cancelled by suppressed in buy.coupon.app.0" in growth.well("outbox", "--dir", root).out
    assert (
        "cancelled buy.coupon.app.0 (suppressed" in growth.well("outbox", "--user", "u2", "--dir", root).out
    )
    assert json.loads((root / "plan" / "delivery.json").read_text())["channels"][0]["states"]["accepted"] == 3
    assert "u2" in growth.well("suppress", "--dir", root).out
    assert "1 suppressions lifted" in growth.well("suppress", "u2", "--lift", "--dir", root).out
    assert "nobody is suppressed" in growth.well("suppress", "--dir", root).out
    assert "console, carries push" in growth("doctor", "--dir", root).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("outbox", "pause", "buy.coupon.ap"), "did you mean 'buy.coupon.app"),
        (("outbox", "pause"), "TASK: is required and missing"),
        (("outbox", "explode", "buy.coupon.app.0"), "ACTION = 'explode': is not pause, resume"),
        (("preview", "helo", "--user", "u1"), "did you mean 'hello'"),
        (("preview", "hello", "--user", "u99"), "--user = 'u99': unknown user"),
        (("touches", "u99"), "USER = 'u99': unknown user"),
        (("suppress", "  "), "is not text of 1 to 200 characters"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    growth: Any, root: Path, words: tuple[str, ...], said: str
) -> None:
    ran = growth(*words, "--dir", root)
    assert ran.code == 2, ran.out
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://x"}, "url 'ftp://x' is no address"),
        ({"url": "https://me:pw@x.example"}, "a secret goes into an environment variable"),
        ({"secret": "hunter2"}, "provider crm|d.yaml.*secret = 'hunter2': is not the name of an environment"),
        ({"rate": "fast"}, "rate = 'fast': is not a rate such as"),
        ({"host": "mail.example"}, "host is not for a provider of type webhook"),
    ],
)
def test_a_provider_that_cannot_be_is_refused_by_field_and_value(
    growth: Any, tmp_path: Path, root: Path, change: dict[str, Any], said: str
) -> None:
    provider = {**definitions("https://crm.example")[0], **change}
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump(provider))
    ran = growth("apply", "-f", file, "--dir", root)
    assert ran.code == 2
    assert re.search(said, ran.err), ran.err
