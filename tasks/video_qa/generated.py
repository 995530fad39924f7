"""The generated question videos: which sample has which scene, and its file, rendered once.

Everything follows from the generator's version, the split, the family and a number, so two machines
make the same questions. Files are kept in a cache folder and rendered only where they are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.models.cache import cache_root
from namm_mm.records import Sample
from namm_mm.tasks.faults import unwritable
from namm_mm.tasks.video_qa.encode import write_mp4
from namm_mm.tasks.video_qa.questions import FAMILIES, LEAST_EVENTS, MOST_EVENTS, OPTIONS, ask
from namm_mm.tasks.video_qa.render import Renderer
from namm_mm.tasks.video_qa.scenes import (
    FRAMES_PER_SECOND,
    FRAMES_PER_SLOT,
    SPLITS,
    Scene,
    make_scene,
)
from namm_mm.video import uniform_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 4
"""Part of every seed and file name; raised whenever a scene or a question would change."""


def scene_of(
    family: str, split: str, seed: int, number: int, *, slots: int | None = None
) -> tuple[Scene, np.random.Generator]:
    """Return the scene of a sample, and the random generator that then draws the question.

    `slots` is the length of the video; None draws it: mostly 32, some shorter.
    """
    key = (VERSION, list(FAMILIES).index(family), SPLITS.index(split), seed, number)
    rng = np.random.default_rng(key if slots is None else (*key, slots))
    events = None
    if family == "count":
        events = 1 + int(rng.integers(MOST_EVENTS))
    elif family in LEAST_EVENTS:
        events = int(rng.integers(3, MOST_EVENTS + 1))
    return make_scene(FAMILIES[family], split, rng, events=events, slots=slots), rng


def make_sample(
    family: str, split: str, seed: int, number: int, cache: Path, *, slots: int | None = None
) -> Sample:
    """Return one question with its video; right letters are balanced over every four numbers."""
    scene, rng = scene_of(family, split, seed, number, slots=slots)
    turn = np.random.default_rng((VERSION, seed, list(FAMILIES).index(family), number // OPTIONS))
    place = int(turn.permutation(OPTIONS)[number % OPTIONS])
    question = ask(scene, family, rng, place=place)
    name = f"{family}-{split}-{seed}-{number:05d}" + (f"-{slots}" if slots else "")
    path = cache / f"v{VERSION}" / f"{name}.mp4"
    if not path.is_file():
        render(scene, path)
    return Sample(
        id=name,
        family=family,
        question=question.text,
        options=question.options,
        answer=question.options[question.answer],
        video=path,
        seed=number,
        metadata={
            "letter": "ABCD"[question.answer],
            "events": [
                {"shape": e.shape, "color": e.color, "start": e.start, "length": e.length}
                for e in scene.events
            ],
            "evidence": list(question.evidence),
            "slots": scene.slots,
            "frames_per_slot": FRAMES_PER_SLOT,
            "walls": [list(wall) for wall in scene.walls],
            "cuts": [
                {"shot": c.shot, "start": c.start, "first": c.first, "speed": c.speed}
                for c in scene.cuts
            ],
        },
    )


def slots_of_frames(facts: Mapping[str, Any], frames: int) -> NDArray[np.int64]:
    """Return (frame,): the slot of the scene that each of `frames` evenly sampled frames shows.

    `facts` are a sample's metadata, which count evidence, events and cuts in slots.
    """
    per_slot = int(facts["frames_per_slot"])
    return np.asarray(uniform_indices(int(facts["slots"]) * per_slot, frames)) // per_slot


def fingerprint(families: tuple[str, ...], slots: int | None = None) -> str:
    """Return a short hash of the first question of each family."""
    hasher = hashlib.sha256(f"generated video questions v{VERSION}".encode())
    for family in families:
        for split in SPLITS:
            scene, rng = scene_of(family, split, 0, 0, slots=slots)
            hasher.update(repr((scene, ask(scene, family, rng))).encode())
            hasher.update(Renderer(scene).frame(scene.frames // 2).tobytes())
    return hasher.hexdigest()[:12]


def render(scene: Scene, path: Path) -> None:
    """Write the video of a scene."""
    renderer = Renderer(scene)
    try:
        write_mp4(path, (renderer.frame(i) for i in range(scene.frames)), rate=FRAMES_PER_SECOND)
    except OSError as error:
        needed = "about 25 KB free per video"
        raise unwritable("a generated video", path.parent, needed, error) from error


def default_cache() -> Path:
    """Return ``video_qa`` below ``$NAMM_MM_CACHE``, or below ``~/.cache/namm-mm``."""
    return cache_root() / "video_qa"
