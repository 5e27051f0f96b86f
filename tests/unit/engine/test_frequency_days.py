"""What a day's frequency takes over from the last one that was fitted."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.frequency import _before
from kernel.errors import BadInput
from touchpoint.api import Frequency

DAY = date(2026, 3, 2)


def ads(**more: Any) -> Frequency:
    return Frequency(name="ads", channels=("web",), outcome="order", value=1.0, budget=10, **more)


def fitted(root: Path, day: str = "2026-03-01", **more: Any) -> Any:
    told = {
        "looks_ahead_at": 0.2, "price": 0.3, "declared_share": 0.02, "drawn_share": 0.02,
        "drawn_exposures": 4000.0, "segments": [{}, {}], **more,
    }  # fmt: skip
    folder = root / "var" / "frequency" / "ads" / day
    folder.mkdir(parents=True)
    (folder / "frequency.json").write_text(
        json.dumps({key: told[key] for key in told if told[key] is not None})
    )
    return SimpleNamespace(root=root)


def test_the_first_day_goes_on_with_nothing(tmp_path: Path) -> None:
    assert _before(SimpleNamespace(root=tmp_path), ads(), DAY) == (None, None)
    assert _before(fitted(tmp_path, "2026-03-02"), ads(), DAY) == (None, None), "nothing of the day itself"


def test_fewer_are_drawn_when_those_drawn_have_seen_enough(tmp_path: Path) -> None:
    assert _before(fitted(tmp_path), ads(), DAY) == ((0.2, 0.3), 0.01)


def test_the_last_fit_is_gone_on_with(tmp_path: Path) -> None:
    fitted(tmp_path, "2026-02-10", price=0.9)
    assert _before(fitted(tmp_path), ads(), DAY).prices == (0.2, 0.3)


def test_another_declared_share_begins_anew(tmp_path: Path) -> None:
    space = fitted(tmp_path, drawn_share=0.005)
    assert _before(space, ads(), DAY).share == 0.005
    assert _before(space, ads(randomised=0.04), DAY).share is None


def test_a_fit_of_an_earlier_build_is_gone_on_with(tmp_path: Path) -> None:
    space = fitted(tmp_path, declared_share=None, drawn_share=None, drawn_exposures=None)
    assert _before(space, ads(), DAY) == ((0.2, 0.3), None)


def test_a_fit_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    space = fitted(tmp_path, price=None)
    with pytest.raises(BadInput, match=r"frequency\.json"):
        _before(space, ads(), DAY)
