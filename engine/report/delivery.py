"""The section of a plan's report that says what became of its touches; it comes when they have gone out."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader

from engine.report import words

_SECTION = re.compile(r"<!-- delivery -->.*<!-- /delivery -->\n", re.DOTALL)
_END = "</main>"


def with_delivery(page: str, found: dict[str, Any]) -> str:
    """The page with that section instead of an earlier one. `found`: of `engine.delivery_report`."""
    made = Environment(
        loader=PackageLoader("engine.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"count": words.count, "name": words.name}
    kinds = sorted({kind for each in found["channels"] for kind in each["receipts"]})
    section = made.get_template("delivery.html.j2").render({**found, "kinds": kinds})
    bare = _SECTION.sub("", page)
    head, end, tail = bare.rpartition(_END)
    return f"{head}<!-- delivery -->\n{section}\n<!-- /delivery -->\n{end}{tail}" if end else page
