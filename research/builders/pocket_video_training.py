"""Train the pocket video model: answers are supervised, and so is what they are made of.

First the vision tower learns to tell colours and shapes of single frames; then it is frozen, and
the language model learns to answer. Cheap extra losses make that quick and fade out: the ordinal of
an event at its first frame, the answering word at the question mark, which option it matches, each
option's own letter, and the text of the question. At first, hints give answering words away. The
linear heads of these losses are thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from namm_mm.memory.swapping import swapped_attention
from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.questions import MOST_EVENTS, OPTIONS
from namm_mm.tasks.video_qa.scenes import ATTRIBUTES, COLORS, SHAPES
from research.builders.pocket_video_batches import (
    BLOCK,
    TOKENS_PER_FRAME,
    Batch,
    Frames,
    make_batch,
    make_frames,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ATTENTION = "question_blocks"
AFTER = {"ordinal": 2, "change": 3, "value": 4, "shown": 5, "tag": 5}
"""The layer after which each extra loss reads; the letter is read after the last, the sixth."""
WATCHED = {3: "evidence", 4: "copy", 5: "pick"}
"""Layers, from 0, whose first two heads are told where to look: the question mark at the frames
that show the answer, the last token at the question mark, and then at the right option."""


class ExtraHeads(nn.Module):
    """Linear read-outs for the extra losses."""

    color_words: Tensor
    shape_words: Tensor
    shot_words: Tensor

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        named = ("color_words", COLORS), ("shape_words", SHAPES), ("shot_words", SHOTS)
        for name, words in named:
            ids = [tokenizer.get_vocab()[word] for word in words]
            self.register_buffer(name, torch.tensor(ids), persistent=False)
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.shot = nn.Linear(width, len(SHOTS) + 1)
        self.where = nn.Linear(width, 3)
        self.ordinal = nn.Linear(width, MOST_EVENTS)
        self.change = nn.Linear(width, len(ATTRIBUTES))
        self.shown = nn.Linear(width, 2)


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    shared: int,
    block: int = BLOCK,
    watched: dict[int, Tensor] | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Causal attention where the first `shared` tokens are followed by independent blocks.

    Equal to a block mask over the whole sequence at less than half the work. `query` is
    (row, head, token, channel); the tokens after `shared` are blocks of `block`. What the blocks
    attend to, by layer, goes to `watched`: (row, head, block, `block`, shared + `block`).
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    q0, k0, v0 = query[:, :, :shared], key[:, :, :shared], value[:, :, :shared]
    first, _ = _attend(q0, [(k0, v0)], scaling)
    blocks = (query.shape[2] - shared) // block
    q1, k1, v1 = (
        t[:, :, shared:].reshape(*t.shape[:2], blocks, block, -1) for t in (query, key, value)
    )
    then, shares = _attend(q1, [(k0[:, :, None], v0[:, :, None]), (k1, v1)], scaling)
    layer: Any = module.layer_idx
    if watched is not None and layer in WATCHED:
        watched[layer] = shares
    return torch.cat([first, then.flatten(2, 3)], dim=2).transpose(1, 2).contiguous(), None


def question_blocks(model: Any) -> AbstractContextManager[None]:
    """Let the language model attend with :func:`block_attention` inside the ``with`` block."""
    config = model.config.get_text_config(decoder=True)
    return swapped_attention(config, ATTENTION, block_attention)


def _attend(
    query: Tensor, parts: list[tuple[Tensor, Tensor]], scaling: float
) -> tuple[Tensor, Tensor]:
    """Softmax attention over all parts, the last of them causal; returns output and weights."""
    scores = [query @ key.transpose(-1, -2) for key, _ in parts]
    length = query.shape[-2]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores[-1] = scores[-1].masked_fill(future, float("-inf"))
    shares = (torch.cat(scores, -1) * scaling).float().softmax(-1)
    split = torch.split(shares.to(query.dtype), [key.shape[-2] for key, _ in parts], -1)
    outputs = [share @ value for share, (_, value) in zip(split, parts, strict=True)]
    return torch.stack(outputs).sum(0), shares


def frame_features(model: Any, pixels: Tensor) -> Tensor:
    """Projected tokens (frame, TOKENS_PER_FRAME, width) of single frames."""
    features: Tensor = model.model.get_video_features(pixels[None]).pooler_output[0]
    return features.view(len(pixels), TOKENS_PER_FRAME, -1)


def _astray(watched: dict[int, Tensor], batch: Batch, start: int, seen: int) -> dict[str, Tensor]:
    """How little the watched heads look where they should, in nats; see `WATCHED`.

    The video is tokens `start` to `seen` of the shared part, the block follows it.
    """
    row = torch.arange(len(batch.blocks))[:, None]
    column = torch.arange(batch.blocks.shape[1])[None]
    evidence, copy, pick = (watched[layer][:, :2] for layer in WATCHED)
    asked = evidence[row, :, column, batch.value_at, start:seen]
    shown = batch.evidence.repeat_interleave(TOKENS_PER_FRAME, dim=-1)[:, :, None]
    right = batch.value_at + 3 * (batch.answer + 1)
    masses = {
        "evidence": (asked * shown).sum(-1),
        "copy": copy[row, :, column, batch.letter_at, seen + batch.value_at],
        "pick": pick[row, :, column, batch.letter_at, seen + right],
    }
    found = {name: -(mass + 1e-6).log() for name, mass in masses.items()}
    told = (batch.value >= 0)[..., None]  # what only the options tell is not looked up before them
    for name in ("evidence", "copy"):
        found[name] = found[name] * told / told.float().mean().clamp(min=1e-3)
    return {name: value.mean() for name, value in found.items()}


def naming(model: Any, heads: ExtraHeads, features: Tensor, frames: Frames) -> Tensor:
    """How badly frames point to the words for what they show, among the word embeddings.

    With objects and words in one space, a question about a circle finds the circle. What has label
    0, nothing to name, is left out.
    """
    embeddings = model.get_input_embeddings().weight
    total = features.new_zeros((), dtype=torch.float32)
    for words, labels in (
        (heads.color_words, frames.colors),
        (heads.shape_words, frames.shapes),
        (heads.shot_words, frames.shots),
    ):
        logits = (features.mean(1) @ embeddings[words].T).float()
        loss = F.cross_entropy(logits, labels - 1, ignore_index=-1, reduction="sum")
        total = total + loss / (labels > 0).sum().clamp(min=1)
    return total


def describing(heads: ExtraHeads, features: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
    """How badly linear heads read frames, and (frame,) bool: those with all names right."""
    mean = features.mean(1)
    right = torch.ones(len(mean), dtype=torch.bool)
    total = features.new_zeros((), dtype=torch.float32)
    for head, labels in (
        (heads.color, frames.colors),
        (heads.shape, frames.shapes),
        (heads.shot, frames.shots),
    ):
        logits = head(mean).float()
        total = total + F.cross_entropy(logits, labels)
        right &= logits.argmax(-1) == labels
    there = ~frames.where[:, 0].isnan()
    off = (heads.where(mean).float() - frames.where)[there]
    return total + 4 * off.square().sum() / there.sum().clamp(min=1), right


def losses(model: Any, heads: ExtraHeads, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Mean loss of each kind in nats, and which letters are right: (clip, question) bool."""
    features = frame_features(model, batch.frames.pixels)
    clips, questions, _ = batch.blocks.shape
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    embed = model.get_input_embeddings()
    blocks = embed(batch.blocks)
    hint = torch.zeros_like(blocks)
    told = embed(batch.value.clamp(min=0))
    hint[row, column, batch.value_at] = told * (batch.hinted & (batch.value >= 0))[..., None]
    video = features[batch.frame_of].flatten(1, 2)
    before = embed(batch.prefix)[None].expand(clips, -1, -1)
    start = len(batch.prefix)
    seen = start + video.shape[1]
    watched: dict[int, Tensor] = {}
    positions = torch.cat([torch.arange(seen), (seen + torch.arange(BLOCK)).repeat(questions)])
    embedded = [before.to(video.dtype), video, (blocks + hint).flatten(1, 2).to(video.dtype)]
    with question_blocks(model):
        output = model.model.language_model(
            inputs_embeds=torch.cat(embedded, dim=1),
            position_ids=positions[None].expand(clips, -1),
            use_cache=False,
            output_hidden_states=True,
            shared=seen,
            watched=watched,
        )
    states = (*output.hidden_states[:-1], output.last_hidden_state)
    ends = slice(start + TOKENS_PER_FRAME - 1, seen, TOKENS_PER_FRAME)
    # Each step of the reasoning is read after a layer of its own, so that the next can use it.
    asked, chosen, final = (
        states[at][:, seen:].view(clips, questions, BLOCK, -1)
        for at in (AFTER["value"], AFTER["tag"], -1)
    )
    letters = model.lm_head(final[row, column, batch.letter_at]).float()
    normed = model.model.language_model.norm(asked[row, column, batch.value_at])
    values = model.lm_head(normed).float()
    # Every option is a letter, a full stop and one word.
    options = batch.value_at[..., None] + 3 * torch.arange(1, OPTIONS + 1)
    offered = chosen[row[..., None], column[..., None], options]
    tags = model.lm_head(model.model.language_model.norm(offered)).float()
    tagged = batch.blocks[row[..., None], column[..., None], options - 2]
    ordinals = heads.ordinal(states[AFTER["ordinal"]][:, ends]).float()
    changes = heads.change(states[AFTER["change"]][:, ends]).float()
    shown = heads.shown(offered).float()
    value = batch.value.masked_fill(batch.hinted, -100)
    found = {
        "letter": F.cross_entropy(letters.flatten(0, 1), batch.letter.flatten()),
        "value": _cross_entropy(values, value),
        "tag": F.cross_entropy(tags.flatten(0, 2), tagged.flatten()),
        "shown": _cross_entropy(shown, batch.shown),
        **_astray(watched, batch, start, seen),
        "name": naming(model, heads, features, batch.frames),
        "text": F.cross_entropy(
            model.lm_head(final[:, :, :-1]).float().flatten(0, 2),
            batch.blocks[:, :, 1:].masked_fill(batch.blocks[:, :, 1:] == batch.pad, -100).flatten(),
        ),
        "ordinal": _cross_entropy(ordinals, batch.ordinals),
        "change": _cross_entropy(changes, batch.changes),
    }
    return found, letters.argmax(-1) == batch.letter


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labels that are not -100; 0 where there are none."""
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)


def look(
    model: Any,
    heads: ExtraHeads,
    optimizer: torch.optim.Optimizer,
    *,
    start: int,
    steps: int,
    seed: int,
    peak: float,
) -> Iterator[tuple[int, float]]:
    """Teach vision tower and projector what frames show; yield step and share of right labels.

    A step depends on `seed` and its number alone, so training resumes as if never interrupted.
    """
    for step in range(start, steps):
        frames = make_frames(np.random.default_rng((seed, 1, step)), 96)
        set_rate(optimizer, learning_rate(step, steps, peak))
        with torch.autocast("cpu", torch.bfloat16):
            features = frame_features(model, frames.pixels)
            named = naming(model, heads, features, frames)
            described, right = describing(heads, features, frames)
        descend(optimizer, described + named)
        yield step + 1, float(right.float().mean())


def make_vision_optimizer(model: Any, heads: ExtraHeads) -> torch.optim.AdamW:
    """AdamW of vision tower, projector and extra heads."""
    parts = (model.model.vision_tower, model.model.multi_modal_projector, heads)
    parameters = [p for part in parts for p in part.parameters()]
    return torch.optim.AdamW(parameters, betas=(0.9, 0.97), weight_decay=0.02)


def learn(
    model: Any,
    heads: ExtraHeads,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    *,
    start: int,
    steps: int,
    seed: int,
    peak: float,
    clips: int,
    questions: int,
    hints: float = 0.5,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Teach the language model to answer; yield step and losses, with the share of right letters.

    `hints` is the share of questions whose answering word is given away at the beginning. A step
    depends on `seed` and its number alone, so training resumes as if never interrupted.
    """
    for step in range(start, steps):
        batch = make_batch(
            tokenizer,
            np.random.default_rng((seed, step)),
            clips=clips,
            questions=questions,
            hints=max(0.0, hints * (1 - step / (0.3 * steps))),
        )
        set_rate(optimizer, learning_rate(step, steps, peak))
        with torch.autocast("cpu", torch.bfloat16):
            found, right = losses(model, heads, batch)
        weight = weights(step, steps)
        descend(optimizer, torch.stack([weight[k] * v for k, v in found.items()]).sum())
        told = {key: value.item() for key, value in found.items()}
        yield step + 1, {**told, "right": float(right[~batch.hinted].float().mean())}


def make_optimizer(model: Any, heads: ExtraHeads) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; the vision tower stays as it is."""
    model.model.vision_tower.requires_grad_(False)
    parameters = [p for part in (model, heads) for p in part.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.97))


def weights(step: int, steps: int) -> dict[str, float]:
    """Weight of each loss: the extra ones fade to a tenth over the last half."""
    fade = 1.0 if step < steps / 2 else 1.0 - 0.9 * (2 * step / steps - 1)
    extra = {"value": 0.5, "evidence": 0.3, "copy": 0.2, "pick": 0.5, "tag": 0.3}
    extra |= {"text": 0.2, "name": 0.3, "ordinal": 0.2, "change": 0.4, "shown": 0.3}
    return {"letter": 1.0, **{key: fade * value for key, value in extra.items()}}


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to a fiftieth of the peak."""
    rise = min(1.0, (step + 1) / 100)
    return peak * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step, gradients clipped group by group."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
