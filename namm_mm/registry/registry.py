"""Names for adapters, tasks and policies, ours and those of third parties.

An entry is a dotted ``"module:attribute"`` string that is imported only when somebody asks for it,
so that listing names costs nothing. Packages add entries through the entry-point group of the
registry (``namm_mm.adapters``, ``namm_mm.tasks``, ``namm_mm.policies``).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import FunctionType
from typing import Any, Generic, TypeVar, cast, overload

from namm_mm.errors import RunError, UsageError, message
from namm_mm.registry.options import refuse_wrong_values

T = TypeVar("T")


@lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> EntryPoints:
    """Entry points of all packages on `path`: reading them takes a fifth of ``namm-mm list``."""
    return cast("EntryPoints", entry_points())  # 3.11 has another class with the same method


class Registry(Generic[T]):
    """A mapping from a name to a factory, filled by us, by decorators and by entry points.

    Parameters
    ----------
    kind
        What the names stand for, as a singular noun: ``"policy"``.
    group
        The entry-point group in which third parties register.
    builtin
        Our own entries, name to ``"module:attribute"``.
    bases
        What an entry must subclass, one of them; empty allows anything.
    """

    def __init__(
        self, kind: str, group: str, builtin: Mapping[str, str], bases: tuple[type, ...] = ()
    ) -> None:
        self.kind = kind
        self.group = group
        self.bases = bases
        self._entries: dict[str, T | str | EntryPoint] = dict(builtin)
        self._scanned = False

    def _scan(self) -> dict[str, T | str | EntryPoint]:
        if not self._scanned:
            self._scanned = True
            for point in _installed(tuple(sys.path)).select(group=self.group):
                if point.name in self._entries:
                    package = point.dist.name if point.dist else "a package"
                    raise UsageError(
                        f"the {self.kind} name {point.name!r} is taken: {point.value!r} from the "
                        f"entry points of {package} collides with {self._entries[point.name]!r}. "
                        "Rename it there."
                    )
                self._entries[point.name] = point
        return self._entries

    def register(self, name: str, factory: T) -> T:
        """Add `factory` under `name`, and return it.

        Raises
        ------
        UsageError
            The name is taken by another one, or `factory` subclasses none of the declared bases.
        """
        self._check(name, factory)
        entries = self._scan()
        if name in entries and entries[name] is not factory:
            raise UsageError(
                f"the {self.kind} name {name!r} is already taken by {entries[name]!r}."
            )
        entries[name] = factory
        return factory

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._scan()))

    def __contains__(self, name: object) -> bool:
        return name in self._scan()

    def source(self, name: str) -> str:
        """Where the entry comes from, as ``module:attribute``, without importing it."""
        entry = self._scan()[name]
        if isinstance(entry, str):
            return entry
        if isinstance(entry, EntryPoint):
            return entry.value
        return _where(entry)

    def get(self, name: str) -> T:
        """Return the factory registered as `name`, importing it now.

        Raises
        ------
        UsageError
            The name is unknown: the message holds the nearest one and all that exist. Or the entry
            subclasses none of the declared bases: the message names them.
        RunError
            The entry exists but its module cannot be imported; the message names the module.
        """
        entries = self._scan()
        if name not in entries:
            raise UsageError(
                message(
                    f"unknown {self.kind}",
                    given=name,
                    expected=f"the name of a registered {self.kind}",
                    valid=entries,
                    then=f"`namm-mm {'build' if self.kind == 'builder' else 'list'}` lists them.",
                )
            )
        entry: Any = entries[name]
        if isinstance(entry, str | EntryPoint):
            entry = self._load(name, entry)
            self._check(name, entry)
            entries[name] = entry
        return cast("T", entry)

    def _check(self, name: str, entry: object) -> None:
        """Raise `UsageError` unless an entry is a complete subclass of one of the bases."""
        if not self.bases:
            return
        known = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in self.bases)
        if not (isinstance(entry, type) and issubclass(entry, self.bases)):
            raise UsageError(
                message(
                    f"the {self.kind} {name!r} has no declared base",
                    given=_where(entry),
                    expected=f"a subclass of {known}",
                    then="docs/how-to/add-an-adapter.md walks through a package that has one.",
                )
            )
        if isinstance(entry, ABCMeta) and entry.__abstractmethods__:
            lacking = ", ".join(sorted(entry.__abstractmethods__))
            raise UsageError(
                message(
                    f"the {self.kind} {name!r} is not complete",
                    given=f"{_where(entry)} without {lacking}",
                    expected=f"everything that is abstract in {known}",
                )
            )

    def _load(self, name: str, entry: str | EntryPoint) -> Any:
        try:
            if isinstance(entry, EntryPoint):
                return entry.load()
            module, attribute = entry.split(":")
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            where = entry if isinstance(entry, str) else entry.value
            raise RunError(
                f"the {self.kind} {name!r} is registered as {where!r}, but loading it failed: "
                f"{error}. `namm-mm doctor` checks what is installed."
            ) from error


def _where(entry: object) -> str:
    """Return ``module:name`` of a class or function."""
    if isinstance(entry, type | FunctionType):
        return f"{entry.__module__}:{entry.__qualname__}"
    return repr(entry)


@overload
def build(registry: Registry[type[T]], name: str, options: Mapping[str, Any]) -> T: ...


@overload
def build(registry: Registry[Callable[..., T]], name: str, options: Mapping[str, Any]) -> T: ...


def build(registry: Registry[Any], name: str, options: Mapping[str, Any]) -> Any:
    """Build and return the component `name` with `options`, whose names are checked first.

    Raises
    ------
    UsageError
        The name is unknown, an option is unknown or missing, or its value is refused.
    """
    factory = registry.get(name)
    parameters = inspect.signature(factory).parameters
    known = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    open_ended = len(known) < len(parameters)
    for option in options:
        if option not in known and not open_ended:
            raise UsageError(
                message(
                    f"unknown option of the {registry.kind} {name!r}",
                    given=option,
                    expected="one of its options" if known else "no option",
                    valid=known,
                )
            )
    missing = [
        n for n, p in parameters.items() if p.default is p.empty and n in known and n not in options
    ]
    missing = [n for n in missing if parameters[n].kind is not inspect.Parameter.VAR_POSITIONAL]
    if missing:
        raise UsageError(
            message(
                f"an option of the {registry.kind} {name!r} is missing",
                given=", ".join(options) or "no option",
                expected=" ".join(f"{option}=VALUE" for option in missing),
            )
        )
    refuse_wrong_values(registry.kind, name, factory, options)
    try:
        return factory(**options)
    except TypeError as error:
        raise UsageError(f"the {registry.kind} {name!r} refuses its options: {error}.") from error
