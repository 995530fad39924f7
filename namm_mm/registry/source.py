"""What a registered class says of itself, read from its source: nothing is imported.

Importing every component to list them would load numpy, and the libraries of third parties.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Description:
    """What the source of a class says.

    Attributes
    ----------
    about
        First line of its docstring, without a full stop.
    module
        First line of its module's docstring, likewise.
    bases
        Names of the classes that it derives from, as far as their source is found.
    """

    about: str
    module: str
    bases: frozenset[str]


def describe(entry: str) -> Description | None:
    """Describe the class behind ``module:attribute``; None where its source does not show it."""
    module, _, name = entry.partition(":")
    found = _find(module, name)
    if found is None:
        return None
    tree, node = found
    return Description(_first_line(node), _first_line(tree), frozenset(_ancestors(module, name)))


def _ancestors(module: str, name: str) -> set[str]:
    names: set[str] = set()
    found = _find(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        return names
    for base in found[1].bases:
        base = base.value if isinstance(base, ast.Subscript) else base  # of a generic class
        if isinstance(base, ast.Name):
            names |= {base.id} | _ancestors(_home(module, name), base.id)
    return names


def _home(module: str, name: str) -> str:
    """The module in which a name is defined, where `module` imports it."""
    tree = _tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _home(node.module, alias.name)
    return module


def _find(module: str, name: str) -> tuple[ast.Module, ast.ClassDef | ast.FunctionDef] | None:
    tree = _tree(_home(module, name))
    if tree is not None:
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return tree, node
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    """The source of a module, found below its top package, which is located and not imported."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    roots = [Path(place, *inner) for place in spec.submodule_search_locations or ()]
    files = [root / "__init__.py" for root in roots]
    files += [root.with_suffix(".py") for root in roots if inner]
    files += [Path(spec.origin)] if spec.has_location and spec.origin and not inner else []
    for file in files:
        if file.suffix == ".py" and file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
