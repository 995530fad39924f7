"""Counts what makes a code base hard to read, in any checkout of this repository.

Run ``python research/benchmarks/house.py [FOLDER] [--list]``. It prints one table; ``--list`` adds
where each thing stands. ``tests/unit/test_house.py`` holds the limits.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

CODE = ("namm_mm", "adapters", "tasks", "research", "benchmarks", "examples")
TESTS = "tests"  # held to the length of a file, and to nothing else
PACKAGE = "namm_mm"
LINKED = ("adapters", "tasks")  # these folders are linked into the package
FILE_LINES, FUNCTION_LINES, PARAMETERS, BLOCK_LINES = 300, 60, 8, 6
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file of the checkout: its path there, its dotted name, its text and its tree."""

    path: str
    module: str
    text: str
    tree: ast.Module

    def at(self, node: ast.stmt | ast.expr | ast.arg, words: str = "") -> str:
        """Return `path:line words`, as an editor opens it."""
        return f"{self.path}:{node.lineno} {words}".rstrip()


@dataclass
class House:
    """The figures of one checkout; each list names the places that were counted."""

    long_files: list[str] = field(default_factory=list)
    long_functions: list[str] = field(default_factory=list)
    many_parameters: list[str] = field(default_factory=list)
    root_modules: list[str] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)
    untyped_parts: list[str] = field(default_factory=list)
    late_imports: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    repeated_blocks: list[str] = field(default_factory=list)

    def table(self) -> list[tuple[str, int]]:
        """Return the rows of the printed table: what is counted, and how many there are."""
        return [
            (f"files over {FILE_LINES} lines", len(self.long_files)),
            (f"functions over {FUNCTION_LINES} lines", len(self.long_functions)),
            (f"functions with more than {PARAMETERS} parameters", len(self.many_parameters)),
            (f"modules at the root of {PACKAGE}", len(self.root_modules)),
            ("hasattr, and getattr with a default", len(self.probes)),
            ("`Any` for an adapter or a task", len(self.untyped_parts)),
            ("own-package imports inside functions", len(self.late_imports)),
            ("circles of modules, imports inside functions counted", len(self.circles)),
            (f"pairs of equal blocks of {BLOCK_LINES} lines", len(self.repeated_blocks)),
        ]


def sources(root: Path) -> list[Source]:
    """Return the parsed files of code below `root`, tests left out, in the order of their paths."""
    found = []
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root)
            linked = name.parts[0] == PACKAGE and name.parts[1] in LINKED
            if linked or "__pycache__" in name.parts:
                continue
            text = path.read_text(encoding="utf-8")
            parts = list(name.with_suffix("").parts)
            if parts[0] in LINKED:
                parts.insert(0, PACKAGE)
            if parts[-1] == "__init__":
                parts.pop()
            found.append(Source(name.as_posix(), ".".join(parts), text, ast.parse(text)))
    return found


def _long_files(root: Path, files: list[Source]) -> Iterator[str]:
    """Yield the `files` and the tests below `root` that have too many lines, with how many."""
    texts = [(source.path, source.text) for source in files]
    for path in sorted((root / TESTS).rglob("*.py")):
        texts.append((path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")))
    for name, text in texts:
        if (count := len(text.splitlines())) > FILE_LINES:
            yield f"{name} {count}"


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method of `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: Function) -> list[ast.arg]:
    """Return the parameters of `function` that a caller gives, so without `self` and `cls`."""
    given = function.args
    named = [*given.posonlyargs, *given.args]
    if named and named[0].arg in ("self", "cls"):
        named = named[1:]
    return [*named, *given.kwonlyargs]


def _probes(source: Source) -> Iterator[str]:
    """Yield where `hasattr` is called, or `getattr` with a default."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name == "hasattr" or (name == "getattr" and len(node.args) == 3):
                yield source.at(node)


def _is_part(name: str) -> bool:
    """Whether a variable of this name stands for an adapter or a task, or for several."""
    return name.rsplit("_", 1)[-1] in ("adapter", "adapters", "task", "tasks")


def _says_any(annotation: ast.AST | None) -> bool:
    """Whether `annotation` is `Any`, or a container of `Any`."""
    if annotation is None:
        return False
    return any(isinstance(x, ast.Name) and x.id == "Any" for x in ast.walk(annotation))


def _untyped_parts(source: Source) -> Iterator[str]:
    """Yield where a parameter, field, variable or result is an adapter or task of type `Any`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.arg) and _is_part(node.arg) and _says_any(node.annotation):
            yield source.at(node, node.arg)
        elif isinstance(node, ast.AnnAssign) and _says_any(node.annotation):
            name = ast.unparse(node.target).rpartition(".")[2]
            if _is_part(name):
                yield source.at(node, name)
        elif isinstance(node, Function) and _is_part(node.name) and _says_any(node.returns):
            yield source.at(node, node.name)


def _types_only(tree: ast.Module) -> set[ast.AST]:
    """Return every node below an ``if TYPE_CHECKING:``, which does not run."""
    return {
        below
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for below in ast.walk(statement)
    }


def _targets(source: Source, node: ast.AST, known: set[str]) -> list[str]:
    """Return the modules of this repository that the import `node` names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in known]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = source.module.split(".")
        keep = len(package) - node.level + source.path.endswith("__init__.py")
        base = ".".join([*package[:keep], *([base] if base else [])])
    names = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in known else base for name in names if name in known or base in known]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected sets of more than one node of `graph` (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in sorted(graph.get(node, ())):
            if after not in index:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], index[after])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def repeated(files: list[Source]) -> list[str]:
    """Return the pairs of places where the same six lines stand, blank lines left out."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for source in files:
        lines = [(n, x.strip()) for n, x in enumerate(source.text.splitlines(), 1) if x.strip()]
        for start in range(len(lines) - BLOCK_LINES + 1):
            block = lines[start : start + BLOCK_LINES]
            places[tuple(text for _, text in block)].append(f"{source.path}:{block[0][0]}")
    return [f"{a} {b}" for where in places.values() for a, b in combinations(where, 2)]


def measure(root: Path) -> House:
    """Return the figures of the checkout at `root`."""
    house, files = House(), sources(root)
    known = {source.module for source in files}
    graph: dict[str, set[str]] = {}
    house.long_files = list(_long_files(root, files))
    for source in files:
        if source.module.startswith(f"{PACKAGE}.") and source.path.count("/") == 1:
            if source.path.startswith(PACKAGE):
                house.root_modules.append(source.path)
        elif source.module == PACKAGE:
            house.root_modules.append(source.path)
        late: set[ast.AST] = set()
        for function in functions(source.tree):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES:
                house.long_functions.append(source.at(function, f"{function.name} {lines}"))
            kernel = any(ast.unparse(one) == "triton.jit" for one in function.decorator_list)
            if not kernel and (given := len(parameters(function))) > PARAMETERS:
                house.many_parameters.append(source.at(function, f"{function.name} {given}"))
            late.update(ast.walk(function))
        house.untyped_parts += _untyped_parts(source)
        house.probes += _probes(source)
        unused = _types_only(source.tree)
        edges = graph.setdefault(source.module, set())
        for node in ast.walk(source.tree):
            targets = [] if node in unused else _targets(source, node, known)
            edges.update(set(targets) - {source.module})
            if isinstance(node, ast.stmt) and node in late and targets:
                house.late_imports.append(source.at(node, targets[0]))
    house.circles = [" ".join(members) for members in circles(graph)]
    house.repeated_blocks = repeated(files)
    return house


def main() -> None:
    """Print the figures of one checkout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[2])
    parser.add_argument("--list", action="store_true", help="print every place that was counted")
    given = parser.parse_args()
    house = measure(given.folder)
    for (words, count), places in zip(house.table(), vars(house).values(), strict=True):
        print(f"{words:56} {count:4}")
        if given.list:
            print("".join(f"    {place}\n" for place in places), end="")


if __name__ == "__main__":
    main()
