"""Train SmolLM2 to answer from frames: the projector first, then low-rank changes of its attention.

The projector learns to map frames to the embeddings of the words for what they show, which takes a
minute. From then on a clip resembles a text, and the language model learns to answer from it. The
vision tower and all matrices of the language model are frozen.
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
from research.builders.video.optimizing import Phase, optimise
from research.builders.video.pocket_batches import make_frames
from research.builders.video.pocket_losses import frame_features
from research.builders.video.pocket_training import FRAMES, Questions
from research.builders.video.question_blocks import Blocks, question_blocks
from research.builders.video.smollm2_batches import Batch, first_token, for_the_tower, make_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from research.builders.video.pocket_batches import Frames

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
    """The embeddings of the words for what frames show, and the loss of frames against them."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        table = model.get_input_embeddings().weight.detach().float()
        self.length = float(table.norm(dim=1).mean())
        self.words = [
            F.normalize(table[[first_token(tokenizer, word) for word in words]], dim=1)
            for words in (COLORS, SHAPES, SHOTS)
        ]

    def loss(self, features: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy over the words, and (frame,) bool: frames with all names right.

        A frame matches a word if any of its tokens does. The norm of tokens is to be that of words.
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
    """Freeze all but projector and low-rank changes, which become float32; return these two."""
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
    """Return the trained part, with the names that :func:`namm_mm.models.composed.merge` reads."""
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
    """Put a trained part into a model that :func:`prepare` has changed."""
    with torch.no_grad():
        for name, value in trained(model).items():
            value.copy_(part[name])


def train_projector(
    model: Any, names: Names, optimizer: torch.optim.Optimizer, phase: Phase
) -> Iterator[tuple[int, float]]:
    """Train the projector to name what frames show; yield step and fraction of right frames."""

    def batch(step: int) -> Frames:
        return for_the_tower(make_frames(np.random.default_rng((phase.seed, 1, step)), FRAMES))

    def compute(frames: Frames, step: int) -> tuple[Tensor, float]:
        loss, right = names.loss(frame_features(model, frames.pixels), frames)
        return loss, float(right.float().mean())

    return optimise(optimizer, phase, batch, compute)


def losses(model: Any, names: Names, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Return the mean loss of each kind in nats, and (clip, question) bool: right options."""
    features = frame_features(model, batch.frames.pixels)
    clips, questions, block = batch.blocks.shape
    embed = model.get_input_embeddings()
    before = embed(batch.prefix)[None].expand(clips, -1, -1)
    video = features[batch.frame_of].flatten(1, 2)
    blocks = Blocks(len(batch.prefix) + video.shape[1], block)
    embedded = [before, video.to(before.dtype), embed(batch.blocks).flatten(1, 2)]
    with question_blocks(model):
        output = model.model.language_model(
            inputs_embeds=torch.cat(embedded, dim=1),
            position_ids=blocks.positions(questions)[None].expand(clips, -1),
            use_cache=False,
            blocks=blocks,
        )
    states = output.last_hidden_state[:, blocks.shared :].view(clips, questions, block, -1)
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    logits = model.lm_head(states[row, column, batch.last]).float()
    word = batch.options.gather(2, batch.answer[..., None])[..., 0]
    found = {
        "word": F.cross_entropy(logits.flatten(0, 1), word.flatten()),
        "name": names.loss(features, batch.frames)[0],
    }
    return found, logits.gather(2, batch.options).argmax(-1) == batch.answer


def train_answers(
    model: Any,
    names: Names,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    phase: Phase,
    questions: Questions,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train all to answer; yield step and losses, with the part of right options."""

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((phase.seed, step))
        return make_batch(tokenizer, rng, clips=questions.clips, questions=questions.each)

    def compute(batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        found, right = losses(model, names, batch)
        numbers = {name: value.item() for name, value in found.items()}
        total = found["word"] + 0.2 * found["name"]
        return total, {**numbers, "right": float(right.float().mean())}

    return optimise(optimizer, phase, batch, compute)


def make_optimizer(parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    """Return AdamW with a little weight decay."""
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
