"""The report: everything that the plan knows is on the page, nothing unknown is, and names do no harm."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from engine.report import charts, words
from engine.report.render import render_report
from kernel.errors import BadInput
from kernel.people import Stage

SAMPLE = Path(__file__).with_name("report_sample.json")
SECTIONS = [
    "headline",
    "tasks",
    "budgets",
    "contested",
    "samples",
    "cells",
    "models",
    "backtest",
    "assumptions",
    "made",
]
VOID = {"meta", "link", "br", "hr", "img", "input"}
EVIL = '<script>alert("1")</script>\'"><img src=https://evil.example/x onerror=alert(1)>{{ 7*7 }}'


class Page(HTMLParser):
    """Tags in order with their attributes; fails on a tag that is closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SAMPLE.read_text("utf-8"))
    return loaded


def test_the_page_has_its_sections_in_order_each_with_a_heading(data: dict[str, Any]) -> None:
    page = Page(render_report(data))
    sections = page.all("section")
    assert [section["id"] for section in sections] == SECTIONS
    headings = {attributes.get("id") for tag, attributes in page.tags if tag in {"h1", "h2"}}
    assert {section["aria-labelledby"] for section in sections} == headings
    links = {str(link["href"]) for link in page.all("a")}
    assert links == {f"#{section}" for section in SECTIONS[1:]}


def test_the_figures_of_the_plan_are_said(data: dict[str, Any]) -> None:
    text = Page(render_report(data)).text
    for said in (
        "Plan for 14 August 2017",
        "Of 2,469 users, 2,090 were in the audience of some task; from 3,673 possible offers "
        "today’s plan makes 998, expected to cost $900.19 and to bring $2,755.35",
        "One more $1.00 of mail budget would bring $1.90.",
        "Does not bind: more of it would bring nothing today.",
        "One more of letters a day would bring less than $0.01.",
        "asking one less would bring $0.41.",
        "Of the users chosen here, 412 were really reached afterwards; 101 of them responded (25%).",
        "log loss lower is better",
        "even the low end of the interval is above 1",
        "95% interval 2.31 to 2.86",
        "It does not show what the coupon caused",
        "The choice is proven optimal",
        "a cap or consent forbids it today: 340",
        "two letters a week: 31",
        "newsletter gift: no goal, touchpoint and content fit together",
        "Win back the lapsed",
    ):
        assert said in text, said


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.7, 0.9, "picks responders worse"), (0.9, 1.2, "do not tell them apart"),
    (None, None, "Model over RFM"),
])  # fmt: skip
def test_the_back_test_claims_no_more_than_its_interval(
    data: dict[str, Any], low: float | None, high: float | None, said: str
) -> None:
    data["backtest"]["lift"]["model_over_rfm"] |= {"low": low, "high": high}
    text = Page(render_report(data)).text
    assert said in text
    assert "picks responders better" not in text


def test_an_unproven_choice_says_how_far_it_may_be_from_the_best(data: dict[str, Any]) -> None:
    data["allocation"] |= {"status": "FEASIBLE", "gap": 0.00042}
    text = Page(render_report(data)).text
    assert "no other choice can be worth more than 0.042% above this one" in text
    assert "proven optimal" not in text


def test_tasks_with_offers_stand_in_sight_and_the_others_folded(data: dict[str, Any]) -> None:
    html = render_report(data)
    tasks = html[html.index('id="tasks"') : html.index('id="budgets"')]
    shown, folded = tasks.split("<details>")
    assert "retain cooling letter" in folded
    assert "retain cooling letter" not in shown
    by_value = ("raise spend loyal five", "retain cooling ten", "raise spend app", "win back lapsed free")
    order = [shown.index(name) for name in by_value]
    assert order == sorted(order)


def _with_every_name_hostile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_every_name_hostile(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_every_name_hostile(each) for each in value]
    return EVIL if isinstance(value, str) else value


def test_hostile_names_are_only_text(data: dict[str, Any]) -> None:
    hostile = _with_every_name_hostile(data) | {"currency": "USD"}
    hostile["samples"][0]["reasons"][0]["paid"] = {EVIL: 1.0}
    hostile["models"][0]["metrics"] = {EVIL: {"mean": 1, "low": 0, "high": 2}}
    hostile["pruned"] = {EVIL: 3}
    page = Page(render_report(hostile))
    assert page.all("script") == page.all("img") == []
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert EVIL.replace("_", " ") in page.text
    assert "49" not in Page(render_report({"date": EVIL, "currency": "USD", "workspace": EVIL})).text


def test_the_page_loads_nothing(data: dict[str, Any]) -> None:
    html = render_report(data)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", html)
    assert not re.search(r"<(script|link|img|iframe|object)\b", html)
    assert "content=\"default-src 'none'" in html


def test_every_table_has_a_caption_and_every_picture_a_name(data: dict[str, Any]) -> None:
    page = Page(render_report(data))
    assert len(page.all("table")) == len(page.all("caption")) > 8
    for picture in page.all("svg"):
        assert picture.get("aria-label") or picture.get("aria-hidden") == "true"
    assert all(head.get("scope") for head in page.all("th"))


def test_a_page_of_nothing_says_so() -> None:
    page = Page(render_report({"date": "2017-08-14", "currency": "USD"}))
    assert [section["id"] for section in page.all("section")] == SECTIONS
    for said in (
        "makes no offer",
        "No limit is defined",
        "Nothing was contested",
        "No model has been trained",
        "No back-test was run",
        "have not been laid out in cells",
    ):
        assert said in page.text
    assert not re.search(r"\$0|\bnan\b|None\b(?! was|\.)|undefined", page.text), (
        "the unknown reads as a figure"
    )


def test_each_part_alone_may_be_empty_or_absent(data: dict[str, Any]) -> None:
    for key in set(data) - {"date", "currency"}:
        without = copy.deepcopy(data)
        del without[key]
        Page(render_report(without))
        empty: Any = type(data[key])() if isinstance(data[key], list | dict) else None
        Page(render_report(data | {key: empty}))
    Page(
        render_report(
            data | {"backtest": {"share": 0.2, "dates": [], "lift": {}, "auc": {}, "reality": None}}
        )
    )


@pytest.mark.parametrize("field", ["date", "currency"])
def test_without_date_or_currency_there_is_no_report(data: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput, match=field):
        render_report(data | {field: ""})


def test_the_same_data_give_the_same_page_and_stay_as_they_were(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    assert render_report(data) == render_report(data)
    assert data == before


def test_the_heat_grid_counts_every_user_once(data: dict[str, Any]) -> None:
    grid = charts.heat_grid(data["cells"])
    assert sum(square["size"] for square in grid["squares"]) == sum(cell["size"] for cell in data["cells"])
    assert [row["name"] for row in grid["rows"]] == [str(stage) for stage in Stage]
    assert [tier["name"] for tier in grid["tiers"]] == ["top", "high", "middle", "low"]
    assert max(square["depth"] for square in grid["squares"]) == 1
    for square in grid["squares"]:
        width = sum(part["width"] for part in square["strip"])
        assert width == (pytest.approx(grid["box"][0] - 16, abs=0.05) if square["size"] else 0)


def test_the_lift_chart_is_drawn_to_scale_and_leaves_out_the_unknown() -> None:
    lines = charts.lift_lines([
        {"plan": "2017-05-01", "lift_model": 2.0, "lift_rfm": 1.0},
        {"plan": "2017-06-01", "lift_model": 3.0, "lift_rfm": None},
        {"plan": "2017-07-01", "lift_model": float("nan"), "lift_rfm": 0.0},
    ])  # fmt: skip
    model, rfm = (line["points"] for line in lines["series"])
    assert [point["value"] for point in model] == [2.0, 3.0]
    assert rfm[0]["y"] == lines["random"]
    unit = rfm[1]["y"] - lines["random"]
    assert lines["random"] - model[0]["y"] == pytest.approx(unit, abs=0.2)
    assert lines["random"] - model[1]["y"] == pytest.approx(2 * unit, abs=0.2)
    assert model[0]["x"] == rfm[0]["x"] < model[1]["x"] < rfm[1]["x"]


def test_the_whisker_keeps_the_order_of_its_marks() -> None:
    marks = charts.whisker({"mean": 0.78, "low": 0.75, "high": 0.81}, 0.7)
    assert marks is not None
    assert 0 <= marks["baseline"] < marks["low"] < marks["mean"] < marks["high"] <= 100
    assert charts.whisker({"mean": None}, 0.7) is None


@pytest.mark.parametrize(("said", "expected"), [
    (words.money(1234.5, "USD"), "$1,234.50"), (words.money(0.0038, "USD"), "less than $0.01"),
    (words.money(-0.0038, "USD"), "a loss below $0.01"), (words.money(0, "USD"), "$0.00"),
    (words.money(0.4, "JPY"), "less than ¥1"), (words.money(None, "USD"), "–"),
    (words.money(float("inf"), "USD"), "–"), (words.count(12345), "12,345"), (words.count(6.44), "6.4"),
    (words.share(0.254), "25%"), (words.share(0.0423), "4.2%"), (words.share(0.000042), "0.004%"),
    (words.share(0.000001), "below 0.001%"), (words.share(0), "0%"), (words.figure(0.7), "0.700"),
    (words.figure(12.3456), "12.35"), (words.figure(12345.6), "12,346"),
    (words.span({"mean": 2.0, "low": 1.5, "high": 2.5}), "2.00 (1.50 to 2.50)"),
    (words.day("2017-03-02T00:00:00+00:00"), "2 March 2017"), (words.name("mail_budget"), "mail budget"),
])  # fmt: skip
def test_figures_read_as_a_person_reads_them(said: str, expected: str) -> None:
    assert said == expected
