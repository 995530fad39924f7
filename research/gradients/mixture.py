"""One task made of several that differ in an option: prompts of many lengths, for instance."""

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
class Mixture(AnsweringTask):
    """Takes every sample from one of its tasks, by seed and place.

    Parameters
    ----------
    tasks
        One or more, whose samples have the same names.
    """

    tasks: tuple[AnsweringTask, ...]

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Samples of `split`; a smaller `limit` gives a prefix."""
        if len(self.tasks) == 1:
            return self.tasks[0].samples(split, limit, seed)
        choices = zip(*(task.samples(split, limit, seed) for task in self.tasks), strict=True)
        return [Random(f"{split} {seed} {at}").choice(choice) for at, choice in enumerate(choices)]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Judge as they do."""
        return self.tasks[0].score(sample, answer)

    def fingerprint(self) -> str:
        """Hash of theirs."""
        if len(self.tasks) == 1:
            return self.tasks[0].fingerprint()
        said = " ".join(task.fingerprint() for task in self.tasks)
        return hashlib.sha256(said.encode()).hexdigest()[:12]
