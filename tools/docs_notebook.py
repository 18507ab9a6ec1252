"""The notebook with its output, from running it.

python tools/docs_notebook.py          # writes examples/tutorial.ipynb
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

PATH = Path(__file__).parents[1] / "examples" / "tutorial.ipynb"


def executed(folder: Path) -> NotebookNode:
    """Run the notebook in a folder and return it with its output; a cell that fails is an error."""
    notebook = nbformat.read(PATH, as_version=4)
    client = NotebookClient(notebook, timeout=300, coalesce_streams=True, record_timing=False)
    return client.execute(cwd=str(folder))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), PATH)
