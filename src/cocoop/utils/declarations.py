"""What the registered classes of a package declare, read from its sources without importing them.

A declaration such as `facts = Facts(name="CoOp", ...)` is evaluated alone, with the names that it uses, and
they with those that they use. A module that one of them is imported from is read in the same way where it is
of the same package, and imported elsewhere. So what classes declare that are built on torch costs no torch.
"""

import __future__

import ast
import importlib
import importlib.util
import sys
from types import CodeType
from typing import Any


class Unreadable(Exception):
    """The source does not say it in so many words; the module itself will, once it is imported."""


class Sources(dict[str, "Source"]):
    """The modules of a package, each read when it is first asked for."""

    def __init__(self, package: str) -> None:
        super().__init__()
        self.package = package

    def __missing__(self, module: str) -> "Source":
        """Read a module, and remember it. Raises Unreadable where there is no source."""
        self[module] = Source(module, self)
        return self[module]


class Source(dict[str, Any]):
    """The names at the top of a module, each evaluated when it is first asked for.

    Args:
        module: dotted name.
        others: of its package.

    Raises:
        Unreadable: there is no source of the module.
    """

    def __init__(self, module: str, others: Sources) -> None:
        super().__init__(__name__=__name__)  # dataclasses ask for the module of a class, which must be there
        self._others = others
        self._tree = ast.parse(_text(module))
        self._statements: dict[str, ast.stmt | None] = {}  # None: not bound by one plain statement alone
        for node in self._tree.body:
            for name in _bound(node):
                self._statements[name] = None if name in self._statements else node
            self._statements |= dict.fromkeys(_touched(node))

    def registered(self) -> dict[str, str]:
        """Return the classes below a decorator `@REGISTRY.register("NAME")`: NAME to the name of the class.

        Raises:
            Unreadable: something is registered in another way.
        """
        classes = [node for node in self._tree.body if isinstance(node, ast.ClassDef)]
        found = {
            name: each.name for each in classes for name in map(_registered, each.decorator_list) if name
        }
        if not found or len(found) != sum(map(_registers, ast.walk(self._tree))):
            raise Unreadable("something may be registered in another way")
        return found

    def __missing__(self, name: str) -> Any:
        """Evaluate a name, and remember it. Raises KeyError where the module has none of it."""
        if name not in self._statements:
            raise KeyError(name)
        node = self._statements[name]
        if isinstance(node, ast.Import | ast.ImportFrom):
            self[name] = self._imported(node, name)
        elif isinstance(node, ast.ClassDef) and any(map(_registers, node.decorator_list)):
            self[name] = Declared(self, node)
        elif node is not None:
            for needed in _in_class_body(node) & self._statements.keys():
                self[needed]  # a class body looks names up past `__missing__`
            exec(_compiled(ast.Module([node], [])), self, self)
        else:
            raise Unreadable(name)
        return self[name]

    def _imported(self, node: ast.Import | ast.ImportFrom, name: str) -> Any:
        alias = next(each for each in node.names if name == (each.asname or each.name.partition(".")[0]))
        if isinstance(node, ast.Import):
            module = importlib.import_module(alias.name)
            return module if alias.asname else sys.modules[name]
        if node.level:
            raise Unreadable(name)
        whole = f"{node.module}.{alias.name}"
        if node.module == self._others.package and importlib.util.find_spec(whole):
            return sys.modules.get(whole) or Names(self._others[whole])
        sibling = str(node.module).rpartition(".")[0] == self._others.package
        if sibling and node.module not in sys.modules:
            return self._others[str(node.module)][alias.name]
        return getattr(importlib.import_module(str(node.module)), alias.name)


class Declared:
    """A registered class as it is written: each attribute is evaluated when it is first asked for."""

    def __init__(self, source: Source, node: ast.ClassDef) -> None:
        self._source = source
        values = [part for part in node.body if isinstance(part, _VALUES) and part.value]
        self._values = {name: part.value for part in values for name in _bound(part)}

    def __getattr__(self, name: str) -> Any:
        """Evaluate an attribute, and remember it. Raises Unreadable for one that is inherited."""
        value = self.__dict__.get("_values", {}).get(name)
        if value is None:
            raise Unreadable(name)
        self.__dict__[name] = eval(_compiled(ast.Expression(value)), self._source, self._source)
        return self.__dict__[name]


class Names:
    """A module that is read, as the module that imports it sees it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        """Return what it has by that name."""
        return self.__dict__["_source"][name]


_VALUES = (ast.Assign, ast.AnnAssign)


def _compiled(node: ast.Module | ast.Expression) -> CodeType:
    """Compile without evaluating annotations: they name types of torch."""
    mode = "exec" if isinstance(node, ast.Module) else "eval"
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(node, "<declarations>", mode, flags, dont_inherit=True)
    return code


def _text(module: str) -> str:
    spec = importlib.util.find_spec(module)
    text = getattr(spec.loader, "get_source", lambda name: None)(module) if spec else None
    if text is None:
        raise Unreadable(module)
    return str(text)


def _bound(node: ast.stmt) -> set[str]:
    """Return the names that a plain statement binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    targets = getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(node, _VALUES) else []
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    return names if len(names) == len(targets) else set()


def _touched(node: ast.stmt) -> set[str]:
    """Return all names that a statement mentions which does more than bind some: it may change any."""
    if _bound(node):
        return set()
    inside = (_bound(each) for each in ast.walk(node) if isinstance(each, ast.stmt))
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}.union(*inside)


def _in_class_body(node: ast.stmt) -> set[str]:
    """Return the names that the body of a class uses itself, not its functions when they are called."""
    parts: list[ast.AST | None] = []
    for part in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(part, _VALUES):
            parts.append(part.value)
        elif isinstance(part, ast.FunctionDef):
            parts += [*part.decorator_list, *part.args.defaults, *part.args.kw_defaults]
    return {each.id for part in parts if part for each in ast.walk(part) if isinstance(each, ast.Name)}


def _registers(node: ast.AST) -> bool:
    """Whether a node calls `register` of something."""
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "register"
    )


def _registered(node: ast.AST) -> str | None:
    """Return the name in `REGISTRY.register("NAME")`; None for anything else."""
    if isinstance(node, ast.Call) and _registers(node) and len(node.args) == 1:
        name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        return name if isinstance(name, str) else None
    return None
