"""The console in a real browser, on a real service: it shows, asks and decides, and runs nothing foreign."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = pytest.mark.browser

SESAME = "open, sesame"
CALM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]  # fmt: skip
HOSTILE = "kind: cap\nname: hostile\nlabel: '<img src=x onerror=alert(1)>'\nper: day\nat_most: 9\n"


@pytest.fixture
def address(planned_copy: Path, growth: Any) -> Iterator[str]:
    (planned_copy / "hostile.yaml").write_text(HOSTILE)
    growth.well("apply", "-f", planned_copy / "hostile.yaml", "--dir", planned_copy)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", "from engine.cli.main import main; main()", "serve"]
    process = subprocess.Popen(
        [*words, "--dir", str(planned_copy), "--port", str(port)], env={**os.environ, "GROWTH_TOKEN": SESAME}
    )
    here = f"http://127.0.0.1:{port}"
    for _ in range(600):
        assert process.poll() is None, "the service ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.1)
    yield here
    process.terminate()
    process.wait(30)


@pytest.fixture
def page() -> Iterator[Page]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed, and in CI it must be")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CALM)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_an_operator_reads_asks_and_decides(page: Page, address: str, world: Any) -> None:
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    expect.set_options(timeout=60_000)

    page.goto(f"{address}/console")
    expect(page.locator("#trouble")).to_contain_text("token")
    page.fill("#token", "wrong")
    page.click("#door button")
    expect(page.locator("#door")).to_be_visible()
    page.fill("#token", SESAME)
    page.click("#door button")

    expect(page.locator("#day")).to_have_value(world.plan_date)
    expect(page.locator("#plan table")).to_contain_text("money")
    expect(page.locator("#goals table")).to_be_visible()
    expect(page.locator("#trouble")).to_be_hidden()

    page.select_option("#limit", "money")
    page.fill("#most", str(float(page.input_value("#most")) * 1.2))
    page.click("#whatif button")
    expect(page.locator("#became")).to_contain_text("instead of")
    page.fill("#user", "nobody")
    page.click("#explain button")
    expect(page.locator("#trouble")).to_contain_text("nobody")

    page.click("#hold")
    expect(page.locator("#standing")).to_have_text("version 1, held")
    page.click("#approve")
    expect(page.locator("#standing")).to_have_text("version 1, approved")
    with page.expect_download() as saved:
        page.click("#report")
    assert "<h1" in Path(saved.value.path()).read_text("utf-8")

    # what the service tells is text, whatever it looks like
    expect(page.locator("#definitions table")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("#definitions img").count() == 0
    row = page.locator("#definitions tr", has_text="hostile")
    row.get_by_role("button", name="history").click()
    expect(page.locator("#log table")).to_contain_text("cap hostile")

    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert wrong == []
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {address.split("/")[2]}


def test_the_page_lets_no_script_run_but_its_own(page: Page, address: str) -> None:
    page.goto(f"{address}/console")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.foreign = true";
        document.body.append(script);
    }""")
    assert page.evaluate("window.foreign") is None
