"""The walls of the house, read from the source itself."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: folders that answer a question of the business, each with one door
ROOMS = ("insight", "models", "planner", "conflict", "touchpoint", "realtime")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHIPPED: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
#: third-party libraries that the nouns may be made of
OF_NOUNS = {"polars", "dataframely", "pydantic"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every absolute import, also inside functions; `from a import b` is `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def doors_missed(package: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources(package)
        for line, module in imports(path)
        if module.split(".")[0] in ROOMS and module.split(".")[1:2] not in ([], ["api"])
    ]


def test_the_engine_enters_rooms_by_their_door() -> None:
    assert doors_missed("engine") == []


@pytest.mark.parametrize("room", [*ROOMS, "storage"])
def test_rooms_know_only_themselves_and_the_kernel(room: str) -> None:
    others = set(SHIPPED) - {room, "kernel"}
    crossed = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources(room)
        for line, module in imports(path)
        if module.split(".")[0] in others
    ]
    assert crossed == []


def test_the_kernel_is_made_of_little() -> None:
    allowed = {"kernel", "__future__", *OF_NOUNS, *sys.stdlib_module_names}
    strange = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sources("kernel")
        for line, module in imports(path)
        if module.split(".")[0] not in allowed
    ]
    assert strange == []


def test_a_closed_door_would_be_noticed() -> None:
    """The engine's rule, held against rooms, finds that they use their own insides."""
    assert all(doors_missed(room) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_door_that_names_what_it_offers(room: str) -> None:
    tree = ast.parse((ROOT / room / "api.py").read_text(encoding="utf-8"))
    offered = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert len(offered) == 1
    assert offered[0]


@pytest.mark.parametrize("package", SHIPPED)
def test_shipped_packages_are_typed_and_named_for_what_they_are(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert (ROOT / package / "__init__.py").is_file()
    assert package not in {"app", "cli", "data", "lib", "tests"}


def test_every_package_at_the_root_is_shipped_and_checked() -> None:
    there = {each.parent.name for each in ROOT.glob("*/__init__.py")} - {"benchmarks"}
    assert there == set(SHIPPED)
    assert set(PROJECT["tool"]["mypy"]["packages"]) == set(SHIPPED)
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == set(SHIPPED)


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("package", SHIPPED)
def test_files_stay_short(package: str) -> None:
    long = {
        str(path.relative_to(ROOT)) for path in sources(package) if len(path.read_text().splitlines()) > 500
    }
    assert long == set()
