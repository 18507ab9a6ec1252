"""Data flows one way: a module imports only from its left."""

import ast
from pathlib import Path

import pytest

import cocoop

ROOT = Path(cocoop.__file__).parent

# docs/architecture.md draws this line; everything in one string is one step of it
ORDER = (
    "environment errors escaping files seeding registry",
    "embedded sealed",
    "data",
    "precision checkpoints",
    "weights",
    "backbone",
    "features",
    "prompts",
    "recipe",
    "methods",
    "text",
    "logits",
    "snapshot team",
    "fit evaluate",
    "settings",
    "cells",
    "model ledger",
    "modelcard",
    "modelfolder",
    "official",
    "store",
    "rows",
    "protocols",
    "plan",
    "tracking",
    "runner",
    "runs status",
    "learn",
    "inputs",
    "estimator",
    "classifiers",
    "workers cluster",
    "execution",
    "preflight estimate",
    "dryrun",
    "report",
    "listing",
    "bench",
    "own",
    "export",
    "serve",
    "experiment",
    "run_command",
    "cli",
    "__main__",
)
STEP = {name: step for step, names in enumerate(ORDER) for name in names.split()}


def imported(source: str) -> set[str]:
    """Names of the project's own top-level modules that a source text imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("cocoop.")}
    return found


def top(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_left(path: Path) -> None:
    own = STEP[top(path)]
    for name in imported(path.read_text()) & STEP.keys():
        assert STEP[name] <= own, f"{path.relative_to(ROOT)} imports {name}, which is to its right"


def test_the_check_sees_an_import_against_the_arrow() -> None:
    assert imported("from cocoop.runs import run\nimport cocoop.cli") == {"runs", "cli"}
    assert imported("from cocoop import experiment") == {"experiment"}


def test_the_reference_path_is_for_tests_and_benchmarks() -> None:
    users = [top(path) for path in SOURCES if "text.reference" in path.read_text()]
    assert set(users) <= {"bench"}
