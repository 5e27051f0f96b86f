"""The page of simulated days: written anew after each day, and an open page shows the newest by itself."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from engine.report import words

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 20, 680, 300
#: seconds after which an open page looks again, while days are still played
_LOOKS = 5


def render_days(figures: dict[str, Any], *, title: str, playing: bool, told: str, currency: str) -> str:
    """`figures` as `engine.simulate.results.summarise` has them; no script, nothing loaded from anywhere."""
    made = Environment(
        loader=PackageLoader("engine.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "money": lambda amount: words.money(amount, currency),
        "count": words.count,
        "share": words.share,
    }
    style = Markup(files("engine.report").joinpath("style.css").read_text("utf-8"))  # noqa: S704 our own file
    return made.get_template("simulated.html.j2").render(
        **figures,
        style=style,
        title=title,
        looks=_LOOKS if playing else None,
        told=told,
        chart=day_lines(figures["curves"]),
    )


def day_lines(curves: list[dict[str, Any]]) -> dict[str, Any]:
    """Added profit so far by day, one line a policy with its band, in the units of the picture."""
    ends = [
        value
        for curve in curves
        for day in curve["days"]
        for value in (day["mean"], day["low"], day["high"])
        if value is not None
    ]
    low, high = float(min([0.0, *ends])), float(max([0.0, *ends]))
    reach = (high - low) or 1.0
    days = max((len(curve["days"]) for curve in curves), default=1)

    def x(day: int) -> float:
        return round(_LEFT + _WIDTH * day / days, 1)

    def y(value: float) -> float:
        return round(_TOP + _HEIGHT * (1 - (value - low) / reach), 1)

    lines = []
    for place, curve in enumerate(curves):
        points = [(0, 0.0), *((at + 1, day["mean"]) for at, day in enumerate(curve["days"]))]
        upper = [(at + 1, day["high"]) for at, day in enumerate(curve["days"]) if day["high"] is not None]
        lower = [(at + 1, day["low"]) for at, day in enumerate(curve["days"]) if day["low"] is not None]
        lines.append(
            {
                "policy": curve["policy"],
                "place": place,
                "path": " ".join(f"{x(at)},{y(value)}" for at, value in points),
                "band": " ".join(f"{x(at)},{y(value)}" for at, value in [*upper, *reversed(lower)]),
                "end": (x(points[-1][0]), y(points[-1][1])),
            }
        )
    ticks = [
        {"y": y(value), "value": value} for value in (low, 0.0, high) if value == 0 or abs(value) > reach / 20
    ]
    return {
        "width": _LEFT + _WIDTH + 170,
        "height": _TOP + _HEIGHT + 40,
        "left": _LEFT,
        "right": _LEFT + _WIDTH,
        "foot": _TOP + _HEIGHT,
        "days": days,
        "lines": lines,
        "ticks": ticks,
    }
