"""Names to objects, found by walking a folder: adding one is adding a file, and no list is edited."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from cocoop.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The objects that the modules of `package` register, by name.

    Args:
        kind: what is registered, for messages ("method").
        package: dotted name of the package whose modules are imported at the first look-up, but for those
            whose name begins with an underscore.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._objects: dict[str, T] = {}
        self._walked = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate an object to register it under `name`. Raises ValueError where the name is taken."""

        def add(obj: T) -> T:
            if name in self._objects:
                raise ValueError(f"two objects are registered as {self.kind} {name!r}")
            self._objects[name] = obj
            return obj

        return add

    def names(self) -> list[str]:
        """All names, sorted."""
        self._walk()
        return sorted(self._objects)

    def get(self, name: str) -> T:
        """Return the object called `name`. Raises UsageError, with near names, where there is none."""
        self._walk()
        if name not in self._objects:
            raise unknown(self.kind, name, self._objects)
        return self._objects[name]

    def _walk(self) -> None:
        if not self._walked:
            self._walked = True
            package = importlib.import_module(self._package)
            for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
                if not module.startswith("_"):
                    importlib.import_module(f"{self._package}.{module}")
