"""What a registered class says of itself, read from its source: nothing is imported.

Importing every component to list them would load numpy, and the libraries of third parties. Of a
module only the lines before its first class or function are parsed, and of a class its head and
its docstring: all of it would take a tenth of a second and more.
"""

from __future__ import annotations

import ast
import importlib.util
import re
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
    head = _head(_home(module, name))
    about, of_module = _first_line(found), _first_line(head) if head else ""
    return Description(about, of_module, frozenset(_ancestors(module, name)))


def _ancestors(module: str, name: str) -> set[str]:
    names: set[str] = set()
    found = _find(module, name)
    if not isinstance(found, ast.ClassDef):
        return names
    for base in found.bases:
        base = base.value if isinstance(base, ast.Subscript) else base  # of a generic class
        if isinstance(base, ast.Name):
            names |= {base.id} | _ancestors(_home(module, name), base.id)
    return names


def _home(module: str, name: str) -> str:
    """The module in which a name is defined, where `module` imports it."""
    head = _head(module)
    for node in head.body if head else ():
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _home(node.module, alias.name)
    return module


@cache
def _find(module: str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """The head and the docstring of a class or function, wherever `module` has it from."""
    text = _text(_home(module, name))
    begins = re.search(rf"^(class|def) {re.escape(name)}\b", text, re.M)
    if begins is None:
        return None
    text = text[begins.start() :]
    for length in (*_docstring_ends(text), len(text)):
        try:
            node = ast.parse(text[:length]).body[0]
        except SyntaxError:
            continue
        return node if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
    return None


def _docstring_ends(text: str) -> list[int]:
    """The end of the first string in triple quotes: with it a class or a function is whole."""
    found = re.search(r'"""(?:[^"\\]|\\.|"(?!""))*"""', text)
    return [found.end()] if found else []


@cache
def _head(module: str) -> ast.Module | None:
    """What stands before the first class or function of a module: its docstring and imports."""
    text = _text(module)
    if not text:
        return None
    begins = re.search(r"^(?:class|def|async def|@)", text, re.M)
    try:
        return ast.parse(text[: begins.start()] if begins else text)
    except SyntaxError:  # such a line stands within a string
        return ast.parse(text)


@cache
def _text(module: str) -> str:
    """The source of a module, found below its top package, which is located and not imported."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    roots = [Path(place, *inner) for place in spec.submodule_search_locations or ()]
    files = [root / "__init__.py" for root in roots]
    files += [root.with_suffix(".py") for root in roots if inner]
    files += [Path(spec.origin)] if spec.has_location and spec.origin and not inner else []
    for file in files:
        if file.suffix == ".py" and file.is_file():
            return file.read_text(encoding="utf-8")
    return ""


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
