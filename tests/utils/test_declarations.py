"""What a registered class declares is read from its source, and is what the imported class has."""

import sys
from pathlib import Path

import pytest

from cocoop.utils.registry import Registry

HEAVY = "raise RuntimeError('imported')\n"
SETTINGS = """
from dataclasses import dataclass, field
import heavy_for_declarations as heavy
from heavy_for_declarations import Base

LEAST = 3

@dataclass(frozen=True)
class Config:
    size: int = LEAST
    kind: "heavy.Kind" = "small"
    more: tuple[int, ...] = field(default_factory=lambda: (LEAST, doubled(LEAST)))

    def run(self, thing: heavy.Thing = LEAST) -> heavy.Thing:
        return heavy.run(thing)

def doubled(value: heavy.Number) -> heavy.Number:
    return 2 * value
"""
PLAIN = (
    SETTINGS
    + """
TABLE = {name: doubled(len(name)) for name in ("a", "bc")}

@KINDS.register("plain")
class Model(Base):
    facts = ("plain", Config(size=5), TABLE)
    sizes: "heavy.Sizes" = [LEAST * each for each in range(LEAST)]
"""
)
SIBLING = """
from dataclasses import replace
from declared_kinds import KINDS, plain
from declared_kinds.plain import Config as Settings, doubled

@KINDS.register("sibling")
class Model(plain.Base):
    facts = (*plain.Model.facts[:1], replace(plain.Model.facts[1], size=doubled(4)), Settings().more)
"""
CHANGED = "TABLE = {'a': 1}\nTABLE['a'] = 2\n"
TWICE = "TABLE = 1\nTABLE = 2\n"
CHOSEN = "TABLE = 1\nif TABLE:\n    TABLE = 2\n"
UNPACKED = "TABLE, OTHER = 2, 3\n"
INHERITED = "class Base:\n    facts = 2\n"


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "declared_kinds"
    folder.mkdir()
    (folder / "__init__.py").write_text("KINDS = None\n")
    (tmp_path / "heavy_for_declarations.py").write_text(HEAVY)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("declared_kinds")]:
        del sys.modules[name]


def registry(folder: Path) -> Registry:
    import declared_kinds

    declared_kinds.KINDS = Registry("kind", "declared_kinds")
    return declared_kinds.KINDS


def test_declarations_are_read_without_what_the_module_imports(kinds: Path) -> None:
    (kinds / "plain.py").write_text("from declared_kinds import KINDS\n" + PLAIN)
    (kinds / "sibling.py").write_text(SIBLING)
    found = registry(kinds)
    assert found.names() == ["plain", "sibling"]
    name, config, table = found.declared("plain", "facts")
    assert (name, config.size, config.kind, config.more, table) == (
        "plain",
        5,
        "small",
        (3, 6),
        {"a": 2, "bc": 4},
    )
    assert found.declared("plain", "sizes") == [0, 3, 6]
    assert found.declared("sibling", "facts") == ("plain", type(config)(size=8), (3, 6))
    assert not {"declared_kinds.plain", "declared_kinds.sibling"} & set(sys.modules)
    with pytest.raises(RuntimeError, match="imported"):
        found.get("plain")


@pytest.mark.parametrize("table", [CHANGED, TWICE, CHOSEN, UNPACKED])
def test_what_the_source_does_not_say_is_asked_of_the_module(kinds: Path, table: str) -> None:
    model = "@KINDS.register('one')\nclass Model:\n    facts = TABLE\n"
    (kinds / "one.py").write_text(f"from declared_kinds import KINDS\n{table}\n{model}")
    value = registry(kinds).declared("one", "facts")
    assert value in (2, {"a": 2})
    assert "declared_kinds.one" in sys.modules


def test_what_is_inherited_is_asked_of_the_module(kinds: Path) -> None:
    (kinds / "one.py").write_text(
        f"from declared_kinds import KINDS\n{INHERITED}@KINDS.register('one')\nclass Model(Base):\n    pass\n"
    )
    assert registry(kinds).declared("one", "facts") == 2


@pytest.mark.parametrize(
    "code",
    [
        "for name in ('one', 'two'):\n    KINDS.register(name)(name)\n",
        "add = KINDS.register\nadd('one')(1)\nadd('two')(2)\n",
        "@KINDS.register('one')\nclass One: ...\n\nKINDS.register('two')(2)\n",
    ],
)
def test_whatever_else_is_registered_is_found_by_importing(kinds: Path, code: str) -> None:
    (kinds / "more.py").write_text("from declared_kinds import KINDS\n" + code)
    assert registry(kinds).names() == ["one", "two"]


def test_two_classes_of_one_name_in_two_files(kinds: Path) -> None:
    for file in ("one", "two"):
        (kinds / f"{file}.py").write_text(
            "from declared_kinds import KINDS\n\n@KINDS.register('same')\nclass Model: ...\n"
        )
    with pytest.raises(ValueError, match="two objects"):
        registry(kinds).names()
