"""The examples run as they stand, each in a process and a folder of its own."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
sys.path.insert(0, str(ROOT / "tools"))

import docs_notebook  # noqa: E402


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert any(character.isdigit() for character in found.stdout)


def kinds(notebook: NotebookNode) -> list[list[str]]:
    """What each cell gives: a stream by its name, a value by the kinds it can be shown as."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [[each.get("name") or " ".join(sorted(each.data)) for each in cell] for cell in outputs]


def test_the_notebook_runs_and_has_its_output(tmp_path: Path) -> None:
    run = docs_notebook.executed(tmp_path)
    assert kinds(run) == kinds(nbformat.read(docs_notebook.PATH, as_version=4))
    outputs = [each for cell in run.cells for each in cell.get("outputs", ())]
    assert {each.name for each in outputs if "name" in each} == {
        "stdout"
    }  # no warning, of widgets for example
    shown = [each.data["text/plain"] for each in outputs if "data" in each]
    assert any(value.endswith("3/3") for value in shown)  # the bar, drawn in its place, full at the end
    assert (tmp_path / "my-model" / "model.json").exists()
