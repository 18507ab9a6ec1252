"""What could run code that somebody else wrote: loaders, other programs, old versions of dependencies."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_structure import ROOT, SOURCES

PROJECT = Path(__file__).parents[1]

# modules that run what a file says, or start a program
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "tarfile"}
MODULES |= {"subprocess", "pty", "code", "runpy"}
# functions that do, by the end of their dotted name
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "extractall", "unpack_archive"}
CALLS |= {"read_pickle", "to_pickle", "Unpickler", "system", "popen", "spawnv", "execv", "execvp"}
CALLS |= {"torch.load", "jit.load", "hub.load", "np.load", "numpy.load", "onnx.load", "joblib.load"}
FORMS = {("shell", True), ("trust_remote_code", True), ("allow_pickle", True), ("weights_only", False)}

ALLOWED = {
    ("released.py", "torch.load"): "PyTorch's restricted reader, with a list of what else may be named",
    ("state.py", "torch.load"): "PyTorch's restricted reader, behind a check of what it would still do",
    ("state.py", "pickle"): "the name of an error",
    ("checkpoint.py", "jit.load"): "only files whose SHA-256 OpenAI published",
    ("environment.py", "subprocess"): "git, without a shell, asked for the commit of this package",
    ("registry.py", "import_module"): "the modules beside a registry, by the names of their files",
    ("declarations.py", "import_module"): "what a module of this package imports",
    ("declarations.py", "compile"): "a declaration in the sources of this package, which could be imported",
    ("declarations.py", "eval"): "the same",
    ("declarations.py", "exec"): "the same",
    ("shards.py", "tarfile"): "members are read one after the other; nothing is unpacked",
    ("unpack.py", "tarfile"): "members are read and written by names that cannot leave the folder",
    ("__init__.py", "import_module"): "a public name's own module",
}


def found(source: str) -> set[str]:
    """Everything in a source text that could run what somebody else wrote."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or "").split(".")[0]} & MODULES
            names |= {alias.name for alias in node.names} & CALLS
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            ends = {called, ".".join(called.split(".")[-2:]), called.split(".")[-1]}
            plain = {"eval", "compile"} if "." in called else set()  # nn.Module.eval, re.compile
            names |= (ends & CALLS) - plain
            given = {(word.arg, getattr(word.value, "value", None)) for word in node.keywords}
            names |= {str(word) for word, value in given & FORMS}
    return names


def test_nothing_runs_what_a_file_says() -> None:
    seen = {
        (path.name, name) for path in [*SOURCES, ROOT / "__init__.py"] for name in found(path.read_text())
    }
    assert seen - ALLOWED.keys() == set()
    assert ALLOWED.keys() - seen == set(), "no longer needed"


def test_the_restricted_reader_is_asked_for() -> None:
    readers = (ROOT / "training" / "released.py", ROOT / "backbones" / "state.py")
    calls = [
        node
        for path in readers
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    given = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in calls]
    assert [words["weights_only"] for words in given] == ["True", "True"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle as p", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import torch as t\nt.jit.load(x)", "jit.load"),
        ("from torch.jit import load\nfrom os import system", "system"),
        ("archive.extractall(folder)", "extractall"),
        ("eval(text)", "eval"),
        ("run(line, shell=True)", "shell"),
        ("np.load(file, allow_pickle=True)", "allow_pickle"),
        ("datasets.load_dataset(name, trust_remote_code=True)", "trust_remote_code"),
    ],
)
def test_the_check_sees(source: str, name: str) -> None:
    assert name in found(source)
    assert found("model.eval(); re.compile(x); datasets.load_dataset(name)") == set()


def test_a_dependency_has_one_floor() -> None:
    """An extra and the development environment exclude the same versions."""
    floors: dict[str, set[str]] = {}
    for name, floor in re.findall(r'"([\w-]+)>=([\d.]+)"', (PROJECT / "pyproject.toml").read_text()):
        floors.setdefault(name, set()).add(floor)
    assert len(floors) > 25
    assert {name: versions for name, versions in floors.items() if len(versions) > 1} == {}
