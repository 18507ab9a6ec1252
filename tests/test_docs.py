"""What the pages show is so: commands print it, examples give it, tables have the rows of the code."""

import doctest
import importlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer.main

import cocoop
import cocoop.data.datasets
import cocoop.experiments.protocols
from cocoop.backbones import families
from cocoop.backbones.family import FAMILIES
from cocoop.cli.main import app
from cocoop.data import DATASETS
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.methods import METHODS
from tests.test_structure import ORDER, ROOT, WINGS

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}
sys.path.insert(0, str(REPOSITORY / "tools"))

import docs_methods  # noqa: E402
import docs_output  # noqa: E402
import docs_pages  # noqa: E402
import docs_records  # noqa: E402


def words(output: str) -> Counter[str]:
    """What does not depend on the training: the words, but for the rows of tables and for probabilities."""
    lines = [line for line in output.splitlines() if not line.startswith("│") and "%" not in line]
    return Counter(re.findall(r"[^\W\d_]{2,}", "\n".join(lines)))


def check_output(page: str) -> None:
    """Run the commands of a page, but for the server: all words that are shown must be printed.

    A training that is shorter than the one shown may print more, such as a warning.
    """
    docs_output.write_scripts(PAGES[page])
    for command, shown in docs_output.commands(PAGES[page]):
        if not command.startswith("cocoop serve"):
            assert not words(shown) - words(docs_output.run(command)), command


def check_python(page: str) -> None:
    """Run the interactive examples of a page and compare what they print."""
    text = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGES[page], flags=re.DOTALL))
    check_examples(doctest.DocTestParser().get_doctest(text, {}, page, page, 0))


def check_examples(test: doctest.DocTest) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said: list[str] = []
    found = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert found.attempted, f"{test.name} has no examples"
    assert not found.failed, "".join(said)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tutorial, with all of its commands run and compared, but trained for two epochs."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("cocoop.estimator.shots.SEEN", 252)
        check_output("tutorial.md")
    return folder


def test_the_tutorial(tutorial: Path) -> None:
    assert (tutorial / "model" / "model.json").exists()
    assert (tutorial / "onnx" / "model.onnx").exists()
    assert (tutorial / "runs" / "report.html").exists()


def test_records_in_pandas(tutorial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tutorial)
    (tutorial / "runs.csv").write_text(docs_output.run("cocoop report runs --format csv"))
    check_python("records.md")
    columns = re.findall(r"^\| `(\w+)` \|", PAGES["records.md"].partition("## The columns")[2], flags=re.M)
    assert set(columns) == set((tutorial / "runs.csv").read_text().partition("\n")[0].split(","))


def test_extensions_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    for package in (cocoop.methods, cocoop.data.datasets, cocoop.experiments.protocols, families):
        monkeypatch.setattr(package, "__path__", list(package.__path__))
    for registry in (METHODS, DATASETS, PROTOCOLS, FAMILIES):
        assert all(map(registry.get, registry.names()))  # imported, so that what is put back is complete
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
        monkeypatch.setattr(registry, "_places", None)
    docs_output.drop_in(PAGES["extend.md"], tmp_path / "files")
    importlib.invalidate_caches()
    check_output("extend.md")
    check_python("extend.md")
    assert "\n## gain\n" in docs_methods.reference()
    added = {name.rpartition(".")[2] for name in set(sys.modules) - before}
    assert {"gain", "fruit", "all_classes", "little"} <= added
    for name in set(sys.modules) - before:
        if name.rpartition(".")[2] in ("gain", "fruit", "all_classes", "little"):
            monkeypatch.delitem(sys.modules, name)


WITH_EXAMPLES = [
    path for path in sorted(ROOT.rglob("*.py")) if re.search(r"^ +>>> ", path.read_text(), flags=re.M)
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(("cocoop", *path.relative_to(ROOT).with_suffix("").parts)))
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        if test.examples:
            check_examples(test)


@pytest.mark.parametrize("name", cocoop.__all__)
def test_what_is_public_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(cocoop, name).__doc__ or "")


def test_a_row_for_every_room() -> None:
    rooms = re.findall(r"^\| `(\w+)` \|", PAGES["architecture.md"], flags=re.M)
    order = [
        room
        for name in ORDER[:-1]
        for room in ([each for wing in WINGS for each in wing] if name == "wings" else [name])
    ]
    assert rooms == order
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(rooms) == there - {"__init__", "__main__"}


def test_a_row_for_every_extra() -> None:
    facts = (REPOSITORY / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^(\w+) = \[", facts.partition("\n[")[0], flags=re.M)
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["install.md"], flags=re.M)
    assert sorted(rows) == sorted(extras)


def options(command: list[str]) -> set[str]:
    """The options of a command; fails where there is no such command."""
    found = typer.main.get_command(app)
    for word in command:
        if hasattr(found, "commands"):
            assert word in found.commands, f"there is no command {' '.join(command)}"
            found = found.commands[word]
    return {name for parameter in found.params for name in parameter.opts} | {"--help", "--debug"}


@pytest.mark.parametrize("page", ["../README.md", "../CONTRIBUTING.md", *PAGES])
def test_commands_and_options_exist(page: str) -> None:
    text = docs_output.filled((DOCS / page).read_text(), lambda command: "").replace("\\\n", " ")
    for line in re.findall(r"(?:`|\$ |srun |^ *)cocoop ([a-z][^`\n]*)", text, flags=re.M):
        known = options(line.split()[:2])
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", line):
            assert option in known, f"cocoop {line}: there is no {option}"


def test_pages_made_from_the_code() -> None:
    for page, (word, reference) in docs_pages.PAGES.items():
        assert f"\n{word}\n" in PAGES[page]
        assert len(reference()) > 1000
    methods = docs_methods.reference()
    for method in METHODS.names():
        assert f"\n## {method}\n" in f"\n{methods}"
        assert all(f"\n| `{preset}` |" in methods for preset in METHODS.get(method).presets)
    for row in (*methods.splitlines(), *docs_records.reference().splitlines()):
        assert not re.search(r"\| +\|$", row), f"{row} says nothing"


def test_every_page_has_its_place() -> None:
    places = re.findall(r"[\w-]+\.md", (REPOSITORY / "mkdocs.yml").read_text().partition("nav:")[2])
    assert sorted(places) == sorted(PAGES)


def test_pictures_are_small_and_shown() -> None:
    shown = set(re.findall(r"\(pictures/([\w-]+\.(?:png|svg))\)", "".join(PAGES.values())))
    assert shown == {path.name for path in (DOCS / "pictures").iterdir()}
    assert all((DOCS / "pictures" / name).stat().st_size < 150_000 for name in shown)
