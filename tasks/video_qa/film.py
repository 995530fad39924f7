"""A streamed film as a task: questions at several moments of one long generated video."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Moment, Sample, Score
from namm_mm.records.shape import FILM, TEXT
from namm_mm.tasks.base import SPLITS, AnsweringTask, Outlook
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

FAMILIES = ("shown", "order", "last")
"""What is asked, in turn."""

LEAST_PART = 8
"""Slots of the shortest part."""

SAMPLES = 200
"""Films of a split without a limit."""


@dataclass(frozen=True)
class FilmQaTask(AnsweringTask):
    """Films of which nothing is seen twice: after each part a question about all that was shown.

    A question is about the film up to its moment. The score of a film is the part of its questions
    that are answered right.

    Parameters
    ----------
    slots
        Length of a film, in slots of two frames. Let the adapter read as many frames.
    moments
        How many questions a film has, at the ends of equal parts: 1 to 5.
    cache
        Where films are kept; None is a folder of ``$NAMM_MM_CACHE``.

    Raises
    ------
    UsageError
        Too many moments, or parts that are too short.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, FILM})

    slots: int = 128
    moments: int = 4
    cache: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.moments < len(SHAPES) or self.slots < LEAST_PART * self.moments:
            raise UsageError(
                message(
                    "wrong length of films",
                    given=f"slots={self.slots}, moments={self.moments}",
                    expected=f"1 to {len(SHAPES) - 1} moments, and {LEAST_PART} slots or more for "
                    "each",
                )
            )

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return at most `limit` films, 200 without one; files that the cache lacks are made."""
        if limit is not None and limit < 1:
            raise UsageError(message("wrong limit", given=limit, expected="1 or more, or null"))
        if split not in SPLITS:
            raise UsageError(
                message("unknown split", given=split, expected="a known one", valid=SPLITS)
            )
        count = SAMPLES if limit is None else limit
        return [self._sample(split, seed, number) for number in range(count)]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the part of the questions that are right; answers are lines of the text."""
        said = answer.text.splitlines()
        facts = sample.metadata["asked"]
        details = [
            {**one, "seconds": at.seconds, "right": at.answer, "chosen": chosen}
            for one, at, chosen in zip(
                facts, sample.moments, [*said, *[""] * len(facts)], strict=False
            )
        ]
        right = [float(one["chosen"] == one["right"]) for one in details]
        return Score(float(np.mean(right)), "accuracy", {"moments": details})

    def fingerprint(self) -> str:
        """Return a short hash of the first film of each split."""
        hasher = hashlib.sha256(f"films v{VERSION} {self.slots} {self.moments} {SIZE}".encode())
        for split in SPLITS:
            hasher.update(repr(self.film(split, 0, 0)).encode())
        return hasher.hexdigest()[:12]

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return the number of films."""
        return Outlook(samples=SAMPLES if limit is None else limit)

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

    def _sample(self, split: str, seed: int, number: int) -> Sample:
        scene, asked = self.film(split, seed, number)
        name = f"film-{split}-{seed}-{number:05d}-{self.slots}-{self.moments}"
        folder = Path(self.cache).expanduser() if self.cache else default_cache()
        path = folder / f"v{VERSION}" / f"{name}.mp4"
        if not path.is_file():
            render(scene, path)
        moments = [_moment(end, question) for end, question in asked]
        return Sample(
            id=name,
            family="film",
            answer="\n".join(one.answer for one in moments),
            video=path,
            moments=tuple(moments),
            seed=number,
            metadata={"asked": [_facts(end, question) for end, question in asked]},
        )


def _moment(end: int, question: Question) -> Moment:
    seconds = end * FRAMES_PER_SLOT / FRAMES_PER_SECOND
    return Moment(seconds, question.text, question.options, question.options[question.answer])


def _facts(end: int, question: Question) -> dict[str, Any]:
    """Return what tables need of a question: its family, and how many slots ago its answer was."""
    return {"family": question.family, "slots_ago": end - max(question.evidence)}
