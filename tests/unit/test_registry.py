"""A registered adapter or task is a complete subclass of a declared base, or is refused clearly."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from namm_mm.errors import UsageError
from namm_mm.records import Answer, Sample, Score
from namm_mm.registry.registry import Registry, build
from namm_mm.tasks.base import ActingTask, AnsweringTask, Outlook, Task


class Bare:
    """Has all that a task needs but the base."""

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        return ()


class Unfinished(AnsweringTask):
    """Cannot score."""

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        return ()

    def fingerprint(self) -> str:
        return "0"


class Whole(Unfinished):
    def score(self, sample: Sample, answer: Answer) -> Score:
        return Score(1.0, "accuracy")


def registry(entry: type) -> Registry[type[Task]]:
    """A registry with one entry, by its place."""
    place = f"{__name__}:{entry.__name__}"
    return Registry("task", "no.such.group", {"mine": place}, bases=(AnsweringTask, ActingTask))


def test_a_class_without_a_base_is_refused_with_the_names_of_the_bases() -> None:
    expected = (
        r"the task '(mine|other)' has no declared base.*Bare.*subclass of namm_mm\.tasks\.base\."
        r"AnsweringTask or namm_mm\.tasks\.base\.ActingTask"
    )
    with pytest.raises(UsageError, match=expected):
        build(registry(Bare), "mine", {})
    with pytest.raises(UsageError, match=expected):
        registry(Whole).register("other", Bare)  # type: ignore[arg-type]


def test_a_class_that_lacks_a_method_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match=r"'mine' is not complete.*without score"):
        build(registry(Unfinished), "mine", {})


def test_what_is_optional_has_a_default() -> None:
    task = build(registry(Whole), "mine", {})
    assert (task.shape, task.notices(()), task.has_summary, task.summary(())) == (
        "answering",
        (),
        False,
        {},
    )
    assert task.outlook("test", 5) == Outlook(samples=5)
