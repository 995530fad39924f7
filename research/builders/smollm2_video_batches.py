"""Training batches of the video model on SmolLM2: the pocket model's scenes, in SmolLM2's words.

All questions of a clip share one sequence, as for the pocket model; options are not listed, and the
answer is the word that follows.
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
from namm_mm.tasks.video_qa.scenes import FRAMES_PER_SLOT, SLOTS, make_scene
from namm_mm.video import uniform_indices
from research.builders.pocket_video_batches import (
    READ,
    Drawn,
    Frames,
    draw_world,
    family_share,
    question_tokens,
)
from research.builders.pocket_video_model import MEAN, STD

if TYPE_CHECKING:
    from numpy.random import Generator
    from transformers import PreTrainedTokenizerFast

FAMILIES = ("shown", "order", "last", "needle", "start", "reel")
"""What it is taught: questions whose answer is a word that does not need the options."""

_WORLD_SHARE = {"events": 0.5, "needle": 0.08, "wall": 0.17, "reel": 0.25}


@dataclass(frozen=True)
class Batch:
    """What one optimiser step needs; all indices are int64."""

    frames: Frames  # those that differ
    frame_of: Tensor  # (clip, read): which of them stands there
    prefix: Tensor  # (prefix,) tokens before the video
    blocks: Tensor  # (clip, question, block) tokens after it, padded at their end
    last: Tensor  # (clip, question): last token of the block
    options: Tensor  # (clip, question, option): the tokens that the options begin with
    answer: Tensor  # (clip, question): index of the right option


@lru_cache(maxsize=1000)
def first_token(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The token that `word` begins with after a blank."""
    ids: list[int] = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return next(i for i in ids if str(tokenizer.decode([i])).strip())


def make_batch(
    tokenizer: PreTrainedTokenizerFast, rng: Generator, *, clips: int, questions: int
) -> Batch:
    """Draw `clips` training clips of one length with `questions` questions each."""
    slots = SLOTS if rng.random() < 0.7 else int(rng.integers(16, SLOTS))
    slot_of = uniform_indices(slots * FRAMES_PER_SLOT, READ) // FRAMES_PER_SLOT
    drawn, frame_of = Drawn(), []
    blocks: list[list[int]] = []
    options: list[list[int]] = []
    answers: list[int] = []
    prefix: list[int] = []
    for _ in range(clips):
        world = draw_world(rng, _WORLD_SHARE)
        families: list[str] = []
        while not families:  # one object alone leaves nothing to ask
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
    """The same frames in the size and with the normalisation of this model's vision tower."""
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
