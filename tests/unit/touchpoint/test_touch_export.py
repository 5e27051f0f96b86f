"""Touches as files for the systems that send them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from kernel.contact import Touches
from kernel.errors import BadInput
from touchpoint.api import export_touches


def touches(*touchpoints: str) -> pl.DataFrame:
    at = datetime(2017, 10, 16, 14, 5, 9, tzinfo=UTC)
    rows = [
        {
            "touch_id": f"id{i}",
            "user": f"anna, {i}",
            "task": "t",
            "goal": "retain",
            "benefit": "five_off",
            "touchpoint": name,
            "channel": "sms",
            "content": "words",
            "activity": "retain",
            "message_class": "marketing",
            "send_at": at,
            "local_time": "2017-10-16T10:05:09-04:00",
        }
        for i, name in enumerate(touchpoints)
    ]
    schema = dict(Touches.create_empty().schema) | {"user": pl.String}
    return Touches.validate(pl.DataFrame(rows, schema=schema))


def test_one_csv_a_touchpoint_and_the_whole(tmp_path: Path) -> None:
    given = touches("sms", "mail", "sms")
    paths = export_touches(given, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["touches_mail.csv", "touches_sms.csv", "touches.parquet"]
    assert pl.read_parquet(paths[-1]).equals(given)
    sms = pl.read_csv(paths[1])
    assert sms.columns[0] == "user"
    assert sms["user"].to_list() == ["anna, 0", "anna, 2"]
    assert sms["send_at"][0] == "2017-10-16T14:05:09Z"


def test_a_file_of_an_earlier_plan_is_not_left_to_be_sent(tmp_path: Path) -> None:
    export_touches(touches("sms", "mail"), tmp_path)
    (tmp_path / "notes.csv").write_text("mine")
    assert export_touches(touches("mail").head(0), tmp_path) == [tmp_path / "touches.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.csv", "touches.parquet"]


def test_exporting_again_gives_the_same_bytes_and_leaves_no_draft(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in export_touches(touches("sms"), tmp_path)}
    again = {path: path.read_bytes() for path in export_touches(touches("sms"), tmp_path)}
    assert first == again
    assert set(tmp_path.iterdir()) == set(first)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="out = "):
        export_touches(touches("sms"), tmp_path / "out")
