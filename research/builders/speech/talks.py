"""Talks as the encoder hears them, and the word that is said at each of their tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from namm_mm.tasks.speech_qa.generated import drawn
from namm_mm.tasks.speech_qa.questions import Plan, worded
from namm_mm.tasks.speech_qa.talks import sound_of
from research.builders.speech.composing import hear

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


def listen(
    model: Any, processor: Any, split: str, families: Sequence[str], each: int, words: str
) -> list[Heard]:
    """Return `each` talks of every family of `split`, as the model's encoder hears them."""
    tower = copy.deepcopy(model.model.audio_tower).float()
    found = []
    for number in range(each):
        for family in families:
            plan, talk = drawn(family, split, words, 0, number)
            samples, times = sound_of(talk)
            features = hear(tower, processor.feature_extractor, samples)
            found.append(Heard(family, number, plan, tuple(times), features.to(torch.float16)))
    return found
