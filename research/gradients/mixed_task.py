"""One task made of several tasks that differ in an option, such as the length of the prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from namm_mm.tasks.base import AnsweringTask

if TYPE_CHECKING:
    from namm_mm.records import Answer, Sample, Score


@dataclass(frozen=True)
class MixedTask(AnsweringTask):
    """Takes every sample from one of its tasks, by seed and place.

    Attributes
    ----------
    tasks
        One or more tasks whose samples have the same ids.
    """

    tasks: tuple[AnsweringTask, ...]

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return samples of `split`; a smaller `limit` gives a prefix."""
        if len(self.tasks) == 1:
            return self.tasks[0].samples(split, limit, seed)
        choices = zip(*(task.samples(split, limit, seed) for task in self.tasks), strict=True)
        return [Random(f"{split} {seed} {at}").choice(choice) for at, choice in enumerate(choices)]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the score of the first task, which all of them share."""
        return self.tasks[0].score(sample, answer)

    def fingerprint(self) -> str:
        """Return a hash of the fingerprints of the tasks."""
        if len(self.tasks) == 1:
            return self.tasks[0].fingerprint()
        said = " ".join(task.fingerprint() for task in self.tasks)
        return hashlib.sha256(said.encode()).hexdigest()[:12]
