"""Training batches of the pocket video model: a few frames and many questions for each clip.

A clip repeats itself: only the frames that differ are drawn and encoded. All questions of a clip
share one sequence. Each of them sees only the video and itself, and positions restart after the
video, so that a block computes exactly what it computes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.adapters.common.choices import LETTERS, question_text
from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.questions import MOST_EVENTS, OPTIONS, ask, families_of
from namm_mm.tasks.video_qa.render import Renderer
from namm_mm.tasks.video_qa.scenes import (
    ATTRIBUTES,
    COLORS,
    FRAMES_PER_SLOT,
    SHAPES,
    SIZE,
    SLOTS,
    WORLDS,
    make_scene,
)
from namm_mm.video import uniform_indices
from research.builders.video.pocket_model import MEAN, STD

if TYPE_CHECKING:
    from numpy.random import Generator
    from transformers import PreTrainedTokenizerFast

    from namm_mm.tasks.video_qa.questions import Question
    from namm_mm.tasks.video_qa.scenes import Scene

TOKENS_PER_FRAME = 4
BLOCK = 36
"""Tokens of a question's block. Shorter questions are padded at their end."""

READ = 32
"""Frames that are read of a video; of a shorter video, all frames."""

_WORLD_SHARE = dict(zip(WORLDS, (0.46, 0.06, 0.08, 0.14, 0.18, 0.08), strict=True))
_FRAME_SHARE = dict(zip(WORLDS, (0.35, 0.1, 0.1, 0.2, 0.1, 0.15), strict=True))
_STILLS = 2
_KIND = {name: index for index, name in enumerate(("gray", *COLORS))}
_SHAPE = {name: index for index, name in enumerate(("none", *SHAPES))}
_SHOT = {name: index for index, name in enumerate(("none", *SHOTS))}
_NOWHERE = (float("nan"),) * 3


@dataclass(frozen=True)
class Frames:
    """Drawn frames and what they show. A label is 0 where there is nothing to name."""

    pixels: Tensor  # (frame, 3, height, width) float32, normalised
    colors: Tensor  # (frame,) colour of the object, else of the wall
    shapes: Tensor  # (frame,)
    shots: Tensor  # (frame,) what the footage shows
    where: Tensor  # (frame, 3) float32: place and radius of the object, about -1 to 1, else NaN


@dataclass(frozen=True)
class Batch:
    """The batch of one step. Shapes are in the comments; all indices are int64."""

    frames: Frames  # the frames that differ
    frame_of: Tensor  # (clip, read): index of the frame
    ordinals: Tensor  # (clip, read): how many-th object or shot starts here, -100 elsewhere
    changes: Tensor  # (clip, read): what changed, at the second appearance; -100 elsewhere
    prefix: Tensor  # (prefix,) tokens before the video
    blocks: Tensor  # (clip, question, BLOCK) tokens
    value_at: Tensor  # (clip, question): the question mark
    value: Tensor  # (clip, question): the answering word; -100 where the options are needed
    letter_at: Tensor  # (clip, question): last token of the block
    letter: Tensor  # (clip, question): token of the right letter
    answer: Tensor  # (clip, question): index of the right option
    evidence: Tensor  # (clip, question, read) bool: the frames that show the answer
    shown: Tensor  # (clip, question, option): whether the clip shows it; -100 if unknown
    hinted: Tensor  # (clip, question) bool: the answering word is told at the question mark
    pad: int  # padding of the blocks


def tokenize(
    tokenizer: PreTrainedTokenizerFast, question: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """Return the tokens before the video, and those after it up to the answer."""
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
    """Return `clips` training clips of one length with `questions` questions each.

    `hints` is the fraction of the questions whose answering word is told.
    """
    slots, slot_of = draw_length(rng)
    drawn = Drawn()
    arrays = _Arrays(clips, questions, len(slot_of), tokenizer.pad_token_id)
    prefix: list[int] = []
    for clip in range(clips):
        scene = make_scene(draw_world(rng, _WORLD_SHARE), "train", rng, slots=slots)
        arrays.frame_of[clip] = drawn.add(scene, rng)[slot_of]
        arrays.label(clip, scene, slot_of)
        families = families_of(scene)
        for number in range(questions):
            family = str(rng.choice(families, p=family_share(families)))
            asked = ask(scene, family, rng)
            arrays.evidence[clip, number] = np.isin(slot_of, asked.evidence)
            prefix, block = question_tokens(tokenizer, asked.text, asked.options)
            arrays.ask((clip, number), asked, block, tokenizer, told=family != "unseen")
    value_at, value, letter_at, letter, answer = torch.from_numpy(arrays.marks)
    return Batch(
        frames=drawn.frames(rng),
        frame_of=torch.from_numpy(arrays.frame_of),
        ordinals=torch.from_numpy(arrays.ordinals),
        changes=torch.from_numpy(arrays.changes),
        prefix=torch.tensor(prefix),
        blocks=torch.from_numpy(arrays.blocks),
        value_at=value_at,
        value=value,
        letter_at=letter_at,
        letter=letter,
        answer=answer,
        evidence=torch.from_numpy(arrays.evidence),
        shown=torch.from_numpy(arrays.shown),
        hinted=torch.from_numpy(rng.random((clips, questions)) < hints),
        pad=tokenizer.pad_token_id,
    )


def draw_length(rng: Generator) -> tuple[int, np.ndarray]:
    """Return the slots of a clip, and the slot of each frame that is read."""
    slots = SLOTS if rng.random() < 0.7 else int(rng.integers(16, SLOTS))
    return slots, uniform_indices(slots * FRAMES_PER_SLOT, READ) // FRAMES_PER_SLOT


class _Arrays:
    """The labels of a batch; see :class:`Batch` for their shapes."""

    def __init__(self, clips: int, questions: int, read: int, pad: int) -> None:
        self.frame_of = np.zeros((clips, read), dtype=np.int64)
        self.ordinals = np.full((clips, read), -100, dtype=np.int64)
        self.changes = np.full((clips, read), -100, dtype=np.int64)
        self.blocks = np.full((clips, questions, BLOCK), pad, dtype=np.int64)
        self.evidence = np.zeros((clips, questions, read), dtype=np.bool_)
        self.shown = np.full((clips, questions, OPTIONS), -100, dtype=np.int64)
        self.marks = np.zeros((5, clips, questions), dtype=np.int64)

    def label(self, clip: int, scene: Scene, slot_of: np.ndarray) -> None:
        """Label the frames at which an object or a shot starts, or something changes."""
        starts = [part.start for part in (scene.events or scene.cuts)]
        for index, start in enumerate(starts[:MOST_EVENTS]):
            self.ordinals[clip, int(np.argmax(slot_of >= start))] = index
        if scene.world == "pair":
            what = ATTRIBUTES.index(scene.changed())
            self.changes[clip, int(np.argmax(slot_of >= starts[1]))] = what

    def ask(
        self,
        at: tuple[int, int],
        asked: Question,
        block: list[int],
        tokenizer: PreTrainedTokenizerFast,
        *,
        told: bool,
    ) -> None:
        """Add a question; `told` tells whether its answering word is known before the options."""
        if asked.shown:
            self.shown[at] = asked.shown
        self.blocks[(*at, slice(len(block)))] = block
        word, letter = asked.options[asked.answer], LETTERS[asked.answer]
        self.marks[(slice(None), *at)] = (
            block.index(_id(tokenizer, "?")),
            _id(tokenizer, word) if told else -100,
            len(block) - 1,
            _id(tokenizer, letter),
            asked.answer,
        )


def make_frames(rng: Generator, count: int) -> Frames:
    """Return at least `count` single training frames, for the vision tower."""
    drawn = Drawn()
    while len(drawn.pictures) < count:
        drawn.add(make_scene(draw_world(rng, _FRAME_SHARE), "train", rng), rng)
    return drawn.frames(rng)


class Drawn:
    """The frames that were drawn so far, with their labels."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.labels: list[tuple[int, int, int]] = []
        self.where: list[tuple[float, ...]] = []

    def add(self, scene: Scene, rng: Generator) -> np.ndarray:
        """Draw the frames of a scene that differ; return the index of the frame of each slot."""
        row = np.zeros(scene.slots, dtype=np.int64)
        renderer = Renderer(scene)
        groups: dict[tuple[str, int | None, int | None], list[int]] = {}
        for slot in range(scene.slots):
            what = scene.wall_at(slot), scene.event_at(slot), scene.cut_at(slot)
            groups.setdefault(what, []).append(slot)
        for (wall, event, cut), slots in groups.items():
            chosen = rng.permutation(slots)[: _STILLS if event is None else 1]
            first = len(self.pictures)
            shown = scene.events[event] if event is not None else None
            for slot in chosen:
                self.pictures.append(renderer.frame(int(slot) * FRAMES_PER_SLOT))
                self.labels.append(
                    (
                        _KIND[shown.color if shown else wall or "gray"],
                        _SHAPE[shown.shape if shown else "none"],
                        _SHOT[scene.cuts[cut].shot if cut is not None and not shown else "none"],
                    )
                )
                self.where.append(
                    (2 * shown.x / SIZE - 1, 2 * shown.y / SIZE - 1, (shown.radius - 11) / 3)
                    if shown
                    else _NOWHERE
                )
            row[slots] = first + rng.integers(len(chosen), size=len(slots))
        return row

    def frames(self, rng: Generator) -> Frames:
        """Return all frames, blurred and normalised."""
        pixels = torch.from_numpy(np.stack(self.pictures)).permute(0, 3, 1, 2).float() / 255
        labels = torch.tensor(self.labels)
        return Frames(
            normalise(blur(pixels, rng)), labels[:, 0], labels[:, 1], labels[:, 2],
            torch.tensor(self.where),
        )  # fmt: skip


def draw_world(rng: Generator, share: dict[str, float]) -> str:
    """Return a world, drawn by its share."""
    return str(rng.choice(list(share), p=list(share.values())))


@lru_cache(maxsize=100_000)
def question_tokens(
    tokenizer: PreTrainedTokenizerFast, question: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """Return what :func:`tokenize` returns, from a cache: questions repeat."""
    return tokenize(tokenizer, question, options)


@lru_cache(maxsize=1000)
def _id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary[word]


def family_share(families: list[str]) -> np.ndarray:
    """Return how often each family is asked: counting has only one question for a clip."""
    share = np.array([{"count": 0.3, "unseen": 1.3}.get(family, 1.0) for family in families])
    return np.asarray(share / share.sum())


def blur(pixels: Tensor, rng: Generator) -> Tensor:
    """Return the pixels roughly as after H.264: half-resolution colour, some blur, some noise.

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
    """Return the pixels normalised as by the preprocessor of the asset."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels - mean) / std
