"""Training batches of the pocket video model: a few drawn frames and many questions for each clip.

A clip repeats itself, so only the frames that differ are drawn and encoded, and the features of one
stand for its like. All questions of a clip share one sequence: a block mask lets each see the video
and itself only, and positions restart after the video, so that a block computes exactly what it
computes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.adapters.video_prompt import LETTERS, question_text
from namm_mm.build.pocket_video_model import MEAN, STD
from namm_mm.tasks.video_qa.questions import ask, families_of
from namm_mm.tasks.video_qa.scenes import (
    COLORS,
    FRAMES_PER_SLOT,
    SHAPES,
    SLOTS,
    Renderer,
    make_scene,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from transformers import PreTrainedTokenizerFast

    from namm_mm.tasks.video_qa.scenes import Scene

TOKENS_PER_FRAME = 4
BLOCK = 36
"""Tokens of a question's block; shorter ones are padded at their end, which nothing looks at."""

_WORLD_SHARE = (0.8, 0.1, 0.1)
_STILLS = 2
_KIND = {name: index for index, name in enumerate(("gray", *COLORS))}
_SHAPE = {name: index for index, name in enumerate(("none", *SHAPES))}


@dataclass(frozen=True)
class Batch:
    """What one optimiser step needs. Shapes in the comments; all indices are int64."""

    pixels: Tensor  # (unique frame, 3, height, width) float32
    frame_of: Tensor  # (clip, slot): which unique frame stands there
    colors: Tensor  # (unique frame,) label: colour of the object, else of the wall
    shapes: Tensor  # (unique frame,)
    ordinals: Tensor  # (clip, slot): how many-th object starts here, -100 elsewhere
    prefix: Tensor  # (prefix,) tokens before the video
    blocks: Tensor  # (clip, question, BLOCK) tokens
    value_at: Tensor  # (clip, question): the question mark
    value: Tensor  # (clip, question): the answering word
    letter_at: Tensor  # (clip, question): last token of the block
    letter: Tensor  # (clip, question): token of the right letter
    answer: Tensor  # (clip, question): index of the right option
    evidence: Tensor  # (clip, question, slot) bool: the slots that show the answer
    hinted: Tensor  # (clip, question) bool: the answering word is given away at the question mark
    pad: int  # token that fills the blocks


def tokenize(
    tokenizer: PreTrainedTokenizerFast, question: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """Tokens before the video, and tokens after it up to the answer."""
    content: Any = [{"type": "video"}, {"type": "text", "text": question_text(question, options)}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text)["input_ids"]
    at = ids.index(tokenizer.convert_tokens_to_ids("<video>"))
    return ids[:at], ids[at + 1 :]


def make_batch(
    tokenizer: PreTrainedTokenizerFast,
    rng: Generator,
    *,
    clips: int,
    questions: int,
    hints: float = 0.0,
) -> Batch:
    """Draw `clips` training clips with `questions` questions each."""
    frames: list[np.ndarray] = []
    labels: list[tuple[int, int]] = []
    frame_of = np.zeros((clips, SLOTS), dtype=np.int64)
    ordinals = np.full((clips, SLOTS), -100, dtype=np.int64)
    pad = tokenizer.pad_token_id
    blocks = np.full((clips, questions, BLOCK), pad, dtype=np.int64)
    evidence = np.zeros((clips, questions, SLOTS), dtype=np.bool_)
    marks = np.zeros((5, clips, questions), dtype=np.int64)
    prefix: list[int] = []
    for clip in range(clips):
        world = str(rng.choice(("events", "needle", "wall"), p=_WORLD_SHARE))
        scene = make_scene(world, "train", rng)
        _draw(scene, rng, frames, labels, frame_of[clip])
        for index, event in enumerate(scene.events):
            ordinals[clip, event.start] = index
        families = families_of(scene)
        for q in range(questions):
            family = str(rng.choice(families, p=_share(families)))
            asked = ask(scene, family, rng)
            evidence[clip, q, list(asked.evidence)] = True
            prefix, block = _tokens(tokenizer, asked.text, asked.options)
            blocks[clip, q, : len(block)] = block
            word, letter = asked.options[asked.answer], LETTERS[asked.answer]
            marks[:, clip, q] = (
                block.index(_id(tokenizer, "?")),
                _id(tokenizer, word),
                len(block) - 1,
                _id(tokenizer, letter),
                asked.answer,
            )
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    seen = torch.tensor(labels)
    value_at, value, letter_at, letter, answer = torch.from_numpy(marks)
    return Batch(
        pixels=normalise(blur(pixels, rng)),
        frame_of=torch.from_numpy(frame_of),
        colors=seen[:, 0],
        shapes=seen[:, 1],
        ordinals=torch.from_numpy(ordinals),
        prefix=torch.tensor(prefix),
        blocks=torch.from_numpy(blocks),
        value_at=value_at,
        value=value,
        letter_at=letter_at,
        letter=letter,
        answer=answer,
        evidence=torch.from_numpy(evidence),
        hinted=torch.from_numpy(rng.random((clips, questions)) < hints),
        pad=pad,
    )


@lru_cache(maxsize=100_000)
def _cached(
    tokenizer: PreTrainedTokenizerFast, text: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    return tokenize(tokenizer, text, options)


def _tokens(
    tokenizer: PreTrainedTokenizerFast, text: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    return _cached(tokenizer, text, options)


@lru_cache(maxsize=1000)
def _id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary[word]


def _share(families: list[str]) -> np.ndarray:
    """How often each family is asked: counting has one question a clip, so it comes less often."""
    share = np.array([0.4 if family == "count" else 1.0 for family in families])
    return np.asarray(share / share.sum())


def make_frames(rng: Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Single training frames with their colour and shape labels, for the vision tower alone."""
    frames: list[np.ndarray] = []
    labels: list[tuple[int, int]] = []
    while len(frames) < count:
        world = str(rng.choice(("events", "needle", "wall"), p=(0.6, 0.25, 0.15)))
        _draw(make_scene(world, "train", rng), rng, frames, labels, np.zeros(SLOTS, dtype=np.int64))
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    seen = torch.tensor(labels)
    return normalise(blur(pixels, rng)), seen[:, 0], seen[:, 1]


def _draw(
    scene: Scene,
    rng: Generator,
    frames: list[np.ndarray],
    labels: list[tuple[int, int]],
    row: np.ndarray,
) -> None:
    """Draw the frames of a scene that differ, and write which of them stands in each slot."""
    renderer = Renderer(scene)
    groups: dict[tuple[str, int | None], list[int]] = {}
    for slot in range(SLOTS):
        groups.setdefault((scene.wall_at(slot), scene.event_at(slot)), []).append(slot)
    for (wall, event), slots in groups.items():
        drawn = rng.permutation(slots)[: _STILLS if event is None else 1]
        first = len(frames)
        for slot in drawn:
            frames.append(renderer.frame(int(slot) * FRAMES_PER_SLOT))
            shown = scene.events[event] if event is not None else None
            labels.append(
                (_KIND[shown.color if shown else wall], _SHAPE[shown.shape if shown else "none"])
            )
        row[slots] = first + rng.integers(len(drawn), size=len(slots))


def blur(pixels: Tensor, rng: Generator) -> Tensor:
    """What H.264 does to small pictures, roughly: half-resolution colour, some blur, some noise.

    `pixels` is (frame, 3, height, width) in [0, 1].
    """
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    half = torch.nn.functional.avg_pool2d(pixels - luma, 2)
    chroma = torch.nn.functional.interpolate(half, scale_factor=2, mode="bilinear")
    smooth = torch.nn.functional.avg_pool2d(luma, 3, stride=1, padding=1, count_include_pad=False)
    amount = torch.from_numpy(rng.uniform(0, 0.6, (len(pixels), 1, 1, 1))).float()
    noise = torch.from_numpy(rng.normal(0, 1, luma.shape)).float()
    level = torch.from_numpy(rng.uniform(0, 0.02, (len(pixels), 1, 1, 1))).float()
    return (luma + amount * (smooth - luma) + chroma + level * noise).clamp(0, 1)


def normalise(pixels: Tensor) -> Tensor:
    """Subtract the mean and divide by the deviation of the asset's preprocessor."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels - mean) / std
