"""Write a package with an adapter and a task of your own. It runs as it is.

  namm-mm new adapter birdsong                   answers questions about samples
  namm-mm new adapter rover --kind acting        acts in environments

The folder birdsong/ gets pyproject.toml with the entry points, the package namm_mm_birdsong with an
adapter and a task, tests (the conformance kit) and an experiment. CHANGE marks what is yours.
docs/how-to/add-an-adapter.md explains every file.

Options:
  --kind KIND        answering (the default) or acting
"""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from rich.console import Console

from namm_mm.adapters import ADAPTERS
from namm_mm.errors import RunError, UsageError, message
from namm_mm.runs.disk import reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {"kind": True}
THINGS = ("adapter",)
TASKS: Mapping[str, str] = {"answering": "questions", "acting": "episodes"}
"""The kinds of adapter, with what their tasks are made of."""

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
FILES: Mapping[str, str] = {
    "README.md": "readme.md.txt",
    "pyproject.toml": "pyproject.toml.txt",
    "$module/__init__.py": "init.py.txt",
    "$module/adapter.py": "KIND/adapter.py.txt",
    "$module/task.py": "KIND/task.py.txt",
    "tests/test_$name.py": "test.py.txt",
    "configs/experiment/$name.yaml": "KIND/experiment.yaml.txt",
}
"""The files of a package, and the template of each."""


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    thing, *names = call.words or ("",)
    if thing not in THINGS or len(names) != 1:
        raise UsageError(
            message(
                "wrong words after `namm-mm new`",
                given=" ".join(call.words) or "nothing",
                expected="adapter NAME",
                valid=THINGS,
                then="docs/how-to/add-a-policy.md adds a policy: it is a file of 12 lines.",
            )
        )
    kind = call.options.get("kind", "answering")
    if kind not in TASKS:
        raise UsageError(
            message("unknown kind of adapter", given=kind, expected="a kind", valid=TASKS)
        )
    folder = write_package(names[0], kind, Path.cwd())
    Console(soft_wrap=True, highlight=False, markup=False).print(told(names[0], folder))
    return 0


def package_files(name: str, kind: str) -> dict[str, str]:
    """Return the files of a new package by their path in it.

    Parameters
    ----------
    name
        Of the adapter.
    kind
        ``answering`` or ``acting``.
    """
    words = {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "module": f"namm_mm_{name}",
        "package": f"namm-mm-{name.replace('_', '-')}",
        "task": f"{name}_{TASKS[kind]}",
    }
    templates = files("namm_mm.commands") / "templates"
    return {
        Template(path).substitute(words): _filled(templates / template.replace("KIND", kind), words)
        for path, template in FILES.items()
    }


def write_package(name: str, kind: str, place: Path) -> Path:
    """Write a new package into the folder `name` in `place` and return that folder.

    Raises
    ------
    UsageError
        The name cannot be one, is taken, or the folder exists.
    RunError
        The folder cannot be written.
    """
    _check_name(name)
    folder = place / name
    if folder.exists():
        raise UsageError(
            message(
                "the folder exists already",
                given=str(folder),
                expected="a name that no file has here",
                then="Choose another name, or go to another folder.",
            )
        )
    try:
        for path, text in package_files(name, kind).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            message(
                f"the package cannot be written ({reason(error)})",
                given=str(folder),
                expected="a folder that can be written",
            )
        ) from error
    return folder


def told(name: str, folder: Path) -> str:
    """Say what was written and what comes next."""
    return (
        f"{folder.name}/ is a package with an adapter, a task, tests and an experiment.\n"
        "It runs as it stands:\n"
        f"  cd {name}\n"
        "  pip install -e '.[test]'\n"
        "  python -m pytest\n"
        f"  namm-mm transfer --configs configs experiment={name}\n"
        "Then change what is marked: grep -rn CHANGE ."
    )


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            message(
                "this cannot be the name of an adapter",
                given=name,
                expected="lower-case letters, digits and single underscores, such as bird_song",
            )
        )
    if name in ADAPTERS:
        raise UsageError(
            message(
                "an adapter of this name is there already",
                given=name,
                expected="a name that `namm-mm list adapter` does not show",
            )
        )


def _filled(template: Traversable, words: Mapping[str, str]) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(words)
