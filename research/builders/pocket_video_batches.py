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

from namm_mm.adapters.video.prompt import LETTERS, question_text
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
from research.builders.pocket_video_model import MEAN, STD

if TYPE_CHECKING:
    from numpy.random import Generator
    from transformers import PreTrainedTokenizerFast

    from namm_mm.tasks.video_qa.scenes import Scene

TOKENS_PER_FRAME = 4
BLOCK = 36
"""Tokens of a question's block; shorter ones are padded at their end, which nothing looks at."""

READ = 32
"""Frames that are read of a video; of a shorter one, all."""

_WORLD_SHARE = dict(zip(WORLDS, (0.46, 0.06, 0.08, 0.14, 0.18, 0.08), strict=True))
_FRAME_SHARE = dict(zip(WORLDS, (0.35, 0.1, 0.1, 0.2, 0.1, 0.15), strict=True))
_STILLS = 2
_KIND = {name: index for index, name in enumerate(("gray", *COLORS))}
_SHAPE = {name: index for index, name in enumerate(("none", *SHAPES))}
_SHOT = {name: index for index, name in enumerate(("none", *SHOTS))}
_NOWHERE = (float("nan"),) * 3


@dataclass(frozen=True)
class Frames:
    """Drawn frames and what is on them. Labels are 0 where there is nothing to name."""

    pixels: Tensor  # (frame, 3, height, width) float32, normalised
    colors: Tensor  # (frame,) colour of the object, else of the wall
    shapes: Tensor  # (frame,)
    shots: Tensor  # (frame,) what the footage shows
    where: Tensor  # (frame, 3) float32: place and radius of the object, about -1 to 1, else NaN


@dataclass(frozen=True)
class Batch:
    """What one optimiser step needs. Shapes in the comments; all indices are int64."""

    frames: Frames  # those that differ
    frame_of: Tensor  # (clip, read): which of them stands there
    ordinals: Tensor  # (clip, read): how many-th object or shot starts here, -100 elsewhere
    changes: Tensor  # (clip, read): what changed, at the second appearance; -100 elsewhere
    prefix: Tensor  # (prefix,) tokens before the video
    blocks: Tensor  # (clip, question, BLOCK) tokens
    value_at: Tensor  # (clip, question): the question mark
    value: Tensor  # (clip, question): the answering word; -100 where only the options tell it
    letter_at: Tensor  # (clip, question): last token of the block
    letter: Tensor  # (clip, question): token of the right letter
    answer: Tensor  # (clip, question): index of the right option
    evidence: Tensor  # (clip, question, read) bool: the frames that show the answer
    shown: Tensor  # (clip, question, option): whether the clip shows it; -100 if not to be seen
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
    """Draw `clips` training clips of one length with `questions` questions each."""
    slots = SLOTS if rng.random() < 0.7 else int(rng.integers(16, SLOTS))
    slot_of = uniform_indices(slots * FRAMES_PER_SLOT, READ) // FRAMES_PER_SLOT
    drawn = Drawn()
    read = len(slot_of)
    frame_of = np.zeros((clips, read), dtype=np.int64)
    ordinals = np.full((clips, read), -100, dtype=np.int64)
    changes = np.full((clips, read), -100, dtype=np.int64)
    pad = tokenizer.pad_token_id
    blocks = np.full((clips, questions, BLOCK), pad, dtype=np.int64)
    evidence = np.zeros((clips, questions, read), dtype=np.bool_)
    shown = np.full((clips, questions, OPTIONS), -100, dtype=np.int64)
    marks = np.zeros((5, clips, questions), dtype=np.int64)
    prefix: list[int] = []
    for clip in range(clips):
        scene = make_scene(draw_world(rng, _WORLD_SHARE), "train", rng, slots=slots)
        frame_of[clip] = drawn.add(scene, rng)[slot_of]
        starts = [part.start for part in (scene.events or scene.cuts)]
        for index, start in enumerate(starts[:MOST_EVENTS]):
            ordinals[clip, int(np.argmax(slot_of >= start))] = index
        if scene.world == "pair":
            what = ATTRIBUTES.index(scene.changed())
            changes[clip, int(np.argmax(slot_of >= starts[1]))] = what
        families = families_of(scene)
        for q in range(questions):
            family = str(rng.choice(families, p=family_share(families)))
            asked = ask(scene, family, rng)
            evidence[clip, q] = np.isin(slot_of, asked.evidence)
            if asked.shown:
                shown[clip, q] = asked.shown
            prefix, block = question_tokens(tokenizer, asked.text, asked.options)
            blocks[clip, q, : len(block)] = block
            word, letter = asked.options[asked.answer], LETTERS[asked.answer]
            marks[:, clip, q] = (
                block.index(_id(tokenizer, "?")),
                -100 if family == "unseen" else _id(tokenizer, word),
                len(block) - 1,
                _id(tokenizer, letter),
                asked.answer,
            )
    value_at, value, letter_at, letter, answer = torch.from_numpy(marks)
    return Batch(
        frames=drawn.frames(rng),
        frame_of=torch.from_numpy(frame_of),
        ordinals=torch.from_numpy(ordinals),
        changes=torch.from_numpy(changes),
        prefix=torch.tensor(prefix),
        blocks=torch.from_numpy(blocks),
        value_at=value_at,
        value=value,
        letter_at=letter_at,
        letter=letter,
        answer=answer,
        evidence=torch.from_numpy(evidence),
        shown=torch.from_numpy(shown),
        hinted=torch.from_numpy(rng.random((clips, questions)) < hints),
        pad=pad,
    )


def make_frames(rng: Generator, count: int) -> Frames:
    """At least `count` single training frames, for the vision tower alone."""
    drawn = Drawn()
    while len(drawn.pictures) < count:
        drawn.add(make_scene(draw_world(rng, _FRAME_SHARE), "train", rng), rng)
    return drawn.frames(rng)


class Drawn:
    """Frames that were drawn so far, with their labels."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.labels: list[tuple[int, int, int]] = []
        self.where: list[tuple[float, ...]] = []

    def add(self, scene: Scene, rng: Generator) -> np.ndarray:
        """Draw the frames of a scene that differ; return which of all stands in each slot."""
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
        """All of them, blurred and normalised."""
        pixels = torch.from_numpy(np.stack(self.pictures)).permute(0, 3, 1, 2).float() / 255
        labels = torch.tensor(self.labels)
        return Frames(
            normalise(blur(pixels, rng)), labels[:, 0], labels[:, 1], labels[:, 2],
            torch.tensor(self.where),
        )  # fmt: skip


def draw_world(rng: Generator, share: dict[str, float]) -> str:
    """Draw a world by its share."""
    return str(rng.choice(list(share), p=list(share.values())))


@lru_cache(maxsize=100_000)
def question_tokens(
    tokenizer: PreTrainedTokenizerFast, question: str, options: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """What :func:`tokenize` gives, remembered: the same questions come again and again."""
    return tokenize(tokenizer, question, options)


@lru_cache(maxsize=1000)
def _id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary[word]


def family_share(families: list[str]) -> np.ndarray:
    """How often each family is asked: counting has one question a clip, so it comes less often."""
    share = np.array([{"count": 0.3, "unseen": 1.3}.get(family, 1.0) for family in families])
    return np.asarray(share / share.sum())


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
