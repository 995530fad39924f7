"""What is installed: adapters, tasks, policies, NAMMs, models, experiments, evolutions."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from namm_mm.adapters import ADAPTERS
from namm_mm.commands.named_files import named_files
from namm_mm.errors import NammError
from namm_mm.models.listing import list_models, namm_cards
from namm_mm.policies import POLICIES
from namm_mm.registry.registry import Registry
from namm_mm.registry.source import describe
from namm_mm.tasks import TASKS


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes
    ----------
    kind
        ``adapter``, ``task``, ``policy``, ``NAMM``, ``model``, ``experiment``,
        ``evolution``.
    name
        What to write in a configuration.
    about
        What it is, in one line.
    status
        Where it comes from, or whether it is there.
    then
        The command that gets it, where it is missing.
    cells
        Names of the cells of an experiment.
    """

    kind: str
    name: str
    about: str
    status: str = ""
    then: str = ""
    cells: tuple[str, ...] = ()


def entries() -> Iterator[Entry]:
    """Yield all that is installed, kind by kind. Components are not imported, nor models read."""
    for registry in (ADAPTERS, TASKS, POLICIES):
        yield from _registered(registry)
    yield from _namms()
    yield from _models()
    for kind in ("experiment", "evolution"):
        yield from _configurations(kind)


def _registered(registry: Registry[Any]) -> Iterator[Entry]:
    told: set[str] = set()
    for name in registry:
        source = registry.source(name)
        package = source.partition(".")[0].partition(":")[0]
        origin = "built in" if package == "namm_mm" else f"from {package}"
        found = describe(source)
        if found is not None:
            shape = next((f" ({what})" for base, what in SHAPES.items() if base in found.bases), "")
            # A policy is a file; the second one of a file speaks for itself.
            of_file = registry is POLICIES and found.module not in told
            about = found.module if of_file else found.about
            told.add(found.module)
            yield Entry(registry.kind, name, f"{about}{shape}", origin)
            continue
        try:
            about = inspect.getdoc(registry.get(name)) or ""
        except NammError as error:
            yield Entry(registry.kind, name, str(error), "broken", "namm-mm doctor")
        else:
            yield Entry(registry.kind, name, about.partition("\n")[0].rstrip("."), origin)


SHAPES = {
    "ActingAdapter": "acting",
    "ActingTask": "acting",
    "AnsweringAdapter": "answering",
    "AnsweringTask": "answering",
}
"""The shape of a component by the base that it derives from."""


def _namms() -> Iterator[Entry]:
    for name, card in namm_cards():
        if card is None:
            yield Entry("NAMM", name, "its card cannot be read", "damaged", "namm-mm doctor")
        else:
            yield Entry("NAMM", name, str(card.get("purpose", card.get("about", ""))), "bundled")


def _models() -> Iterator[Entry]:
    for model in list_models():
        yield Entry("model", model.name, model.about, model.status, model.then)


def _configurations(kind: str) -> Iterator[Entry]:
    """The first sentence of a file's comment says what it is; defaults name its cells."""
    for name, file in named_files(files("namm_mm.configs") / kind):
        text = file.read_text(encoding="utf-8")
        about = first_sentence(text)
        cells = tuple(re.findall(r"^ *- /cell@cells\.(\w+):", text, flags=re.MULTILINE))
        yield Entry(kind, name, about, "built in", cells=cells)


def first_sentence(text: str) -> str:
    """Return the first sentence of the comment at the top of a configuration."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines if not line.startswith("# @"))
    return re.split(r"(?<=[.]) (?=[A-Z])", comment.strip(), maxsplit=1)[0]
