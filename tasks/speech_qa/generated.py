"""The spoken questions: which sample says what, and its file, spoken once.

Everything follows from the generator's version, the split, the family and a number; the sound also
follows from the version of espeak-ng. Files are kept in a cache folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from namm_mm.models.cache import cache_root
from namm_mm.records import Sample
from namm_mm.sound import write_wav
from namm_mm.sound.reading import RATE
from namm_mm.tasks.base import SPLITS
from namm_mm.tasks.faults import unwritable
from namm_mm.tasks.speech_qa.questions import FAMILIES, OPTIONS, Plan, plan, worded
from namm_mm.tasks.speech_qa.speaking import version
from namm_mm.tasks.speech_qa.talks import Talk, draw_talk, sound_of
from namm_mm.tasks.speech_qa.words import WORD_SETS

VERSION = 1
"""Part of every seed and file name; raised whenever a talk or a question would change."""


def drawn(family: str, split: str, word_set: str, seed: int, number: int) -> tuple[Plan, Talk]:
    """Return what a sample says and asks, and who says it how."""
    key = (
        VERSION,
        list(FAMILIES).index(family),
        SPLITS.index(split),
        WORD_SETS.index(word_set),
        seed,
        number,
    )
    rng = np.random.default_rng(key)
    made = plan(family, split, word_set, rng)
    return made, draw_talk(split, list(made.texts), rng)


def make_sample(
    family: str, split: str, word_set: str, seed: int, number: int, cache: Path
) -> Sample:
    """Return one question with its sound; right places are balanced over every four numbers."""
    made, talk = drawn(family, split, word_set, seed, number)
    turn = np.random.default_rng((VERSION, seed, list(FAMILIES).index(family), number // OPTIONS))
    place = int(turn.permutation(OPTIONS)[number % OPTIONS])
    options = list(made.wrong)
    options.insert(place, made.answer)
    name = f"{family}-{split}-{word_set}-{seed}-{number:05d}"
    path = cache / f"v{VERSION}-espeak-{version()}" / f"{name}.wav"
    samples, times = sound_of(talk)
    if not path.is_file():
        _write(path, samples)
    return Sample(
        id=name,
        family=family,
        question=worded(family, made, tuple(options)),
        options=tuple(options),
        answer=made.answer,
        sounds=(path,),
        seed=number,
        metadata={
            "letter": "ABCD"[place],
            "voice": talk.voice.name,
            "noise": talk.noise,
            "seconds": round(len(samples) / RATE, 3),
            "said": [
                {"text": one.text, "start": begin, "end": end}
                for one, (begin, end) in zip(talk.said, times, strict=True)
            ],
            "evidence": list(made.evidence),
        },
    )


def fingerprint(families: tuple[str, ...], word_set: str) -> str:
    """Return a short hash of the first question of each family and of the speaker's version."""
    hasher = hashlib.sha256(f"spoken questions v{VERSION}, espeak-ng {version()}".encode())
    for family in families:
        for split in SPLITS:
            hasher.update(repr(drawn(family, split, word_set, 0, 0)).encode())
    return hasher.hexdigest()[:12]


def _write(path: Path, samples: np.ndarray) -> None:
    try:
        write_wav(path, samples, RATE)
    except OSError as error:
        needed = "32 KB free for each second"
        raise unwritable("a spoken question", path.parent, needed, error) from error


def default_cache() -> Path:
    """Return ``speech_qa`` below ``$NAMM_MM_CACHE``, or below ``~/.cache/namm-mm``."""
    return cache_root() / "speech_qa"
