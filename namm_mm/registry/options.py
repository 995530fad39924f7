"""Values of options against the annotations of a component: said before the component is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from namm_mm.errors import UsageError, message

NAMES: Mapping[str, Any] = {
    "Iterable": Iterable,
    "Literal": Literal,
    "Mapping": Mapping,
    "Path": Path,
    "Sequence": Sequence,
}
"""What an annotation may use, beside Python's own names, to be checked; others pass."""

WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "null",
}


def wrong_values(
    factory: Callable[..., Any], options: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and what is expected for each option whose value is of a wrong type.

    Parameters
    ----------
    factory
        A class or function. Only parameters with annotations of plain values are checked: numbers,
        texts, true or false, null, lists, mappings and literals.
    options
        Plain values, as YAML gives them.
    """
    parameters = inspect.signature(factory).parameters
    for name, value in options.items():
        if name not in parameters:
            continue
        kind = _annotation(parameters[name].annotation)
        if kind is not None and not _fits(value, kind):
            yield name, value, _words(kind)


def refuse_wrong_values(
    kind: str, name: str, factory: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Raise one `UsageError` for all options of a component whose value is of a wrong type."""
    problems = [
        message(f"{option} of the {kind} {name!r}", given=value, expected=expected)
        for option, value, expected in wrong_values(factory, options)
    ]
    if problems:
        raise UsageError(" ".join(problems))


def _annotation(given: Any) -> Any:
    """The type behind an annotation; None for one that is not of plain values."""
    if isinstance(given, str):
        try:
            given = eval(given, dict(NAMES))  # source text of a component, not of a user
        except (NameError, SyntaxError, TypeError):
            return None
    return given if _plain(given) else None


def _plain(kind: Any) -> bool:
    if kind in WORDS or typing.get_origin(kind) is Literal:
        return True
    if _union(kind):
        return all(map(_plain, typing.get_args(kind)))
    origin = typing.get_origin(kind)
    return origin in (list, tuple, Sequence, Iterable, Mapping, dict) or kind is None


def _union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _fits(value: Any, kind: Any) -> bool:
    if _union(kind):
        return any(_fits(value, one) for one in typing.get_args(kind))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (Mapping, dict):
        return isinstance(value, Mapping)
    if origin is not None:
        if isinstance(value, str):  # the only one of a list of texts: task.families=order
            return str in inner
        element = inner[0] if inner and _plain(inner[0]) else None
        return isinstance(value, Sequence) and (
            element is None or all(_fits(one, element) for one in value)
        )
    if kind in (int, float) and isinstance(value, bool):
        return False
    accepted = {float: (int, float), Path: (str, Path)}.get(kind, (kind,))
    return value is None if kind in (None, type(None)) else isinstance(value, accepted)


def _words(kind: Any) -> str:
    if _union(kind):
        return " or ".join(map(_words, typing.get_args(kind)))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(str(one) for one in inner)
    if origin in (Mapping, dict):
        return "a mapping"
    if origin is not None:
        plural = {int: "integers", float: "numbers", str: "texts"}
        return f"a list of {plural.get(inner[0], 'values')}" if inner else "a list"
    return WORDS.get(type(None) if kind is None else kind, "another value")
