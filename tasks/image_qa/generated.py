"""The generated questions about pictures: which sample has which pictures, drawn once.

Everything follows from the generator's version, the split, the family and a number, so two machines
make the same questions. Albums are scenes of the generated videos, one picture for each slot: most
pictures show an empty wall, and the one that is asked about stands among them.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from namm_mm.errors import RunError, message
from namm_mm.records import Sample
from namm_mm.tasks.image_qa import documents
from namm_mm.tasks.video_qa import questions as albums
from namm_mm.tasks.video_qa.render import Renderer
from namm_mm.tasks.video_qa.scenes import FRAMES_PER_SLOT, SPLITS, Scene, make_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

VERSION = 1
"""Part of every seed and file name; raised whenever a picture or a question would change."""

ALBUMS = ("shown", "order", "last", "needle", "start", "count", "unseen")
"""Families over albums of up to :data:`MOST_PICTURES` pictures."""

FAMILIES = (*ALBUMS, *documents.KINDS)
COVERED = ("shown", "order", "last", "needle", "start")
"""Families that are asked if nothing else is said: those that the bundled model has learned."""

FEWEST_PICTURES, MOST_PICTURES = 16, 32


def make_sample(family: str, split: str, seed: int, number: int, cache: Path) -> Sample:
    """Return one question with its pictures; right letters are balanced over every four numbers."""
    place = _place(family, seed, number)
    name = f"{family}-{split}-{seed}-{number:05d}"
    folder = cache / f"v{VERSION}" / name
    if family in ALBUMS:
        scene, rng = _scene(family, split, seed, number)
        asked = albums.ask(scene, family, rng, place=place)
        painter = Renderer(scene)
        pictures = [_of_slot(painter, slot) for slot in range(scene.slots)]
        evidence = list(asked.evidence)
        text, options, answer = asked.text, asked.options, asked.answer
    else:
        pages, rng = _pages(family, split, seed, number)
        question = documents.ask(pages, rng, place)
        pictures = [partial(documents.draw, page) for page in pages]
        evidence = [question.page]
        text, options, answer = question.text, question.options, question.answer
    return Sample(
        id=name,
        family=family,
        question=text,
        options=options,
        answer=options[answer],
        images=tuple(_drawn(pictures, folder)),
        seed=number,
        metadata={"letter": "ABCD"[answer], "evidence": evidence, "pictures": len(pictures)},
    )


def fingerprint(families: tuple[str, ...]) -> str:
    """Return a short hash of the first question of each family."""
    hasher = hashlib.sha256(f"generated picture questions v{VERSION}".encode())
    for family in families:
        for split in SPLITS:
            content: Any
            if family in ALBUMS:
                content, rng = _scene(family, split, 0, 0)
                asked: Any = albums.ask(content, family, rng, place=0)
            else:
                content, rng = _pages(family, split, 0, 0)
                asked = documents.ask(content, rng, 0)
            hasher.update(repr((content, asked)).encode())
    return hasher.hexdigest()[:12]


def _place(family: str, seed: int, number: int) -> int:
    key = (VERSION, seed, FAMILIES.index(family), number // albums.OPTIONS)
    turn = np.random.default_rng(key)
    return int(turn.permutation(albums.OPTIONS)[number % albums.OPTIONS])


def _rng(family: str, split: str, seed: int, number: int) -> Generator:
    key = (VERSION, 1, FAMILIES.index(family), SPLITS.index(split), seed, number)
    return np.random.default_rng(key)


def _scene(family: str, split: str, seed: int, number: int) -> tuple[Scene, Generator]:
    rng = _rng(family, split, seed, number)
    fewest = albums.LEAST_EVENTS.get(family, 1)
    events = int(rng.integers(fewest, albums.MOST_EVENTS + 1))
    slots = int(rng.integers(FEWEST_PICTURES, MOST_PICTURES + 1))
    return make_scene(albums.FAMILIES[family], split, rng, events=events, slots=slots), rng


def _pages(
    family: str, split: str, seed: int, number: int
) -> tuple[tuple[documents.Document, ...], Generator]:
    rng = _rng(family, split, seed, number)
    return documents.make_documents(family, split, rng), rng


def _of_slot(painter: Renderer, slot: int) -> Callable[[], Image.Image]:
    return lambda: Image.fromarray(painter.frame(slot * FRAMES_PER_SLOT))


def _drawn(pictures: list[Callable[[], Image.Image]], folder: Path) -> list[Path]:
    """Return the files of pictures, which are drawn where they are missing."""
    files = [folder / f"{number:02d}.png" for number in range(len(pictures))]
    try:
        for file, picture in zip(files, pictures, strict=True):
            if not file.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(".part")
                picture().save(part, "png")
                part.replace(file)
    except OSError as error:
        raise RunError(
            message(
                f"cannot write a generated picture ({error})",
                given=str(folder),
                expected="a folder that can be written, with about 150 KB free per question",
                then="Set NAMM_MM_CACHE, or the task's `cache`.",
            )
        ) from error
    return files
