"""A streamed film as a task: questions at several moments of one long video."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Moment, Sample, Score
from namm_mm.records.shape import FILM, TEXT
from namm_mm.tasks import question_folder as own
from namm_mm.tasks.base import SPLITS
from namm_mm.tasks.question_task import QuestionTask
from namm_mm.tasks.video_qa.generated import VERSION, default_cache, render
from namm_mm.tasks.video_qa.questions import OPTIONS, Question, ask
from namm_mm.tasks.video_qa.scenes import (
    FRAMES_PER_SECOND,
    FRAMES_PER_SLOT,
    SHAPES,
    SIZE,
    Scene,
    make_film,
)

FAMILY = "film"
FAMILIES = ("shown", "order", "last")
"""What is asked about a generated film, in turn."""

LEAST_PART = 8
"""Slots of the shortest part."""


@dataclass(frozen=True)
class FilmQaTask(QuestionTask):
    """Films that are asked while they go on: generated ones, or a folder of the user's own.

    A question is about the film up to its moment. The score of a film is the part of its questions
    that are answered right. In a folder, each line of ``questions.jsonl`` has ``seconds``, the time
    when it is asked; the lines of one video are one film. Further parameters are those of
    `QuestionTask`.

    Parameters
    ----------
    slots
        Length of a generated film, in slots of two frames. Let the adapter read as many frames.
    moments
        How many questions a generated film has, at the ends of equal parts: 1 to 5.

    Raises
    ------
    UsageError
        Too many moments, or parts that are too short.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, FILM})
    medium: ClassVar[own.Medium] = own.FILM
    all_families: ClassVar[Collection[str]] = (FAMILY,)
    covered: ClassVar[tuple[str, ...]] = (FAMILY,)

    slots: int = 128
    moments: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.moments < len(SHAPES) or self.slots < LEAST_PART * self.moments:
            raise UsageError(
                message(
                    "wrong length of films",
                    given=f"slots={self.slots}, moments={self.moments}",
                    expected=f"1 to {len(SHAPES) - 1} moments, and {LEAST_PART} slots or more for "
                    "each",
                )
            )

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the part of the questions that are right; answers are lines of the text."""
        said = answer.text.splitlines()
        details = []
        for place, moment in enumerate(sample.moments):
            chosen = said[place] if place < len(said) else ""
            asked = {"seconds": moment.seconds, "right": moment.answer, "chosen": chosen}
            details.append({**sample.metadata["asked"][place], **asked})
        right = [float(one["chosen"] == one["right"]) for one in details]
        return Score(float(np.mean(right)), "accuracy", {"moments": details})

    def generate(self, family: str, split: str, seed: int, number: int) -> Sample:
        """Return one film, which is rendered where the cache has none."""
        scene, asked = self.film(split, seed, number)
        name = f"film-{split}-{seed}-{number:05d}-{self.slots}-{self.moments}"
        folder = Path(self.cache).expanduser() if self.cache else default_cache()
        path = folder / f"v{VERSION}" / f"{name}.mp4"
        if not path.is_file():
            render(scene, path)
        moments = [_moment(end, question) for end, question in asked]
        facts = [_facts(end, question) for end, question in asked]
        return _film(name, family, path, moments, facts, number)

    def generated_fingerprint(self, families: tuple[str, ...]) -> str:
        """Return a short hash of the first film of each split."""
        hasher = hashlib.sha256(f"films v{VERSION} {self.slots} {self.moments} {SIZE}".encode())
        for split in SPLITS:
            hasher.update(repr(self.film(split, 0, 0)).encode())
        return hasher.hexdigest()[:12]

    def film(self, split: str, seed: int, number: int) -> tuple[Scene, list[tuple[int, Question]]]:
        """Return a scene, and its questions with the slot before which each is asked."""
        key = (VERSION, SPLITS.index(split), seed, number, self.slots, self.moments)
        rng = np.random.default_rng(key)
        scene = make_film(split, rng, parts=self.moments, slots=self.slots)
        length, asked = self.slots // self.moments, []
        for part in range(self.moments):
            end = length * (part + 1)
            events = tuple(e for e in scene.events if e.start + e.length <= end)
            family = FAMILIES[(number + part) % len(FAMILIES)]
            place = (number + part) % OPTIONS
            so_far = replace(scene, events=events, slots=end)
            asked.append((end, ask(so_far, family, rng, place=place)))
        return scene, asked

    def _of_folder(self, limit: int | None, seed: int) -> list[Sample]:
        films: dict[Path, list[Sample]] = {}
        for question in super()._of_folder(None, seed):
            films.setdefault(question.files[0], []).append(question)
        found = [_joined(questions) for questions in films.values()]
        if limit is not None:
            random.Random(seed).shuffle(found)
        return found[:limit]


def _joined(questions: Sequence[Sample]) -> Sample:
    """Return the film of some questions about one video."""
    asked = sorted(questions, key=_time)
    moments = [Moment(_time(one), one.question, one.options, one.answer) for one in asked]
    facts = [{"family": one.family} for one in asked]
    first = asked[0]
    return _film(first.id, FAMILY, first.files[0], moments, facts, first.seed)


def _time(question: Sample) -> float:
    return float(question.metadata[own.SECONDS])


def _film(
    name: str,
    family: str,
    path: Path,
    moments: Sequence[Moment],
    facts: Sequence[dict[str, Any]],
    seed: int,
) -> Sample:
    return Sample(
        id=name,
        family=family,
        answer="\n".join(one.answer for one in moments),
        video=path,
        moments=tuple(moments),
        seed=seed,
        metadata={"asked": list(facts)},
    )


def _moment(end: int, question: Question) -> Moment:
    seconds = end * FRAMES_PER_SLOT / FRAMES_PER_SECOND
    return Moment(seconds, question.text, question.options, question.options[question.answer])


def _facts(end: int, question: Question) -> dict[str, Any]:
    """Return what tables need of a question: its family, and how many slots ago its answer was."""
    return {"family": question.family, "slots_ago": end - max(question.evidence)}
