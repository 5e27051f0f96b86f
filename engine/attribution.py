"""Attribution: outcomes divided among channels, from a file of paths or from the workspace's events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from engine.wiring import Workspace, open_workspace
from insight.api import Catalog
from kernel.clock import parse_instant, parse_window
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.events import INSTANT
from storage.lake import write_parquet, write_text
from touchpoint.api import attribute, paths_of_events, read_paths

#: exposures are looked for so much longer than `within` before the first outcome
_HISTORY = timedelta(days=365)


def attribution(
    root: Path, *, conversion: str | None = None, exposure: str | None = None, channel: str = "channel",
    value: str | None = None, within: str = "30d", as_of: str | None = None, paths: Path | None = None,
    separator: str = ">", rules: Sequence[str] | None = None, order: int = 1, half_life: float = 7.0,
    out: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Totals, and `credits`: rule, channel, conversions, value, share. With `paths` no workspace is needed.

    Raises BadInput, NotFound for what does not fit together.
    """
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise BadInput("is neither .csv nor .parquet", field="--out", value=str(out))
    if not separator:
        raise BadInput("is empty", field="--separator")
    if paths is not None:
        known = read_paths(paths, separator)
    else:
        known = workspace_paths(
            open_workspace(root), conversion=conversion, exposure=exposure, channel=channel, value=value,
            within=within, as_of=as_of,
        )  # fmt: skip
    if not known["conversions"].sum():
        raise BadInput("have no conversion", field="paths")
    credits = attribute(known, rules, order=order, half_life=half_life)
    if out is not None:
        try:
            if out.suffix == ".csv":
                write_text(out, credits.write_csv())
            else:
                write_parquet(out, credits)
        except OSError as error:
            raise Unavailable(f"{out} cannot be written: {error.strerror}") from error
    return {
        "paths": known.height,
        "conversions": int(known["conversions"].sum()),
        "value": math.fsum(known["value"]),
        "nulls": int(known["nulls"].sum()),
        "order": order,
        "credits": credits.to_dicts(),
    }


def workspace_paths(
    workspace: Workspace, *, conversion: str | None, exposure: str | None, channel: str, value: str | None,
    within: str, as_of: str | None,
) -> pl.DataFrame:  # fmt: skip
    """Paths of a year before `as_of`, from batch and fresh events."""
    from engine.frequency_events import event_times

    catalog = workspace.catalog
    conversion = _event(catalog, conversion, "--conversion")
    exposure = _event(catalog, exposure, "--exposure")
    if channel not in catalog.events[exposure].fields:
        raise NotFound("field", channel, catalog.events[exposure].fields, field="--channel")
    if value is None:
        value = next((n for n, f in catalog.events[conversion].fields.items() if f.role == "amount"), None)
    elif value not in catalog.events[conversion].fields:
        raise NotFound("field", value, catalog.events[conversion].fields, field="--value")
    window = parse_window(within, "--within")
    until = _instant(workspace, as_of)
    since = until - max(_HISTORY, 2 * window)
    kind = pl.String()
    met = event_times(workspace, exposure, since, until, kind, (channel,)).rename({channel: "channel"})
    met = met.filter(pl.col("channel").is_not_null())
    won = event_times(workspace, conversion, since, until, kind, summed=value)
    worth = pl.lit(0.0) if value is None else pl.col("value").fill_null(0.0).clip(lower_bound=0.0)
    won = won.with_columns(value=worth)
    return paths_of_events(met.cast({"at": INSTANT}), won.cast({"at": INSTANT}), within=window, as_of=until)


def _event(catalog: Catalog, name: str | None, field: str) -> str:
    if name is None:
        raise BadInput("is required where no --paths are given", field=field)
    if name not in catalog.events:
        raise NotFound("event", name, catalog.events, field=field)
    return name


def _instant(workspace: Workspace, as_of: str | None) -> datetime:
    if as_of is None:
        return workspace.clock.now()
    return parse_instant(as_of, workspace.settings.zone, "--as-of")
