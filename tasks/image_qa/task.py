"""Questions about pictures as a task: from the generator or a folder, scored by accuracy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from namm_mm.models.cache import cache_root
from namm_mm.records import Sample
from namm_mm.records.shape import IMAGE, TEXT
from namm_mm.tasks import question_folder as own
from namm_mm.tasks.base import Outlook
from namm_mm.tasks.image_qa import generated
from namm_mm.tasks.question_task import GENERATED, QuestionTask


@dataclass(frozen=True)
class ImageQaTask(QuestionTask):
    """Questions about one picture or several.

    The parameters are those of `QuestionTask`.

    ``source: pocket`` draws the generated families: albums of pictures of which few show anything
    (``shown``, ``order``, ``last``, ``needle``, ``start``, ``count``, ``unseen``), and documents
    with distractors beside them (``table``, ``chart``, ``form``, ``layout``).
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, IMAGE})
    medium: ClassVar[own.Medium] = own.IMAGE
    all_families: ClassVar[Collection[str]] = generated.FAMILIES
    covered: ClassVar[tuple[str, ...]] = generated.COVERED

    def generate(self, family: str, split: str, seed: int, number: int) -> Sample:
        """Return one question with its pictures, which are drawn where the cache has none."""
        cache = Path(self.cache).expanduser() if self.cache else cache_root() / "image_qa"
        return generated.make_sample(family, split, seed, number, cache)

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return what a plan can know: the limit, and the pictures of a generated album."""
        album = self.source == GENERATED
        return Outlook(samples=limit, pictures=generated.MOST_PICTURES if album else 0)

    def generated_fingerprint(self, families: tuple[str, ...]) -> str:
        """Return a short hash of the first question of each family."""
        return generated.fingerprint(families)
