"""What can stand in the place of the word that is being typed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from namm_mm.commands.build import BUILDERS
from namm_mm.commands.compose import CONFIGS, TAKES, groups
from namm_mm.commands.entries import entries
from namm_mm.commands.overrides import REGISTRIES
from namm_mm.commands.shorthand import ONE_OF
from namm_mm.commands.verbs import VERBS
from namm_mm.errors import NammError
from namm_mm.models.listing import list_models, namm_cards

VALUES: Mapping[str, Sequence[str]] = {
    "wandb": ("offline", "online", "disabled"),
    "storage": ("shared", "per_head"),
    "protocol": ("streaming", "prune_after_prefill"),
    "split": ("test", "validation", "train"),
}
"""Values of keys that take few words."""

SUBJECTS: Mapping[str, Sequence[str]] = {
    "list": ("adapter", "task", "policy", "NAMM", "model", "experiment", "evolution"),
    "namm": ("list", "show"),
    "models": ("get",),
    "new": ("adapter",),
    "completion": ("bash", "zsh", "fish"),
}
"""The first word after a verb that takes words and no settings."""


def candidates(line: Sequence[str]) -> list[str]:
    """Return the words that can stand in the place of the last word of a line, sorted.

    Parameters
    ----------
    line
        The words after ``namm-mm``; the last one is what is typed so far, and may be empty.
    """
    *before, typed = line or [""]
    try:
        found = set(_candidates(before, typed))
    except NammError:  # a broken package must not print into a line that is being typed
        return []
    return sorted(word for word in found if word.startswith(typed))


def _candidates(before: Sequence[str], typed: str) -> Iterable[str]:
    if not before:
        return (*VERBS, "help", "version")
    verb, *words = before
    if verb not in VERBS:
        return ()
    previous = words[-1] if words else ""
    if previous in ("--policy", "--compare"):
        return _registered("policy")
    if previous.startswith("--") and _takes_file(verb, previous):
        return ()  # the shell completes names of files
    if typed.startswith("-"):
        return options(verb)
    if verb in TAKES:
        return _settings(verb, typed, _folder(words))
    return _subjects(verb, [word for word in words if not word.startswith("--")])


def _subjects(verb: str, words: Sequence[str]) -> Iterable[str]:
    if verb == "ask":
        return () if words else _models()
    if verb == "build":
        return () if words else list(BUILDERS)
    if not words or verb == "list":
        return SUBJECTS.get(verb, ())
    if verb == "namm" and words == ["show"]:
        return (name for name, _ in namm_cards())
    if verb == "models" and words == ["get"]:
        return (
            model.name for model in list_models() if model.then.startswith("namm-mm models get")
        )
    return ()


def _settings(verb: str, typed: str, folder: Path | None) -> Iterator[str]:
    """Keys with their sign, and after the sign the names of a group."""
    key, equals, value = typed.partition("=")
    if not equals:
        text = (files(CONFIGS) / f"{verb}.yaml").read_text(encoding="utf-8")
        keys = {*yaml.safe_load(text), *TAKES[verb], *ONE_OF.get(verb, {})} - {"defaults"}
        yield from (f"{name}=" for name in keys)
        return
    start, names = f"{key}=", _names(key, folder)
    if before := re.match(r"(\[?(?:[^,\[\]]+,)*\[?)", value):
        start += before[1]  # policies=[full,n
    yield from (start + name for name in names)


def _names(key: str, folder: Path | None) -> Iterable[str]:
    group = {"policies": "policy"}.get(key, key.partition("@")[0])
    if key == "checkpoint":
        return (name for name, _ in namm_cards())
    if key == "adapter.model":
        return _models()
    if key == "cells":
        return (cell for entry in entries() if entry.kind == "experiment" for cell in entry.cells)
    return (*groups(folder).get(group, ()), *_registered(group), *VALUES.get(key, ()))


def _registered(group: str) -> Iterable[str]:
    return list(REGISTRIES.get(group, ()))


def _models() -> Iterable[str]:
    return (model.name for model in list_models())


def options(verb: str) -> list[str]:
    """The options of a verb, from its help: importing the verb takes seconds."""
    source = files("namm_mm.commands").joinpath(f"{verb}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    return [*re.findall(r"(?<![\w-])--[a-z][a-z-]*", text), "--help", "--debug"]


def _takes_file(verb: str, option: str) -> bool:
    return option in ("--file", "--configs", "--output", "--merge") and option in options(verb)


def _folder(words: Sequence[str]) -> Path | None:
    """The folder of ``--configs``, if it is there already."""
    if "--configs" in words[:-1]:
        folder = Path(words[words.index("--configs") + 1]).expanduser()
        return folder if folder.is_dir() else None
    return None
