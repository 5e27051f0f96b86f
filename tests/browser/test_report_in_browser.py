"""The report in a real browser: it opens from a file, fits a phone and a desk, and asks for nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from engine.report.render import render_report

pytestmark = pytest.mark.browser

SAMPLE = Path(__file__).parents[1] / "unit" / "engine" / "report_sample.json"
CALM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed, and in CI it must be")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=CALM)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("long_names", [False, True])
def test_the_report_opens_whole_and_alone(
    browser: Browser, tmp_path: Path, width: int, long_names: bool
) -> None:
    data = json.loads(SAMPLE.read_text("utf-8"))
    if long_names:
        data["workspace"] = data["samples"][0]["user"] = data["tasks"][0]["task"] = "x" * 300
        data["limits"][0]["name"] = data["cells"][0]["cell"] = data["assumptions"][0] = "y" * 300
    path = tmp_path / "report.html"
    path.write_text(render_report(data), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())

    sections = page.locator("section")
    assert sections.count() == 10
    assert all(section.is_visible() for section in sections.all())
    assert all(heading.is_visible() for heading in page.locator("h1, h2").all())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#cells figure svg").is_visible()
    assert page.locator("#backtest figure svg").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.figures')).display") == "grid"

    hidden = page.locator("#cells details table")
    assert not hidden.is_visible()
    page.locator("#cells summary").click()
    assert hidden.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    assert said == []
    assert asked == [path.as_uri()]
    page.close()
