"""Train the pocket video model: first its vision tower, then its language model.

The vision tower learns to name colours and shapes of single frames, and is then frozen. The
language model learns to answer. The extra losses of :mod:`research.builders.video.pocket_losses`
fade out over the second half. At first, hints tell some of the answering words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from research.builders.video.optimizing import Phase, optimise
from research.builders.video.pocket_batches import Batch, Frames, make_batch, make_frames
from research.builders.video.pocket_losses import (
    ExtraHeads,
    describing,
    frame_features,
    losses,
    naming,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FRAMES = 96
"""Frames of a step of the vision tower, at least."""


@dataclass(frozen=True)
class Questions:
    """The questions of a step.

    Attributes
    ----------
    clips, each
        Clips of a batch, and questions of each.
    hints
        Fraction of the questions whose answering word is told at first.
    """

    clips: int
    each: int
    hints: float = 0.5


def train_vision(
    model: Any, heads: ExtraHeads, optimizer: torch.optim.Optimizer, phase: Phase
) -> Iterator[tuple[int, float]]:
    """Train vision tower and projector on frames; yield step and fraction of right labels."""

    def batch(step: int) -> Frames:
        return make_frames(np.random.default_rng((phase.seed, 1, step)), FRAMES)

    def compute(frames: Frames, step: int) -> tuple[Tensor, float]:
        features = frame_features(model, frames.pixels)
        named = naming(model, heads, features, frames)
        described, right = describing(heads, features, frames)
        return described + named, float(right.float().mean())

    return optimise(optimizer, phase, batch, compute)


def train_language(
    model: Any,
    heads: ExtraHeads,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    phase: Phase,
    questions: Questions,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train the language model to answer; yield step and losses, with the part of right letters."""

    def batch(step: int) -> Batch:
        return make_batch(
            tokenizer,
            np.random.default_rng((phase.seed, step)),
            clips=questions.clips,
            questions=questions.each,
            hints=max(0.0, questions.hints * (1 - step / (0.3 * phase.steps))),
        )

    def compute(batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        found, right = losses(model, heads, batch)
        weight = weights(step, phase.steps)
        total = torch.stack([weight[name] * value for name, value in found.items()]).sum()
        numbers = {name: value.item() for name, value in found.items()}
        return total, {**numbers, "right": float(right[~batch.hinted].float().mean())}

    return optimise(optimizer, phase, batch, compute)


def make_vision_optimizer(model: Any, heads: ExtraHeads) -> torch.optim.AdamW:
    """Return AdamW for vision tower, projector and extra heads."""
    parts = (model.model.vision_tower, model.model.multi_modal_projector, heads)
    parameters = [p for part in parts for p in part.parameters()]
    return torch.optim.AdamW(parameters, betas=(0.9, 0.97), weight_decay=0.02)


def make_optimizer(model: Any, heads: ExtraHeads) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only; the vision tower is frozen."""
    model.model.vision_tower.requires_grad_(False)
    parameters = [p for part in (model, heads) for p in part.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.97))


def weights(step: int, steps: int) -> dict[str, float]:
    """Return the weight of each loss: the extra ones fade to a tenth over the second half."""
    fade = 1.0 if step < steps / 2 else 1.0 - 0.9 * (2 * step / steps - 1)
    extra = {"value": 0.5, "evidence": 0.3, "copy": 0.2, "pick": 0.5, "tag": 0.3}
    extra |= {"text": 0.2, "name": 0.3, "ordinal": 0.2, "change": 0.4, "shown": 0.3}
    return {"letter": 1.0, **{key: fade * value for key, value in extra.items()}}
