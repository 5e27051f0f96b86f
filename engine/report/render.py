"""`report.html`: one page, no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from engine.report import charts, words
from kernel.errors import BadInput

_LISTS = (
    "warnings", "limits", "goals", "tasks", "stages", "clusters", "cells", "contested", "samples", "models",
    "assumptions", "refusals", "idle",
)  # fmt: skip
_MAPPINGS = ("totals", "allocation", "pruned")
#: measures of error, by the names that the models give them
_LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "mae", "rmse")
#: cells listed in full; the others are folded
_TOP_CELLS = 8


def render_report(data: dict[str, Any]) -> str:
    """The page of one day's plan. `data` is plain JSON-like; amounts in major units, shares of one.

    What is absent or empty is said to be so; a figure that is absent reads as a dash.
    Raises BadInput when the date or the currency is missing.
    """
    for field in ("date", "currency"):
        if not data.get(field):
            raise BadInput("is needed to write a report", where="report", field=field)
    view = {**data, **{field: data.get(field) or [] for field in _LISTS}}
    view |= {field: data.get(field) or {} for field in _MAPPINGS}
    tasks = sorted(view["tasks"], key=lambda task: -(task.get("value") or 0))
    cells = sorted(view["cells"], key=lambda cell: -cell["size"])
    view |= {
        "style": Markup(files("engine.report").joinpath("style.css").read_text("utf-8")),  # noqa: S704 our own file
        "busy_tasks": [task for task in tasks if task.get("assigned")],
        "quiet_tasks": [task for task in tasks if not task.get("assigned")],
        "top_cells": cells[:_TOP_CELLS],
        "small_cells": cells[_TOP_CELLS:],
        "lower_is_better": _LOWER_IS_BETTER,
        "grid": charts.heat_grid(cells) if cells else None,
        "lines": charts.lift_lines((data.get("backtest") or {}).get("dates") or []),
    }
    return _environment(str(data["currency"])).get_template("template.html.j2").render(view)


def _environment(currency: str) -> Environment:
    """Everything is escaped: ids and names come from outside."""
    made = Environment(
        loader=PackageLoader("engine.report", "."),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "money": partial(words.money, currency=currency),
        "price": partial(words.price, currency=currency),
        "count": words.count,
        "share": words.share,
        "figure": words.figure,
        "span": words.span,
        "name": words.name,
        "day": words.day,
        "used": partial(_used, currency=currency),
    }
    made.globals["whisker"] = charts.whisker
    return made


def _used(amount: Any, limit: Mapping[str, Any], currency: str) -> str:
    """An amount of a limit in its own unit."""
    return words.money(amount, currency) if limit.get("money") else words.count(amount)
