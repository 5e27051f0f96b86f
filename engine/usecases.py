"""The smaller use cases that the shells call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.definitions import body, check_together, read_definitions
from engine.identities import select_as
from engine.population import population
from engine.selecting import select_audience
from engine.selection_reports import check_tags
from engine.settings import FILE
from engine.wiring import Workspace
from insight.api import Group, event_range, resolve
from kernel.clock import parse_instant
from kernel.definitions import Definition
from kernel.errors import BadInput, NotFound

if TYPE_CHECKING:
    from engine.day import Progress

#: of the example shop: what it has to act with, and a rule to try
EXAMPLE = ("shop.yaml", "welcome.yaml")
#: activities to start from, in a new workspace
TEMPLATES = "activity_templates.yaml"


def init_workspace(root: Path, *, example: bool = False) -> None:
    """A new workspace in `root`; `example`: with a small made-up shop. Raises BadInput when there is one, or
    something else."""
    if (root / FILE).exists():
        raise BadInput("is a workspace already", field="DIR", value=str(root))
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BadInput("is not empty", field="DIR", value=str(root))
    here = resources.files("engine.template")
    for folder in ("data", "definitions"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    examples = root / "definitions" / TEMPLATES
    examples.write_text((here / TEMPLATES).read_text(encoding="utf-8"), encoding="utf-8")
    if example:
        from engine.demo.shop import write_shop  # whoever has data of their own needs it not

        write_shop(root / "data")
        shown = resources.files("engine.template") / "example"
        for each in EXAMPLE:
            (root / "definitions" / each).write_text((shown / each).read_text("utf-8"), encoding="utf-8")
        (root / "catalog.yaml").write_text((shown / "catalog.yaml").read_text("utf-8"), encoding="utf-8")
    else:
        (root / "catalog.yaml").write_text((here / "catalog.yaml").read_text("utf-8"), encoding="utf-8")
    # last: with it the folder is a workspace
    (root / FILE).write_text((here / FILE).read_text(encoding="utf-8"), encoding="utf-8")


def apply(workspace: Workspace, path: Path, *, by: str, why: str = "") -> list[tuple[str, str, str]]:
    """Checks every definition, alone and together, then applies all or none."""
    return apply_all(workspace, read_definitions(path), by=by, why=why)


def apply_all(
    workspace: Workspace, found: Sequence[Definition], *, by: str, why: str = ""
) -> list[tuple[str, str, str]]:
    """(kind, name, `created`, `changed` or `unchanged`) each: all of them, or none."""
    catalog = workspace.catalog if (workspace.root / workspace.settings.catalog).exists() else None
    check_together(found, workspace.store, catalog)
    bodies = [(each.kind, each.name, body(each)) for each in found]
    return workspace.store.apply(bodies, at=workspace.clock.now(), by=by, why=why)


def latest_day(workspace: Workspace) -> date:
    """The day after the last purchase: the earliest that everything is known for."""
    event = workspace.catalog.event_of_role("purchase")
    if event is None:
        raise BadInput("no event has role purchase", where=workspace.catalog.file, field="events")
    last = event_range(workspace.catalog, event)[1]
    return last.astimezone(workspace.settings.zone).date() + timedelta(days=1)


def instant_of(workspace: Workspace, as_of: str | None) -> datetime:
    if as_of is None:
        as_of = latest_day(workspace).isoformat()
    return parse_instant(as_of, workspace.settings.zone, "--as-of")


def estimate(
    workspace: Workspace, name: str | None, file: Path | None, as_of: str | None = None
) -> dict[str, Any]:
    """`{count, low, high, method, ms}` of an applied group, or of one in a file."""
    if (name is None) == (file is None):
        raise BadInput("give either the NAME of a group or -f GROUP.yaml", field="group")
    people = population(workspace, instant_of(workspace, as_of))
    if name is not None:
        return vars(people.estimate(_known(name, people.groups)))
    assert file is not None  # noqa: S101 (one of the two is given)
    groups = [each for each in read_definitions(file) if isinstance(each, Group)]
    if len(groups) != 1:
        raise BadInput(f"holds {len(groups)} groups instead of one", where=str(file), field="kind")
    return vars(people.estimate(resolve(groups[0], workspace.definitions().tags)))


def select_group(
    workspace: Workspace,
    name: str,
    out: str | Path | None,
    as_of: str | None,
    entity: str = "user",
    via: tuple[str, ...] | None = None,
    *,
    fields: tuple[str, ...] = (),
    part_rows: int | None = None,
) -> dict[str, Any]:
    """Writes the audience, in ids of `entity`, and its manifest; returns the manifest."""
    at = instant_of(workspace, as_of)
    if entity == "user":
        address = None if out is None else str(out)
        return select_audience(workspace, name, address, at, fields, part_rows)
    if fields or part_rows is not None:
        raise BadInput("goes without --with and --part-rows", field="--as", value=entity)
    check_tags(workspace, name, at)
    people = population(workspace, at)
    return select_as(people, name, entity, via, Path(out or f"{name}.{entity}.parquet"))


def _known(name: str, groups: dict[str, Group]) -> str:
    if name not in groups:
        raise NotFound("group", name, groups)
    return name


def back_test_on(workspace: Workspace, day: date, progress: Progress) -> dict[str, Any]:
    """The back-test around `day`, recorded in MLflow."""
    from engine.backtest import run_backtest, whole_history  # takes seconds to load

    history = whole_history(workspace)
    progress("back-testing")
    return run_backtest(workspace, day, history)[1]
