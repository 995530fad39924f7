"""Teach SmolLM2 to answer from frames: the projector first, then low-rank changes of its attention.

Frames learn to point to the words for what they show, which takes a minute; from then on a clip is
a text of sorts, and the language model learns to look it up and to say it. Nothing else changes:
the vision tower and all matrices of the language model stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from namm_mm.models.composed import CHANGED
from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.scenes import COLORS, SHAPES
from research.builders.pocket_video_batches import make_frames
from research.builders.pocket_video_training import (
    descend,
    frame_features,
    question_blocks,
    set_rate,
)
from research.builders.smollm2_video_batches import Batch, first_token, for_the_tower, make_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from research.builders.pocket_video_batches import Frames

RANK = 16


class LowRank(nn.Module):
    """A frozen linear layer with a learned change: ``W x + up (down x)`` (arXiv 2106.09685)."""

    def __init__(self, base: nn.Linear, rank: int = RANK) -> None:
        super().__init__()
        self.base = base
        spread = 1.0 / math.sqrt(base.in_features)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) * spread)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        out: Tensor = self.base(x) + (x @ self.down.T) @ self.up.T
        return out


class Names:
    """Directions of the words for what frames show, and how well frames point to them."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        table = model.get_input_embeddings().weight.detach().float()
        self.length = float(table.norm(dim=1).mean())
        self.words = [
            F.normalize(table[[first_token(tokenizer, word) for word in words]], dim=1)
            for words in (COLORS, SHAPES, SHOTS)
        ]

    def loss(self, features: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
        """Cross-entropy over the words of each kind, and (frame,) bool: those with all names right.

        A frame points to a word if any of its tokens does. Tokens are to be as long as words are.
        """
        features = features.float()
        total = (features.norm(dim=-1) / self.length - 1.0).square().mean()
        right = torch.ones(len(features), dtype=torch.bool)
        labels = frames.colors, frames.shapes, frames.shots
        for words, label in zip(self.words, labels, strict=True):
            logits = (features @ words.T * (10.0 / self.length)).logsumexp(1)
            told = label > 0
            lost = F.cross_entropy(logits, label - 1, ignore_index=-1, reduction="sum")
            total = total + lost / told.sum().clamp(min=1)
            right &= (logits.argmax(-1) == label - 1) | ~told
        return total, right


def prepare(model: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Freeze all but projector and changes, which become float32; return these two, in order."""
    model.requires_grad_(False)
    projector = model.model.multi_modal_projector.float().requires_grad_(True)
    changes = []
    for layer in model.model.language_model.layers:
        for name in CHANGED:
            changed = LowRank(getattr(layer.self_attn, name))
            setattr(layer.self_attn, name, changed)
            changes += [changed.down, changed.up]
    return list(projector.parameters()), changes


def trained(model: Any) -> dict[str, Tensor]:
    """The trained part, under the names that :func:`namm_mm.models.composed.merge` reads."""
    found = {
        f"projector.{name}": value.detach()
        for name, value in model.model.multi_modal_projector.named_parameters()
    }
    for number, layer in enumerate(model.model.language_model.layers):
        for name in CHANGED:
            for half in ("down", "up"):
                value = getattr(getattr(layer.self_attn, name), half)
                found[f"{number}.{name}.{half}"] = value.detach()
    return found


def take(model: Any, part: dict[str, Tensor]) -> None:
    """Put a trained part back into a model that :func:`prepare` has seen."""
    with torch.no_grad():
        for name, value in trained(model).items():
            value.copy_(part[name])


def look(
    model: Any,
    names: Names,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    seed: int,
    peak: float,
) -> Iterator[tuple[int, float]]:
    """Teach the projector the names of what frames show; yield step and share of frames right."""
    for step in range(steps):
        frames = for_the_tower(make_frames(np.random.default_rng((seed, 1, step)), 96))
        set_rate(optimizer, learning_rate(step, steps, peak, warm=20))
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = names.loss(frame_features(model, frames.pixels), frames)
        descend(optimizer, loss)
        yield step + 1, float(right.float().mean())


def losses(model: Any, names: Names, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Mean loss of each kind in nats, and which options are right: (clip, question) bool."""
    features = frame_features(model, batch.frames.pixels)
    clips, questions, block = batch.blocks.shape
    embed = model.get_input_embeddings()
    before = embed(batch.prefix)[None].expand(clips, -1, -1)
    video = features[batch.frame_of].flatten(1, 2)
    shared = len(batch.prefix) + video.shape[1]
    positions = torch.cat([torch.arange(shared), (shared + torch.arange(block)).repeat(questions)])
    embedded = [before, video.to(before.dtype), embed(batch.blocks).flatten(1, 2)]
    with question_blocks(model):
        output = model.model.language_model(
            inputs_embeds=torch.cat(embedded, dim=1),
            position_ids=positions[None].expand(clips, -1),
            use_cache=False,
            shared=shared,
            block=block,
        )
    states = output.last_hidden_state[:, shared:].view(clips, questions, block, -1)
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    logits = model.lm_head(states[row, column, batch.last]).float()
    word = batch.options.gather(2, batch.answer[..., None])[..., 0]
    found = {
        "word": F.cross_entropy(logits.flatten(0, 1), word.flatten()),
        "name": names.loss(features, batch.frames)[0],
    }
    return found, logits.gather(2, batch.options).argmax(-1) == batch.answer


def learn(
    model: Any,
    names: Names,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    *,
    start: int,
    steps: int,
    seed: int,
    peak: float,
    clips: int,
    questions: int,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Teach it to answer; yield step and losses, with the share of right options.

    A step depends on `seed` and its number alone, so training resumes as if never interrupted.
    """
    for step in range(start, steps):
        rng = np.random.default_rng((seed, step))
        batch = make_batch(tokenizer, rng, clips=clips, questions=questions)
        set_rate(optimizer, learning_rate(step, steps, peak, warm=50))
        with torch.autocast("cpu", torch.bfloat16):
            found, right = losses(model, names, batch)
        descend(optimizer, found["word"] + 0.2 * found["name"])
        told = {key: value.item() for key, value in found.items()}
        yield step + 1, {**told, "right": float(right.float().mean())}


def learning_rate(step: int, steps: int, peak: float, *, warm: int) -> float:
    """Linear warm-up over `warm` steps, then a cosine to a thirtieth of the peak."""
    rise = min(1.0, (step + 1) / warm)
    return peak * rise * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def make_optimizer(parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW with a little weight decay."""
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
