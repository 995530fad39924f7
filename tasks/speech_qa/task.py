"""Questions about speech as a task: spoken by espeak-ng, or a folder of sound files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Sample
from namm_mm.records.shape import SOUND, TEXT
from namm_mm.sound.reading import missing_packages
from namm_mm.tasks import question_folder as own
from namm_mm.tasks.base import Outlook
from namm_mm.tasks.question_task import GENERATED, QuestionTask
from namm_mm.tasks.speech_qa import generated
from namm_mm.tasks.speech_qa.questions import FAMILIES
from namm_mm.tasks.speech_qa.speaking import missing_program
from namm_mm.tasks.speech_qa.words import WORD_SETS

LONGEST, LONGEST_SHORT = 30, 10
"""Seconds of a talk with a needle, and of another one, at most."""

TOKENS_PER_SECOND, QUESTION_TOKENS = 25, 50
"""What a plan reckons with: the tokens of Qwen2-Audio."""


@dataclass(frozen=True)
class SpeechQaTask(QuestionTask):
    """Questions about sound files.

    Further parameters are those of `QuestionTask`.

    Parameters
    ----------
    words
        Of the spoken questions: ``apart`` gives train, validation and test words of their own;
        ``known`` has the same 48 words in all of them. Voices and seeds are apart in both.

    Raises
    ------
    UsageError
        An unknown family or set of words, or a folder without questions.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, SOUND})
    medium: ClassVar[own.Medium] = own.SOUND
    all_families: ClassVar[Collection[str]] = FAMILIES
    covered: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    words: str = "apart"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.words not in WORD_SETS:
            raise UsageError(
                message("unknown words", given=self.words, expected="a known set", valid=WORD_SETS)
            )

    def generate(self, family: str, split: str, seed: int, number: int) -> Sample:
        """Return one question with its sound, which is spoken where the cache has none."""
        cache = Path(self.cache).expanduser() if self.cache else generated.default_cache()
        return generated.make_sample(family, split, self.words, seed, number, cache)

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return what a plan can know: the limit, and the tokens of a long talk that is spoken."""
        long = "needle" in (self.families or self.covered)
        seconds = LONGEST if long else LONGEST_SHORT
        tokens = seconds * TOKENS_PER_SECOND + QUESTION_TOKENS
        return Outlook(samples=limit, tokens=tokens if self.source == GENERATED else None)

    def missing(self, samples: Sequence[Sample]) -> Sequence[str]:
        """Return what is not installed, and whether no sound of a folder is there."""
        absent = missing_program() if self.source == GENERATED else ""
        return [said for said in (absent, missing_packages(), *super().missing(samples)) if said]

    def generated_fingerprint(self, families: tuple[str, ...]) -> str:
        """Return a short hash of the first question of each family."""
        return generated.fingerprint(families, self.words)
