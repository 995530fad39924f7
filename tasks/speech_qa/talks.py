"""A talk: who says what, with which pauses and how much noise; and its sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.sound.reading import RATE
from namm_mm.tasks.speech_qa.speaking import Voice, say

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

VOICES = {
    "train": (
        "en-us",
        "en-us+m1",
        "en-us+m2",
        "en-us+m3",
        "en-us+f1",
        "en-us+f2",
        "en-us+Andy",
        "en-us+Annie",
        "en-gb",
        "en-gb+m1",
        "en-gb+f1",
    ),
    "validation": ("en-us+m4", "en-us+f3", "en-gb+m6"),
    "test": ("en-us+m7", "en-us+f4", "en-gb+m3", "en-gb+f2"),
}
"""Voices of each split: no split hears those of another."""


@dataclass(frozen=True)
class Said:
    """Something that is said, after a pause in seconds."""

    text: str
    pause: float


@dataclass(frozen=True)
class Talk:
    """All of one sound.

    Attributes
    ----------
    voice
        Who speaks.
    said
        What, in order.
    ending
        Silence after the last word, in seconds.
    noise
        Level of white noise in decibels below the voice; None is no noise.
    seed
        Of the noise.
    """

    voice: Voice
    said: tuple[Said, ...]
    ending: float
    noise: float | None
    seed: int


def draw_talk(split: str, texts: list[str], rng: Generator) -> Talk:
    """Return a talk that says `texts`, by a voice of `split`."""
    voice = Voice(
        str(rng.choice(VOICES[split])), int(rng.integers(125, 176)), int(rng.integers(35, 66))
    )
    pauses = rng.uniform(0.15, 0.5, len(texts))
    pauses[rng.random(len(texts)) < 0.15] += 1.0  # a speaker who thinks
    noise = float(rng.uniform(18, 36)) if rng.random() < 0.5 else None
    said = tuple(Said(text, round(float(p), 3)) for text, p in zip(texts, pauses, strict=True))
    return Talk(
        voice, said, round(float(rng.uniform(0.2, 0.5)), 3), noise, int(rng.integers(2**31))
    )


def sound_of(talk: Talk) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """Return the sound, (sample,) at 16 kHz, and when each text begins and ends, in seconds."""
    parts: list[NDArray[np.float32]] = []
    times = []
    at = 0
    for said in talk.said:
        spoken = say(said.text, talk.voice)
        pause = np.zeros(round(said.pause * RATE), np.float32)
        parts += [pause, spoken]
        begin = at + len(pause)
        at = begin + len(spoken)
        times.append((round(begin / RATE, 3), round(at / RATE, 3)))
    parts.append(np.zeros(round(talk.ending * RATE), np.float32))
    samples = np.concatenate(parts)
    if talk.noise is not None:
        level = 0.08 * 10 ** (-talk.noise / 20)
        draw = np.random.default_rng(talk.seed)
        samples = samples + np.float32(level) * draw.standard_normal(len(samples), np.float32)
    return samples, times
