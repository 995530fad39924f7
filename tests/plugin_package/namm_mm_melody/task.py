"""Which note comes next? A motif is drawn, repeated, and broken off."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from namm_mm.records import Answer, Sample, Score
from namm_mm.tasks.base import AnsweringTask

NOTES = ("C", "D", "E", "F", "G", "A", "B")
FIRST = {"train": 0, "validation": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class NextNoteTask(AnsweringTask):
    """The next note of a motif that repeats itself."""

    notes: int = 48
    motif: int = 7

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return melodies of `split`; the same arguments give the same melodies."""
        first = FIRST[split] + 10_000 * seed
        return [self._sample(number) for number in range(first, first + (limit or 100))]

    def _sample(self, number: int) -> Sample:
        motif = Random(number).choices(NOTES, k=self.motif)
        melody = [motif[at % self.motif] for at in range(self.notes + 1)]
        return Sample(
            id=f"melody-{number}",
            family=f"motif of {self.motif}",
            context=" ".join(melody[:-1]),
            options=NOTES,
            answer=melody[-1],
            seed=number,
        )

    def fingerprint(self) -> str:
        """Return a hash of what the melodies depend on."""
        return hashlib.sha256(f"1 {self.notes} {self.motif}".encode()).hexdigest()[:12]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return 1 for the right note, else 0."""
        return Score(float(answer.text == sample.answer), "accuracy")
