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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from namm_mm.build.pocket_video_batches import (
    BLOCK,
    TOKENS_PER_FRAME,
    Batch,
    make_batch,
    make_frames,
)
from namm_mm.tasks.video_qa.questions import MOST_EVENTS, OPTIONS
from namm_mm.tasks.video_qa.scenes import COLORS, SHAPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ATTENTION = "question_blocks"
AFTER = {"ordinal": 2, "value": 4, "tag": 5}
"""The layer after which each extra loss reads; the letter is read after the last, the sixth."""
WATCHED = {3: "evidence", 4: "copy", 5: "pick"}
"""Layers, from 0, whose first two heads are told where to look: the question mark at the frames
that show the answer, the last token at the question mark, and then at the right option."""


class ExtraHeads(nn.Module):
    """Linear read-outs for the extra losses."""

    color_words: Tensor
    shape_words: Tensor

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        for name, words in (("color_words", COLORS), ("shape_words", SHAPES)):
            ids = [tokenizer.get_vocab()[word] for word in words]
            self.register_buffer(name, torch.tensor(ids), persistent=False)
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.ordinal = nn.Linear(width, MOST_EVENTS)


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    shared: int,
    watched: dict[int, Tensor] | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Causal attention where the first `shared` tokens are followed by independent blocks.

    Equal to a block mask over the whole sequence at less than half the work. `query` is
    (row, head, token, channel); the tokens after `shared` are blocks of `BLOCK`. What the blocks
    attend to, by layer, goes to `watched`: (row, head, block, BLOCK, shared + BLOCK).
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    q0, k0, v0 = query[:, :, :shared], key[:, :, :shared], value[:, :, :shared]
    first, _ = _attend(q0, [(k0, v0)], scaling)
    blocks = (query.shape[2] - shared) // BLOCK
    q1, k1, v1 = (
        t[:, :, shared:].reshape(*t.shape[:2], blocks, BLOCK, -1) for t in (query, key, value)
    )
    then, shares = _attend(q1, [(k0[:, :, None], v0[:, :, None]), (k1, v1)], scaling)
    layer: Any = module.layer_idx
    if watched is not None and layer in WATCHED:
        watched[layer] = shares
    return torch.cat([first, then.flatten(2, 3)], dim=2).transpose(1, 2).contiguous(), None


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
    return {name: -(mass + 1e-6).log().mean() for name, mass in masses.items()}


def naming(
    model: Any, heads: ExtraHeads, features: Tensor, colors: Tensor, shapes: Tensor
) -> Tensor:
    """How badly frames point to the words for what they show, among the word embeddings.

    With objects and words in one space, a question about a circle finds the circle. Labels are as
    in :class:`~namm_mm.build.pocket_video_batches.Batch`; 0, nothing to name, is left out.
    """
    embeddings = model.get_input_embeddings().weight
    total = features.new_zeros((), dtype=torch.float32)
    for words, labels in ((heads.color_words, colors), (heads.shape_words, shapes)):
        logits = (features.mean(1) @ embeddings[words].T).float()
        loss = F.cross_entropy(logits, labels - 1, ignore_index=-1, reduction="sum")
        total = total + loss / (labels > 0).sum().clamp(min=1)
    return total


def losses(model: Any, heads: ExtraHeads, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Mean loss of each kind in nats, and which letters are right: (clip, question) bool."""
    features = frame_features(model, batch.pixels)
    clips, questions, _ = batch.blocks.shape
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    embed = model.get_input_embeddings()
    blocks = embed(batch.blocks)
    hint = torch.zeros_like(blocks)
    hint[row, column, batch.value_at] = embed(batch.value) * batch.hinted[..., None]
    video = features[batch.frame_of].flatten(1, 2)
    before = embed(batch.prefix)[None].expand(clips, -1, -1)
    start = len(batch.prefix)
    seen = start + video.shape[1]
    watched: dict[int, Tensor] = {}
    positions = torch.cat([torch.arange(seen), (seen + torch.arange(BLOCK)).repeat(questions)])
    output = model.model.language_model(
        inputs_embeds=torch.cat(
            [before.to(video.dtype), video, (blocks + hint).flatten(1, 2).to(video.dtype)], dim=1
        ),
        position_ids=positions[None].expand(clips, -1),
        use_cache=False,
        output_hidden_states=True,
        shared=seen,
        watched=watched,
    )
    states = (*output.hidden_states[:-1], output.last_hidden_state)
    ends = states[AFTER["ordinal"]][:, start + TOKENS_PER_FRAME - 1 : seen : TOKENS_PER_FRAME]
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
    ordinals = heads.ordinal(ends).float()
    value = batch.value.masked_fill(batch.hinted, -100)
    found = {
        "letter": F.cross_entropy(letters.flatten(0, 1), batch.letter.flatten()),
        "value": F.cross_entropy(values.flatten(0, 1), value.flatten()),
        "tag": F.cross_entropy(tags.flatten(0, 2), tagged.flatten()),
        **_astray(watched, batch, start, seen),
        "name": naming(model, heads, features, batch.colors, batch.shapes),
        "text": F.cross_entropy(
            model.lm_head(final[:, :, :-1]).float().flatten(0, 2),
            batch.blocks[:, :, 1:].masked_fill(batch.blocks[:, :, 1:] == batch.pad, -100).flatten(),
        ),
        "ordinal": F.cross_entropy(ordinals.flatten(0, 1), batch.ordinals.flatten()),
    }
    return found, letters.argmax(-1) == batch.letter


def look(model: Any, heads: ExtraHeads, *, steps: int, seed: int) -> Iterator[tuple[int, float]]:
    """Teach vision tower and projector colours and shapes; yield step and share of right labels."""
    parts = (model.model.vision_tower, model.model.multi_modal_projector, heads)
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.97), weight_decay=0.02)
    for step in range(steps):
        pixels, colors, shapes = make_frames(np.random.default_rng((seed, 1, step)), 96)
        _set_rate(optimizer, learning_rate(step, steps, 3e-3))
        with torch.autocast("cpu", torch.bfloat16):
            features = frame_features(model, pixels)
            color = heads.color(features.mean(1)).float()
            shape = heads.shape(features.mean(1)).float()
            named = naming(model, heads, features, colors, shapes)
        loss = F.cross_entropy(color, colors) + F.cross_entropy(shape, shapes) + named
        _descend(optimizer, loss)
        right = (color.argmax(-1) == colors) & (shape.argmax(-1) == shapes)
        yield step + 1, float(right.float().mean())


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
) -> Iterator[tuple[int, dict[str, float]]]:
    """Teach the language model to answer; yield step and losses, with the share of right letters.

    A step depends on `seed` and its number alone, so training resumes as if never interrupted.
    """
    for step in range(start, steps):
        batch = make_batch(
            tokenizer,
            np.random.default_rng((seed, step)),
            clips=clips,
            questions=questions,
            hints=max(0.0, 0.5 * (1 - step / (0.3 * steps))),
        )
        _set_rate(optimizer, learning_rate(step, steps, peak))
        with torch.autocast("cpu", torch.bfloat16):
            found, right = losses(model, heads, batch)
        weight = weights(step, steps)
        _descend(optimizer, torch.stack([weight[k] * v for k, v in found.items()]).sum())
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
    extra |= {"text": 0.2, "name": 0.3, "ordinal": 0.2}
    return {"letter": 1.0, **{key: fade * value for key, value in extra.items()}}


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to a fiftieth of the peak."""
    rise = min(1.0, (step + 1) / 100)
    return peak * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
