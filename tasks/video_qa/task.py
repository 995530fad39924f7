"""Video questions as a task: from the generator or a folder of one's own, scored by accuracy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Sample
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.tasks import question_folder as own
from namm_mm.tasks.question_task import QuestionTask
from namm_mm.tasks.video_qa import generated
from namm_mm.tasks.video_qa.questions import COVERED, FAMILIES

LEAST_SLOTS, MOST_SLOTS = 16, 256
"""Of a generated video whose length is given."""


@dataclass(frozen=True)
class VideoQaTask(QuestionTask):
    """Multiple-choice questions about video files.

    Further parameters are those of `QuestionTask`.

    Parameters
    ----------
    slots
        Length of the generated videos, in slots of two frames: 16 to 256. Let the adapter read as
        many frames. None is the usual length: mostly 32, some shorter.
    """

    slots: int | None = None

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, VIDEO})
    medium: ClassVar[own.Medium] = own.VIDEO
    all_families: ClassVar[Collection[str]] = FAMILIES
    covered: ClassVar[tuple[str, ...]] = COVERED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slots is not None and not LEAST_SLOTS <= self.slots <= MOST_SLOTS:
            raise UsageError(
                message(
                    "wrong length of videos",
                    given=f"slots={self.slots}",
                    expected=f"{LEAST_SLOTS} to {MOST_SLOTS} slots of two frames, or null",
                )
            )

    def generate(self, family: str, split: str, seed: int, number: int) -> Sample:
        """Return one question with its video, which is rendered where the cache has none."""
        cache = Path(self.cache).expanduser() if self.cache else generated.default_cache()
        return generated.make_sample(family, split, seed, number, cache, slots=self.slots)

    def generated_fingerprint(self, families: tuple[str, ...]) -> str:
        """Return a short hash of the first question of each family."""
        return generated.fingerprint(families, self.slots)
