"""Where the marks of the page's pictures go, in SVG user units. The template draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.report.words import known
from kernel.people import Stage, Tier

Row = Mapping[str, Any]

_LEFT, _TOP, _WIDTH, _HEIGHT, _GAP = 108, 66, 112, 58, 6


def _ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Each name once: those of `first` in its order, then the others as they came."""
    seen = dict.fromkeys(names)
    return [each for each in first if each in seen] + [each for each in seen if each not in first]


def _lines(text: str, width: int) -> list[str]:
    """At most two lines of at most `width` letters, cut with an ellipsis."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    kept = [*lines[:1], " ".join(lines[1:])] if len(lines) > 1 else lines
    return [line if len(line) <= width else f"{line[: width - 1].rstrip()}…" for line in kept]


def heat_grid(cells: Sequence[Row]) -> dict[str, Any]:
    """Stages down, clusters across: each square's size, depth of colour (0 to 1) and strip of tiers."""
    stages = _ordered((str(cell["stage"]) for cell in cells), [str(stage) for stage in Stage])
    tiers = _ordered((str(cell["tier"]) for cell in cells), [str(tier) for tier in Tier])
    across: dict[str, int] = {}
    sizes: dict[tuple[str, str], dict[str, int]] = {}
    for cell in cells:
        across[str(cell["cluster"])] = across.get(str(cell["cluster"]), 0) + int(cell["size"])
        square = sizes.setdefault((str(cell["stage"]), str(cell["cluster"])), {})
        square[str(cell["tier"])] = square.get(str(cell["tier"]), 0) + int(cell["size"])
    clusters = sorted(across, key=lambda cluster: (-across[cluster], cluster))
    most = max((sum(square.values()) for square in sizes.values()), default=0)
    squares = []
    for row, stage in enumerate(stages):
        for column, cluster in enumerate(clusters):
            square = sizes.get((stage, cluster), {})
            size = sum(square.values())
            x, y = _LEFT + column * (_WIDTH + _GAP), _TOP + row * (_HEIGHT + _GAP)
            # each square carries a strip of its tiers, best first
            strip, at = [], float(x + 8)
            for rank, tier in enumerate(tiers):
                long = (_WIDTH - 16) * square.get(tier, 0) / size if size else 0.0
                if long:
                    strip.append({"x": round(at, 2), "width": round(long, 2), "rank": rank % 4, "tier": tier})
                at += long
            told = ", ".join(f"{tier} {square[tier]:,}" for tier in tiers if square.get(tier))
            depth = round((size / most) ** 0.5, 3) if most else 0
            squares.append(
                {"x": x, "y": y, "size": size, "depth": depth, "strip": strip,
                 "title": f"{stage} × {cluster}: {size:,} users ({told})" if size else ""}
            )  # fmt: skip
    return {
        "width": _LEFT + len(clusters) * (_WIDTH + _GAP),
        "height": _TOP + len(stages) * (_HEIGHT + _GAP),
        "box": (_WIDTH, _HEIGHT),
        "rows": [{"name": each, "y": _TOP + n * (_HEIGHT + _GAP)} for n, each in enumerate(stages)],
        "columns": [
            {"lines": _lines(each, 16), "name": each, "x": _LEFT + n * (_WIDTH + _GAP) + _WIDTH / 2}
            for n, each in enumerate(clusters)
        ],
        "tiers": [{"name": tier, "rank": rank % 4} for rank, tier in enumerate(tiers)],
        "squares": squares,
    }


def lift_lines(dates: Sequence[Row]) -> dict[str, Any]:
    """Lift over random of the model and of RFM by plan date, from zero up; unknown points are left out."""
    width, height, left, right, top, bottom = 720, 290, 46, 96, 18, 40
    found = [row[key] for row in dates for key in ("lift_model", "lift_rfm") if known(row.get(key))]
    most = float(max([*found, 1.0])) * 1.12
    step = next(each for each in (0.5, 1.0, 2.0, 5.0, 10.0, 50.0, float("inf")) if most / each <= 6)

    def y(value: float) -> float:
        return round(height - bottom - value / most * (height - top - bottom), 1)

    def x(place: int) -> float:
        inner = width - left - right
        return round(left + inner * ((place + 0.5) / max(len(dates), 1)), 1)

    series: list[dict[str, Any]] = []
    for key, label in (("lift_model", "model"), ("lift_rfm", "RFM")):
        points = [
            {"x": x(place), "y": y(row[key]), "value": row[key], "plan": row.get("plan")}
            for place, row in enumerate(dates)
            if known(row.get(key))
        ]
        path = " ".join(f"{point['x']},{point['y']}" for point in points)
        label_y = points[-1]["y"] + 4 if points else 0
        series.append({"key": key, "label": label, "points": points, "path": path, "label_y": label_y})
    _part_labels(*series)
    ticks = [{"value": step * n, "y": y(step * n)} for n in range(7) if step * n <= most] if found else []
    return {
        "width": width, "height": height, "left": left, "end": width - right, "random": y(1.0),
        "ticks": ticks, "series": series,
        "dates": [
            {"x": x(place), "plan": row.get("plan")}
            for place, row in enumerate(dates)
            if place % (1 + (len(dates) - 1) // 7) == 0
        ],
    }  # fmt: skip


def _part_labels(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Moves the labels of two lines that end close together apart."""
    upper, lower = sorted((first, second), key=lambda one: float(one["label_y"]))
    if first["points"] and second["points"] and lower["label_y"] - upper["label_y"] < 14:
        upper["label_y"] -= 8
        lower["label_y"] += 8


def whisker(interval: Row, baseline: Any) -> dict[str, float] | None:
    """Mean, interval and baseline on one line of 100 units; None without a mean."""
    mean = interval.get("mean")
    if not known(mean):
        return None
    marks = {"mean": mean, "low": interval.get("low"), "high": interval.get("high"), "baseline": baseline}
    marks = {name: float(mark) for name, mark in marks.items() if known(mark)}
    low, high = min(marks.values()), max(marks.values())
    room = (high - low) or 1.0
    return {
        name: round(8 + 84 * ((mark - low) / room if high > low else 0.5), 1) for name, mark in marks.items()
    }
