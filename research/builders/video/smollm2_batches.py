"""Training batches of the video model on SmolLM2: the scenes of the pocket model, in other words.

All questions of a clip share one sequence, as for the pocket model. Options are not listed; the
answer is the next word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from namm_mm.models import composed as composed_model
from namm_mm.tasks.video_qa.questions import ask, families_of
from namm_mm.tasks.video_qa.scenes import make_scene
from research.builders.video.pocket_batches import (
    Drawn,
    Frames,
    draw_length,
    draw_world,
    family_share,
    question_tokens,
)
from research.builders.video.pocket_model import MEAN, STD

if TYPE_CHECKING:
    from numpy.random import Generator
    from transformers import PreTrainedTokenizerFast

FAMILIES = ("shown", "order", "last", "needle", "start", "reel")
"""The families that are taught: their answer is a word that does not need the options."""

_WORLD_SHARE = {"events": 0.5, "needle": 0.08, "wall": 0.17, "reel": 0.25}


@dataclass(frozen=True)
class Batch:
    """The batch of one step; all indices are int64."""

    frames: Frames  # the frames that differ
    frame_of: Tensor  # (clip, read): index of the frame
    prefix: Tensor  # (prefix,) tokens before the video
    blocks: Tensor  # (clip, question, block) tokens after it, padded at their end
    last: Tensor  # (clip, question): last token of the block
    options: Tensor  # (clip, question, option): first token of each option
    answer: Tensor  # (clip, question): index of the right option


@lru_cache(maxsize=1000)
def first_token(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """Return the first token of `word` after a blank."""
    ids: list[int] = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return next(i for i in ids if str(tokenizer.decode([i])).strip())


def make_batch(
    tokenizer: PreTrainedTokenizerFast, rng: Generator, *, clips: int, questions: int
) -> Batch:
    """Return `clips` training clips of one length with `questions` questions each."""
    slots, slot_of = draw_length(rng)
    drawn, frame_of = Drawn(), []
    blocks: list[list[int]] = []
    options: list[list[int]] = []
    answers: list[int] = []
    prefix: list[int] = []
    for _ in range(clips):
        world = draw_world(rng, _WORLD_SHARE)
        families: list[str] = []
        while not families:  # of a single object nothing can be asked
            scene = make_scene(world, "train", rng, slots=slots)
            families = [family for family in families_of(scene) if family in FAMILIES]
        frame_of.append(drawn.add(scene, rng)[slot_of])
        for _ in range(questions):
            family = str(rng.choice(families, p=family_share(families)))
            asked = ask(scene, family, rng)
            prefix, block = question_tokens(tokenizer, asked.text, ())
            blocks.append(block)
            options.append([first_token(tokenizer, option) for option in asked.options])
            answers.append(asked.answer)
    longest = max(map(len, blocks))
    padded = [block + [0] * (longest - len(block)) for block in blocks]
    return Batch(
        frames=for_the_tower(drawn.frames(rng)),
        frame_of=torch.from_numpy(np.stack(frame_of)),
        prefix=torch.tensor(prefix),
        blocks=torch.tensor(padded).view(clips, questions, longest),
        last=torch.tensor([len(block) - 1 for block in blocks]).view(clips, questions),
        options=torch.tensor(options).view(clips, questions, -1),
        answer=torch.tensor(answers).view(clips, questions),
    )


def for_the_tower(frames: Frames) -> Frames:
    """Return the frames in the size and with the normalisation of DINOv2."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    size = (composed_model.SIZE, composed_model.SIZE)
    pixels = torch.nn.functional.interpolate(
        frames.pixels * std + mean, size=size, mode="bicubic", antialias=True
    ).clamp(0, 1)
    mean, std = (
        torch.tensor(numbers)[:, None, None]
        for numbers in (composed_model.MEAN, composed_model.STD)
    )
    return Frames((pixels - mean) / std, frames.colors, frames.shapes, frames.shots, frames.where)
