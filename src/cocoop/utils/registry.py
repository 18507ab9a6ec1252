"""Names to objects, found by walking a folder: adding one is adding a file, and no list is edited."""

import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from cocoop.errors import unknown
from cocoop.utils.declarations import Sources, Unreadable

T = TypeVar("T")


class Registry(Generic[T]):
    """The objects that the modules of `package` register, by name.

    The modules are looked through at the first look-up, but for those whose name begins with an underscore.
    One that says in so many words what it registers, `@REGISTRY.register("NAME")` above a class, is imported
    when that is asked for, any other at once.

    Args:
        kind: what is registered, for messages ("method").
        package: dotted name of the package.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._objects: dict[str, T] = {}
        self._sources = Sources(package)
        self._places: dict[str, tuple[str, str]] | None = None  # module and class, for classes read so far
        self._walking = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate an object to register it under `name`. Raises ValueError where the name is taken."""

        def add(obj: T) -> T:
            if name in self._objects:
                raise self._taken(name)
            self._objects[name] = obj
            return obj

        return add

    def names(self) -> list[str]:
        """All names, sorted. Raises ValueError where two objects have the same."""
        places = self._walk()
        return sorted({*self._objects, *places})

    def get(self, name: str) -> T:
        """Return the object called `name`. Raises UsageError, with near names, where there is none."""
        places = self._walk()
        if name not in self._objects:
            if name not in places:
                raise unknown(self.kind, name, self.names())
            importlib.import_module(places[name][0])
        return self._objects[name]

    def declared(self, name: str, attribute: str) -> Any:
        """Return what the class called `name` declares, importing it only where its source does not tell.

        The value is that of the class itself, but classes that the module defines are read anew: settings in
        it are to be looked at, not to be trained with.

        Raises:
            UsageError: there is no such class.
        """
        if name in (places := self._walk()) and name not in self._objects:
            module, cls = places[name]
            try:
                return getattr(self._sources[module][cls], attribute)
            except Exception:  # whatever it is, the module has it, or says what is wrong
                pass
        return getattr(self.get(name), attribute)

    def _walk(self) -> dict[str, tuple[str, str]]:
        """Look through the package once; return where the classes are that need not be imported for it."""
        with self._walking:  # threads wait; what is imported meanwhile may ask, and sees what there is so far
            if self._places is None:
                self._places = {}
                self._look_through(self._places)
            return self._places

    def _look_through(self, places: dict[str, tuple[str, str]]) -> None:
        self._sources = Sources(self._package)
        package = importlib.import_module(self._package)
        for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
            module = f"{self._package}.{name}"
            if name.startswith("_") or module in sys.modules:
                continue
            try:
                classes = self._sources[module].registered()
            except (Unreadable, SyntaxError):
                importlib.import_module(module)
                continue
            for each, cls in classes.items():
                if each in places or each in self._objects:
                    raise self._taken(each)
                places[each] = (module, cls)

    def _taken(self, name: str) -> ValueError:
        return ValueError(f"two objects are registered as {self.kind} {name!r}")
