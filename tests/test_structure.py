"""The package is a trunk and two wings: a room imports only from those below it, and the wings never meet."""

import ast
from pathlib import Path

import pytest

import cocoop

ROOT = Path(cocoop.__file__).parent
ORDER = ("errors", "utils", "data", "backbones", "text", "methods", "training", "wings", "cli", "__main__")
WINGS = ({"estimator": 0, "deploy": 1}, {"experiments": 0, "report": 1})


def imported(source: str) -> set[str]:
    """Names of the package's rooms that a source text imports."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("cocoop.")}
    return rooms


def may_import(room: str, other: str) -> bool:
    """Whether the order allows a module of `room` to import from `other`."""
    for wing in WINGS:
        if room in wing and other in wing:
            return wing[other] <= wing[room]
    wings = {name for wing in WINGS for name in wing}
    if room in wings and other in wings:
        return False
    place = [ORDER.index("wings" if name in wings else name) for name in (other, room)]
    return place[0] <= place[1]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    for other in imported(path.read_text()):
        assert may_import(room(path), other), f"{path.relative_to(ROOT)}: {other} stands above it"


def test_the_check_sees_an_import_against_the_order() -> None:
    assert imported("from cocoop.methods.coop import Config\nimport cocoop.cli") == {"methods", "cli"}
    assert imported("from cocoop import report") == {"report"}
    assert may_import("training", "text")
    assert may_import("deploy", "estimator")
    assert not may_import("text", "methods")
    assert not may_import("estimator", "deploy")
    assert not may_import("estimator", "report")
    assert not may_import("training", "experiments")


def test_the_reference_path_is_for_tests_and_benchmarks() -> None:
    assert not [path for path in SOURCES if "text.reference" in path.read_text()]
