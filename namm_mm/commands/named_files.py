"""The files of a group of configurations, by name; what only lists them loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable


def named_files(group: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield name and file of each option of a configuration group: ``pocket``, ``mine/text``."""
    for file in sorted(group.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            yield prefix + file.name.removesuffix(".yaml"), file
        elif file.is_dir() and not file.name.startswith((".", "_")):
            yield from named_files(file, f"{prefix}{file.name}/")
