"""What is installed: adapters, tasks, policies, NAMMs, models, experiments, evolutions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from namm_mm.commands.compose import named_files
from namm_mm.errors import NammError
from namm_mm.registry.registry import Registry


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
    """

    kind: str
    name: str
    about: str
    status: str = ""
    then: str = ""


def entries() -> Iterator[Entry]:
    """Yield all that is installed, kind by kind."""
    from namm_mm.adapters import ADAPTERS
    from namm_mm.policies import POLICIES
    from namm_mm.tasks import TASKS

    for registry in (ADAPTERS, TASKS, POLICIES):
        yield from _registered(registry)
    yield from _namms()
    yield from _models()
    for kind in ("experiment", "evolution"):
        yield from _configurations(kind)


def _registered(registry: Registry[Any]) -> Iterator[Entry]:
    for name in registry:
        source = registry.source(name)
        package = source.partition(".")[0].partition(":")[0]
        origin = "built in" if package == "namm_mm" else f"from {package}"
        try:
            about = _about(registry.get(name))
        except NammError as error:
            yield Entry(registry.kind, name, str(error), "broken", "namm-mm doctor")
        else:
            yield Entry(registry.kind, name, f"{about}{_shape(registry.get(name))}", origin)


def _about(component: Any) -> str:
    """First line of its docstring; of its module's for a policy, whose file is the policy."""
    module = inspect.getmodule(component) if hasattr(component, "score") else None
    text = inspect.getdoc(module) if module else None
    return (text or inspect.getdoc(component) or "").partition("\n")[0].rstrip(".")


def _shape(component: object) -> str:
    if hasattr(component, "agent") or hasattr(component, "play"):
        return " (acting)"
    return " (answering)" if hasattr(component, "prepare") or hasattr(component, "samples") else ""


def _namms() -> Iterator[Entry]:
    from namm_mm.namm import checkpoint

    for name in checkpoint.available():
        try:
            card = checkpoint.load(name).card
        except NammError as error:
            yield Entry("NAMM", name, str(error), "damaged")
        else:
            yield Entry("NAMM", name, str(card.get("about", "")), "bundled")


def _models() -> Iterator[Entry]:
    from namm_mm.models.resolve import list_assets

    for asset in list_assets():
        yield Entry("model", asset.name, asset.about, asset.status, asset.then)


def _configurations(kind: str) -> Iterator[Entry]:
    """A file's first comment that is no directive says what it is."""
    for name, file in named_files(files("namm_mm.configs") / kind):
        lines = file.read_text(encoding="utf-8").splitlines()
        comments = (line.lstrip("# ") for line in lines if line.startswith("# "))
        about = next((text for text in comments if not text.startswith("@")), "")
        yield Entry(kind, name, about, "built in")
