"""The console, as one page that fetches nothing from elsewhere; and a plan's report."""

from __future__ import annotations

from base64 import b64encode
from datetime import date
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path as File
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from engine.wiring import Workspace
from kernel.errors import NotFound


def console_page() -> APIRouter:
    """Without a token: it holds nothing, and whatever it shows it asks the API for, with the token that the
    operator gives it."""
    router = APIRouter(tags=["operation"])

    @router.get("/console", response_class=HTMLResponse)
    def console() -> HTMLResponse:
        """Plans, touches, rules, activities and definitions, for people."""
        page, policy = _page()
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})

    return router


def report_routes(space: Workspace) -> APIRouter:
    router = APIRouter(prefix="/v1/plans", tags=["plans"])

    @router.get("/{date}/report", response_class=HTMLResponse)
    def report(day: Annotated[date, Path(alias="date")]) -> HTMLResponse:
        """The report of the day's newest plan, as it was written."""
        entry = space.plans.find(day)
        if entry is None:
            known = [each.date for each in space.plans.newest_of_each_day()]
            raise NotFound("plan", day, known, field="date")
        return HTMLResponse((File(entry.folder) / "report.html").read_text("utf-8"))

    return router


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy under which browsers run its one script and nothing else."""
    here, report = resources.files("engine.console"), resources.files("engine.report")
    style = (report / "style.css").read_text("utf-8") + (here / "console.css").read_text("utf-8")
    script = (here / "console.js").read_text("utf-8")
    page = (here / "page.html").read_text("utf-8").replace("{style}", style).replace("{script}", script)
    mark = b64encode(sha256(script.encode()).digest()).decode()
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{mark}'",
        "style-src": "'unsafe-inline'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{name} {value}" for name, value in rules.items())
