"""Talks as the encoder hears them, and the word that is said at each of their tokens."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.tasks.speech_qa.generated import drawn
from namm_mm.tasks.speech_qa.questions import Plan, worded
from namm_mm.tasks.speech_qa.talks import sound_of
from research.builders.speech.hearing import hear
from research.builders.video.optimizing import save_state

TOKENS_PER_SECOND = 25
PAUSE = ","
"""What the projector says first of a pause, and of all that is never asked about."""


@dataclass(frozen=True)
class Heard:
    """One talk and its question.

    Attributes
    ----------
    family, number
        Which sample.
    plan
        What it says and asks.
    times
        When each text begins and ends, in seconds.
    features
        (token, width) float16: what the projector is given.
    """

    family: str
    number: int
    plan: Plan
    times: tuple[tuple[float, float], ...]
    features: Tensor

    @property
    def options(self) -> tuple[str, ...]:
        """The right word first."""
        return (self.plan.answer, *self.plan.wrong)

    @property
    def question(self) -> str:
        """The question, with sorted options where it needs them."""
        return worded(self.family, self.plan, tuple(sorted(self.options)))

    def spoken(self) -> list[str]:
        """Return the word that is said at each token; a pause is :data:`PAUSE`."""
        found = [PAUSE] * len(self.features)
        for text, (begin, end) in zip(self.plan.texts, self.times, strict=True):
            words = text.split()
            if len(words) > 1 and words[-1] != self.plan.answer:
                continue  # a phrase that is never asked about
            first, last = round(begin * TOKENS_PER_SECOND), round(end * TOKENS_PER_SECOND) + 1
            if len(words) > 1:  # the password is ...: the answer is the last two fifths
                middle = last - round(0.4 * (last - first))
                found[first:middle] = [words[1]] * len(found[first:middle])
                first = middle
            found[first:last] = [words[-1]] * len(found[first:last])
        return found


def shortened(talk: Heard) -> Heard:
    """Return a training talk of one text before the one that is asked about, and one after it.

    A needle is found in a long talk as in a short one, and a short one is read in a fifth of the
    time. Its features are those of the whole talk.
    """
    (at,) = talk.plan.evidence
    first, last = max(at - 1, 0), min(at + 2, len(talk.times))
    begin = round(talk.times[first][0] * TOKENS_PER_SECOND)
    end = round(talk.times[last - 1][1] * TOKENS_PER_SECOND) + 1
    shift = begin / TOKENS_PER_SECOND
    return replace(
        talk,
        plan=replace(talk.plan, texts=talk.plan.texts[first:last], evidence=(at - first,)),
        times=tuple((one - shift, other - shift) for one, other in talk.times[first:last]),
        features=talk.features[begin:end],
    )


@dataclass(frozen=True)
class Talks:
    """Which talks are listened to.

    Attributes
    ----------
    split, words
        As of :class:`namm_mm.tasks.speech_qa.SpeechQaTask`.
    counts
        How many of each family.
    """

    split: str
    counts: Mapping[str, int]
    words: str


def listen(model: Any, processor: Any, wanted: Talks, kept: Path | None = None) -> list[Heard]:
    """Return talks as the model's encoder hears them.

    Parameters
    ----------
    kept
        A file of features; talks that are not in it are spoken, and added.
    """
    known = torch.load(kept, weights_only=True) if kept and kept.is_file() else {}
    tower: Any = None
    found = []
    for family, count in wanted.counts.items():
        for number in range(count):
            plan, talk = drawn(family, wanted.split, wanted.words, 0, number)
            name = f"{family} {wanted.split} {wanted.words} {number}"
            if name not in known:
                tower = tower or copy.deepcopy(model.model.audio_tower).float()
                samples, times = sound_of(talk)
                heard = hear(tower, processor.feature_extractor, samples).to(torch.float16)
                known[name] = {"times": times, "features": heard}
            features, times = known[name]["features"], known[name]["times"]
            found.append(Heard(family, number, plan, tuple(map(tuple, times)), features))
    if kept:
        save_state(known, kept)
    return found
