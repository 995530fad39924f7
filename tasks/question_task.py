"""The base of tasks that ask about media files: generated questions, or a folder of one's own."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.tasks import question_folder as own
from namm_mm.tasks.base import SPLITS, AnsweringTask, names
from namm_mm.tasks.text_files import is_there

GENERATED = "pocket"
LISTED = 8
"""Missing files that are named in a message."""

_PER_FAMILY = 200


@dataclass(frozen=True)
class QuestionTask(AnsweringTask):
    """Multiple-choice and free questions over media files on disk.

    A subclass names the medium and makes the generated samples.

    Parameters
    ----------
    source
        ``pocket`` generates the bundled families of questions; anything else is a folder with a
        ``questions.jsonl`` (see :mod:`namm_mm.tasks.question_folder`), all of it one split.
    families
        Which generated families to ask, or which of a folder's; None asks those
        that the bundled model has learned, or all of a folder's.
    cache
        Where generated files are kept; None is a folder of ``$NAMM_MM_CACHE``.

    Raises
    ------
    UsageError
        An unknown family, or a folder without questions.
    """

    medium: ClassVar[own.Medium]
    all_families: ClassVar[Collection[str]]
    covered: ClassVar[tuple[str, ...]]

    source: str = GENERATED
    families: Sequence[str] | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.source != GENERATED:
            own.questions_file(self._folder, self.medium)
            return
        if self.families is not None:
            object.__setattr__(self, "families", names(self.families))
        for family in self.families or ():
            if family not in self.all_families:
                raise UsageError(
                    message(
                        "unknown family of questions",
                        given=family,
                        expected="a generated one",
                        valid=self.all_families,
                    )
                )

    @abstractmethod
    def generate(self, family: str, split: str, seed: int, number: int) -> Sample:
        """Return one generated question; its file is made where it is not in the cache yet."""

    @abstractmethod
    def generated_fingerprint(self, families: tuple[str, ...]) -> str:
        """Return a short hash of what the generator makes."""

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return at most `limit` samples, the families in turn; 200 of each if there is no limit.

        Generated files that are not in the cache yet are made now. For a folder, `seed` chooses
        which questions a limit leaves; `split` makes no difference.
        """
        if limit is not None and limit < 1:
            raise UsageError(message("wrong limit", given=limit, expected="1 or more, or null"))
        if split not in SPLITS:
            raise UsageError(
                message("unknown split", given=split, expected="a known one", valid=SPLITS)
            )
        if self.source != GENERATED:
            return self._of_folder(limit, seed)
        families = tuple(self.families or self.covered)
        count = len(families) * _PER_FAMILY if limit is None else limit
        return [
            self.generate(families[i % len(families)], split, seed, i // len(families))
            for i in range(count)
        ]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return 1 for the right option, else 0; without options, 1 for the same words."""
        if sample.options:
            chosen = sample.options[answer.option] if answer.option is not None else ""
            value = float(chosen == sample.answer)
            details = {
                "right": sample.answer,
                "chosen": chosen,
                "parsed": answer.option is not None,
                "log_probabilities": list(answer.log_probabilities),
            }
            return Score(value, "accuracy", details)
        value = float(_words(answer.text) == _words(sample.answer))
        return Score(value, "exact_match", {"right": sample.answer, "said": answer.text})

    def missing(self, samples: Sequence[Sample]) -> Sequence[str]:
        """Return one sentence if the files of no question of a folder are there."""
        gone, said = self._gone(samples)
        return [said] if gone and gone == len(samples) else []

    def notices(self, samples: Sequence[Sample]) -> Sequence[str]:
        """Return one sentence if files of a folder's questions are missing, but not all."""
        gone, said = self._gone(samples)
        counted = "Their questions are counted as errors; the others run."
        return [f"{said} {counted}"] if 0 < gone < len(samples) else []

    def _gone(self, samples: Sequence[Sample]) -> tuple[int, str]:
        """How many questions of a folder lack a file, and which, in words."""
        if self.source == GENERATED:
            return 0, ""
        gone = [(s, [file for file in s.files if not is_there(file)]) for s in samples]
        named = [
            f"{', '.join(file.name for file in files)} ({sample.id})"
            for sample, files in gone
            if files
        ]
        more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
        said = message(
            f"{len(named)} of {len(samples)} questions have no {self.medium.name}",
            given=f"{', '.join(named[:LISTED])}{more}",
            expected=f"files in {self._folder}, as {own.QUESTIONS} names them",
        )
        return len(named), said

    def fingerprint(self) -> str:
        """Return a hash of the generator's output, or of a folder's questions and file sizes."""
        if self.source == GENERATED:
            return self.generated_fingerprint(tuple(self.families or self.covered))
        return own.folder_fingerprint(self._folder, self.medium)

    @property
    def _folder(self) -> Path:
        return Path(self.source).expanduser()

    def _of_folder(self, limit: int | None, seed: int) -> list[Sample]:
        samples = own.read_questions(self._folder, self.medium)
        found = sorted({s.family for s in samples})
        for family in self.families or ():
            if family not in found:
                raise UsageError(
                    message(
                        "unknown family of questions",
                        given=family,
                        expected=f"one that {own.QUESTIONS} names",
                        valid=found,
                    )
                )
        groups = {f: [s for s in samples if s.family == f] for f in self.families or found}
        if limit is None:
            chosen = {s.id for group in groups.values() for s in group}
            return [s for s in samples if s.id in chosen]
        for group in groups.values():
            random.Random(seed).shuffle(group)
        rounds = zip_longest(*groups.values())
        return [s for turn in rounds for s in turn if s is not None][:limit]


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()
