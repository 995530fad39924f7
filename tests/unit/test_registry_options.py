"""Values of options are checked against the annotations of a component before it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from namm_mm.adapters import ADAPTERS
from namm_mm.errors import UsageError
from namm_mm.policies import create
from namm_mm.registry.options import wrong_values
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS


@dataclass
class Thing:
    """A component with every kind of option."""

    size: int = 1
    part: float = 0.5
    on: bool = False
    name: str | None = None
    place: str | Path = "here"
    mode: Literal["a", "b"] = "a"
    families: Sequence[str] | None = None
    depth: Sequence[float] = (0.1, 0.2)
    facts: Mapping[str, int] | None = None
    anything: Any = None
    own: Thing | None = None


@pytest.mark.parametrize(
    "options",
    [
        {"size": 3, "part": 1, "on": True, "name": None, "place": Path("x"), "mode": "b"},
        {"families": "order", "depth": [1, 0.5], "facts": {"a": 1}, "anything": object()},
        {"families": ["a", "b"], "own": "not of plain values, and not judged"},
    ],
)
def test_right_values_pass(options: dict[str, Any]) -> None:
    assert not list(wrong_values(Thing, options))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("size", "many", "an integer"),
        ("size", 1.5, "an integer"),
        ("size", True, "an integer"),
        ("part", "half", "a number"),
        ("on", "yes", "true or false"),
        ("on", 1, "true or false"),
        ("name", 3, "a text or null"),
        ("place", [], "a text or a path"),
        ("mode", "c", "a or b"),
        ("families", 3, "a list of texts or null"),
        ("families", ["a", 1], "a list of texts or null"),
        ("depth", "deep", "a list of numbers"),
        ("facts", [1], "a mapping or null"),
    ],
)
def test_wrong_values_are_told_with_what_is_expected(
    option: str, value: Any, expected: str
) -> None:
    assert list(wrong_values(Thing, {option: value})) == [(option, value, expected)]


def test_the_message_names_option_and_component() -> None:
    said = r"frames of the adapter 'llava_video': got 'many', expected an integer"
    with pytest.raises(UsageError, match=said):
        build(ADAPTERS, "llava_video", {"model": "pocket_video", "frames": "many"})
    with pytest.raises(UsageError, match=r"words of the task 'long_text': got '300'"):
        build(TASKS, "long_text", {"words": "300"})
    with pytest.raises(UsageError, match=r"recents of the policy 'h2o': got 'few'"):
        create("h2o", recents="few")
